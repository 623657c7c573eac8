"""All drawing: overlays, panels, figures and HTML pages; nothing else in the package draws."""

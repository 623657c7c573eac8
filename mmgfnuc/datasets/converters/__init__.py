"""Converters from the layouts in which authors ship their datasets to the canonical form."""

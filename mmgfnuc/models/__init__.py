from . import backbones, decode_heads, foundation, losses, necks, segmentors  # noqa: F401 - registers the components

from .base import FoundationEncoder
from .sam import SAMEncoder
from .timm_vit import TimmViTEncoder

__all__ = ['FoundationEncoder', 'SAMEncoder', 'TimmViTEncoder']

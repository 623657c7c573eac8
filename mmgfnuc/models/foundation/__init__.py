from .base import FoundationEncoder
from .catalogue import CATALOGUE, Entry, add_entry, entry_of, find_entry, list_foundation
from .create import foundation_encoder
from .sam import SAMEncoder
from .timm_pyramid import TimmPyramidEncoder
from .timm_vit import TimmViTEncoder

__all__ = [
    'CATALOGUE',
    'Entry',
    'FoundationEncoder',
    'SAMEncoder',
    'TimmPyramidEncoder',
    'TimmViTEncoder',
    'add_entry',
    'entry_of',
    'find_entry',
    'foundation_encoder',
    'list_foundation',
]

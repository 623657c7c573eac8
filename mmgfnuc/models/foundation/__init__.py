from .base import FoundationEncoder
from .cache import CacheSettings
from .catalogue import CATALOGUE, Entry, add_entry, find_entry, list_foundation
from .create import build_encoder, entry_of, entry_of_config, foundation_encoder
from .lora import LoraSettings
from .module_encoder import ModuleEncoder
from .sam import SAMEncoder
from .timm_pyramid import TimmPyramidEncoder
from .timm_vit import TimmViTEncoder

__all__ = [
    'CATALOGUE',
    'CacheSettings',
    'Entry',
    'FoundationEncoder',
    'LoraSettings',
    'ModuleEncoder',
    'SAMEncoder',
    'TimmPyramidEncoder',
    'TimmViTEncoder',
    'add_entry',
    'build_encoder',
    'entry_of',
    'entry_of_config',
    'find_entry',
    'foundation_encoder',
    'list_foundation',
]

"""Public datasets and generic sources, brought to the canonical form."""

from . import nuinsseg
from .base import Content, Converter, Option, Sample
from .convert import Report, convert

CONVERTERS: dict[str, Converter] = {
    converter.name: converter for module in (nuinsseg,) for converter in module.CONVERTERS
}

__all__ = ['CONVERTERS', 'Content', 'Converter', 'Option', 'Report', 'Sample', 'convert']

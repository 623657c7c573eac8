"""Public datasets and generic sources, brought to the canonical form."""

from . import conic, cryonuseg, dsb2018, generic, hovernet_sets, joined, monuseg, nucls, nuinsseg, pannuke, tnbc
from .base import Content, Converter, Option, Sample
from .convert import Report, convert

MODULES = (nuinsseg, cryonuseg, conic, pannuke, monuseg, hovernet_sets, tnbc, dsb2018, nucls, generic, joined)
CONVERTERS: dict[str, Converter] = {converter.name: converter for module in MODULES for converter in module.CONVERTERS}

__all__ = ['CONVERTERS', 'Content', 'Converter', 'Option', 'Report', 'Sample', 'convert']

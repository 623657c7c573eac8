"""The catalogue of foundation encoders: one entry holds all that is known of one."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import load_parts
from mmgfnuc.names import find_name

from . import clip, dino, imagenet, pathology, sam
from .entry import Entry
from .timm_entry import PREFIX, timm_entry

CATALOGUE: dict[str, Entry] = {
    entry.name: entry for entry in (*imagenet.ENTRIES, *sam.ENTRIES, *dino.ENTRIES, *clip.ENTRIES, *pathology.ENTRIES)
}


def list_foundation(pattern: str = '*') -> list[str]:
    """Names of the catalogue that match a pattern, such as `dinov2-*`; `timm:<any name>` works besides.

    >>> list_foundation('sam-*')
    ['sam-vit-b', 'sam-vit-h', 'sam-vit-l']
    """
    load_parts()
    return sorted(name for name in CATALOGUE if fnmatch(name, pattern.lower()))


def add_entry(entry: Entry) -> None:
    """Add an entry to the catalogue.

    Raises:
        UserError: another entry has its name.
    """
    if CATALOGUE.setdefault(entry.name, entry) != entry:
        raise UserError(f"encoder='{entry.name}' is in the catalogue already; give yours another name")


def entry_of(name: str, config: Mapping[str, Any]) -> Entry:
    """Return the entry of a module."""
    return replace(CATALOGUE['vit-tiny'], name=name, encoder='module', arch=config['type'])


def find_entry(name: str) -> Entry:
    """Return the entry of a name of the catalogue, or of `timm:<name>`.

    Raises:
        UserError: there is none; proposes near ones.
    """
    if str(name).startswith(PREFIX):
        return timm_entry(name)
    load_parts()
    otherwise = f"mmgfnuc.list_foundation() lists the names, and '{PREFIX}<name>' is any ViT or pyramid of timm"
    return CATALOGUE[find_name('foundation', name, CATALOGUE, otherwise)]


__all__ = ['CATALOGUE', 'Entry', 'add_entry', 'entry_of', 'find_entry', 'list_foundation']

"""The catalogue of foundation encoders: one entry holds all that is known of one."""

from fnmatch import fnmatch

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
    return sorted(name for name in CATALOGUE if fnmatch(name, pattern.lower()))


def find_entry(name: str) -> Entry:
    """Return the entry of a name of the catalogue, or of `timm:<name>`.

    Raises:
        UserError: there is none; proposes near ones.
    """
    if str(name).startswith(PREFIX):
        return timm_entry(name)
    otherwise = f"mmgfnuc.list_foundation() lists the names, and '{PREFIX}<name>' is any ViT or pyramid of timm"
    return CATALOGUE[find_name('foundation', name, CATALOGUE, otherwise)]


__all__ = ['CATALOGUE', 'Entry', 'find_entry', 'list_foundation']

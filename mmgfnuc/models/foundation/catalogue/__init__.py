"""The catalogue of foundation encoders: one entry holds all that is known of one."""

import difflib
import re
from fnmatch import fnmatch

from mmgfnuc.errors import UserError

from . import clip, dino, imagenet, pathology, sam
from .entry import Entry
from .timm_entry import PREFIX, timm_entry

SHOWN = 8
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
    """Return the entry of a name; upper case and underscores are taken for lower case and hyphens.

    Raises:
        UserError: there is none; names near ones.
    """
    if str(name).startswith(PREFIX):
        return timm_entry(name)
    key = str(name).lower().replace('_', '-')
    if key in CATALOGUE:
        return CATALOGUE[key]
    alike = [known for known in sorted(CATALOGUE) if re.fullmatch(rf'{re.escape(key)}\W.*', known)]
    near = alike[:SHOWN] or difflib.get_close_matches(key, CATALOGUE, cutoff=0.5)
    hint = f'did you mean {" or ".join(near)}?' if near else 'mmgfnuc.list_foundation() lists the names'
    raise UserError(f"foundation='{name}' is unknown; {hint} (Any ViT or pyramid of timm: '{PREFIX}<name>')")


__all__ = ['CATALOGUE', 'Entry', 'find_entry', 'list_foundation']

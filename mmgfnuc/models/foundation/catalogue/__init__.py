"""The catalogue of foundation encoders: one entry holds all that is known of one."""

from fnmatch import fnmatch

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import load_parts
from mmgfnuc.names import find_name, plain_name

from . import clip, dino, imagenet, pathology, sam
from .entry import Entry
from .timm_entry import PREFIX, completed, timm_entry

CATALOGUE: dict[str, Entry] = {
    entry.name: entry for entry in (*imagenet.ENTRIES, *sam.ENTRIES, *dino.ENTRIES, *clip.ENTRIES, *pathology.ENTRIES)
}
# Those that come with the package.
SHIPPED = frozenset(CATALOGUE)


def list_foundation(pattern: str = '*') -> list[str]:
    """Names of the catalogue that match a pattern, such as `dinov2-*`; `timm:<any name>` works besides.

    >>> list_foundation('sam-*')
    ['sam-vit-b', 'sam-vit-h', 'sam-vit-l']
    """
    load_parts()
    return sorted(name for name in CATALOGUE if fnmatch(name, pattern.lower()))


def find_entry(name: str) -> Entry:
    """Return the entry of a name of the catalogue, or of `timm:<name>`, with all that its architecture says.

    Raises:
        UserError: there is none; proposes near ones.
    """
    if str(name).startswith(PREFIX):
        return timm_entry(name)
    load_parts()
    otherwise = (
        f"mmgfnuc.list_foundation() lists the names, and '{PREFIX}<name>' is any ViT or pyramid of timm; one of your "
        'own is there once the module that registers it is imported'
    )
    return completed(CATALOGUE[find_name('foundation', name, CATALOGUE, otherwise)])


def add_entry(entry: Entry) -> None:
    """Add an entry to the catalogue; the same again changes nothing.

    Raises:
        UserError: another one has the name.
    """
    if entry.name.startswith(PREFIX):
        raise UserError(f"foundation encoder '{entry.name}': names with '{PREFIX}' are those of timm; give another")
    taken = next((known for known in CATALOGUE.values() if plain_name(known.name) == plain_name(entry.name)), entry)
    if taken != entry:
        raise UserError(f"foundation encoder '{entry.name}': another has this name ({taken.arch}); give another name")
    CATALOGUE[entry.name] = entry


__all__ = ['CATALOGUE', 'Entry', 'add_entry', 'find_entry', 'list_foundation']

"""What results depend on: the code that makes them, the data, the libraries. PyTorch is not imported."""

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256, read_json, waiting_lock, write_json
from mmgfnuc.names import NAMES_PART, groups_of, registered

from .sources import find_module, sources, syntax

PACKAGE = Path(__file__).parents[1]
# Folders and files of the package that scores depend on; those that what is seen inside a trained model depends on; and
# those of its pictures. What reads scores or arranges runs is in none: a better report does not cost a new study.
# Presets and names need not be here: what they say is in the config of a run.
SCORED = ('models', 'datasets', 'engine', 'evaluation', 'postprocess', 'inference/preprocessing.py')
INSIDE = ('inference', 'studies/inside.py', 'studies/calibration.py')
PICTURED = ('inference', 'visualization', 'studies/inside.py', 'studies/pictures.py')
# What is known by other means: this package by `code_digest`, libraries by their versions.
KNOWN = ('mmgfnuc', 'torch', 'mmengine', 'mmcv', 'mmseg', 'timm', 'segment_anything')


@cache
def code_digest(*parts: str) -> str:
    """SHA-256 of the syntax trees of folders and files of the package, without comments and docstrings."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((PACKAGE / part).rglob('*.py')) or [PACKAGE / part]:
            tree = syntax(path.read_text(encoding='utf-8'))
            digest.update(f'{path.relative_to(PACKAGE).as_posix()}\n{tree}\n'.encode())
    return digest.hexdigest()


def parts_digest(config: Any) -> str:
    """SHA-256 of the code of the parts of a config that come neither from here nor from the libraries of `KNOWN`.

    Those are the modules that their classes are defined in, with the modules of one's own that these import, see
    `sources`; of an encoder that is registered from outside also what its entry says. Empty where there are none.

    Nothing is imported: a part of one's own is, before its name can mean anything.

    Raises:
        UserError: a module is not found, or is the script that runs.
    """
    entries = [entry for group in groups_of(config) if (entry := _own_entry(group))]
    kinds = [*part_names(config), *(kind for entry in entries for kind in _named_by(entry))]
    modules = {module for kind in kinds for module in _modules_of(kind)}
    if not modules and not entries:
        return ''
    return digest_of(sources(modules, KNOWN), sorted(map(repr, entries)))


def part_names(config: Any) -> list[str]:
    """What the settings of a config name as parts, anywhere in it."""
    named = [group.get(key) for group in groups_of(config) for key in NAMES_PART]
    return [kind for kind in named if isinstance(kind, str)]


def _named_by(entry: Any) -> list[str]:
    """Parts that an entry names: one's own kind of encoder, or a module, and those in its settings."""
    return [entry.encoder, *([entry.arch] if entry.encoder == 'module' else []), *part_names(entry.settings)]


def _modules_of(kind: str) -> set[str]:
    """Modules outside of `KNOWN` that define what a `type` means: by its place, or by its name in a registry."""
    found = {part.__module__ for part in _registered(kind)} or _place(kind)
    own = {module for module in found if module.partition('.')[0] not in KNOWN}
    for module in own:
        if find_module(module) is None:
            raise UserError(
                f"type='{kind}': module '{module}' is not found, so that processes of runs cannot import it; define "
                'the part in a module of the working folder or of an installed package'
            )
    return own


def _registered(kind: str) -> list[Any]:
    """Classes and functions that registries have under a name, of what is imported by now."""
    import mmengine.registry  # not for `mmgfnuc benchmark --help`
    from mmengine.registry import Registry

    # Other modules of MMEngine may not be imported yet; this is, with its configs.
    roots = [registry for registry in vars(mmengine.registry).values() if isinstance(registry, Registry)]
    return [part for root in roots for name, part in registered(root) if name == kind]


def _place(kind: str) -> set[str]:
    """The module that defines what a dotted name means: not the one that only hands it on, where it is imported."""
    module, _, attribute = kind.rpartition('.')
    if not module:
        return set()
    part = getattr(sys.modules.get(module), attribute, None)
    return {getattr(part, '__module__', module)}


def _own_entry(group: Mapping[str, Any]) -> Any:
    """The entry of an encoder that is registered from outside; its package, and so the catalogue, is imported then."""
    catalogue = sys.modules.get('mmgfnuc.models.foundation.catalogue')
    name = group.get('name')
    if catalogue is None or group.get('type') != 'mmgfnuc.foundation_encoder' or name in catalogue.SHIPPED:
        return None
    return catalogue.CATALOGUE.get(name)


def data_digest(root: Path, folder: Path) -> str:
    """SHA-256 of the manifest of a data set: the SHA-256 of every file, by its name.

    Of a file whose size and time of change are those of before the content is not read again.

    Args:
        root: of the data set.
        folder: where the manifests of data sets are kept; where this process may not write, none is.
    """
    path = folder / f'{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}.json'
    known = _known(path)
    manifest = {}
    for file in sorted(file for file in root.rglob('*') if file.is_file()):
        name, stat = file.relative_to(root).as_posix(), file.stat()
        size, time, digest = known.get(name, (None, None, ''))
        if (size, time) != (stat.st_size, stat.st_mtime_ns):
            digest = file_sha256(file)
        manifest[name] = [stat.st_size, stat.st_mtime_ns, digest]
    if manifest != known:
        with suppress(OSError), waiting_lock(folder / 'lock'):
            write_json(path, manifest, indent=None)
    lines = [f'{name} {digest}' for name, (_, _, digest) in manifest.items()]
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def _known(path: Path) -> dict[str, list]:
    """What was known of the files of a data set; nothing, where that is missing or damaged."""
    try:
        entries = read_json(path, '')
    except UserError:
        return {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}


def digest_of(*parts: object) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()

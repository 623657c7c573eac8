"""What results depend on: the code that makes them, the data, the libraries. PyTorch is not imported."""

import ast
import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256, read_json, waiting_lock, write_json

PACKAGE = Path(__file__).parents[1]
# Folders and files of the package that scores depend on; those that what is seen inside a trained model depends on; and
# those of its pictures. What reads scores or arranges runs is in none: a better report does not cost a new study.
# Presets and names need not be here: what they say is in the config of a run.
SCORED = ('models', 'datasets', 'engine', 'evaluation', 'postprocess', 'inference/preprocessing.py')
INSIDE = ('inference', 'studies/inside.py', 'studies/calibration.py')
PICTURED = ('inference', 'visualization', 'studies/inside.py', 'studies/pictures.py')
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_digest(*parts: str) -> str:
    """SHA-256 of the syntax trees of folders and files of the package, without comments and docstrings."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((PACKAGE / part).rglob('*.py')) or [PACKAGE / part]:
            tree = _syntax(path.read_text(encoding='utf-8'))
            digest.update(f'{path.relative_to(PACKAGE).as_posix()}\n{tree}\n'.encode())
    return digest.hexdigest()


def _syntax(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


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

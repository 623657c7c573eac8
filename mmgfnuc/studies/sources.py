"""The code of modules, and which modules of one's own they import: nothing is run for it."""

import ast
import hashlib
import importlib.util
import pkgutil
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Folders of packages that do not belong to each other.
INSTALLED = ('site-packages', 'dist-packages')


def syntax(code: str) -> str:
    """Write down the syntax tree of code, without comments and docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def find_module(name: str) -> ModuleSpec | None:
    """Find a module without importing it or its parents; None where there is none."""
    top, *rest = name.split('.')
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # `__main__` has none
        return None
    for inner in rest:
        folders = (spec.submodule_search_locations if spec else None) or ()
        finders = filter(None, map(pkgutil.get_importer, folders))
        found = [one for finder in finders if (one := finder.find_spec(inner))]
        spec = next((one for one in found if one.has_location), found[0] if found else None)
    return spec


def sources(modules: Iterable[str], others: Collection[str]) -> dict[str, str]:
    """Digest the code of modules, and of those of one's own that they import, at any depth.

    One's own are those of the same top-level package, and those that lie beside it, unless that is where packages are
    installed. Imports are seen that are statements. A package's `__init__` counts where it is imported itself, not
    where a module in it is.

    Args:
        modules: names of modules that there are.
        others: top-level packages that are not followed.

    Returns:
        Name of each module -> SHA-256: of its syntax tree, or of its file where that is not Python.
    """
    found: dict[str, str] = {}
    waiting, seen = list(modules), set(modules)
    tops = {name.partition('.')[0] for name in waiting}
    folders = {folder for top in tops if (folder := _folder(top)) and folder.name not in INSTALLED}
    while waiting:
        spec = find_module(module := waiting.pop())
        if spec is None or not spec.has_location or not spec.origin:  # a folder without __init__ holds no code
            continue
        path = Path(spec.origin)
        found[module], imported = _digest(path, path.stat().st_mtime_ns, module)
        for name in imported:
            top = name.partition('.')[0]
            if name not in seen and (top in tops or (top not in others and _folder(top) in folders)):
                seen.add(name)
                waiting.append(name)
    return found


def _folder(top: str) -> Path | None:
    """The folder that a top-level module or package lies in."""
    spec = find_module(top)
    if spec is None or not spec.has_location or not spec.origin:
        return None
    return Path(spec.origin).resolve().parents[spec.submodule_search_locations is not None]


@cache
def _digest(path: Path, time: int, name: str) -> tuple[str, tuple[str, ...]]:
    """Digest a module as it was at a time; also what it imports."""
    content = path.read_bytes()
    if path.suffix not in SOURCE_SUFFIXES:
        return hashlib.sha256(content).hexdigest(), ()
    package = name if path.stem == '__init__' else name.rpartition('.')[0]
    tree = ast.parse(content)
    code = syntax(content.decode('utf-8'))
    return hashlib.sha256(code.encode()).hexdigest(), tuple(_imported(tree, package))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split('.')[: 1 - level or None] if level else []
                base = '.'.join([*above, *([module] if module else [])])
                for alias in names:
                    inner = f'{base}.{alias.name}'
                    yield inner if find_module(inner) else base

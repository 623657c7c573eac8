"""What a config file inherits: is it named as MMEngine can find it, and does every change of it have an effect?

A config that is inherited is a copy. Its `model` was made of its `foundation`, but after `from ... import *` they are
two things: `foundation.update(...)` changes a variable that nothing reads.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_installed_path

from mmgfnuc.errors import UserError

from .settings import top_level

BASE_LINE = '_base_'
PACKAGE = 'mmgfnuc'


def check_base_line(path: str) -> None:
    """Refuse `_base_ = 'mmgfnuc::...'`.

    MMEngine finds only packages of its own list by it, and inherits configs with imports by `read_base` alone.

    Raises:
        UserError: says the line that inherits this config.
    """
    if Path(path).suffix != '.py':
        return
    for node in _parse(Path(path)):
        if not isinstance(node, ast.Assign) or BASE_LINE not in map(ast.unparse, node.targets):
            continue
        values = [one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
        for base in (value for value in values if isinstance(value, str) and value.startswith(f'{PACKAGE}::')):
            inner = base.partition('::')[2].removeprefix('configs/').removesuffix('.py')
            module = f'{PACKAGE}.configs.{inner.replace("/", ".")}'
            raise UserError(
                f"{path}, line {node.lineno}: _base_ = '{base}' is not possible, as that config has imports; "
                f'write: with read_base(): from {module} import *'
            )


def check_changes(path: str, cfg: Config) -> None:
    """Refuse a change of an inherited variable that nothing uses: it leaves the settings as they are.

    Looked at are the statements of the file, and of the configs with a model that it inherits: others are presets, made
    to be used or left.

    Args:
        path: of a config file that loads.
        cfg: the config that it gives.

    Raises:
        UserError: names the line, and the setting to change in its place.
    """
    if Path(path).suffix == '.py':
        _check(ConfigFile(Path(path)), set(), cfg)


@dataclass(frozen=True)
class ConfigFile:
    """A config file by its statements; it is not run."""

    path: Path

    @cached_property
    def bases(self) -> list[tuple['ConfigFile', ast.ImportFrom]]:
        """The files that it inherits, each with the import that says what of it."""
        blocks = [node for node in self._tree if isinstance(node, ast.With)]
        imports = [node for node in (blocks[0].body if blocks else []) if isinstance(node, ast.ImportFrom)]
        return [(ConfigFile(_base_path(node, self.path)), node) for node in imports]

    @cached_property
    def inherited(self) -> set[str]:
        """Names of the variables that come from its bases."""
        names = set()
        for base, node in self.bases:
            for alias in node.names:
                names |= base.names if alias.name == '*' else {alias.asname or alias.name}
        return names

    @cached_property
    def behind(self) -> set[str]:
        """Names of the variables of all files below it, such as `scale`, which their heirs do not pass on."""
        return set().union(*(base.names | base.behind for base, _ in self.bases))

    @cached_property
    def names(self) -> set[str]:
        """Names of all its variables."""
        return self.inherited | {name for node in self.statements for name in _names(node, ast.Store)}

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """What it says at its top, without imports."""
        return [node for node in self._tree if not isinstance(node, ast.With | ast.Import | ast.ImportFrom)]

    @cached_property
    def used(self) -> set[str]:
        """Names of the variables that it uses for something else."""
        return set().union(*(_uses(node) for node in self.statements))

    @cached_property
    def _tree(self) -> list[ast.stmt]:
        return _parse(self.path)


def _check(file: ConfigFile, used_by_heirs: set[str], cfg: Config) -> None:
    if 'model' not in file.names:
        return
    variables = (file.inherited | file.behind) - used_by_heirs - top_level().keys()
    for place, node in enumerate(file.statements):
        name = _changed(node)
        if name in variables and not _is_used(name, place, file):
            raise UserError(
                f"{file.path}, line {node.lineno}: this changes '{name}', which nothing uses afterwards, so the "
                f'settings stay as they are; {_instead(name, node, cfg)}'
            )
    used = used_by_heirs | file.used
    for base, taken in file.bases:
        renamed = {alias.name for alias in taken.names if alias.asname in used}
        _check(base, used | renamed, cfg)


def _is_used(name: str, place: int, file: ConfigFile) -> bool:
    """Whether a variable is used after a statement, or was put, before it, into what the file itself makes."""
    before, after = file.statements[:place], file.statements[place + 1 :]
    own = {other for node in file.statements for other in _names(node, ast.Store)}
    made = [node for node in before if _changed(node) in own or not isinstance(node, ast.Expr)]
    return any(name in _uses(node) for node in (after if _is_anew(file.statements[place]) else [*made, *after]))


def _instead(name: str, node: ast.stmt, cfg: Config) -> str:
    """What to write: the same change of the setting that has the type of the variable, else its name."""
    value = cfg.get(name)
    kind = value.get('type') if isinstance(value, Mapping) else None
    paths = dict(_groups({key: group for key, group in cfg.items() if key in top_level()}))
    alike = [path for path, group in paths.items() if kind is not None and group.get('type') == kind]
    named = [path for path in paths if path.rpartition('.')[2] == name]
    found = next(iter([path for path in named if path in alike] or alike or named), None)
    if found is None:
        return 'change the setting that was made of it, such as model.test_cfg or train_dataloader.dataset.pipeline'
    return f'write {found} = ...' if _is_anew(node) else f'write {found}.update(...)'


def _is_anew(node: ast.stmt) -> bool:
    """Whether a statement gives a variable another value; what was made of the former one keeps that."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)


def _groups(settings: Mapping[str, Any], way: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield f'{way}{name}', value
            yield from _groups(value, f'{way}{name}.')


def _changed(node: ast.stmt) -> str | None:
    """Name of the one variable that a statement sets or changes, as `x = 1`, `x.a = 1`, `x['a'] += 1`, `x.a.pop()`."""
    if isinstance(node, ast.Assign):
        changed = {_root(target) for target in node.targets}
    elif isinstance(node, ast.Delete):  # of a part; without the variable itself, nothing is expected of it
        changed = {_root(target) for target in node.targets if not isinstance(target, ast.Name)}
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        changed = {_root(node.target)}
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        changed = {_root(node.value.func)}
    else:
        changed = set()
    return changed.pop() if len(changed) == 1 else None


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _uses(node: ast.stmt) -> set[str]:
    """Names of the variables that a statement uses, but for the one that it changes."""
    return _names(node, ast.Load) - {_changed(node)}


def _names(node: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, context)}


def _base_path(node: ast.ImportFrom, heir: Path) -> Path:
    """The file that an import of a config names, found as MMEngine finds it."""
    package, _, module = (node.module or '').partition('.')
    folder = heir.parents[node.level - 1] / package if node.level else Path(get_installed_path(package))
    return folder.joinpath(*module.split('.')).with_suffix('.py') if module else folder.with_suffix('.py')


def _parse(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding='utf-8')).body

"""What a study is: which arms are compared, on which data, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import import_parts
from mmgfnuc.names import find_name
from mmgfnuc.shipped import configs_folder

from .arms import Arm, arms_of


@dataclass(frozen=True, kw_only=True)
class Study:
    """Arms that are compared under equal conditions.

    Attributes:
        title: of the report.
        arms: the first is the baseline.
        data: presets of `configs/_base_/datasets`, such as `nuinsseg`: reading, augmentation, resolution, metrics.
        data_root: folder of the data set in the canonical form, where there is only one; by default that of the preset.
        splits: names of files in `splits/` of each data set, one for each fold.
        seeds: of weights, order and augmentation.
        steps: of the optimiser, the same for every arm.
        batch_size: images of a step.
        amp: train under bfloat16 autocast.
        types: learn the nucleus types of the data sets; else all nuclei are one class.
        imports: modules with parts of one's own, which are imported before their names are looked up.
        remark: what a reader must know besides; it ends the conclusion.
    """

    title: str
    arms: tuple[Arm, ...]
    data: tuple[str, ...] = ('nuinsseg',)
    data_root: str | None = None
    splits: tuple[str, ...] = ('organs',)
    seeds: tuple[int, ...] = (0,)
    steps: int = 300
    batch_size: int = 4
    amp: bool = False
    types: bool = False
    imports: tuple[str, ...] = ()
    remark: str = ''


def make_study(settings: Mapping[str, Any]) -> Study:
    """Make a study of what its file says.

    Raises:
        UserError: a key is unknown or missing, a value is of another kind than it should be, two arms have one name, a
            module cannot be imported, or the weights of no encoder are here where those that are were asked for.
    """
    known = {entry.name for entry in fields(Study)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(f"a study has no '{unknown[0]}'; it takes {', '.join(sorted(known))}")
    rest: dict[str, Any] = {key: _as_tuple(value) for key, value in settings.items() if value is not None}
    groups = rest.pop('arms', None)
    if 'title' not in rest or not isinstance(groups, tuple) or not groups:
        raise UserError('a study needs a title and arms, such as arms=[dict(unet="unet")]')
    for name in ('data', 'imports'):
        if isinstance(rest.get(name), str):
            rest[name] = (rest[name],)
    import_parts(_checked_imports(rest.get('imports', ())))
    study = Study(**rest, arms=tuple(arm for group in groups for arm in arms_of(group)))
    _check(study)
    return study


def _checked_imports(modules: Any) -> tuple[str, ...]:
    if not isinstance(modules, tuple) or not all(isinstance(module, str) for module in modules):
        raise UserError(f'imports={modules!r}: give a list of names of modules, such as [own_parts]')
    return modules


def _check(study: Study) -> None:
    names = [arm.name for arm in study.arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"arm '{min(twice)}' is there twice; drop one, or tell them apart by a label")
    for name in ('steps', 'batch_size'):
        value = getattr(study, name)
        if not _is_whole(value, 1):
            raise UserError(f'{name}={value!r}: give a whole number from 1')
    for name in ('data', 'splits', 'seeds'):
        value = getattr(study, name)
        if not isinstance(value, tuple) or not value or any(value.count(entry) > 1 for entry in value):
            raise UserError(f'{name}={value!r}: give a list without repetition, at least one')
    for name in ('data', 'splits'):
        for value in getattr(study, name):
            if not isinstance(value, str):
                raise UserError(f'{name}: {value!r} is not a name; give text')
    for value in study.seeds:
        if not _is_whole(value, 0):
            raise UserError(f'seeds: {value!r} is not a seed; give whole numbers from 0')
    for name in ('amp', 'types'):
        if not isinstance(getattr(study, name), bool):
            raise UserError(f'{name}={getattr(study, name)!r}: give true or false')
    if study.data_root and len(study.data) > 1:
        raise UserError(
            f"data_root='{study.data_root}' is the folder of one data set, and data names {len(study.data)}; drop it"
        )


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least  # True is an int, too


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def list_studies() -> dict[str, Path]:
    """Name -> file of the ready studies, `configs/studies`, in a clone as in an installed wheel."""
    files = (path for path in (configs_folder() / 'studies').iterdir() if path.suffix in ('.yaml', '.py'))
    return {path.stem: path for path in sorted(files)}


def find_study(study: str) -> Path:
    """Find the file of a study: a path, or the name of a ready one.

    Raises:
        UserError: there is neither; names near ones.
    """
    if Path(study).is_file():
        return Path(study)
    ready = list_studies()
    return ready[find_name('study', study, ready, f'give a .yaml or .py file, or one of {", ".join(ready)}')]


def read_study(path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
    """Read a study from a YAML file, or from a Python file that sets its attributes as variables.

    Args:
        path: of the file.
        changes: settings that take the place of those of the file.

    Raises:
        UserError: there is no such file, or it is not a valid study.
    """
    return make_study({**read_settings(path), **(changes or {})})


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """Read what the file of a study says, as it stands there.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"study '{path}' is not there; give a .yaml or .py file, such as one of configs/studies/")
    try:
        settings = _read_python(path) if path.suffix == '.py' else yaml.safe_load(path.read_text('utf-8'))
    except Exception as error:  # a Python file fails in any way that Python does
        raise UserError(f"study '{path}' cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(settings, Mapping):
        raise UserError(f"study '{path}' holds no settings; see configs/studies/ for an example")
    return settings


def _read_python(path: Path) -> Mapping[str, Any]:
    from mmengine.config import Config

    return Config.fromfile(path).to_dict()

"""The config of a run: read from a file, changed by the options of a command line."""

import difflib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import import_parts, load_parts, use_working_folder
from mmgfnuc.inference.checkpoint import carried_config, read_checkpoint
from mmgfnuc.inference.dumped_config import (
    SCOPES,
    check_outputs,
    check_registered,
    find_part,
    forget_caches,
    is_registered,
    read_dumped,
)
from mmgfnuc.models.parts import NEAR, check_value, class_of
from mmgfnuc.names import groups_of
from mmgfnuc.registry import MODELS
from mmgfnuc.shipped import find_config

from .cli import notice
from .distributed import LAUNCHERS, prepare_distributed
from .inheritance import check_base_line, check_changes
from .settings import check_names, top_level
from .targets import add_target

CHECKPOINT_SUFFIX = '.pth'
# What is taken of the config that a checkpoint carries; the rest says how a run is kept and shown, and where.
CARRIED = (
    *('model', 'data_preprocessor', 'default_scope', 'randomness', 'env_cfg', 'log_level'),
    *('default_hooks', 'custom_hooks', 'optim_wrapper', 'param_scheduler'),
    *(f'{part}_{name}' for part in ('train', 'val', 'test') for name in ('dataloader', 'cfg', 'evaluator')),
)
CARRIED_ENV = ('cudnn_benchmark', 'mp_cfg')
# Beside those of this package. Others write files, and weights that a hook has averaged are in the checkpoint.
CARRIED_HOOKS = tuple(
    f'mmengine.hooks.{name}'
    for name in (
        *('RuntimeInfoHook', 'IterTimerHook', 'DistSamplerSeedHook', 'LoggerHook', 'ParamSchedulerHook'),
        'CheckpointHook',
    )
)


def load_config(path: str, options: dict[str, Any] | None = None, work_dir: str | None = None) -> Config:
    """Read a config, apply `--cfg-options`, and settle its working folder (default `work_dirs/<config name>`).

    A file that is not there is looked for among the configs that come with the package, such as `configs/demo/demo.py`.
    The training pipeline gets the transform that makes what the head learns, see `add_target`.

    A checkpoint (.pth) in place of a file gives the config that it was trained with; its working folder is by default
    the one that it lies in.

    Raises:
        UserError: the file does not exist or is not a valid config, changes what nothing uses (see `check_changes`), a
            setting at its top is misspelt or of the wrong type (see `check_names`), an option does not fit it, or a
            module that it imports cannot be imported.
    """
    if not Path(path).is_file():
        path = _shipped_config(path)
    elif Path(path).suffix != CHECKPOINT_SUFFIX:
        use_working_folder()  # its code, and what it imports, are the user's own
    cfg = _config_of_checkpoint(path) if Path(path).suffix == CHECKPOINT_SUFFIX else _config_of_file(path)
    apply_options(cfg, options or {})
    check_names(cfg)
    _import_custom(cfg.get('custom_imports'))
    add_target(cfg)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(path).stem}'
    return cfg


def _config_of_file(path: str) -> Config:
    try:
        check_base_line(path)
        cfg = Config.fromfile(path, import_custom_modules=False)
        list(_paths(dict(cfg.items())))  # types are imported when they are looked at: what fails there is told here
        check_changes(path, cfg)
    except UserError:
        raise
    except Exception as error:  # a config is Python: it fails in any way that Python does
        raise UserError(f"config '{path}' cannot be used: {type(error).__name__}: {error}{_hint(error)}") from error
    return cfg


def _hint(error: Exception) -> str:
    # What a config inherits has attributes; what `dict(...)` makes in the file itself has keys alone.
    if isinstance(error, AttributeError) and type(error.obj) is dict:
        return f"; in the file that makes a dict write ['{error.name}']"
    return ''


def _shipped_config(name: str) -> str:
    if Path(name).suffix == CHECKPOINT_SUFFIX:
        raise UserError(f"checkpoint '{name}' is not there; give the .pth file that mmgfnuc train wrote")
    shipped = find_config(name)
    if shipped is None:
        raise UserError(
            f"config '{name}' is not there; give the path of a .py file, or of a config of the package, such as "
            'configs/cpu/own_data.py'
        )
    notice(f"'{name}' is taken from the package: {shipped}")
    return str(shipped)


def _import_custom(custom: Any) -> None:
    """Import the modules that `custom_imports` names: MMEngine does so for its old style of configs only."""
    if not isinstance(custom, Mapping):
        return
    modules = custom.get('imports') or ()
    check_value('custom_imports.imports', modules, str | list | tuple)
    for module in [modules] if isinstance(modules, str) else modules:
        try:
            import_parts([module])
        except UserError as error:
            if not custom.get('allow_failed_imports'):
                raise UserError(f'custom_imports: {error}') from error
            warnings.warn(f'custom_imports, left out: {error}', stacklevel=2)


def apply_options(cfg: Config, options: Mapping[str, Any], given_by: str = '--cfg-options') -> None:
    """Change settings of a config, each by its dotted path.

    The way to a setting must be there. Whether the last name is a setting of the part that it goes to is seen when the
    settings are checked. At the top it must be one that is read: by then a variable of the config file has been used,
    and changing it would change nothing.

    Args:
        cfg: is changed.
        options: values by their paths.
        given_by: where the options come from, for an error.

    Raises:
        UserError: there is no such way, or another option of the tool sets it; says where it ends and what is near.
    """
    for path, value in options.items():
        _check_first(cfg, path, given_by)
        _set(cfg, path, value, given_by)


def _check_first(cfg: Config, path: str, given_by: str) -> None:
    first = path.partition('.')[0]
    if path == 'launcher':
        raise UserError(f'launcher is set by --launcher ({", ".join(LAUNCHERS)}), not by {given_by}')
    if first not in top_level():
        why = f"'{first}' is only a variable of the config file" if first in cfg else f"there is no '{first}'"
        raise UserError(f'{given_by} {path}: {why}; {_near(path, cfg)}')


def _set(cfg: Config, path: str, value: Any, given_by: str) -> None:
    above, _, last = path.rpartition('.')
    parent = _follow(cfg, path, given_by)
    if isinstance(parent, list) and not isinstance(value, Mapping):
        # MMEngine sets no plain value within a list.
        index = int(last)
        _set(cfg, above, [*parent[:index], value, *parent[index + 1 :]], given_by)
        return
    try:
        cfg.merge_from_dict({path: value})
    except Exception as error:  # a group cannot take the place of a list, and the like
        raise UserError(f'{given_by} {path}={value!r} cannot be set: {error}') from error


def _follow(cfg: Config, path: str, given_by: str) -> Any:
    """What a path leads to, but for its last name; a group that is not there yet is an empty one."""
    parent: Any = None
    node: Any = cfg
    for place, name in enumerate(path.split('.')):
        way = '.'.join(path.split('.')[:place])
        parent = node
        if isinstance(node, list):
            if not name.isdigit() or int(name) >= len(node):
                entries = f'{way} has {len(node)} entries, counted from 0'
                raise UserError(f"{given_by} {path}: {entries}; there is no '{name}'")
            node = node[int(name)]
        elif isinstance(node, Mapping | Config):
            node = node.get(name, {})
        else:
            raise UserError(f"{given_by} {path}: {way} is {node!r}, which has no '{name}'; set {way} itself")
    return parent


def _near(path: str, cfg: Config) -> str:
    """Paths of settings that end as `path` does, else those whose names are the nearest to its last one."""
    settings = {name: value for name, value in cfg.items() if name in top_level()}
    paths = [*top_level(), *_paths(settings)]
    near = [other for other in paths if other.endswith(f'.{path}')]
    if not near:
        last = path.rpartition('.')[2]
        names = difflib.get_close_matches(last, {other.rpartition('.')[2] for other in paths}, 1, NEAR)
        near = [other for other in paths if other.rpartition('.')[2] in names]
    return f'near it: {", ".join(dict.fromkeys(near[:3]))}' if near else f'settings begin with {", ".join(settings)}'


def _paths(node: Any, way: str = '') -> Iterator[str]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        yield f'{way}{name}'
        yield from _paths(value, f'{way}{name}.')


def _config_of_checkpoint(path: str) -> Config:
    """Take from a checkpoint's config what a test or a prediction needs, and may be trusted with.

    Raises:
        UserError: a setting names what is not a registered part, or where to write.
    """
    source = f"checkpoint '{path}'"
    carried = carried_config(read_checkpoint(path), path).to_dict()
    settings = {name: value for name, value in carried.items() if name in CARRIED}
    check_registered(settings, source)
    forget_caches(settings.get('model'))
    check_outputs(settings, source)
    # Without the name of a file: there is none.
    cfg = Config(settings)
    check_names(cfg)
    if 'env_cfg' in cfg:
        cfg.env_cfg = {name: value for name, value in cfg.env_cfg.items() if name in CARRIED_ENV}
    _keep_hooks(cfg, source)
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False)
    # The record of a test is a config file, which may be run.
    if read_dumped(cfg.pretty_text, source).to_dict() != cfg.to_dict():
        raise UserError(f'the config in {source} changes when it is written down; name a config file of your own')
    cfg.work_dir = str(Path(path).parent)
    return cfg


def _keep_hooks(cfg: Config, source: str) -> None:
    """Leave hooks out that are neither of this package nor among `CARRIED_HOOKS`; a notice names them."""
    allowed = [find_part(name) for name in CARRIED_HOOKS]
    dropped = []

    def kept(hook: Any) -> bool:
        part = find_part(hook['type'], ['HOOKS']) if isinstance(hook, Mapping) and 'type' in hook else None
        known = hook is None or part in allowed or (part and part.__module__.partition('.')[0] == 'mmgfnuc')
        if not known:
            dropped.append(hook['type'] if part else repr(hook)[:60])
        return bool(known)

    if cfg.get('default_hooks'):
        cfg.default_hooks = {name: hook for name, hook in cfg.default_hooks.items() if kept(hook)}
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if kept(hook)]
    if dropped:
        notice(
            f'{len(dropped)} hooks of the config in {source} are left out: {", ".join(dropped)}; to have them, name '
            'a config file of your own'
        )


def needs_its_config(cfg: Config) -> bool:
    """Tell whether the model has parts that its checkpoint alone does not bring, as no installed package does."""
    brought = {*SCOPES, 'torch', *(own.module.partition('.')[0] for own in load_parts())}
    kinds = [kind for group in groups_of(cfg.model) if (kind := class_of(group, MODELS))]
    # A class of such a package counts only where that registers it.
    return any(kind.__module__.partition('.')[0] not in brought or not is_registered(kind) for kind in kinds)


def set_seed(cfg: Config, seed: int | None) -> None:
    """Use one seed for the weights, the order of the samples and their augmentation; None keeps the config's.

    Raises:
        UserError: the config has no training data to seed.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    if not isinstance(dataset, Mapping):
        raise UserError(f'train_dataloader.dataset={dataset!r}: give a group of settings, with the data to train on')
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    cfg.train_dataloader.dataset.seed = cfg.get('randomness', {}).get('seed') or 0


def set_launcher(cfg: Config, launcher: str) -> None:
    """Choose how the processes were started: `none`, `pytorch` (torchrun) or `slurm` (srun)."""
    cfg.launcher = launcher
    if launcher != 'none':
        prepare_distributed(cfg)


def use_bfloat16(cfg: Config) -> None:
    """Train under bfloat16 autocast."""
    # By name: the config goes into the checkpoint as text, and a class set here would not be readable there.
    cfg.optim_wrapper.type = 'mmgfnuc.BFloat16OptimWrapper'

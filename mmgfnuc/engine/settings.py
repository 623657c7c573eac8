"""The settings of a config: is each one known where it stands, and is its value of the right type?

Nothing is built here and no data is looked at; engine/preflight.py does both, afterwards.
"""

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    EVALUATOR,
    FUNCTIONS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    WEIGHT_INITIALIZERS,
    DefaultScope,
    Registry,
)
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Priority,
    Runner,
    TestLoop,
    ValLoop,
)
from mmengine.utils.dl_utils import set_multi_processing
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from mmgfnuc.errors import UserError

from .optim import TrainableParamsConstructor
from .signatures import NOTHING, SCALARS, Accepted, accepted, describe, fits

PARTS = ('train', 'val', 'test')
LAUNCHERS = ('none', 'pytorch', 'slurm')
LOG_LEVELS = tuple(logging.getLevelNamesMapping())
NEAR = 0.6
# A variable of a config file is taken for a misspelt setting only if it is as near as this.
VERY_NEAR = 0.8

# What the runner reads from the config itself, beside the parameters of its constructor.
RUNNER_READS = {
    'model_wrapper_cfg': dict | None,
    'sync_bn': Literal['torch', 'mmcv'] | None,
    'find_unused_parameters': bool,
    'activation_checkpointing': list | None,
    'efficient_conv_bn_eval': list | None,
    'compile': bool | dict | None,
    'custom_imports': dict | None,
}
# Narrower or wider than the annotations of the runner's constructor.
RUNNER_TYPES = {
    'model': dict,
    'launcher': Literal[LAUNCHERS],
    'log_level': int | Literal[LOG_LEVELS],
    'randomness': dict,
    'env_cfg': dict,
    'default_scope': str | None,
}
DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
PARAMWISE = Accepted(
    {
        **dict.fromkeys(('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult'), float),
        **dict.fromkeys(('dwconv_decay_mult', 'dcn_offset_lr_mult'), float),
        'custom_keys': dict,
        'bypass_duplicate': bool,
    }
)
# Least values of whole numbers; below it a run fails later, or ends without having done anything.
LEAST = {
    **dict.fromkeys(('max_iters', 'max_epochs', 'val_interval', 'batch_size', 'accumulative_counts'), 1),
    **dict.fromkeys(('num_batch_per_epoch', 'window_size', 'num_workers'), 0),
}
LEAST['window_size'] = 1
LARGEST_SEED = 2**32 - 1
# Which registry the parts below a key come from, wherever it stands.
REGISTRIES = {
    'dataset': DATASETS,
    'datasets': DATASETS,
    'pipeline': TRANSFORMS,
    'transforms': TRANSFORMS,
    'sampler': DATA_SAMPLERS,
    'batch_sampler': DATA_SAMPLERS,
    'init_cfg': WEIGHT_INITIALIZERS,
    'vis_backends': VISBACKENDS,
    'postprocess': TASK_UTILS,
}


def top_level() -> dict[str, Any]:
    """Names of the settings of a config, with their types."""
    return accepted(Runner).without(['cfg']).hints | RUNNER_READS | RUNNER_TYPES


def check_names(cfg: Config) -> None:
    """Check the names at the top of a config, and the types of what they hold.

    A config file is Python: MMEngine keeps every variable of it, such as `num_steps = 5` or an imported `backbone`,
    beside the settings. Such a variable is taken for a misspelt setting if its name is very near to that of one, its
    value is of the type of that one, and is not used in the config either: `resme = True`, but not
    `evaluator = [...]` followed by `val_evaluator = evaluator`.

    Raises:
        UserError: names the setting, what is wrong with it, and what is near it.
    """
    known, env = top_level(), _environment().hints
    settings = {name: value for name, value in cfg.items() if name in known}
    for name, value in cfg.items():
        if name in known:
            _check_value(name, value, known[name])
            continue
        near = difflib.get_close_matches(name, [*known, *env], 1, VERY_NEAR)
        several = isinstance(value, Mapping | list | tuple)
        # What is neither is an imported class, function or module.
        if not near or not (several or isinstance(value, SCALARS)) or (several and _is_used(value, settings)):
            continue
        if fits(value, known.get(near[0], env.get(near[0]))):
            right = near[0] if near[0] in known else f'env_cfg.{near[0]}'
            raise UserError(
                f"the config has a setting that does not exist: '{name}'; near it: '{right}'; "
                'correct it, or give the variable another name'
            )


def _is_used(value: Any, tree: Any) -> bool:
    """Whether a dict is part of some dict of the tree, or a list of some list."""
    if isinstance(value, Mapping) and isinstance(tree, Mapping) and value:
        used = all(key in tree and tree[key] == item for key, item in value.items())
    else:
        used = value == tree
    inner = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return used or any(_is_used(value, item) for item in inner)


def check_settings(cfg: Config, *parts: str) -> None:
    """Check all settings that the named parts (`train`, `val`, `test`) use.

    The settings of every dict with a `type` are compared with the signature of what the type stands for; types of
    values where MMEngine, PyTorch or this package annotate them.

    Raises:
        UserError: one line with the path of the setting, what is wrong with it, and what is near it.
    """
    check_names(cfg)
    needed = ['model', *(f'{part}_{what}' for part in parts for what in ('dataloader', 'cfg'))]
    for name in [*needed, *['optim_wrapper'] * ('train' in parts)]:
        if not cfg.get(name):
            raise UserError(f'{name} is missing in the config, and this run needs it; give it')
    with _scope(cfg):
        _part('model', cfg.get('model'), MODELS)
        _part('data_preprocessor', cfg.get('data_preprocessor'), MODELS)
        for part in parts:
            _loader(f'{part}_dataloader', cfg.get(f'{part}_dataloader'))
            _loop(part, cfg.get(f'{part}_cfg'))
            _evaluator(f'{part}_evaluator', cfg.get(f'{part}_evaluator'))
        if 'train' in parts:
            _optim_wrapper(cfg.get('optim_wrapper'))
            _schedulers('param_scheduler', cfg.get('param_scheduler'))
            _group('auto_scale_lr', cfg.get('auto_scale_lr'), Accepted({'enable': bool, 'base_batch_size': int}))
            if isinstance(cfg.get('compile'), Mapping):
                _group('compile', cfg.compile, accepted(torch.compile))
        _hooks(cfg)
        _runtime(cfg)


def check_model(cfg: Config) -> None:
    """Check the settings of the model and of the test pipeline alone: those that predicting uses.

    Raises:
        UserError: see `check_settings`.
    """
    with _scope(cfg):
        _part('model', cfg.get('model'), MODELS)
        path = 'test_dataloader.dataset.pipeline'
        _parts(path, cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline'), TRANSFORMS)


@contextmanager
def _scope(cfg: Config) -> Iterator[None]:
    """Look types up as the runner will, and keep what registries say meanwhile from the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
            yield
    finally:
        logging.disable(disabled)


def _loader(path: str, loader: Any) -> None:
    own = Accepted({'num_batch_per_epoch': int, 'disable_subprocess_warning': bool})
    if not isinstance(loader, Mapping):
        return
    _group(path, loader, accepted(DataLoader) | own, 'a dataloader')
    for name, value in loader.items():
        if name in ('collate_fn', 'worker_init_fn'):
            _part(f'{path}.{name}', value, FUNCTIONS)
        elif name in ('dataset', 'sampler', 'batch_sampler'):
            _part(f'{path}.{name}', value, REGISTRIES[name])


def _loop(part: str, loop: Any) -> None:
    if not isinstance(loop, Mapping) or 'type' in loop:
        return _part(f'{part}_cfg', loop, LOOPS)
    by_epoch = Accepted({'by_epoch': bool})
    train = EpochBasedTrainLoop if loop.get('by_epoch', True) else IterBasedTrainLoop
    taken = {'train': accepted(train) | by_epoch, 'val': accepted(ValLoop), 'test': accepted(TestLoop)}
    return _group(f'{part}_cfg', loop, taken[part])


def _evaluator(path: str, evaluator: Any) -> None:
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        _typed(path, evaluator, EVALUATOR, default=Evaluator)
        _parts(f'{path}.metrics', evaluator['metrics'], METRICS)
    else:
        _parts(path, evaluator, METRICS)


def _optim_wrapper(wrapper: Any) -> None:
    path = 'optim_wrapper'
    if not isinstance(wrapper, Mapping):
        return
    constructor = _resolve(
        f'{path}.constructor', wrapper.get('constructor'), OPTIM_WRAPPER_CONSTRUCTORS, DefaultOptimWrapperConstructor
    )
    if constructor not in (DefaultOptimWrapperConstructor, TrainableParamsConstructor):
        return  # one's own gives the settings a meaning of its own
    also = Accepted({'constructor': Any, 'paramwise_cfg': dict | None, 'optimizer': dict})
    _typed(path, wrapper, OPTIM_WRAPPERS, default=OptimWrapper, also=also)
    _part(f'{path}.optimizer', wrapper.get('optimizer'), OPTIMIZERS)
    ours = Accepted({'layer_decay': float} if constructor is TrainableParamsConstructor else {})
    _group(f'{path}.paramwise_cfg', wrapper.get('paramwise_cfg'), PARAMWISE | ours)
    clip = wrapper.get('clip_grad')
    if isinstance(clip, Mapping):
        function = clip_grad_value_ if clip.get('type') == 'value' else clip_grad_norm_
        kind = Accepted({'type': Literal['norm', 'value']})
        _group(f'{path}.clip_grad', clip, accepted(function).without(['parameters']) | kind)


def _schedulers(path: str, scheduler: Any) -> None:
    if isinstance(scheduler, Mapping) and 'type' not in scheduler:  # by the names of several optimisers
        for name, inner in scheduler.items():
            _schedulers(f'{path}.{name}', inner)
    else:
        _parts(path, scheduler, PARAM_SCHEDULERS, also=Accepted({'convert_to_iter_based': bool, 'epoch_length': int}))


def _hooks(cfg: Config) -> None:
    hooks = {f'custom_hooks.{index}': hook for index, hook in enumerate(cfg.get('custom_hooks') or ())}
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if name not in DEFAULT_HOOKS and difflib.get_close_matches(name, DEFAULT_HOOKS, 1, VERY_NEAR):
            _refuse(f'default_hooks.{name}', name, 'default_hooks', DEFAULT_HOOKS)
        hooks[f'default_hooks.{name}'] = hook
    for path, hook in hooks.items():
        _part(path, hook, HOOKS, also=Accepted({'priority': str | int}))
        priority = hook.get('priority') if isinstance(hook, Mapping) else None
        if isinstance(priority, str) and priority.upper() not in Priority.__members__:
            raise UserError(f"{path}.priority='{priority}': it is one of {', '.join(Priority.__members__)}; correct it")


def _environment() -> Accepted:
    """What `env_cfg` takes."""
    return Accepted({'cudnn_benchmark': bool, 'mp_cfg': dict, 'dist_cfg': dict, 'resource_limit': int})


def _runtime(cfg: Config) -> None:
    env = cfg.get('env_cfg') or {}
    _group('env_cfg', env, _environment())
    _group('env_cfg.mp_cfg', env.get('mp_cfg'), accepted(set_multi_processing).without(['distributed']))
    process_group = accepted(torch.distributed.init_process_group)
    _group('env_cfg.dist_cfg', env.get('dist_cfg'), accepted(init_dist) | process_group | Accepted({'timeout': int}))
    _group('randomness', cfg.get('randomness'), accepted(Runner.set_randomness) | Accepted({'seed': int | None}))
    processor = cfg.get('log_processor')
    if isinstance(processor, Mapping):
        _typed('log_processor', processor, LOG_PROCESSORS, default=LogProcessor)
    _part('visualizer', cfg.get('visualizer'), VISUALIZERS)
    wrapper = cfg.get('model_wrapper_cfg')
    if isinstance(wrapper, Mapping):
        _typed('model_wrapper_cfg', wrapper, MODEL_WRAPPERS, default=MMDistributedDataParallel)
    imports = Accepted({'imports': str | list | tuple, 'allow_failed_imports': bool})
    _group('custom_imports', cfg.get('custom_imports'), imports)


def _parts(path: str, value: Any, registry: Registry, also: Accepted = NOTHING) -> None:
    """Check one part or a list of them."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _part(f'{path}.{index}', item, registry, also)
    else:
        _part(path, value, registry, also)


def _part(path: str, value: Any, registry: Registry, also: Accepted = NOTHING) -> None:
    if isinstance(value, Mapping):
        if 'type' not in value:
            raise UserError(f"{path}: it has no 'type', which says what is built of its settings; give one")
        _typed(path, value, registry, also=also)
    elif isinstance(value, SCALARS):
        raise UserError(f'{path}={value!r}: a part of a run is a group of settings with a type; give one')


def _typed(
    path: str, value: Mapping, registry: Registry, default: Any = None, also: Accepted = NOTHING, strict: bool = True
) -> None:
    """Check a part and those in it."""
    target = _resolve(f'{path}.type', value.get('type'), registry, default, strict)
    if target is not None:
        name = getattr(target, '__name__', str(target))
        _group(path, value, accepted(target) | also | Accepted({'type': Any, '_scope_': str}), name)
    for key, inner in value.items():
        if key not in also.hints:
            _inner(f'{path}.{key}', inner, REGISTRIES.get(key, registry))


def _inner(path: str, value: Any, registry: Registry) -> None:
    """Check the parts anywhere in a value. Where a type is not found, only building tells whether that is wrong."""
    if isinstance(value, Mapping) and 'type' in value:
        _typed(path, value, registry, strict=False)
    elif isinstance(value, Mapping | list | tuple):
        items: Iterable = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            _inner(f'{path}.{key}', inner, REGISTRIES.get(key, registry) if isinstance(key, str) else registry)


def _resolve(path: str, kind: Any, registry: Registry, default: Any, strict: bool = True) -> Any:
    """Find what a type stands for: a class in a config file, a name in a dumped one."""
    if kind is None:
        return default
    if not isinstance(kind, str):
        if not callable(kind):
            raise UserError(f'{path}={kind!r}: a type is a class or the name of one; give one')
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        try:
            found = scoped.get(kind)
        except Exception:  # a dotted name may be looked for in a module that fails on import
            found = None
    if found is None and strict:
        near = difflib.get_close_matches(kind.rpartition('.')[2], _registered(registry), 3, NEAR)
        hint = f'near it: {", ".join(near)}' if near else 'correct it, or import its module (custom_imports)'
        raise UserError(f"the config names a part that does not exist: {path}='{kind}'; {hint}")
    return found


def _registered(registry: Registry) -> list[str]:
    names = list(registry.module_dict)
    for child in registry.children.values():
        names += _registered(child)
    return names


def _group(path: str, value: Any, taken: Accepted, owner: str = '') -> None:
    """Check the names and the types of the settings of a group."""
    if not isinstance(value, Mapping):
        return
    for name, setting in value.items():
        if name in taken.hints:
            # What is given as a part is checked as such.
            if not (name in taken.defaults and _same(setting, taken.defaults[name])):
                _check_value(f'{path}.{name}', setting, taken.hints[name])
        elif taken.known:
            _refuse(f'{path}.{name}', name, owner or path, taken.hints)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and isinstance(value, SCALARS) and value == default)


def _check_value(path: str, value: Any, hint: Any) -> None:
    name = path.rpartition('.')[2]
    if not fits(value, hint):
        raise UserError(f'{path}={value!r}: it is {describe(hint)}; correct the value')
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in LEAST and value < LEAST[name]:
            raise UserError(f'{path}={value!r}: the least is {LEAST[name]}; correct the value')
        if name == 'seed' and not 0 <= value <= LARGEST_SEED:
            raise UserError(f'{path}={value!r}: a seed is in 0 to 2**32 - 1; correct the value')


def _refuse(path: str, name: str, owner: str, names: Iterable[str]) -> NoReturn:
    public = [known for known in names if not known.startswith('_') and known != 'type']
    near = difflib.get_close_matches(name, public, 3, NEAR)
    if near:
        hint = f'near it: {", ".join(near)}'
    else:
        hint = f'there are {", ".join(sorted(public))}' if public else 'it takes none'
    raise UserError(f"the config has a setting that does not exist: {path}; {owner} has no '{name}'; {hint}")

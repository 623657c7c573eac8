"""The settings of a config: is each one known where it stands, and is its value of the right type?

Nothing is built here and no data is looked at; engine/preflight.py does both, afterwards.
"""

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.evaluator import Evaluator
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import (
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
    TRANSFORMS,
    VISUALIZERS,
    DefaultScope,
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

from mmgfnuc.datasets.transforms import RandomWarpCrop
from mmgfnuc.datasets.transforms.geometric import ElasticField
from mmgfnuc.errors import UserError
from mmgfnuc.models.parts import (
    GROUPS,
    REGISTRIES,
    check_group,
    check_part,
    check_parts,
    check_typed,
    check_value,
    class_of,
    find_type,
    refuse,
)
from mmgfnuc.models.signatures import SCALARS, Accepted, accepted, fits

from .distributed import LAUNCHERS
from .optim import TrainableParamsConstructor
from .trackers import check_trackers

GROUPS[RandomWarpCrop] = {'elastic': accepted(ElasticField)}
LOG_LEVELS = tuple(logging.getLevelNamesMapping())
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
    'default_hooks': dict | None,
    'custom_hooks': list | tuple | None,
}
DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
# Hooks of MMEngine in whose place those of this package stand: why, and what to write.
REPLACED = {
    EMAHook: ('copies a frozen encoder, too', "dict(type='mmgfnuc.AverageWeightsHook', decay=0.999)"),
    EarlyStoppingHook: (
        'forgets what it has seen when a run is resumed',
        "dict(type='mmgfnuc.EarlyStopHook', monitor=..., patience=5)",
    ),
}
# What `env_cfg` takes.
ENVIRONMENT = Accepted({'cudnn_benchmark': bool, 'mp_cfg': dict, 'dist_cfg': dict, 'resource_limit': int})
PARAMWISE = Accepted(
    {
        **dict.fromkeys(('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult'), float),
        **dict.fromkeys(('dwconv_decay_mult', 'dcn_offset_lr_mult'), float),
        'custom_keys': dict,
        'bypass_duplicate': bool,
    }
)


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
    known, env = top_level(), ENVIRONMENT.hints
    settings = {name: value for name, value in cfg.items() if name in known}
    for name, value in cfg.items():
        if name in known:
            check_value(name, value, known[name])
            continue
        near = difflib.get_close_matches(name, [*known, *env], 1, VERY_NEAR)
        several = isinstance(value, Mapping | list | tuple)
        # What is neither is an imported class, function or module.
        if not near or not (several or isinstance(value, SCALARS)) or (several and _is_used(value, settings)):
            continue
        if fits(value, known.get(near[0], env.get(near[0]))):
            right = near[0] if near[0] in known else f'env_cfg.{near[0]}'
            raise UserError(
                f"a setting does not exist: '{name}'; near it: '{right}'; correct it, or give the variable another name"
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
    values where MMEngine, PyTorch or this package annotate them. Of several processes each checks, so that none waits
    for one that has ended; the first one reports.

    Of a training also those of its test, where the config has them.

    Raises:
        UserError: one line with the path of the setting, what is wrong with it, and what is near it.
    """
    check_names(cfg)
    needed = ['model', *(f'{part}_{what}' for part in parts for what in ('dataloader', 'cfg'))]
    needed += ['optim_wrapper' if part == 'train' else f'{part}_evaluator' for part in parts]
    for name in needed:
        if not cfg.get(name):
            raise UserError(f'{name} is missing in the config, and this run needs it; give it')
    with scope(cfg):
        _runtime(cfg)
        _hooks(cfg)
        check_part('model', cfg.get('model'), MODELS)
        check_part('data_preprocessor', cfg.get('data_preprocessor'), MODELS)
        # That of a test is looked at before the training, after which it would come too late.
        for part in dict.fromkeys([*parts, *['test'] * ('train' in parts)]):
            _loader(f'{part}_dataloader', cfg.get(f'{part}_dataloader'))
            _loop(part, cfg.get(f'{part}_cfg'))
            _evaluator(f'{part}_evaluator', cfg.get(f'{part}_evaluator'))
        if 'train' in parts:
            _optim_wrapper(cfg.get('optim_wrapper'))
            _schedulers('param_scheduler', cfg.get('param_scheduler'))
            check_group('auto_scale_lr', cfg.get('auto_scale_lr'), Accepted({'enable': bool, 'base_batch_size': int}))
            if isinstance(cfg.get('compile'), Mapping):
                check_group('compile', cfg.compile, accepted(torch.compile))


def check_model(cfg: Config) -> None:
    """Check the settings of the model and of the test pipeline alone: those that predicting uses.

    Raises:
        UserError: see `check_settings`.
    """
    with scope(cfg):
        check_part('model', cfg.get('model'), MODELS)
        path = 'test_dataloader.dataset.pipeline'
        check_parts(path, cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline'), TRANSFORMS)


@contextmanager
def scope(cfg: Config) -> Iterator[None]:
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
    check_group(path, loader, accepted(DataLoader) | own, 'a dataloader')
    for name, value in loader.items():
        if name in ('collate_fn', 'worker_init_fn'):
            check_part(f'{path}.{name}', value, FUNCTIONS)
        elif name in ('dataset', 'sampler', 'batch_sampler'):
            check_part(f'{path}.{name}', value, REGISTRIES[name])


def _loop(part: str, loop: Any) -> None:
    if not isinstance(loop, Mapping) or 'type' in loop:
        return check_part(f'{part}_cfg', loop, LOOPS)
    by_epoch = Accepted({'by_epoch': bool})
    train = EpochBasedTrainLoop if loop.get('by_epoch', True) else IterBasedTrainLoop
    taken = {'train': accepted(train) | by_epoch, 'val': accepted(ValLoop), 'test': accepted(TestLoop)}
    return check_group(f'{part}_cfg', loop, taken[part])


def _evaluator(path: str, evaluator: Any) -> None:
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        check_typed(path, evaluator, EVALUATOR, default=Evaluator)
        check_parts(f'{path}.metrics', evaluator['metrics'], METRICS)
    else:
        check_parts(path, evaluator, METRICS)


def _optim_wrapper(wrapper: Any) -> None:
    path = 'optim_wrapper'
    if not isinstance(wrapper, Mapping):
        return
    constructor = find_type(
        f'{path}.constructor', wrapper.get('constructor'), OPTIM_WRAPPER_CONSTRUCTORS, DefaultOptimWrapperConstructor
    )
    if constructor not in (DefaultOptimWrapperConstructor, TrainableParamsConstructor):
        return  # one's own gives the settings a meaning of its own
    also = Accepted({'constructor': Any, 'paramwise_cfg': dict | None, 'optimizer': dict})
    check_typed(path, wrapper, OPTIM_WRAPPERS, default=OptimWrapper, also=also)
    check_part(f'{path}.optimizer', wrapper.get('optimizer'), OPTIMIZERS)
    ours = Accepted({'layer_decay': float} if constructor is TrainableParamsConstructor else {})
    check_group(f'{path}.paramwise_cfg', wrapper.get('paramwise_cfg'), PARAMWISE | ours)
    clip = wrapper.get('clip_grad')
    if isinstance(clip, Mapping):
        function = clip_grad_value_ if clip.get('type') == 'value' else clip_grad_norm_
        hints = accepted(function).without(['parameters']).hints
        check_group(f'{path}.clip_grad', clip, Accepted(hints | {'type': Literal['norm', 'value']}))


def _schedulers(path: str, scheduler: Any) -> None:
    if isinstance(scheduler, Mapping) and 'type' not in scheduler:  # by the names of several optimisers
        for name, inner in scheduler.items():
            _schedulers(f'{path}.{name}', inner)
    else:
        also = Accepted({'convert_to_iter_based': bool, 'epoch_length': int})
        check_parts(path, scheduler, PARAM_SCHEDULERS, also)


def _hooks(cfg: Config) -> None:
    hooks = {f'custom_hooks.{index}': hook for index, hook in enumerate(cfg.get('custom_hooks') or ())}
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if name not in DEFAULT_HOOKS and difflib.get_close_matches(name, DEFAULT_HOOKS, 1, VERY_NEAR):
            refuse(f'default_hooks.{name}', name, 'default_hooks', DEFAULT_HOOKS)
        hooks[f'default_hooks.{name}'] = hook
    for path, hook in hooks.items():
        kind = class_of(hook, HOOKS)
        if kind in REPLACED:
            why, instead = REPLACED[kind]
            raise UserError(f'{path}: {kind.__name__} of MMEngine {why}; write {instead}')
        check_part(path, hook, HOOKS, also=Accepted({'priority': str | int}))
        priority = hook.get('priority') if isinstance(hook, Mapping) else None
        if isinstance(priority, str) and priority.upper() not in Priority.__members__:
            raise UserError(f"{path}.priority='{priority}': it is one of {', '.join(Priority.__members__)}; correct it")


def _runtime(cfg: Config) -> None:
    env = cfg.get('env_cfg') or {}
    check_group('env_cfg', env, ENVIRONMENT)
    check_group('env_cfg.mp_cfg', env.get('mp_cfg'), accepted(set_multi_processing).without(['distributed']))
    process_group = accepted(init_dist).hints | accepted(torch.distributed.init_process_group).hints
    check_group('env_cfg.dist_cfg', env.get('dist_cfg'), Accepted(process_group | {'timeout': int}))
    check_group('randomness', cfg.get('randomness'), Accepted({'seed': int | None}) | accepted(Runner.set_randomness))
    processor = cfg.get('log_processor')
    if isinstance(processor, Mapping):
        check_typed('log_processor', processor, LOG_PROCESSORS, default=LogProcessor)
    check_part('visualizer', cfg.get('visualizer'), VISUALIZERS)
    check_trackers(cfg.get('visualizer'))
    wrapper = cfg.get('model_wrapper_cfg')
    if isinstance(wrapper, Mapping):
        check_typed('model_wrapper_cfg', wrapper, MODEL_WRAPPERS, default=MMDistributedDataParallel)
    imports = Accepted({'imports': str | list | tuple, 'allow_failed_imports': bool})
    check_group('custom_imports', cfg.get('custom_imports'), imports)

"""A rehearsal of a run: every part is built once, and one sample of each data set made, before anything is written."""

import logging
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from textwrap import shorten
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info, is_distributed
from mmengine.runner import Runner
from mmengine.utils import ManagerMixin
from torch import nn
from torch.utils.data import IterableDataset

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import check_classes
from mmgfnuc.models.foundation import FoundationEncoder, entry_of_config
from mmgfnuc.models.parts import without_type
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.names import unknown_type

from .hooks.scores import check_followed
from .hooks.step_seed import count_steps
from .settings import top_level

# Functions that build parts, with the variable of each that holds the settings; those that build one section only.
BUILDERS = {
    **{'build_from_cfg': 'cfg', 'build_scheduler_from_cfg': 'cfg', 'build_dataloader': 'dataloader'},
    **dict.fromkeys(('build_part', 'build_backbone', 'build_decoder', 'build_encoder'), 'config'),
}
SECTIONS = {
    'build_log_processor': 'log_processor',
    'build_logger': 'log_level',
    'build_visualizer': 'visualizer',
    'build_optim_wrapper': 'optim_wrapper',
    'build_param_scheduler': 'param_scheduler',
    '_check_scheduler_cfg': 'param_scheduler',
    'scale_lr': 'auto_scale_lr',
    'register_default_hooks': 'default_hooks',
    'register_custom_hooks': 'custom_hooks',
    'build_model': 'model',
}
# Functions here that try one section, which their variable `section` names.
TRIED = ('_try_sample', '_try_evaluator')
# What may fail on a device without memory alone.
HEAVY = ('model', 'optim_wrapper', 'param_scheduler')
LONGEST = 200


def rehearse(cfg: Config, *parts: str) -> None:
    """Build all that the named parts (`train`, `val`, `test`) of a run need, and throw it away; of a training also the
    metrics of its test.

    The run's folder, its log and the random numbers are left alone. The model is built without memory, where that fails
    once more with it, as not every model can be built so. The weight file of its foundation encoder is found, and not
    read. What a part raises on its settings becomes one line. A part without settings that fails is not wrong by the
    config: its error passes through.

    Raises:
        UserError: the path of a part, its settings, and why they cannot be used; the head has other classes than the
            data set; or the weight file of the foundation encoder is not there.
    """
    try:
        return _build(cfg, parts, 'meta')
    except Exception as error:
        path = _path_of(error, cfg)
        if isinstance(error, UserError) or (path and not path.startswith(HEAVY)):
            _raise(error, path, cfg)
    try:
        _build(cfg, parts, 'cpu')
    except Exception as error:  # any that a constructor raises
        _raise(error, _path_of(error, cfg), cfg)


def _raise(error: Exception, path: str, cfg: Config) -> NoReturn:
    words = _in_words(error, path, cfg)
    if words is error:
        raise error
    raise words from error


def _build(cfg: Config, parts: tuple[str, ...], device: str) -> None:
    with tempfile.TemporaryDirectory() as folder, _unnoticed():
        runner = _Rehearsal.on(device, cfg, folder)
        for part in parts:
            loop = getattr(runner, f'{part}_loop')
            _try_sample(loop.dataloader, f'{part}_dataloader')
            dataset = loop.dataloader.dataset
            if isinstance(dataset, NucleiDataset) and isinstance(runner.model, FusionSegmentor):
                check_classes(runner.model.decode_head.num_classes, dataset.metainfo['classes'])
        if 'train' in parts:
            _check_norms(runner.model)
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
            if runner.param_schedulers is not None:
                runner.build_param_scheduler(runner.param_schedulers)
            if cfg.get('test_evaluator'):
                _try_evaluator(runner, 'test_evaluator')
            check_followed(runner.hooks, runner.val_loop.evaluator.metrics if 'val' in parts else ())
        _find_weights(cfg, runner.model)


class _Rehearsal(Runner):
    """A runner that builds its parts and changes nothing outside of itself."""

    device = 'meta'

    @classmethod
    def on(cls, device: str, cfg: Config, folder: str) -> '_Rehearsal':
        """Build the parts that MMEngine's constructor builds."""
        runner_class: Any = type(cls.__name__, (cls,), {'device': device})
        settings = Config(dict(cfg.items()), filename=cfg.filename)
        settings.work_dir = folder
        if cfg.model.get('foundation'):
            # Its weights would be read, and its cache would make its folder.
            weights = entry_of_config(cfg.model.foundation).without_file
            foundation = {**cfg.model.foundation, 'weights': weights, 'cache': None}
            settings.model = {**cfg.model, 'foundation': foundation}
        return runner_class.from_cfg(settings)

    def setup_env(self, env_cfg: dict) -> None:
        self._rank, self._world_size = get_dist_info()
        self._timestamp = 'rehearsal'

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        self._deterministic, self._seed = deterministic, int(seed or 0)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> Any:
        logger = logging.Logger('rehearsal')
        logger.setLevel(log_level)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        super().build_visualizer(visualizer)
        # Its backends would begin to write here: a file, a run on a server.
        return SimpleNamespace(add_config=lambda config: None)

    def build_model(self, model: Any) -> Any:
        with torch.device(self.device):
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: Any) -> Any:
        return model

    def _log_env(self, env_cfg: dict) -> None:
        pass

    def dump_config(self) -> None:
        pass


def _try_sample(loader: Any, section: str) -> None:
    """Make the first sample, as a worker will."""
    if isinstance(loader.dataset, IterableDataset):
        return
    if section == 'train_dataloader':
        count_steps(loader)
    first = next(iter(loader.batch_sampler if loader.batch_sampler is not None else loader.sampler), None)
    if first is not None:
        sample = loader.dataset[first[0] if loader.batch_sampler is not None else first]
        if loader.batch_sampler is not None:
            loader.collate_fn([sample])


def _try_evaluator(runner: Any, section: str) -> None:
    """Build the metrics of a test, whose data need not be there."""
    runner.build_evaluator(getattr(runner, section))


def _check_norms(model: nn.Module) -> None:
    """Refuse norms of MMSegmentation's configs that cannot train here; in a single process they can."""
    on_cpu = is_distributed() and not torch.cuda.is_available()
    if on_cpu and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise UserError(
            'model: SyncBN trains in several processes on GPUs only, and there is none here; set '
            "norm_cfg=dict(type='BN') in its parts, or train in one process"
        )


def _find_weights(cfg: Config, model: Any) -> None:
    """Find what the rehearsal is built without; last, as a file that is on the hub is fetched."""
    encoder = getattr(model, 'foundation', None)
    if isinstance(encoder, FoundationEncoder):
        encoder.entry.weight_file(cfg.model.foundation.get('weights'))


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Keep what is said, and what is registered as the current instance, from the run itself."""
    named = {kind: dict(kind._instance_dict) for kind in _kinds(ManagerMixin)}
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled)
        for kind in _kinds(ManagerMixin):
            kind._instance_dict.clear()
            kind._instance_dict.update(named.get(kind, {}))


def _kinds(kind: Any) -> Iterator[Any]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _kinds(inner)


def _in_words(error: Exception, path: str, cfg: Config) -> Exception:
    """An error of a part as one line; itself where the config has no part in it."""
    if isinstance(error, UserError):
        return UserError(f'{path}: {error}') if path and not str(error).startswith(path) else error
    text = str(error if isinstance(error, OSError) or not error.args else error.args[0]).strip().partition('\n')[0]
    if isinstance(error, KeyError) and ' is not in the ' in text:
        registry = [frame.f_locals.get('registry') for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
        return unknown_type(f'{path}.type', text.partition(' is not in the ')[0], registry)
    if isinstance(error, KeyError) and 'must contain the key "type"' in text:
        return without_type(path)
    settings = _at(cfg, path) if path else {}
    if isinstance(settings, Mapping):
        settings = ', '.join(f'{name}={value!r}' for name, value in settings.items() if name != 'type')
    if settings == '':
        needs = isinstance(error, TypeError) and ' required ' in text
        return UserError(f'{path} cannot be built without settings: {text.rpartition("() ")[2]}') if needs else error
    kind = 'missing' if isinstance(error, KeyError) else type(error).__name__
    return UserError(f'{path} cannot be built of {shorten(str(settings), LONGEST)}: {kind}: {text}')


def _path_of(error: Exception, cfg: Config) -> str:
    """Path of the part whose building failed, by the innermost function that builds or runs one; empty if none does."""
    frames = [(frame.f_code.co_name, frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)]
    unfinished = [known.get('self') for name, known in frames if name == '__init__']
    section: str = next((known['section'] for name, known in frames if name in TRIED), '')
    for name, known in reversed(frames):
        running, path = known.get('self'), ''
        if name in BUILDERS:
            node = cfg[section] if section else cfg
            path = _first(node, partial(_is_built_of, known.get(BUILDERS[name])), section)
        elif isinstance(running, Runner):
            path = SECTIONS.get(name, '')
        elif section and running is not None and not any(running is other for other in unfinished):
            path = _first(cfg[section], partial(_is_of_type, type(running)), section)
        if path:
            return path
    return ''


def _first(node: Any, wanted: Callable[[Mapping], bool], way: str = '') -> str:
    """Path of the first group of settings that is wanted; empty if there is none."""
    if isinstance(node, Mapping | Config) and way and wanted(node):
        return way
    items = node.items() if isinstance(node, Mapping | Config) else enumerate(node) if _is_list(node) else ()
    if not way:
        items = ((name, node[name]) for name in top_level() if node.get(name) is not None)
    found = (_first(value, wanted, f'{way}.{name}'.lstrip('.')) for name, value in items)
    return next(filter(None, found), '')


def _is_list(node: Any) -> bool:
    return isinstance(node, list | tuple)


def _at(cfg: Config, path: str) -> Any:
    node: Any = cfg
    for name in path.split('.'):
        node = node[int(name)] if _is_list(node) else node.get(name)
    return node


def _is_built_of(built: Any, part: Mapping) -> bool:
    """Whether settings that are being built are those of a part, with what was added or taken out on the way."""
    if not isinstance(built, Mapping) or 'type' not in built:
        return part == built
    names = part.keys() & built.keys() - {'weights', 'cache'}
    return 'type' in names and all(part[name] == built[name] for name in names)


def _is_of_type(kind: type, part: Mapping) -> bool:
    named = part.get('type')
    return named is kind or (isinstance(named, str) and named.rpartition('.')[2] == kind.__name__)

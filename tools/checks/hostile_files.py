"""Makers of files that are hostile or damaged: each writes what was saved, with something wrong in it."""

import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from torch import nn

PROOF = Path(tempfile.gettempdir()) / f'hostile_loader_{os.getpid()}'
CODE = f"__import__('pathlib').Path({str(PROOF)!r}).touch()"
Saved = dict[str, Any]


class Reduce:
    """Calls a function where it is unpickled."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class Build(nn.Linear):
    """Runs its `__setstate__`."""

    def __setstate__(self, state: Any) -> None:
        PROOF.touch()


class Script(nn.Module):
    """Writes a file where TorchScript loads it."""

    def __init__(self, proof: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.proof = proof

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Do nothing."""
        return images

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
        return self.weight, self.proof, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        self.weight, self.proof, self.training = state
        torch.save(self.weight, self.proof)


def with_object(value: Any) -> Callable[[Saved, Path], None]:
    """In the weights, where a tensor belongs."""

    def write(saved: Saved, path: Path) -> None:
        weights = saved.get('state_dict', saved)
        torch.save(
            {**saved, **({'state_dict': {**weights, 'x': value}} if weights is not saved else {'x': value})}, path
        )

    return write


def with_parts(**changes: Any) -> Callable[[Saved, Path], None]:
    """With other parts beside the weights; of `meta` the rest stays."""
    return lambda saved, path: torch.save({**saved, **changes}, path)


def with_setting(text: str) -> Callable[[Saved, Path], None]:
    """With a setting after those of its own config, one of which it replaces."""
    return lambda saved, path: with_meta(cfg=f'{saved["meta"]["cfg"]}\n{text}\n')(saved, path)


def with_optimizer(**changes: Any) -> Callable[[Saved, Path], None]:
    return lambda saved, path: torch.save({**saved, 'optimizer': {**saved['optimizer'], **changes}}, path)


def without_epoch(saved: Saved, path: Path) -> None:
    meta = {key: value for key, value in saved['meta'].items() if key != 'epoch'}
    torch.save({**saved, 'meta': meta}, path)


def with_meta(**changes: Any) -> Callable[[Saved, Path], None]:
    return lambda saved, path: torch.save({**saved, 'meta': {**saved['meta'], **changes}}, path)


def plain_pickle(protocol: int) -> Callable[[Saved, Path], None]:
    return lambda saved, path: path.write_bytes(pickle.dumps({'state_dict': Reduce(eval, CODE)}, protocol))


def getattr_chain(saved: Saved, path: Path) -> None:
    """From a method of a class that checkpoints hold to what its module can reach."""
    inner = Reduce(getattr, Reduce(getattr, HistoryBuffer, 'mean'), '__globals__')
    torch.save({**saved, 'message_hub': {'log_scalars': {'loss': inner}}}, path)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Saved, Path], None]:
    def write(saved: Saved, path: Path) -> None:
        torch.save(saved, path)
        path.write_bytes(change(path.read_bytes()))

    return write


def flipped(content: bytes) -> bytes:
    """One bit of a weight, which lie after the pickle."""
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]


def rewritten(change: Callable[[bytes], bytes], compress: int = zipfile.ZIP_STORED) -> Callable[[Saved, Path], None]:
    """With another pickle, and the right checksums."""

    def write(saved: Saved, path: Path) -> None:
        torch.save(saved, path)
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, 'w', compress) as archive:
            for name, content in parts.items():
                archive.writestr(name, change(content) if name.endswith('/data.pkl') else content)

    return write


def huge_storage(content: bytes) -> bytes:
    """The first tensor claims 2 GB of a storage of some bytes."""
    claim = b'J' + (0x70000000).to_bytes(4, 'little')
    # After the device: its place in the memo, then how many numbers there are.
    return re.sub(rb'(cpuq.)(K.|M..|J....)', lambda found: found[1] + claim, content, count=1, flags=re.DOTALL)


def with_nan(saved: Saved, path: Path) -> None:
    weights = dict(saved.get('state_dict', saved))
    key = next(key for key, value in weights.items() if value.is_floating_point())
    weights[key] = torch.full_like(weights[key], torch.nan)
    torch.save({**saved, 'state_dict': weights} if 'state_dict' in saved else weights, path)


def script(saved: Saved, path: Path) -> None:
    torch.jit.script(Script(str(PROOF))).save(str(path))
    PROOF.unlink(missing_ok=True)


ANY_FILE = {
    'system': with_object(Reduce(os.system, f'touch {PROOF}')),
    'eval': with_object(Reduce(eval, CODE)),
    'build': with_object(Build(1, 1)),
    'partial': with_object(Reduce(pickle.loads, pickle.dumps(Reduce(eval, CODE)))),
    'pickle 2': plain_pickle(2),
    'pickle 4': plain_pickle(4),
    'script': script,
    'truncated': changed(lambda content: content[: len(content) // 2]),
    'end cut': changed(lambda content: content[:-10]),
    'flipped bit': changed(flipped),
    'empty': changed(lambda content: b''),
    'zeros': changed(lambda content: bytes(len(content))),
    'huge storage': rewritten(huge_storage),
    'endless list': rewritten(lambda content: b'\x80\x02' + b'(' * 10**6 + b'l.'),
    'zip bomb': rewritten(lambda content: content + bytes(2**29), zipfile.ZIP_DEFLATED),
    'NaN': with_nan,
}
CHECKPOINTS = ANY_FILE | {'getattr': getattr_chain, 'list': lambda saved, path: torch.save([1], path)}
# What runs of the config in a checkpoint, where that is used.
CONFIGS = {
    'config code': with_meta(cfg=CODE),
    'config setting': with_meta(cfg=f'model = {CODE}'),
    'config type': with_meta(cfg=f"model = dict(type='os.system', command='touch {PROOF}')"),
    'config exec': with_meta(cfg=f"model = dict(type='builtins.exec', source={CODE!r})"),
    'config import': with_meta(cfg='model = dict(type="antigravity")'),
    'config deep': with_meta(cfg='model = ' + '-' * 10**5 + '1'),
}
KEY = f"x': {CODE}, 'y"
WRITTEN = PROOF.with_suffix('.written')
# Settings after the checkpoint's own, where it is tested by them; nothing may be written or imported.
SETTINGS = {
    'key': f'model = dict({{{KEY!r}: 1}})',
    'key in evaluator': 'test_evaluator = [dict({{"a\\nb": 1}})]',
    'scope': "default_scope = 'antigravity'",
    'inner scope': "test_evaluator = dict(type='NucleiSemanticMetric', _scope_='antigravity')",
    'pictures': f"custom_hooks = [dict(type='mmgfnuc.PredictionHook', show_dir='{WRITTEN}')]",
    'pickle': "test_dataloader = dict(dataset=dict(type='mmengine.dataset.BaseDataset', ann_file='x.pkl'))",
    'scores': f"test_evaluator = dict(type='DumpResults', out_file_path='{WRITTEN}')",
    'hook': f"custom_hooks = [dict(type='os.system', command='touch {PROOF}')]",
    'variable': "model = dict(type='{{$HOME:x}}')",
}
# What is left out: the test goes on without it.
LEFT_OUT = {
    'back end': f"visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend', "
    f"config_save_file='{WRITTEN}.py', scalar_save_file='{WRITTEN}.json')])",
    'server': "visualizer = dict(type='Visualizer', vis_backends=[dict(type='MLflowVisBackend')])",
    'import': "custom_imports = dict(imports=['antigravity'])",
    'name': f"experiment_name = '../../../{WRITTEN}'",
    'limit': 'env_cfg = dict(cudnn_benchmark=True, resource_limit=1000000000)',
}
# Parts of wrong types, where a run is resumed.
TYPES = {
    **{
        f'meta.{key}={value!r}': with_meta(**{key: value})
        for key, value in [
            ('dataset_meta', None),
            ('preprocessing', None),
            ('iter', 'abc'),
            ('iter', -5),
            ('iter', 10**15),
            ('seed', 'abc'),
            ('versions', 3),
            ('cfg', 3),
            ('train_seconds', 'x'),
        ]
    },
    'no meta.epoch': without_epoch,
    'hub list': with_parts(message_hub=[1]),
    'hub of wrong types': with_parts(message_hub={'log_scalars': 3, 'runtime_info': 'x', 'resumed_keys': {}}),
    'no optimizer state': with_parts(optimizer={}),
    'groups': with_optimizer(param_groups=[5]),
    'NaN in optimizer': with_optimizer(state={0: {'exp_avg': torch.tensor(torch.nan)}}),
    'schedules': with_parts(param_schedulers='x'),
}

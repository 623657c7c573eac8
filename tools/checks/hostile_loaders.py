"""Give every part that reads a file hostile and damaged ones: nothing of them may run, each must end in one line.

Prints one line of JSON: python tools/checks/hostile_loaders.py
"""

import argparse
import contextlib
import io
import json
import os
import pickle
import re
import runpy
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub, MMLogger
from mmengine.visualization import Visualizer
from safetensors.torch import save
from torch import nn

from mmgfnuc.benchmark.cells import study_cells
from mmgfnuc.benchmark.folders import cell_folder, prepare_folder
from mmgfnuc.benchmark.study import make_study
from mmgfnuc.benchmark.worker import run_cell
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.models.foundation import foundation_encoder

ROOT = Path(__file__).resolve().parents[2]
ARCH = dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,))
OPTIONS = {
    'model.backbone.widths': (4, 8, 16),
    'model.decode_head.skip_channels': 4,
    'model.foundation.arch': ARCH,
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 9,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
}
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


class Entries:
    """The parts that read files, over one data set, one config and one checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / 'data'
        write_dataset(self.data, num_train=4, num_val=1, size=64, seed=0)
        self.config = folder / 'small.py'
        config = Config.fromfile(ROOT / 'configs' / 'demo' / 'demo.py')
        paths = {f'{part}_dataloader.dataset.data_root': str(self.data) for part in ('train', 'val', 'test')}
        loaders = {f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')}
        still = {f'{part}_dataloader.persistent_workers': False for part in ('train', 'val', 'test')}
        config.merge_from_dict({**OPTIONS, **paths, **loaders, **still})
        config.dump(self.config)
        assert self.tool('train.py', self.config, '--work-dir', folder / 'run')[0] == 0
        self.checkpoint = torch.load(folder / 'run' / 'iter_1.pth', weights_only=False)
        network = foundation_encoder('sam-vit-b', weights='random', arch=ARCH).network
        self.weights = {f'image_encoder.{key}': value for key, value in network.state_dict().items()}
        self.image = next((self.data / 'images').glob('*.png'))

    def tool(self, name: str, *arguments: Any) -> tuple[int, str]:
        """Run a tool as the main program of this process; return its exit code and what it said of errors."""
        return self._run(lambda: runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__'), name, *arguments)

    def _run(self, main: Callable, *arguments: Any) -> tuple[int, str]:
        for named in (MMLogger, MessageHub, Visualizer):
            named._instance_dict.clear()
        said, before = io.StringIO(), sys.argv
        sys.argv = [str(argument) for argument in arguments]
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                main()
            return 0, said.getvalue()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
        except Exception as error:
            return 1, f'{type(error).__name__}: {error}'
        finally:
            sys.argv = before

    def infer(self, path: Path) -> tuple[int, str]:
        """Find nuclei."""
        return self.tool('infer.py', self.image, '--checkpoint', path, '--out', self.folder / 'out', '--device', 'cpu')

    def test(self, path: Path) -> tuple[int, str]:
        """Score a checkpoint."""
        return self.tool('test.py', self.config, path, '--work-dir', self.folder / 'test')

    def test_alone(self, path: Path) -> tuple[int, str]:
        """Score a checkpoint by its own config."""
        return self.tool('test.py', path, '--work-dir', self.folder / 'alone')

    def resume(self, path: Path) -> tuple[int, str]:
        """Continue a run."""
        return self.tool('train.py', self.config, '--work-dir', self.folder / 'resume', '--resume', path)

    def load_from(self, path: Path | str) -> tuple[int, str]:
        """Begin with the weights of a checkpoint."""
        options = ['--cfg-options', f'load_from={path}']
        return self.tool('train.py', self.config, '--work-dir', self.folder / 'from', *options)

    def foundation(self, path: Path) -> tuple[int, str]:
        """Begin with weights of the foundation encoder."""
        options = ['--cfg-options', f'model.foundation.weights={path}']
        return self.tool('train.py', self.config, '--work-dir', self.folder / 'foundation', *options)

    def study(self, text: str | None) -> tuple[int, str]:
        """Run the worker of a run whose `config.py` is another's."""
        arms = [{'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, 16]}}}]
        settings = dict(title='A study', data='synthetic', data_root=str(self.data), splits=['default'], arms=arms)
        (cell,) = study_cells(make_study(settings | dict(steps=2, batch_size=2)))
        folder = cell_folder(self.folder / 'cells', cell)
        prepare_folder(folder, cell)
        if text is not None:
            (folder / 'config.py').write_text(text)
        return self._run(lambda: sys.exit(run_cli(lambda: run_cell(folder))))

    def cache(self, content: bytes | None) -> tuple[int, str]:
        """Train with features in files that all have one content."""
        folder = self.folder / 'features'
        for path in folder.glob('*/*.features'):
            if content is not None:
                path.write_bytes(content + zlib.crc32(content).to_bytes(4, 'big'))
        options = ['--cfg-options', f'model.foundation.cache.folder={folder}']
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return self.tool('train.py', self.config, '--work-dir', self.folder / 'cached', *options)


def hostile(name: str, ran: list[str], act: Callable[[], tuple[int, str]], codes: tuple[int, ...] = (2,)) -> str:
    """Let a part read a hostile file; return what is wrong with how it ends, nothing if it is right."""
    ran.clear()
    PROOF.unlink(missing_ok=True)
    code, said = act()
    # The log of a run goes to the same place, before its end.
    lines = said.strip().splitlines()
    at = next((number for number, line in enumerate(lines) if line.startswith('error: ')), None)
    if PROOF.exists() or ran or 'antigravity' in sys.modules:
        return f'{name}: code ran ({ran or "proof"})'
    if list(WRITTEN.parent.glob(f'{WRITTEN.name}*')):
        return f'{name}: wrote a file'
    if code not in codes or (code and (at is None or len(lines) - at != 1)):
        return f'{name}: exit code {code}, {lines[-1][:200] if lines else "nothing said"}'
    return ''


def check(folder: Path) -> dict[str, Any]:
    """Run all combinations; `wrong` names those that are not safe."""
    ran: list[str] = []
    entries = Entries(folder)
    sys.addaudithook(lambda event, _: ran.append(event) if event == 'os.system' else None)
    wrong, number = [], 0
    parts = {
        'infer': (entries.infer, entries.checkpoint, CHECKPOINTS | CONFIGS),
        'test': (entries.test, entries.checkpoint, CHECKPOINTS),
        'test alone': (
            entries.test_alone,
            entries.checkpoint,
            CONFIGS | {name: with_setting(text) for name, text in (SETTINGS | LEFT_OUT).items()},
        ),
        'resume': (entries.resume, entries.checkpoint, CHECKPOINTS | TYPES),
        'load_from': (entries.load_from, entries.checkpoint, CHECKPOINTS),
        'foundation': (entries.foundation, entries.weights, ANY_FILE),
    }
    for part, (read, saved, attacks) in parts.items():
        path = folder / f'{part}.pth'
        torch.save(saved, path)
        cases = [
            ('good', lambda saved, path: torch.save(saved, path), (0,)),
            *((n, a, (0,) if n in LEFT_OUT else (2,)) for n, a in attacks.items()),
        ]
        if part == 'resume':
            # Read, and not run: the training goes on.
            cases.append(("MMEngine's config", with_meta(config=CODE), (0,)))
        for name, write, codes in cases:
            write(saved, path)
            wrong.append(hostile(f'{part}, {name}', ran, partial(read, path), codes))
            number += 1
    studies = {'code': CODE, 'setting': f'train_cfg = {CODE}', 'import': 'import antigravity'}
    studies |= {
        'type': f"train_cfg = dict(max_iters=1)\nmodel = dict(type='os.system', command='touch {PROOF}')",
        'scope': "train_cfg = dict(max_iters=1)\ndefault_scope = 'antigravity'",
        'constructor': "optim_wrapper = dict(constructor='antigravity.X')",
        'pictures': f"custom_hooks = [dict(type='mmgfnuc.PredictionHook', show_dir='{WRITTEN}')]",
    }
    for name, text in studies.items():
        wrong.append(hostile(f'study, {name}', ran, partial(entries.study, text)))
        number += 1
    wrong.append(hostile('address', ran, lambda: entries.load_from('http://127.0.0.1:9/x.pth')))
    contents = {
        'good': None,
        'pickle': pickle.dumps(Reduce(eval, CODE)),
        'NaN': save({'0': torch.full((24, 4, 4), torch.nan)}),
        'other': save({'weight': torch.zeros(3)}),
        'nothing': b'',
    }
    for name, content in contents.items():
        # What is damaged is computed again.
        wrong.append(hostile(f'cache, {name}', ran, partial(entries.cache, content), (0,)))
        number += 1
    wrong = [one for one in wrong if one]
    return {'check': 'hostile_loaders', 'cases': number + 1, 'safe': number + 1 - len(wrong), 'wrong': wrong}


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        result = check(folder)
    finally:
        shutil.rmtree(folder)
        PROOF.unlink(missing_ok=True)
    print(json.dumps(result | {'result': f'{result["safe"]} of {result["cases"]} safe'}))
    return 1 if result['wrong'] else 0


if __name__ == '__main__':
    sys.exit(main())

"""Give every part that reads a file hostile and damaged ones: nothing of them may run, each must end in one line.

Prints one line of JSON: python tools/checks/hostile_loaders.py
"""

import argparse
import contextlib
import io
import json
import pickle
import runpy
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hostile_files import (
    ANY_FILE,
    CHECKPOINTS,
    CODE,
    CONFIGS,
    LEFT_OUT,
    PROOF,
    SETTINGS,
    TYPES,
    WRITTEN,
    Reduce,
    with_meta,
    with_setting,
)
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from safetensors.torch import save

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.studies.runs import study_runs
from mmgfnuc.studies.storage import prepare_folder, run_folder
from mmgfnuc.studies.study import make_study
from mmgfnuc.studies.worker import complete_run

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
        return self.tool('infer.py', self.image, '--model', path, '--out', self.folder / 'out', '--device', 'cpu')

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
        root = self.folder / 'runs'
        (run,) = study_runs(make_study(settings | dict(steps=2, batch_size=2)), root)
        folder = run_folder(root, run)
        prepare_folder(folder, run)
        if text is not None:
            (folder / 'config.py').write_text(text)
        return self._run(lambda: sys.exit(run_cli(lambda: complete_run(folder))))

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

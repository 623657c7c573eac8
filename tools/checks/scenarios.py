"""What the checks of kills and of full disks run: tools on tiny data, each with what it must leave behind."""

import hashlib
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from injection import whole_run
from mmengine.config import Config

# What the tools import, once for all tries.
import mmgfnuc.datasets.converters
import mmgfnuc.datasets.inspection
import mmgfnuc.engine.launch
import mmgfnuc.inference.folder  # noqa: F401
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.engine.resume import POINTER
from mmgfnuc.engine.tested import read_tested
from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256
from mmgfnuc.studies.costs import InferenceCosts
from mmgfnuc.studies.report import write_report
from mmgfnuc.studies.runs import study_runs
from mmgfnuc.studies.storage import prepare_folder, run_folder
from mmgfnuc.studies.study import make_study
from mmgfnuc.studies.worker import complete_run

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / 'docs' / 'generate'
STEPS = 6
# Hold times, the digest of a file that does, or whether the run was resumed.
TIMED = {
    'small.py',
    'config.py',
    'tested.json',
    'run.json',
    'progress.json',
    'costs.json',
    'results.json',
    'tables.md',
    'report.html',
    'images.csv',
}
SMALL = {
    'model.backbone.widths': (4, 8, 16),
    'model.decode_head.skip_channels': 4,
    'model.foundation.arch': dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,)),
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'train_cfg.max_iters': STEPS,
    'train_cfg.val_interval': STEPS,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': 1,
}


@dataclass(frozen=True)
class Scenario:
    """A command that is disturbed.

    Attributes:
        name: in the report.
        begin: makes the folder ready for the command.
        run: the command; `again` goes on after it was disturbed.
        again: by default the command itself.
        check: looks at the folder after a disturbance; raises an AssertionError.
    """

    name: str
    begin: Callable[[Path], None]
    run: Callable[[Path], Any]
    again: Callable[[Path], Any] | None = None
    check: Callable[[Path], None] = lambda folder: None


def tool(name: str | Path, *arguments: Any) -> int:
    """Run a tool, by its path from tools/, as the main program of this process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    path = ROOT / 'tools' / name
    with patch.object(sys, 'argv', [str(path), *map(str, arguments)]):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
    return 0


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder; of a checkpoint, of its numbers; of one that differs each time, nothing.

    Locks stay, and the folders of logs are named after the time.
    """
    found = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix == '.lock' or path.name == 'lock' or _is_log(Path(name)):
            continue
        if path.name in TIMED or _is_record(path):
            found[name] = 'there'
        else:
            found[name] = _numbers(path) if path.suffix == '.pth' else file_sha256(path)
    return found


def _is_record(path: Path) -> bool:
    return path.parent.name == '.records' and path.suffix == '.json'


def _is_log(name: Path) -> bool:
    return any(part[:8].isdigit() and '_' in part for part in name.parts)


def _numbers(path: Path) -> str:
    saved = torch.load(path, weights_only=False)
    digest = hashlib.sha256()
    for part in ('state_dict', 'optimizer'):
        for name, tensor in _tensors(saved.get(part, {})):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _tensors(content: Any, name: str = '') -> list[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor):
        return [(name, content)]
    if isinstance(content, dict):
        return [found for key, value in content.items() for found in _tensors(value, f'{name}.{key}')]
    return []


def make_inputs(folder: Path) -> None:
    """Draw a data set, write a small config for it, and train and test two checkpoints."""
    write_dataset(folder / 'data', num_train=4, num_val=2, size=64, seed=0)
    settings = dict(SMALL)
    for part in ('train', 'val', 'test'):
        loader = f'{part}_dataloader'
        settings |= {f'{loader}.num_workers': 0, f'{loader}.persistent_workers': False}
        settings |= {f'{loader}.dataset.data_root': str(folder / 'data')}
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'demo.py')
    config.merge_from_dict(settings)
    config.dump(folder / 'small.py')
    train = tool('train.py', folder / 'small.py', '--work-dir', folder / 'run')
    assert train == 0, 'the undisturbed training failed'
    saved = torch.load(folder / 'run' / f'iter_{STEPS}.pth', weights_only=False)
    for name, shift in (('a.pth', 0.5), ('b.pth', -0.5)):
        changed = {**saved, 'state_dict': dict(saved['state_dict'])}
        bias = changed['state_dict']['decode_head.decoder.conv_seg.bias']
        changed['state_dict']['decode_head.decoder.conv_seg.bias'] = bias + shift * torch.tensor([1.0, -1.0])
        torch.save(changed, folder / name)
    tested = tool('test.py', folder / 'small.py', folder / 'a.pth', '--work-dir', folder / 'scored')
    assert tested == 0, 'the undisturbed test failed'
    make_source(folder)


def make_source(inputs: Path) -> None:
    """Write images with label maps, as the converter `folders` reads them, and an archive of them."""
    folder, rng = inputs / 'source', np.random.default_rng(0)
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True)
    for stem in 'ab':
        cv2.imwrite(str(folder / 'images' / f'{stem}.png'), rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        labels = np.zeros((24, 32), np.uint8)
        labels[2:8, 3:9], labels[12:20, 12:20] = 1, 2
        cv2.imwrite(str(folder / 'labels' / f'{stem}.png'), labels)
    shutil.make_archive(str(folder), 'zip', folder)


def chosen_scenarios(only: list[str] | None, more: bool = False) -> Iterator[tuple[Scenario, Path]]:
    """The commands of these names, or all, on inputs that are made here; each with a folder for it to make."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / 'inputs').mkdir()
        made = whole_run(lambda: make_inputs(place / 'inputs'), place / 'inputs', place / 'inputs.txt')
        assert made.code == 0, made.output
        for number, scenario in enumerate(scenarios(place / 'inputs', more)):
            if only is None or scenario.name in only:
                yield scenario, place / str(number)


def make_ready(scenario: Scenario, folder: Path, output: Path) -> None:
    """Begin in a process of its own, as all is done: this one has to stay as it was after its imports."""
    folder.mkdir()
    whole_run(lambda: scenario.begin(folder), folder, output)


def fault_of_next_run(scenario: Scenario, folder: Path, output: Path, expected: dict[str, str]) -> str | None:
    """Look at the folder after a disturbance, run the command again, and compare with an undisturbed run."""
    try:
        scenario.check(folder)
    except Exception as error:
        return f'before the next run: {error}'
    again = whole_run(lambda: (scenario.again or scenario.run)(folder), folder, output)
    if again.code != 0:
        return f'the next run ends with {again.code}: {again.output[-300:]}'
    found = contents(folder)
    different = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    return f'the next run leaves others in {", ".join(different[:5])}' if different else None


def scenarios(inputs: Path, more: bool = False) -> list[Scenario]:
    """The commands that write, on inputs of `make_inputs`; `more` are those that only add files of one kind."""
    config = inputs / 'small.py'

    def train(folder: Path, *options: Any) -> int:
        return tool('train.py', config, '--work-dir', folder / 'run', *options)

    def score(folder: Path, *options: Any) -> int:
        return tool('test.py', config, inputs / 'b.pth', '--work-dir', folder / 'scored', *options)

    def convert(source: str) -> Callable[[Path], int]:
        return lambda folder: tool(
            'datasets/prepare.py', 'folders', '--source', inputs / source, '--out', folder / 'out', '--overwrite'
        )

    def scored(folder: Path) -> None:
        shutil.copytree(inputs / 'scored', folder / 'scored')
        shutil.copy(inputs / 'a.pth', folder / 'scored' / 'a.pth')

    def pages(folder: Path) -> None:
        shutil.copytree(ROOT / 'docs', folder / 'docs')
        shutil.copy(ROOT / 'README.md', folder / 'README.md')
        (folder / 'README.md').write_text(
            (folder / 'README.md').read_text('utf-8').replace('<!-- results -->', '<!-- results -->\nold'), 'utf-8'
        )

    def cached(folder: Path) -> int:
        return train(folder, '--cfg-options', f'model.foundation.cache.folder={folder / "cache"}')

    def cached_again(folder: Path) -> int:
        code = cached(folder)
        # Features of a batch that is half there are rounded otherwise: only what is computed anew has the same bits.
        shutil.rmtree(folder / 'cache')
        return code or cached(folder)

    def pictures(folder: Path) -> int:
        return score(folder, '--out', folder / 'masks', '--show-dir', folder / 'pictures')

    def infer(folder: Path) -> int:
        return tool('infer.py', inputs / 'data' / 'images', '--model', inputs / 'b.pth', '--out', folder / 'found')

    one_file = [
        Scenario('train with a cache', nothing, cached, cached_again),
        Scenario('test with pictures', nothing, pictures),
        Scenario('demo', nothing, run_demo_step),
    ]
    return [
        Scenario('prepare synthetic', nothing, lambda folder: prepare_synthetic(folder)),
        Scenario('prepare folder', nothing, convert('source')),
        Scenario('prepare archive', prepared(inputs), convert('source.zip')),
        Scenario('train', nothing, train, lambda folder: train(folder, '--resume'), names_a_checkpoint),
        Scenario('test', scored, score, check=lambda folder: belongs_to_one(inputs, folder / 'scored' / 'test')),
        Scenario('study', nothing, lambda folder: run_cli(lambda: run_study(inputs, folder))),
        Scenario('table', pages, write_pages),
        Scenario('infer', nothing, infer),
        Scenario('check', nothing, lambda out: tool('datasets/check.py', inputs / 'data', '--json', out / 'a.json')),
        Scenario('browse', nothing, lambda out: tool('datasets/browse.py', inputs / 'data', '--out', out / 'a.html')),
        *(one_file if more else ()),
    ]


def run_study(inputs: Path, folder: Path) -> int:
    """Run a study of one run in this process, as its own process does."""
    torch.set_num_threads(1)
    arm = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8]}}}
    settings = dict(title='A study', arms=[arm], data=['synthetic'], data_root=str(inputs / 'data'))
    study = make_study({**settings, 'splits': ['default'], 'steps': 4, 'batch_size': 2})
    root = folder / 'runs'
    (run,) = study_runs(study, root)
    run.config['default_hooks']['checkpoint']['interval'] = 2
    for loader in ('train_dataloader', 'test_dataloader'):
        run.config[loader].update(num_workers=0, persistent_workers=False)
    prepare_folder(run_folder(root, run), run)
    complete_run(run_folder(root, run))
    # To measure takes longer than all the rest, and writes nothing.
    costs = InferenceCosts(0.1, 1.0, 10**6)
    with patch('mmgfnuc.studies.costs.inference_costs', lambda study, arm: costs):
        write_report(study, [run], root, folder / 'study', 'none')
    return 0


def run_demo_step(folder: Path) -> int:
    """Run a step of the demo, a command with a log."""
    demo = runpy.run_path(str(ROOT / 'tools' / 'demo.py'))
    return run_cli(lambda: demo['run']('A step', ['-c', 'print("done")'], folder / 'step.log'))


def write_pages(folder: Path) -> int:
    """Write the generated pages, but for the one that takes half a minute."""
    with (
        patch.object(sys, 'path', [str(PAGES), *sys.path]),
        patch('encoder_page.encoders_page', lambda records: '# Encoders\n'),
    ):
        return tool(PAGES / 'table.py', '--root', folder)


def nothing(folder: Path) -> None:
    """Begin with an empty folder."""


def prepare_synthetic(folder: Path) -> int:
    """Draw two tiles."""
    options = ('--train', 1, '--val', 1, '--size', 64)
    return tool('datasets/prepare.py', 'synthetic', '--out', folder / 'out', *options)


def prepared(inputs: Path) -> Callable[[Path], None]:
    """Begin with an earlier preparation, which is replaced."""

    def begin(folder: Path) -> None:
        tool('datasets/prepare.py', 'folders', '--source', inputs / 'source', '--out', folder / 'out', '--mpp', 1,
             '--source-mpp', 0.5)  # fmt: skip

    return begin


def names_a_checkpoint(folder: Path) -> None:
    """What `last_checkpoint` names is there and can be read."""
    note = folder / 'run' / POINTER
    if note.is_file():
        torch.load(Path(note.read_text('utf-8')), weights_only=False)


def belongs_to_one(inputs: Path, folder: Path) -> None:
    """Scores are taken for those of the one checkpoint that they are of, or of none."""
    known = {name: contents(inputs / 'scored' / 'test').get(name) for name in ('metrics.json', 'instances.csv')}
    try:
        read_tested(folder, inputs / 'a.pth')
    except UserError:
        return
    found = contents(folder)
    assert all(found[name] == digest for name, digest in known.items()), 'scores of b.pth are taken for those of a.pth'

"""Checkpoints while the process is killed or the disk is full, and that they are otherwise those of MMEngine."""

import errno
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmgfnuc.engine import FiniteLossHook, WholeCheckpointHook
from mmgfnuc.engine.hooks import whole_checkpoint
from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.files import DiskFullError, whole_file

STEPS = 4
LAST = {None: 'iter_4.pth', 'step{}.pth': 'step4.pth'}


class Line(BaseModel):
    """The smallest model that trains."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        return {'loss': (self.slope * inputs).sum()} if mode == 'loss' else [self.slope * inputs]


class Scores(BaseMetric):
    """Dice of each validation, better each time but for the third."""

    default_prefix = ''

    def __init__(self):
        super().__init__()
        self.left = [0.1, 0.2, 0.15, 0.3]

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'dice': self.left.pop(0)}


def train(folder, hook=WholeCheckpointHook, resume=False, steps=STEPS, model=None, of_runner=None, **settings):
    """Train four steps, saving after each."""
    for handler in [handler for logger in MMLogger._instance_dict.values() for handler in logger.handlers]:
        handler.close()
    for named in (MMLogger, MessageHub):
        named._instance_dict.clear()
    loader = DataLoader([{'inputs': torch.ones(1)}] * STEPS, batch_size=1)
    validate = (
        dict(val_dataloader=loader, val_cfg={}, val_evaluator=Evaluator(Scores())) if 'save_best' in settings else {}
    )
    runner = Runner(
        model=model or Line(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=steps, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint={'type': hook, 'by_epoch': False, 'interval': 1, **settings}),
        resume=resume,
        log_level='ERROR',
        **(of_runner or {}),
        **(validate if 'save_best' in settings else {}),
    )
    runner.train()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.is_dir() and path.suffix != '.py')


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'max_keep_ckpts': 1},
        {'max_keep_ckpts': 2, 'save_best': 'dice', 'rule': 'greater'},
        {'max_keep_ckpts': 2, 'save_optimizer': False, 'filename_tmpl': 'step{}.pth', 'interval': 2},
    ],
)
def test_names_and_contents_are_those_of_mmengine(tmp_path, settings):
    train(tmp_path / 'ours', **settings)
    train(tmp_path / 'theirs', CheckpointHook, **settings)
    assert names(tmp_path / 'ours') == names(tmp_path / 'theirs')
    for name in names(tmp_path / 'ours'):
        if name == 'last_checkpoint':
            assert (tmp_path / 'ours' / name).read_text() == str(
                tmp_path / 'ours' / LAST[settings.get('filename_tmpl')]
            )
            continue
        ours, theirs = (torch.load(tmp_path / place / name, weights_only=False) for place in ('ours', 'theirs'))
        assert ours.keys() == theirs.keys()
        assert torch.equal(ours['state_dict']['slope'], theirs['state_dict']['slope'])


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """What lies in the folder at the moment that each file is being written."""
    seen = []

    def watch(path):
        if path.suffix == '.pth':
            seen.append((path.name, [name for name in names(tmp_path) if name.endswith('.pth')]))
        return whole_file(path)

    monkeypatch.setattr(whole_checkpoint, 'whole_file', watch)
    return seen


def test_the_former_checkpoint_is_there_until_the_new_one_is_whole(tmp_path, watched):
    train(tmp_path, max_keep_ckpts=1)
    assert watched == [('iter_1.pth', []), *((f'iter_{i + 1}.pth', [f'iter_{i}.pth']) for i in (1, 2, 3))]
    assert names(tmp_path) == ['iter_4.pth', 'last_checkpoint']


def test_the_former_best_is_there_until_the_new_one_is_whole(tmp_path, watched):
    train(tmp_path, save_best='dice', rule='greater', max_keep_ckpts=1)
    best = [(name, [one for one in there if 'best' in one]) for name, there in watched if 'best' in name]
    assert [name for name, _ in best] == ['best_dice_iter_1.pth', 'best_dice_iter_2.pth', 'best_dice_iter_4.pth']
    assert [there for _, there in best] == [[], ['best_dice_iter_1.pth'], ['best_dice_iter_2.pth']]
    assert names(tmp_path) == ['best_dice_iter_4.pth', 'iter_4.pth', 'last_checkpoint']


def test_a_full_disk_leaves_the_former_checkpoint_and_the_run_goes_on_from_it(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', _write_or_fail)
        with pytest.raises(DiskFullError, match=r'iter_3\.pth cannot be written'):
            train(tmp_path, max_keep_ckpts=1)
    assert names(tmp_path) == ['iter_2.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')
    train(tmp_path, max_keep_ckpts=1, resume=True)
    assert names(tmp_path) == ['iter_4.pth', 'last_checkpoint']


def _write_or_fail(path, content):
    with path.open('wb') as file:
        if 'iter_3.pth' in path.name:
            raise OSError(errno.ENOSPC, 'No space left on device')
        file.write(content)


def test_what_a_killed_process_has_left_is_deleted_when_the_run_goes_on(tmp_path):
    """Killed before it deleted the former checkpoint, and while it wrote the next one."""
    train(tmp_path, max_keep_ckpts=1, steps=2)
    former = tmp_path / 'iter_1.pth'
    former.write_bytes(b'whole once')
    (tmp_path / '.iter_3.pth.gfn-tmp').write_bytes(b'half')
    of_somebody_else = tmp_path / 'iter_0.pth'
    of_somebody_else.write_bytes(b'kept')
    train(tmp_path, max_keep_ckpts=1, resume=True)
    assert names(tmp_path) == ['iter_0.pth', 'iter_4.pth', 'last_checkpoint']


@pytest.mark.parametrize('template', ['x.pth', 'iter_{step}.pth', 'iter_{', '{1}.pth'])
def test_a_name_that_all_steps_would_share_is_refused(template):
    with pytest.raises(UserError, match=r'filename_tmpl=.*iter_\{\}\.pth'):
        WholeCheckpointHook(filename_tmpl=template)


def test_what_was_just_written_is_never_outdated(tmp_path):
    """As where the step is rounded in the name."""
    train(tmp_path, max_keep_ckpts=1, filename_tmpl='{:.0e}.pth', steps=4)
    hook = WholeCheckpointHook(filename_tmpl='{:.0e}.pth', max_keep_ckpts=1)
    hook.keep_ckpt_ids = deque([100], 1)
    assert hook._keep(SimpleNamespace(message_hub=MessageHub('names')), 101) == []


class Lost(Line):
    """Its second step destroys the weights; its loss does not say so."""

    steps = 0

    def forward(self, inputs, mode='tensor'):
        self.steps += 1
        if self.steps == 2:
            self.slope.data.fill_(float('nan'))
            return {'loss': torch.zeros(1, requires_grad=True).sum()}
        return super().forward(inputs, mode)


@pytest.mark.parametrize('earlier', [False, True])
def test_the_last_finite_checkpoint_is_one_of_this_run(tmp_path, earlier):
    (tmp_path / 'last_checkpoint').write_text('of/another_run.pth')
    interval = 1 if earlier else 2
    settings = dict(model=Lost(), of_runner=dict(custom_hooks=[dict(type=FiniteLossHook)]), interval=interval)
    with pytest.raises(DivergedError, match='slope is not finite') as caught:
        train(tmp_path, **settings)
    named = str(caught.value).partition('last finite checkpoint is ')[2]
    assert named.startswith(str(tmp_path / 'iter_1.pth') if earlier else 'none')


def test_a_resumed_run_names_the_checkpoint_where_it_lies_now(tmp_path):
    train(tmp_path / 'first', steps=1)
    (tmp_path / 'first').rename(tmp_path / 'moved')
    load_from = str(tmp_path / 'moved' / 'iter_1.pth')
    of_runner = dict(custom_hooks=[dict(type=FiniteLossHook)], load_from=load_from)
    with pytest.raises(DivergedError, match=f'checkpoint is {load_from};'):
        train(tmp_path / 'new', model=Lost(), of_runner=of_runner, interval=4, resume=True)

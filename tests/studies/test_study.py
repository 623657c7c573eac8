"""Studies as they are written down."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmgfnuc import list_fusions
from mmgfnuc.commands.benchmark import asked_study, parse_args
from mmgfnuc.datasets import synthetic
from mmgfnuc.engine.targets import add_target
from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS
from mmgfnuc.studies import runs
from mmgfnuc.studies.arms import Arm
from mmgfnuc.studies.runs import describe, run_config, study_runs
from mmgfnuc.studies.study import find_study, list_studies, make_study, read_study

YAML = """
title: Two U-Nets
splits: [fold-0, fold-1]
seeds: [0, 1]
steps: 10
arms:
  - unet: [unet, unet++]
  - unet: unet
    foundation: vit-tiny
    fusion: [concat, context]
"""
PYTHON = """
title = 'Two U-Nets'
splits = ['fold-0', 'fold-1']
seeds = [0, 1]
steps = 10
arms = [dict(unet=['unet', 'unet++']), dict(unet='unet', foundation='vit-tiny', fusion=['concat', 'context'])]
"""


def test_yaml_and_python_say_the_same(tmp_path):
    (tmp_path / 'a.yaml').write_text(YAML)
    (tmp_path / 'a.py').write_text(PYTHON)
    study = read_study(tmp_path / 'a.yaml')
    assert study == read_study(tmp_path / 'a.py')
    assert study.arms == (
        Arm(unet='unet'),
        Arm(unet='unet++'),
        Arm(unet='unet', foundation='vit-tiny', fusion='concat'),
        Arm(unet='unet', foundation='vit-tiny', fusion='context'),
    )
    assert (study.splits, study.seeds, study.steps) == (('fold-0', 'fold-1'), (0, 1), 10)


EVERY_YAML = """
title: Everything
imports: [json, csv]
data: synthetic
data_root: here
splits: [default]
seeds: [0, 1]
steps: 60
batch_size: 2
amp: true
types: true
arms:
  - unet: [unet, unet++]
    foundation: [vit-tiny, 'timm:vit_tiny_patch16_224']
    fusion: [none, concat]
    control: [null, image]
    head: hover
    weights: [null, random, a/file.pth]
    schedule: [adam-steps, adamw_steps]
    lr: [1e-4, 0.003]
"""
EVERY_PYTHON = """
title = 'Everything'
imports = ['json', 'csv']
data, data_root, splits, seeds = 'synthetic', 'here', ['default'], [0, 1]
steps, batch_size, amp, types = 60, 2, True, True
arms = [
    dict(
        unet=['unet', 'unet++'],
        foundation=['vit-tiny', 'timm:vit_tiny_patch16_224'],
        fusion=['none', 'concat'],
        control=[None, 'image'],
        head='hover',
        weights=[None, 'random', 'a/file.pth'],
        schedule=['adam-steps', 'adamw_steps'],
        lr=[1e-4, 0.003],
    )
]
"""
EVERY_FLAG = """
--title Everything --imports json csv --data synthetic --data-root here --splits default --seeds 0 1 --steps 60
--batch-size 2 --amp --types --unets unet unet++ --encoders vit-tiny timm:vit_tiny_patch16_224 --fusions none concat
--controls null image --heads hover --weights null random a/file.pth --schedules adam-steps adamw_steps --lr 1e-4 0.003
"""


def test_flags_say_the_same_too(tmp_path):
    """Every setting that flags have, as YAML, as Python and by flags."""
    (tmp_path / 'a.yaml').write_text(EVERY_YAML)
    (tmp_path / 'a.py').write_text(EVERY_PYTHON)
    _, study = asked_study(parse_args(EVERY_FLAG.split()))
    for path in (tmp_path / 'a.yaml', tmp_path / 'a.py'):
        # Flags go in the order of the keys of an arm only by chance.
        other = read_study(path)
        assert replace(other, arms=()) == replace(study, arms=())
        assert sorted(arm.name for arm in other.arms) == sorted(arm.name for arm in study.arms)
        assert all(arm in study.arms for arm in other.arms)
    # Alone: 2 U-Nets, 2 schedules, 2 rates; fused: also 2 encoders of 3 weights, with a control and without.
    assert len(study.arms) == 8 + 96
    assert 'unet/concat:image/vit-tiny:a/file.pth/hover/schedule=adamw-steps/lr=0.0001' in {
        arm.name for arm in study.arms
    }


@pytest.mark.slow
def test_the_runs_of_several_data_sets(tmp_path, monkeypatch):
    """Each has its own pixels, resolution and key."""
    monkeypatch.chdir(tmp_path)
    for number, data in enumerate(('synthetic', 'nuinsseg')):
        synthetic.write_dataset(Path('data') / data, num_train=2, num_val=1, size=64, seed=number)
    study = make_study(
        {'title': '', 'arms': [{}, {'unet': 'unet++'}], 'data': ['synthetic', 'nuinsseg'], 'splits': ['default']}
        | {'seeds': [0, 1]}
    )
    all_runs = study_runs(study, 'out/runs')
    order = itertools.product((0, 1), ('synthetic', 'nuinsseg'), ('unet', 'unet++'))
    assert [(run.seed, run.data, run.arm.unet) for run in all_runs] == list(order)
    assert len({run.key for run in all_runs}) == len(all_runs)
    for run in all_runs:
        config = Config(run.config)
        assert config.test_dataloader.dataset.data_root == f'data/{run.data}'
        assert config.model.test_cfg.get('scale', 1) == {'synthetic': 1, 'nuinsseg': 0.5}[run.data]
        assert describe(run)['data'] == run.data in run.name
    # A study of one of them has the same runs.
    (one,) = study_runs(make_study({'title': '', 'arms': [{}], 'data': 'nuinsseg', 'splits': ['default']}), 'out/runs')
    assert one.key in {run.key for run in all_runs}


def test_data_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data='nuinsseg': folder data/nuinsseg is not there; prepare it first"):
        study_runs(make_study({'title': '', 'arms': [{}]}), 'out/runs')
    with pytest.raises(UserError, match=r"data='synthetic': .* is not there; it is drawn when the study is run"):
        study_runs(make_study({'title': '', 'arms': [{}], 'data': 'synthetic'}), 'out/runs')
    with pytest.raises(UserError, match=r"data='monuseg' is unknown; did you mean cryonuseg or nuinsseg"):
        study_runs(make_study({'title': '', 'arms': [{}], 'data': 'monuseg'}), 'out/runs')


def test_a_split_that_is_not_there(tmp_path):
    synthetic.write_dataset(tmp_path / 'data', num_train=2, num_val=1, size=64, seed=0)
    study = make_study(dict(title='', data='synthetic', data_root=str(tmp_path / 'data'), arms=[{}], splits=['fold-9']))
    with pytest.raises(UserError, match=r"split='fold-9': .* has default"):
        study_runs(study, tmp_path / 'runs')


def test_a_config_is_made_of_its_parts():
    arm = {
        'foundation': 'vit-tiny',
        'fusion': 'shuffled-context-image',
        'head': 'hover',
        'parts': {'backbone': {'widths': [4, 8, 16]}},
    }
    study = make_study(dict(title='', data='synthetic', data_root='here', arms=[arm], steps=4, amp=True))
    config = Config(run_config(study, study.arms[0], 'default', 3))
    add_target(config)
    assert config.train_cfg.max_iters == 4
    assert config.randomness.seed == config.train_dataloader.dataset.seed == 3
    for part in ('train', 'test'):
        assert config[f'{part}_dataloader'].dataset.partner_images
        assert config[f'{part}_dataloader'].dataset.data_root == 'here'
    assert config.model.partner_context
    assert 'HoverTarget' in str(config.train_dataloader.dataset.pipeline[-2].type)
    assert config.model.decode_head.decoder.type.endswith('UNetHead')
    assert config.optim_wrapper.type == 'mmgfnuc.BFloat16OptimWrapper'
    assert Config.fromstring(config.pretty_text, '.py').to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'arms': [{}]}, 'needs a title and arms'),
        ({'title': 't', 'arms': []}, 'needs a title and arms'),
        ({'title': 't', 'arms': [{}], 'step': 3}, "a study has no 'step'; it takes amp, arms"),
        ({'title': 't', 'arms': [{'net': 'unet'}]}, "an arm has no 'net'; it takes unet, foundation"),
        ({'title': 't', 'arms': [{}, {'unet': 'unet'}]}, "arm 'unet/none/semantic' is there twice"),
        ({'title': 't', 'arms': [{}], 'steps': 0}, 'steps=0: give a whole number from 1'),
        ({'title': 't', 'arms': [{}], 'seeds': [1, 1]}, r'seeds=\(1, 1\): give a list without repetition'),
        ({'title': 't', 'arms': [{}], 'splits': 'organs'}, "splits='organs': give a list"),
        ({'title': 't', 'arms': [{}], 'data': ['a', 'a']}, r"data=\('a', 'a'\): give a list without repetition"),
        ({'title': 't', 'arms': [{}], 'data': ['a', 'b'], 'data_root': 'c'}, "data_root='c' is the folder of one"),
        ({'title': 't', 'arms': [{'label': ['a', 'b']}]}, r"label=\['a', 'b'\]: give one text"),
        ({'title': 't', 'arms': 'unet'}, 'needs a title and arms'),
        ({'title': 't', 'arms': ['unet']}, "arms: 'unet' is not an arm; give its settings"),
        ({'title': 't', 'arms': [{'unet': []}]}, r'unet=\[\]: give a value, or a list of at least one'),
        ({'title': 't', 'arms': [{'fusion': False}]}, 'fusion=False: give a name'),
        ({'title': 't', 'arms': [{'parts': 'wide'}]}, "parts='wide': give settings, such as parts="),
        ({'title': 't', 'arms': [{'parts': {'foundation': 'a'}}]}, "parts.foundation='a': give settings"),
        ({'title': 't', 'arms': [{}], 'seeds': ['0']}, "seeds: '0' is not a seed; give whole numbers from 0"),
        ({'title': 't', 'arms': [{}], 'seeds': [0, 0.5]}, 'seeds: 0.5 is not a seed'),
        ({'title': 't', 'arms': [{}], 'seeds': [-1]}, 'seeds: -1 is not a seed'),
        ({'title': 't', 'arms': [{}], 'splits': [[0]]}, r'splits: \[0\] is not a name'),
        ({'title': 't', 'arms': [{}], 'steps': True}, 'steps=True: give a whole number from 1'),
        ({'title': 't', 'arms': [{}], 'amp': 1}, 'amp=1: give true or false'),
        ({'title': 't', 'arms': [{}], 'types': 'yes'}, "types='yes': give true or false"),
        ({'title': 't', 'arms': [{'lr': 'fast'}]}, "lr='fast': give a number above 0"),
        ({'title': 't', 'arms': [{'lr': [1e-3, True]}]}, 'lr=True: give a number above 0'),
        ({'title': 't', 'arms': [{'lr': -1}]}, 'lr=-1: give a number above 0'),
        ({'title': 't', 'arms': [{'schedule': 'adam-step'}]}, "schedule='adam-step' is unknown; did you mean"),
    ],
)
def test_a_study_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        make_study(settings)


def test_files_that_are_no_study(tmp_path):
    with pytest.raises(UserError, match=r'is not there; give a \.yaml or \.py file'):
        read_study(tmp_path / 'none.yaml')
    (tmp_path / 'bad.py').write_text('title = 1 / 0')
    with pytest.raises(UserError, match='cannot be read: ZeroDivisionError'):
        read_study(tmp_path / 'bad.py')
    (tmp_path / 'list.yaml').write_text('- 1')
    with pytest.raises(UserError, match='holds no settings'):
        read_study(tmp_path / 'list.yaml')


def test_a_study_by_its_name():
    assert {'encoders', 'fusions', 'paper_tables', 'smoke'} <= list_studies().keys()
    assert find_study('paper-tables') == list_studies()['paper_tables']
    path = list_studies()['smoke']
    assert find_study(str(path)) == path
    assert read_study(path, {'steps': 3}).steps == 3
    with pytest.raises(UserError, match=r"study='smok' is unknown; did you mean smoke"):
        find_study('smok')
    with pytest.raises(UserError, match=r'give a \.yaml or \.py file, or one of encoders, fusions'):
        find_study('x')


@pytest.fixture
def weights_here(tmp_path, monkeypatch):
    """A folder with files named as those of two encoders, so that any machine reads the same studies."""
    for name in ('vit-tiny.safetensors', 'dinov2-vit-s14.pth'):
        (tmp_path / name).touch()
    monkeypatch.setenv('MMGFNUC_WEIGHTS', str(tmp_path))
    monkeypatch.setattr('mmgfnuc.models.weights.locate.try_to_load_from_cache', lambda hub, file: None)


def test_the_encoders_that_are_here(weights_here):
    names = [arm.foundation for arm in read_study(find_study('encoders')).arms]
    assert names == [None, 'vit-tiny', 'dinov2-vit-s14', 'vit-tiny']


def test_the_studies_of_encoders_and_fusions_share_runs(weights_here, monkeypatch):
    """What both compare is trained once, so their conditions must stay the same."""
    studies = [read_study(find_study(name)) for name in ('encoders', 'fusions')]
    monkeypatch.setattr(runs, '_checked_digest', lambda study, data, folder: '')
    encoders, fusions = ({run.name: run.key for run in study_runs(study, 'out/runs')} for study in studies)
    shared = encoders.keys() & fusions.keys()
    assert len(shared) == 3 * len(studies[0].splits) * len(studies[0].seeds)
    assert all(encoders[name] == fusions[name] for name in shared)


def test_the_tables_of_the_paper():
    """Networks on three data sets, four activations with and without fusion, three sizes of SAM."""
    study = read_study(find_study('paper_tables'))
    assert study.data == ('cryonuseg', 'nuinsseg', 'conic')
    for fusion in ('none', 'paper'):
        labels = [arm.label for arm in study.arms if arm.label and arm.fusion == fusion]
        assert labels == ['relu', 'leaky_relu', 'silu']
    sizes = {arm.foundation for arm in study.arms if arm.fusion == 'paper' and not arm.label}
    assert sizes == {'sam-vit-b', 'sam-vit-l', 'sam-vit-h'}


@pytest.mark.slow
@pytest.mark.parametrize('name', list_studies())
def test_every_arm_of_the_ready_studies_can_be_built(name, weights_here):
    """On the meta device, with random weights, from the text that a run is run from."""
    study = read_study(find_study(name))
    assert_one_host(study)
    for arm in study.arms:
        config = Config.fromstring(Config(run_config(study, arm, study.splits[0], 0)).pretty_text, '.py')
        if config.model.foundation:
            config.model.foundation.weights = 'random'
        if config.model.backbone.get('weights'):
            config.model.backbone.weights = None
        with torch.device('meta'):
            model = MODELS.build(config.model)
        assert (model.foundation is None) == (arm.fusion == 'none')


def assert_one_host(study):
    """Arms that differ in their fusion have one host, its dropout included, and none in the fusion."""
    hosts = {}
    for arm in study.arms:
        model = run_config(study, arm, study.splits[0], 0)['model']
        assert model['bottleneck_dropout'] == 0.3
        assert 'dropout' not in str(model['neck'])
        for part in ('foundation', 'neck', 'partner_context'):
            model.pop(part, None)
        assert model == hosts.setdefault((arm.unet, arm.head, arm.label, arm.augmentation, str(arm.parts)), model)
    return hosts


def test_every_fusion_has_the_same_host():
    fused = {'foundation': 'vit-tiny', 'fusion': list_fusions()}
    study = make_study({'title': '', 'arms': [fused], 'data': 'synthetic'})
    assert {arm.fusion for arm in study.arms} == set(list_fusions())
    assert len(assert_one_host(study)) == 1


@pytest.mark.parametrize(('data', 'scale'), [('cryonuseg', 0.5), ('nuinsseg', 0.5), ('conic', 1), ('synthetic', 1)])
def test_every_data_set_is_worked_at_the_same_resolution(data, scale):
    """40x at half its resolution, 20x as it is: 256 pixels of about half a micrometre."""
    study = make_study({'title': '', 'arms': [{}], 'data': data})
    config = Config(run_config(study, study.arms[0], 'some', 0))
    assert config.model.test_cfg.get('scale', 1) == scale
    factors = [step.get('factor', 1) for step in config.train_dataloader.dataset.pipeline]
    assert min(factors) == scale
    for part in ('train', 'test'):
        dataset = config[f'{part}_dataloader'].dataset
        assert (dataset.data_root, dataset.split) == (f'data/{data}', 'some')

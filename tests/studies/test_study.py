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


def test_names_tell_arms_apart():
    arms = make_study(
        {'title': '', 'arms': [{'foundation': 'vit-tiny', 'fusion': 'context', 'weights': [None, 'random']}]}
    ).arms
    assert [arm.name for arm in arms] == ['unet/context/vit-tiny/semantic', 'unet/context/vit-tiny:random/semantic']


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


def config_of(arm, **changes):
    study = make_study({'title': '', 'arms': [arm], 'data': 'synthetic', **changes})
    return run_config(study, study.arms[0], 'default', 0)


def test_rate_and_schedule_of_an_arm():
    plain = config_of({})
    assert config_of({'schedule': 'Adam_Steps', 'lr': None}) == plain
    rate = config_of({'lr': '3e-4'})
    assert rate['optim_wrapper']['optimizer'] == {**plain['optim_wrapper']['optimizer'], 'lr': 0.0003}
    warm = config_of({'schedule': 'adamw-steps'})
    assert warm['optim_wrapper']['optimizer']['type'].endswith('AdamW')
    assert {key for key in plain if plain[key] != warm[key]} == {'optim_wrapper', 'param_scheduler'}
    (arm,) = arms_of({'schedule': 'adamw-steps', 'lr': 3e-4})
    assert arm.name == 'unet/none/semantic/schedule=adamw-steps/lr=0.0003'
    with pytest.raises(UserError, match=r"schedule='adam-50e' counts epochs.*take one of adam-steps, adamw-steps$"):
        config_of({'schedule': 'adam-50e'})
    with pytest.raises(UserError, match=r'steps=50: .* warms up for 50 steps'):
        config_of({'schedule': 'adamw-steps'}, steps=50)


def test_a_fusion_with_a_control_is_as_the_preset_of_that_control():
    fused = {'foundation': 'vit-tiny', 'weights': 'random'}
    for control, preset in (
        ('zero', 'zero-context'),
        ('shuffled', 'shuffled-context-spatial'),
        ('image', 'shuffled-context-image'),
    ):
        arm = fused | {'fusion': 'context', 'control': control}
        assert config_of(arm) == config_of(fused | {'fusion': preset})
        with pytest.raises(UserError, match=f"control='{control}': fusion='{preset}' is a control already"):
            config_of(arm | {'fusion': preset})
    with pytest.raises(UserError, match="control='zero': fusion='none' gets nothing of an encoder"):
        config_of({'control': 'zero'})


def test_types_come_from_the_data(tmp_path):
    """Also those of a preset that asks for them itself."""
    synthetic.write_dataset(tmp_path / 'typed', num_train=1, num_val=1, size=64, seed=0, types=True)
    synthetic.write_dataset(tmp_path / 'plain', num_train=1, num_val=1, size=64, seed=0)
    typed = {'types': True, 'data_root': str(tmp_path / 'typed')}
    for changes in (typed, typed | {'types': False, 'data': 'synthetic_typed'}):
        config = config_of({'head': 'hover'}, **changes)
        assert config['model']['decode_head']['num_classes'] == 4
        assert all(config[f'{part}_dataloader']['dataset']['types'] for part in ('train', 'test'))
    alike = config_of({}, data_root=str(tmp_path / 'typed'))
    assert alike['model']['decode_head']['num_classes'] == 2
    assert not alike['train_dataloader']['dataset'].get('types')
    with pytest.raises(UserError, match=r'types=True: .*plain has no nucleus types, its'):
        config_of({}, types=True, data_root=str(tmp_path / 'plain'))


def test_an_encoder_by_its_settings():
    """Its class names it; two of one class are told apart by a label."""
    named = {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': 'random'}
    own = {'type': 'own_parts.encoder.MyEncoder', 'width': 32}
    first, second, third = arms_of(
        {'foundation': [named, own], 'fusion': 'concat'},
        {'foundation': own | {'width': 64}, 'fusion': 'concat', 'label': 'wide'},
    )
    assert first.name == 'unet/concat/vit-tiny:random/semantic'
    assert second.name == 'unet/concat/MyEncoder/semantic'
    assert third.name == 'unet/concat/MyEncoder/semantic/wide'
    assert first.encoder_weights == 'random'
    by_class = {'type': type('MyEncoder', (), {'__module__': 'own_parts.encoder'}), 'width': 32}
    assert arms_of({'foundation': by_class, 'fusion': 'concat'}) == (second,)
    with pytest.raises(UserError, match='need its type'):
        arms_of({'foundation': {'width': 32}, 'fusion': 'concat'})


def arms_of(*groups):
    return make_study({'title': '', 'arms': list(groups)}).arms


def test_without_fusion_the_encoders_of_a_list_make_no_difference():
    arms = arms_of({'foundation': ['uni', 'uni2-h'], 'weights': [None, 'random'], 'fusion': ['none', 'paper']})
    fused = [
        Arm(foundation=name, weights=weights, fusion='paper')
        for name in ('uni', 'uni2-h')
        for weights in (None, 'random')
    ]
    assert arms == (Arm(), *fused)
    parts = {'backbone': {'widths': [4, 8]}, 'neck': {'levels': 'all'}, 'foundation': {'tune': 'full'}}
    alone, other = arms_of({'foundation': 'uni', 'fusion': ['none', 'paper'], 'parts': parts})
    assert alone == Arm(parts={'backbone': {'widths': [4, 8]}})
    assert other.parts == parts


def test_an_encoder_whose_fusion_was_forgotten_is_a_mistake():
    study = make_study({'title': '', 'arms': [{'foundation': 'vit-tiny'}], 'data': 'synthetic'})
    with pytest.raises(UserError, match="foundation='vit-tiny' with fusion='none'"):
        run_config(study, study.arms[0], 'default', 0)


def test_names_are_taken_as_the_model_takes_them():
    (arm,) = arms_of({'unet': 'eUNet3plus', 'foundation': 'ViT_Tiny', 'fusion': 'Zero-Context', 'head': 'Dual_Decoder'})
    assert arm == Arm(unet='eunet3+', foundation='vit-tiny', fusion='zero-context', head='dual-decoder')
    (arm,) = arms_of({'foundation': 'timm:vit_tiny_patch16_224', 'fusion': 'shuffled_context_image'})
    assert arm == Arm(foundation='timm:vit_tiny_patch16_224', fusion='shuffled-context-image')


def test_null_is_the_default():
    nothing = dict.fromkeys(('unet', 'foundation', 'fusion', 'weights', 'head', 'parts', 'label'))
    study = make_study({'title': '', 'arms': [nothing], 'steps': None, 'amp': None})
    assert study == make_study({'title': '', 'arms': [{}]})
    assert arms_of({'foundation': 'uni', 'fusion': [None, 'paper']}) == (Arm(), Arm(foundation='uni', fusion='paper'))


def test_a_label_tells_arms_apart_and_changes_nothing_else():
    settings = {'data': 'synthetic', 'title': ''}
    plain, labelled = (
        make_study({**settings, 'arms': [{**label, 'parts': {'backbone': {'widths': [4, 8]}}}]})
        for label in ({}, {'label': 'narrow'})
    )
    assert labelled.arms[0].name == 'unet/none/semantic/narrow'
    texts = [run_config(study, study.arms[0], 'default', 0) for study in (plain, labelled)]
    assert texts[0] == texts[1]


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
        assert model == hosts.setdefault((arm.unet, arm.head, arm.label, str(arm.parts)), model)
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

"""Arms: their names, and the configs that runs get of them."""

import pytest

from mmgfnuc.datasets import synthetic
from mmgfnuc.errors import UserError
from mmgfnuc.studies.arms import Arm
from mmgfnuc.studies.runs import run_config
from mmgfnuc.studies.study import make_study


def arms_of(*groups):
    return make_study({'title': '', 'arms': list(groups)}).arms


def config_of(arm, **changes):
    study = make_study({'title': '', 'arms': [arm], 'data': 'synthetic', **changes})
    return run_config(study, study.arms[0], 'default', 0)


def test_names_tell_arms_apart():
    arms = make_study(
        {'title': '', 'arms': [{'foundation': 'vit-tiny', 'fusion': 'context', 'weights': [None, 'random']}]}
    ).arms
    assert [arm.name for arm in arms] == ['unet/context/vit-tiny/semantic', 'unet/context/vit-tiny:random/semantic']


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


def test_augmentation_and_other_settings_of_an_arm():
    plain = config_of({}, data='nuinsseg', data_root='.')
    finer = config_of({'augmentation': 'scale-75'}, data='nuinsseg', data_root='.')
    assert finer['train_dataloader']['dataset']['pipeline'][0]['factor'] == finer['model']['test_cfg']['scale'] == 0.75
    assert {key for key in plain if plain[key] != finer[key]} == {'train_dataloader', 'inference', 'model'}
    changed = config_of({'changes': {'train_dataloader.sampler.balance': True}}, data='nuinsseg', data_root='.')
    assert changed['train_dataloader']['sampler'] == {**plain['train_dataloader']['sampler'], 'balance': True}
    assert {key for key in plain if plain[key] != changed[key]} == {'train_dataloader'}
    (arm,) = arms_of({'augmentation': 'strong', 'changes': {'model.test_cfg.flips': True}, 'label': 'flips'})
    assert arm.name == 'unet/none/semantic/augmentation=strong/flips'
    with pytest.raises(UserError, match=r"arm 'unet/none/semantic': changes modle.test_cfg: there is no 'modle'"):
        config_of({'changes': {'modle.test_cfg': {}}})
    with pytest.raises(UserError, match='changes=True: give settings'):
        arms_of({'changes': True})

"""Studies as they are written down."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.benchmark.cells import cell_config
from mmgfnuc.benchmark.study import Arm, make_study, read_study
from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

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


STUDIES = sorted((Path(__file__).parents[2] / 'configs' / 'studies').iterdir())


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_every_arm_of_the_ready_studies_can_be_built(path):
    """On the meta device, with random weights, from the text that a cell is run from."""
    study = read_study(path)
    for arm in study.arms:
        config = Config.fromstring(cell_config(study, arm, study.splits[0], 0).pretty_text, '.py')
        if config.model.foundation:
            config.model.foundation.weights = 'random'
        with torch.device('meta'):
            model = MODELS.build(config.model)
        assert (model.foundation is None) == (arm.fusion == 'none')

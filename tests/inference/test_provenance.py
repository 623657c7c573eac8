"""What a prediction comes from, as data."""

import json
import shutil

import torch

from mmgfnuc.inference import Predictor
from mmgfnuc.inference.provenance import differences

from .small_models import tiled, whole


def test_a_copy_is_the_same_model(plain, tmp_path):
    copy = shutil.copy(plain, tmp_path / 'copy.pth')
    described, again = whole(plain).describe(), whole(copy).describe()
    assert described['model'] != again['model']
    assert differences(described, again) == ''
    assert json.loads(json.dumps(described)) == described


def test_all_that_changes_the_nuclei_is_told(plain, changed, image, tmp_path):
    saved = torch.load(plain, weights_only=False)
    name = next(name for name, value in saved['state_dict'].items() if value.ndim == 4)
    saved['state_dict'][name][0, 0, 0, 0] += 1e-6
    torch.save(saved, tmp_path / 'other.pth')
    given = Predictor(plain, device='cpu', mpp=0.5)

    def stained(rows):
        template = torch.tensor(image[rows])
        return whole(changed(stains=[{'method': 'reinhard', 'template': template}])).describe()

    own, upper, lower = whole(plain).describe(), stained(slice(100)), stained(slice(100, 200))
    for before, now, setting in (
        (own, whole(tmp_path / 'other.pth').describe(), 'weights_sha256'),
        (own, tiled(plain, 64, 16).describe(), 'config.test_cfg'),
        (own, given.describe(), 'mpp was None, is 0.5'),
        (own, upper, 'preprocessing.stains'),
        (upper, lower, 'preprocessing.stains'),
        (own, whole(changed(mpp=0.5)).describe(), 'preprocessing.mpp'),
        (own, whole(changed(nucleus_diameter_um=6.0)).describe(), 'preprocessing.nucleus_diameter_um'),
    ):
        said = differences(before, now)
        assert setting in said
        assert ('weights_sha256' in said) == (setting == 'weights_sha256')


def test_many_differences_are_counted():
    said = differences({'model': 'a'}, {'model': 'b', **{f'x{number}': 'y' * 100 for number in range(5)}})
    assert said.count(' was ') == 3
    assert said.endswith('and 2 more')
    assert len(said) < 400

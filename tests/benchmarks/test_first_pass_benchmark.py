"""benchmarks/first_pass.py on two small images, with a model whose error is known."""

import first_pass
import numpy as np
import pytest

from mmgfnuc.datasets import NucleiDataset, synthetic
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Preprocessing
from mmgfnuc.inference.pixel_size import PixelSize


class Mistaken:
    """Assumes pixels 1.4 times as large as those of images of 96 pixels a side, of 0.5 um, resampled; none of 0.5."""

    def __init__(self, mpp):
        self.preprocessing = Preprocessing(mpp, ('background', 'nucleus'), [[0, 0, 0], [0, 158, 115]], [])

    def pixel_size(self, image):
        true = 0.5 * 96 / len(image)
        return PixelSize(None, 'unknown') if true == 0.5 else PixelSize(1.4 * true, 'first pass')


def test_how_near_it_is(tmp_path):
    synthetic.write_dataset(tmp_path, num_train=2, num_val=1, size=96, seed=0)
    dataset = NucleiDataset(tmp_path)
    rows = first_pass.measure(Mistaken(0.5), dataset, (0.25, 0.5), every=2, side=1)
    assert rows == [
        {'mpp': 0.25, 'images': 2, 'assumed': 2, 'within_1.25': 0, 'within_1.5': 2},
        {'mpp': 0.5, 'images': 2, 'assumed': 0, 'within_1.25': 0, 'within_1.5': 0},
    ]
    with pytest.raises(UserError, match='states no pixel size'):
        first_pass.measure(Mistaken(None), dataset, (0.25,), every=1, side=1)


def test_mosaics_are_of_one_group():
    samples = [
        {'img': np.full((2, 3, 3), number), 'group': group, 'mpp': mpp}
        for number, (group, mpp) in enumerate([('a', 0.5), ('b', None)] * 5)
    ]
    (first, known), (second, assumed) = first_pass.mosaics(samples, 0.25, every=1, side=2)
    assert (known, assumed) == (0.5, 0.25)
    assert first.shape == second.shape == (4, 6, 3)
    assert first[::2, ::3, 0].tolist() == [[0, 2], [4, 6]]
    assert second[::2, ::3, 0].tolist() == [[1, 3], [5, 7]]
    with pytest.raises(UserError, match='no group has 9 images'):
        first_pass.measure(Mistaken(0.25), samples, (0.25,), every=1, side=3)

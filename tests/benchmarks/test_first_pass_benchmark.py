"""benchmarks/pixel_size.py on two small images, with a model that finds all nuclei at any size."""

import numpy as np
import pixel_size
import pytest

from mmgfnuc.datasets import NucleiDataset, synthetic
from mmgfnuc.datasets.resampling import resample_image
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Preprocessing
from mmgfnuc.inference.pixel_size import PixelSize


class Knowing:
    """Gives the truth of the image whose size it is shown, and assumes pixels 1.4 times as large."""

    def __init__(self, dataset, mpp):
        self.preprocessing = Preprocessing(mpp, ('background', 'nucleus'), [[0, 0, 0], [0, 158, 115]], [])
        self.samples = [dataset[index] for index in range(len(dataset))]

    def __call__(self, image, mpp):
        self.mpp = mpp
        known = [resample_image(s['img'], s['instance_map'], s['mpp'] or 0.5, mpp) for s in self.samples]
        (self.labels,) = (labels for shown, labels in known if np.array_equal(shown, image))
        return self

    def pixel_size(self, image):
        return PixelSize(1.4 * self.mpp, 'first pass')


def test_a_model_that_makes_no_mistake(tmp_path):
    synthetic.write_dataset(tmp_path, num_train=2, num_val=1, size=96, seed=0)
    dataset = NucleiDataset(tmp_path)
    rows = pixel_size.measure(Knowing(dataset, 0.5), dataset, (0.25, 1.0), every=2)
    assert [(row['mpp'], row['images'], row['aji'], row['pq']) for row in rows] == [(0.25, 2, 1, 1), (1.0, 2, 1, 1)]
    assert all(row['num_predicted'] == row['num_truth'] > 3 for row in rows)
    assert [(row['assumed'], row['within_1.25'], row['within_1.5']) for row in rows] == [(2, 0, 2)] * 2
    with pytest.raises(UserError, match='states no pixel size'):
        pixel_size.measure(Knowing(dataset, None), dataset, (0.25,), every=1)

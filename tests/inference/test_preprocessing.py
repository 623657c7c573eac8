"""What a data set says of its images goes through a checkpoint, and comes back as the same pixels."""

import numpy as np
import pytest
import torch

from mmgfnuc.datasets.synthetic import render_tile, write_dataset
from mmgfnuc.datasets.transforms import PackNucleiInputs, Rescale, StainNormalize
from mmgfnuc.errors import UserError
from mmgfnuc.inference.preprocessing import describe_preprocessing, read_preprocessing, use_resolution
from mmgfnuc.registry import DATASETS, MODELS

from .small_models import PLAIN, whole

TEMPLATE = render_tile(np.random.default_rng(8), 64)[0]


@pytest.fixture(scope='module')
def dataset_of(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_dataset(root, num_train=1, num_val=1, size=64, seed=0)

    def build(*steps):
        return DATASETS.build(dict(type='mmgfnuc.NucleiDataset', data_root=root, pipeline=[*steps, PackNucleiInputs()]))

    return build


def test_of_a_data_set_without_stain_normalisation(dataset_of):
    palette = [[0, 0, 0], [0, 158, 115]]
    expected = {'mpp': 0.5, 'classes': ['background', 'nucleus'], 'palette': palette, 'stains': []}
    assert describe_preprocessing(dataset_of()) == expected
    assert describe_preprocessing([1, 2]) == {'mpp': None, 'classes': [], 'palette': [], 'stains': []}


@pytest.mark.parametrize('stain', [{}, {'method': 'reinhard', 'template': TEMPLATE}])
def test_stains_are_normalised_as_in_training(dataset_of, predictor, changed, image, tmp_path, stain):
    """By hand before, or by the checkpoint, which needs no file of the template."""
    normalize = StainNormalize(**stain)
    path = changed(stains=describe_preprocessing(dataset_of(normalize, Rescale(0.5)))['stains'])
    expected = predictor(normalize.normalize(image)).foreground
    assert not np.array_equal(expected, predictor(image).foreground)
    np.testing.assert_array_equal(whole(path)(image).foreground, expected)


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('mpp', 'x', 'lacks mpp, classes or palette'),
        ('mpp', 50, 'lacks mpp'),
        ('classes', [], 'lacks mpp'),
        ('classes', [1, 2], 'lacks mpp'),
        ('palette', [[0, 0, 0]], 'lacks mpp'),
        ('palette', [[0, 0], [0, 300, 0]], 'lacks mpp'),
        ('stains', None, 'lacks mpp'),
        ('nucleus_diameter_um', 'large', 'lacks mpp'),
        ('stains', ['macenko'], "no stain normalisation in 'macenko'"),
        ('stains', [{'method': 'macenko', 'template': '/etc/passwd'}], 'no stain normalisation'),
        ('stains', [{'method': 'macenko', 'template': torch.zeros(4, 4)}], 'no stain normalisation'),
        ('stains', [{'method': 'evil', 'template': None}], "method='evil': take one of"),
    ],
)
def test_what_a_checkpoint_says_is_checked(key, value, said):
    known = {'mpp': 0.5, 'classes': ['background', 'nucleus'], 'palette': [[0, 0, 0], [1, 2, 3]], 'stains': []}
    read_preprocessing(known, 'a.pth')
    with pytest.raises(UserError, match=said) as caught:
        read_preprocessing(known | {key: value}, 'a.pth')
    assert '\n' not in str(caught.value)


def test_the_resolution_of_a_model(dataset_of):
    """A data set that scales its images itself gives them at larger pixels."""
    model = MODELS.build(PLAIN | {'test_cfg': {'tile': 64}})
    known = read_preprocessing(describe_preprocessing(dataset_of()), 'a.pth')
    for dataset, mpp in ((None, 0.5), (dataset_of(), 0.5), (dataset_of(Rescale(0.5)), 1.0)):
        use_resolution(model, known, dataset)
        assert model.test_cfg == {'tile': 64, 'mpp': mpp}
    use_resolution(object(), known)

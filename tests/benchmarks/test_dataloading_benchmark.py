"""benchmarks/dataloading.py: one JSON line. What it measures is not asserted, but that both sides do equal work is."""

import random

import dataloading
import numpy as np
import pytest
from stain_section import speed_section

from mmgfnuc.datasets import NucleiDataset

SMALL = ('--images', '2', '--passes', '1', '--pairs', '1', '--patches', '30')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    dataloading.write_images(root / 'prepared', root / 'published', 2)
    return root


@pytest.mark.slow
def test_prints_one_line_and_writes_a_record(measured):
    pytest.importorskip('torchstain')
    row = measured(dataloading, speed_section, *SMALL)
    assert set(row['images_per_s']) == {'paper', 'normalised', 'strong'}
    assert set(row['stain_mp_per_s']) == {'macenko', 'reinhard', 'vahadane', 'RandomHED', 'RandStainNA'}
    assert sum(row['stages'].values()) == pytest.approx(1, abs=0.01)
    assert min(row['speedup_vs_mmseg'], row['speedup_same_files']) > 0


def test_both_sides_give_images_and_maps_of_one_size(folder):
    dataset = NucleiDataset(
        folder / 'prepared', pipeline=dataloading.without_elastic(dataloading.train_pipeline('paper'))
    )
    steps = dataloading.mmseg_pipeline()
    random.seed(0)
    np.random.seed(0)
    for epoch in range(12):
        results = {
            'img_path': str(folder / 'published/images/000.png'),
            'seg_map_path': str(folder / 'published/semantic/000.png'),
            'reduce_zero_label': False,
            'seg_fields': [],
        }
        for step in steps:
            results = step(results)
        for sample in (results, dataset[epoch, 0]):
            assert sample['inputs'].shape == (3, 256, 256)
            labels = sample['data_samples'].gt_sem_seg.data
            assert labels.shape == (1, 256, 256)
            assert set(labels.unique().tolist()) <= {0, 1, 255}
            assert 0.02 < (labels == 1).float().mean() < 0.6


def test_the_comparison_is_without_elastic_deformation():
    (warp,) = [step for step in dataloading.train_pipeline('paper') if 'elastic' in step]
    assert warp['elastic'] is not None
    steps = dataloading.without_elastic(dataloading.train_pipeline('paper'))
    assert [step['elastic'] for step in steps if 'elastic' in step] == [None]


def test_the_shares_of_both_sides_are_equal():
    ours = {
        step['type'].__name__: step['type'](**{key: value for key, value in step.items() if key != 'type'})
        for step in dataloading.train_pipeline('paper')
    }
    applied = [step for step in dataloading.mmseg_pipeline() if type(step).__name__ == 'RandomApply']
    theirs = {type(step.transforms.transforms[0]).__name__: step.prob for step in applied}
    assert theirs == {
        'AdjustGamma': ours['RandomGamma'].prob,
        'CLAHE': ours['RandomCLAHE'].prob,
        'PhotoMetricDistortion': ours['RandomIntensity'].prob,
    }
    assert ours['RandomWarpCrop'].prob == 0.5
    assert ours['RandomWarpCrop'].scale == (0.8, 1.25)

"""benchmarks/dataloading.py: one JSON line. What it measures is not asserted, but that both sides do equal work is."""

import json
import random

import cv2
import dataloading
import numpy as np
import pytest

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.data_loading import speed_section
from mmgfnuc.analysis.measurements import DATA_LOADING
from mmgfnuc.datasets import NucleiDataset

SMALL = ('--images', '2', '--passes', '1', '--pairs', '1', '--patches', '30')


@pytest.fixture(autouse=True)
def _threads():
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    dataloading.write_images(root / 'prepared', root / 'published', 2)
    return root


def test_prints_one_line_and_writes_a_record(run_here, tmp_path, capsys):
    pytest.importorskip('torchstain')
    target = tmp_path / 'dataloading.json'
    assert run_here(dataloading, *SMALL, '--out', str(target)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row['images_per_s']) == {'augmentation', 'augmentation_normalised', 'augmentation_strong'}
    assert set(row['stain_mp_per_s']) == {'macenko', 'reinhard', 'vahadane', 'RandomHED', 'RandStainNA'}
    first, *_, last = row['stages']
    assert (first, last) == ('read', 'PackNucleiInputs')
    assert sum(row['stages'].values()) == pytest.approx(1, abs=0.01)
    assert row['speedup_vs_mmseg'] > 0
    assert row['speedup_same_files'] > 0
    assert {'open_s', 'open_mb', 'pass_mb'} <= set(row)
    record = read_records(tmp_path)['dataloading']
    assert record['kind'] == DATA_LOADING
    assert record['rows'] == [row]
    section = speed_section(record)
    assert f'| `vahadane` | {row["stain_mp_per_s"]["vahadane"]} |' in section
    assert f'| `augmentation_strong` | {row["images_per_s"]["augmentation_strong"]} |' in section
    assert f'take {row["speedup_vs_mmseg"]} times as long' in section
    assert 'Opening a set of 30 patches' in section
    assert '512x512 to 256x256' in section
    assert record['commands'][0] in section


def test_both_sides_give_images_and_maps_of_one_size(folder):
    dataset = NucleiDataset(
        folder / 'prepared', pipeline=dataloading.without_elastic(dataloading.train_pipeline('augmentation'))
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
    (warp,) = [step for step in dataloading.train_pipeline('augmentation') if 'elastic' in step]
    assert warp['elastic'] is not None
    steps = dataloading.without_elastic(dataloading.train_pipeline('augmentation'))
    assert [step['elastic'] for step in steps if 'elastic' in step] == [None]


def test_the_shares_of_both_sides_are_equal():
    ours = {
        step['type'].__name__: step['type'](**{key: value for key, value in step.items() if key != 'type'})
        for step in dataloading.train_pipeline('augmentation')
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

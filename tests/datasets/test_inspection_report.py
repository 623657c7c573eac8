"""Text, JSON and pictures of the inspection."""

import json

import numpy as np
import pytest

from mmgfnuc.datasets.inspection import inspect_dataset, report_text
from mmgfnuc.visualization.dataset_page import spread

from .small_set import GROUPS, Dataset, nuclei_of


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'tiny')


def test_text_shows_the_numbers_and_a_few_cases_of_each_fault(dataset):
    def scatter(labels):
        labels[:] = 0
        labels[5:55:6, 5:75:6] = np.arange(1, 109).reshape(9, 12)

    dataset.write('b', labels=nuclei_of(scatter))
    lines = report_text(inspect_dataset(dataset.root)).splitlines()
    assert lines[0] == f'tiny ({dataset.root})'
    assert next(line.split()[1:3] for line in lines if line.startswith('liver')) == ['2', '120']
    assert '  108 x speck below 10 pixels' in lines
    assert '      b: 108 (id 1, 2, 3, 4, 5, ...)' in lines
    assert lines[-1] == 'found: 2 warnings'


def test_json_holds_numbers_and_all_faults(dataset):
    dataset.change_mpp(**dict.fromkeys(GROUPS))
    content = json.loads(json.dumps(inspect_dataset(dataset.root).to_json()))
    assert (content['root'], content['images'], content['measured']) == (str(dataset.root), 4, 4)
    assert content['total']['nuclei'] == 48
    assert content['groups']['lung']['nuclei'] == 24
    assert content['splits'] == {'organs': {'train': 2, 'val': 2}}
    assert [(fault['kind'], fault['cases']) for fault in content['faults']] == [('mpp unknown', list(GROUPS))]


def test_pictures_are_spread_over_groups(dataset):
    images = inspect_dataset(dataset.root).measured
    assert [image.id for image in spread(images, 2)] == ['a', 'c']
    assert [image.id for image in spread(images, 3)] == ['a', 'b', 'c']
    assert len(spread(images, 1)) == 1
    assert [image.id for image in spread(images, 48)] == ['a', 'b', 'c', 'd']

"""Nucleus types, from typed synthetic tiles to mPQ+ and the files of a prediction."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical, synthetic

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'instances' / 'synthetic_typed.py'
TYPES = ('epithelial', 'lymphocyte', 'connective')
SMALL = ['model.backbone.widths=(8,16,24)', 'model.test_cfg.tile=96', 'train_dataloader.dataset.pipeline.0.size=96']


@pytest.fixture(scope='module')
def run(tool, tmp_path_factory):
    """A small set, a model trained and tested on it; the folder of all that."""
    folder = tmp_path_factory.mktemp('typed')
    synthetic.write_dataset(folder / 'data', num_train=12, num_val=4, size=96, seed=0, types=True)
    data = [f'{part}_dataloader.dataset.data_root={folder / "data"}' for part in ('train', 'val', 'test')]
    length = ['train_cfg.max_iters=120', 'train_cfg.val_interval=120', 'default_hooks.checkpoint.interval=120']
    options = ['--work-dir', folder / 'run', '--cfg-options', *SMALL, *data]
    assert tool('train', CONFIG, *options, *length) == 0
    assert tool('test', CONFIG, folder / 'run' / 'iter_120.pth', '--out', folder / 'found', *options) == 0
    return folder


def nuclei(labels, types):
    """The pixels of each nucleus, and the type that most of those have that have one; of equals the smallest."""
    found = []
    for name in np.unique(labels[labels > 0]):
        votes = np.bincount(types[labels == name], minlength=4)[1:]
        found.append((labels == name, 1 + int(votes.argmax()) if votes.any() else 0))
    return found


@pytest.mark.slow
def test_mpq_plus_by_its_definition(run):
    """Kirillov's PQ of each type over the whole set, then their mean, by masks of whole images."""
    matched, total = dict.fromkeys((1, 2, 3), 0.0), dict.fromkeys((1, 2, 3), 0)
    for path in sorted((run / 'found' / 'labels').iterdir()):
        sample = canonical.sample_paths(run / 'data', path.stem)
        grey = np.array(Image.open(run / 'found' / f'{path.stem}.png'))
        predicted = nuclei(np.array(Image.open(path)), grey // 85)
        true = nuclei(np.array(Image.open(sample.label)), np.array(Image.open(sample.types)))
        for kind in matched:
            ours = [mask for mask, its_kind in predicted if its_kind == kind]
            theirs = [mask for mask, its_kind in true if its_kind == kind]
            total[kind] += len(ours) + len(theirs)
            ious = [(a & b).sum() / (a | b).sum() for a in ours for b in theirs]
            matched[kind] += sum(iou for iou in ious if iou > 0.5)
    quality = [2 * matched[kind] / total[kind] for kind in matched]
    scores = json.loads((run / 'run' / 'test' / 'instances.json').read_text())
    assert scores['mpq_plus'] == pytest.approx(np.mean(quality), abs=1e-9)
    assert max(quality) > 0.2, 'it has learned nothing'


@pytest.mark.slow
def test_types_of_a_prediction(run, tool):
    """Every nucleus has one of the types of the data set, by name."""
    image = run / 'data' / 'images' / 'val_0000.png'
    assert tool('predict', image, '--model', run / 'run' / 'iter_120.pth', '--out', run / 'files') == 0
    rows = list(csv.DictReader((run / 'files' / 'nuclei.csv').open()))
    assert {row['type'] for row in rows} <= set(TYPES)
    features = json.loads((run / 'files' / 'geojson' / 'val_0000.geojson').read_text())['features']
    assert [feature['properties']['classification']['name'] for feature in features] == [row['type'] for row in rows]

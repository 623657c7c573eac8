"""`mmgfnuc score`: its scores are those of `mmgfnuc test`, and its card is made of them."""

import csv
import json

import cv2
import pytest

from mmgfnuc.evaluation.functional import PREDICTED_STATES, TRUE_STATES
from mmgfnuc.inference.card import FEWEST, SCORES

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def measured(tool, checkpoint, data_root, tmp_path_factory):
    out = tmp_path_factory.mktemp('measured') / 'metrics.json'
    assert tool('score', checkpoint, '--data', data_root, '--split', 'default', '--out', out) == 0
    return out


def test_scores_are_those_of_a_test_run(measured, scored):
    """Means, intervals over groups, and counts; of all images and of each group."""
    metrics = json.loads(measured.read_text())
    semantic, instances = (
        json.loads((scored / 'run/test' / name).read_text()) for name in ('metrics.json', 'instances.json')
    )
    for name in SCORES:
        report = semantic if name == 'dice' else instances
        assert metrics['scores'][name]['mean'] == pytest.approx(report[name], abs=1e-6)
        ends = report['intervals']['scores'][name]
        assert metrics['scores'][name]['interval'] == (ends and pytest.approx(ends, abs=1e-6))
        of_groups = {group: found['scores'][name]['mean'] for group, found in metrics['groups'].items()}
        assert of_groups == pytest.approx({group: found[name] for group, found in report['groups'].items()}, abs=1e-6)
    assert sum(metrics['truth'].values()) == instances['num_truth']
    assert sum(metrics['predicted'].values()) == instances['num_predicted'] > 0
    assert metrics['truth']['matched'] == instances['num_truth'] - instances['false_negatives']
    assert (tuple(metrics['truth']), tuple(metrics['predicted'])) == (TRUE_STATES, PREDICTED_STATES)


def test_worst_images_are_drawn_one_of_a_group(measured, scored):
    worst = json.loads(measured.read_text())['worst']
    with (scored / 'run/test/instances.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if int(row['num_truth']) >= FEWEST]
    rows.sort(key=lambda row: float(row['aji']))
    lowest = {row['group']: row['id'] for row in reversed(rows)}
    assert {image['group']: image['image'] for image in worst}.items() <= lowest.items()
    assert worst[0]['image'] == rows[0]['id']
    for image in worst:
        assert cv2.imread(str(measured.parent / image['picture'])) is not None


def test_other_pixel_sizes(measured, data_root):
    """The sum of nuclei is that of the truth, but for those that are too small to be seen there."""
    metrics = json.loads(measured.read_text())
    sizes = {size['mpp']: size for size in metrics['pixel_sizes']}
    assert list(sizes) == [0.25, 0.5, 1.0]
    total = sum(metrics['truth'].values())
    assert all(0.9 * total <= sum(size['truth'].values()) <= total for size in sizes.values())


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--split', 'nosuch'], "no split 'nosuch'"),
        (['--mpp', '50'], '--mpp: 50 micrometres'),
        (['--cfg-options', 'model.backbone.widths=(4,8)'], 'model.backbone.widths is not scored'),
        (['--cfg-options', 'model.test_cfg.nosuch=1'], 'nosuch'),
        (['--cfg-options', 'model.test_cfg.tile=small'], 'model.test_cfg.tile'),
    ],
)
def test_mistakes_end_in_one_line(tool, checkpoint, data_root, tmp_path, arguments, said, capsys):
    assert tool('score', checkpoint, '--data', data_root, '--out', tmp_path / 'metrics.json', *arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())

import csv
import json
import math
from functools import partial

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation import NucleiSemanticMetric
from mmgfnuc.evaluation.functional import SCORE_NAMES
from mmgfnuc.registry import METRICS

from . import two_processes
from .two_processes import assert_two_processes_equal_one


def make_sample(img_id, prediction, target, group='liver'):
    sample = SegDataSample(metainfo={'img_id': img_id, 'group': group})
    sample.pred_sem_seg = PixelData(data=torch.tensor([prediction]))
    sample.gt_sem_seg = PixelData(data=torch.tensor([target], dtype=torch.uint8))
    return sample


# a: tp 2, fp 1, fn 1, tn 3, one pixel ignored. b: tp 1, fp 0, fn 0, tn 1.
SAMPLE_A = make_sample('a', [[0, 0, 0, 1], [1, 1, 0, 1]], [[0, 0, 0, 0], [1, 1, 1, 255]])
SAMPLE_B = make_sample('b', [[0, 1]], [[0, 1]], group='spleen')
SAMPLE_IGNORED = make_sample('c', [[0, 1]], [[255, 255]], group='spleen')


evaluate = partial(two_processes.evaluate, NucleiSemanticMetric)


def random_samples(count):
    """Images of odd sizes, whose scores have no short binary fraction: a changed order of summation would show."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(count):
        prediction, target = torch.randint(2, (2, 7 + i, 11), generator=generator).tolist()
        samples.append(make_sample(f'image_{i}', prediction, target, group=f'group_{i % 2}'))
    return samples


def test_two_images_by_hand():
    metrics = evaluate([SAMPLE_A, SAMPLE_B])
    assert metrics['dice'] == pytest.approx((2 / 3 + 1) / 2, abs=1e-15)
    assert metrics['dice_std'] == pytest.approx((1 - 2 / 3) / 2, abs=1e-15)
    assert metrics['dice_pooled'] == pytest.approx(6 / 8, abs=1e-15)
    assert metrics['iou'] == pytest.approx((1 / 2 + 1) / 2, abs=1e-15)
    assert metrics['iou_pooled'] == pytest.approx(3 / 5, abs=1e-15)
    assert metrics['miou'] == pytest.approx(((3 / 5 + 2 / 4) / 2 + 1) / 2, abs=1e-15)
    assert metrics['miou_pooled'] == pytest.approx((4 / 6 + 3 / 5) / 2, abs=1e-15)
    assert metrics['weighted_f1'] == pytest.approx(((4 * 6 / 8 + 3 * 4 / 6) / 7 + 1) / 2, abs=1e-15)
    assert metrics['weighted_iou'] == pytest.approx(((4 * 3 / 5 + 3 * 2 / 4) / 7 + 1) / 2, abs=1e-15)
    assert (metrics['num_images'], metrics['num_unscored']) == (2, 0)
    assert set(NucleiSemanticMetric().names) == metrics.keys()


def test_built_from_config_with_plain_keys_unless_a_prefix_is_given():
    metric = METRICS.build({'type': 'NucleiSemanticMetric'})
    assert isinstance(metric, NucleiSemanticMetric)
    assert 'dice' in evaluate([SAMPLE_B])
    assert 'val/dice' in evaluate([SAMPLE_B], prefix='val')


def test_several_classes_and_other_ignore_index():
    sample = make_sample('a', [[0, 2, 1, 1]], [[0, 1, 2, 9]])
    metrics = evaluate([sample], num_classes=3, ignore_index=9)
    assert metrics['dice'] == 1.0
    assert metrics['miou'] == pytest.approx(1 / 3, abs=1e-15)


def test_classes_of_the_data_set():
    typed = {'classes': ('background', 'epithelial', 'lymphocyte')}
    metrics = evaluate([make_sample('a', [[0, 2, 1, 1]], [[0, 1, 2, 255]])], typed)
    assert metrics['miou'] == pytest.approx(1 / 3, abs=1e-15)
    with pytest.raises(UserError, match='prediction holds class 2, classes are 0 to 1'):
        evaluate([make_sample('a', [[0, 2]], [[0, 1]])])


def test_repeated_image_counts_once():
    evaluator = Evaluator(NucleiSemanticMetric())
    evaluator.process([SAMPLE_A, SAMPLE_B, SAMPLE_A])
    assert evaluator.evaluate(3) == evaluate([SAMPLE_A, SAMPLE_B])


def test_order_does_not_matter():
    samples = random_samples(7)
    assert evaluate(samples) == evaluate(samples[::-1]) == evaluate(samples[3:] + samples[:3])


def test_metric_starts_afresh_after_an_evaluation():
    evaluator = Evaluator(NucleiSemanticMetric())
    evaluator.process([SAMPLE_A])
    evaluator.evaluate(1)
    evaluator.process([SAMPLE_B])
    assert evaluator.evaluate(1)['num_images'] == 1


def test_all_ignored_image_enters_no_mean():
    alone = evaluate([SAMPLE_A])
    metrics = evaluate([SAMPLE_A, SAMPLE_IGNORED])
    assert (metrics.pop('num_images'), metrics.pop('num_unscored')) == (2, 1)
    assert metrics == {key: alone[key] for key in metrics}


def test_reports(tmp_path):
    out_dir = tmp_path / 'new' / 'folder'
    metrics = evaluate([SAMPLE_IGNORED, SAMPLE_B, SAMPLE_A], out_dir=out_dir)
    assert sorted(path.name for path in out_dir.iterdir()) == ['metrics.json', 'per_image.csv']

    with (out_dir / 'per_image.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['id', 'group', *SCORE_NAMES, 'tp', 'fp', 'fn', 'foreground_pixels']
    assert [(row['id'], row['group']) for row in rows] == [('a', 'liver'), ('b', 'spleen'), ('c', 'spleen')]
    counts = [tuple(int(row[key]) for key in ('tp', 'fp', 'fn', 'foreground_pixels')) for row in rows]
    assert counts == [(2, 1, 1, 3), (1, 0, 0, 1), (0, 0, 0, 0)]
    assert [row['dice'] for row in rows] == [repr(2 / 3), '1.0', '']
    for name in SCORE_NAMES:
        assert (float(rows[0][name]) + float(rows[1][name])) / 2 == metrics[name]

    report = json.loads((out_dir / 'metrics.json').read_text())
    groups, intervals = report.pop('groups'), report.pop('intervals')
    assert report == metrics
    assert list(groups) == ['liver', 'spleen']
    assert groups['liver'] == evaluate([SAMPLE_A])
    assert groups['spleen'] == evaluate([SAMPLE_B, SAMPLE_IGNORED])
    # Of two groups a resample is one of them twice, or both: the percentiles are the scores of the one and the other.
    scores = {'dice': [2 / 3, 1.0], 'iou': [0.5, 1.0], 'dice_pooled': [2 / 3, 1.0]}
    assert intervals == {'level': 0.95, 'groups': 2, 'scores': scores}


def test_report_of_unscored_images_is_strict_json(tmp_path):
    assert math.isnan(evaluate([SAMPLE_IGNORED], out_dir=tmp_path)['dice'])
    report = json.loads((tmp_path / 'metrics.json').read_text(), parse_constant=pytest.fail)
    assert report['dice'] is None
    assert report['groups']['spleen']['dice_pooled'] is None
    assert report['intervals'] == {'level': 0.95, 'groups': 1, 'scores': dict.fromkeys(('dice', 'iou', 'dice_pooled'))}


def test_new_reports_replace_old_ones(tmp_path):
    evaluate([SAMPLE_A, SAMPLE_B], out_dir=tmp_path)
    evaluate([SAMPLE_B], out_dir=tmp_path)
    assert len((tmp_path / 'per_image.csv').read_text().splitlines()) == 2
    assert json.loads((tmp_path / 'metrics.json').read_text())['num_images'] == 1


def test_what_earlier_reports_were_of_is_gone_before_the_first_new_one_is_written(tmp_path, monkeypatch):
    """After a kill in between, nobody takes the new ones for those of the old checkpoint."""
    evaluate([SAMPLE_A], out_dir=tmp_path)
    (tmp_path / 'tested.json').write_text('{}')

    def killed(path, *content):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmgfnuc.evaluation.per_image_metric.write_csv', killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate([SAMPLE_B], out_dir=tmp_path)
    assert not (tmp_path / 'tested.json').exists()


def test_two_images_with_one_id_are_refused():
    other = make_sample('a', [[0, 1]], [[0, 1]])
    with pytest.raises(UserError, match="two different images have the id 'a'"):
        evaluate([SAMPLE_A, other])


@pytest.mark.parametrize('key', ['img_id', 'group'])
def test_sample_without_meta_is_refused(key):
    sample = SAMPLE_B.to_dict()
    del sample[key]
    with pytest.raises(UserError, match=f"no '{key}'.*meta_keys"):
        NucleiSemanticMetric().process(None, [sample])


def test_sample_without_a_map_is_refused():
    sample = SAMPLE_B.to_dict()
    del sample['pred_sem_seg']
    with pytest.raises(UserError, match="no 'pred_sem_seg', NucleiSemanticMetric scores it"):
        NucleiSemanticMetric().process(None, [sample])


def test_one_class_is_refused():
    with pytest.raises(UserError, match='num_classes=1'):
        NucleiSemanticMetric(num_classes=1)


def test_two_processes_give_exactly_the_single_process_result(tmp_path):
    assert_two_processes_equal_one(tmp_path, NucleiSemanticMetric, random_samples(5))

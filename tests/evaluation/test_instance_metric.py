"""The instance metric against values by hand, and on random sets against the functions it is made of."""

import csv
import json
import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation import NucleiInstanceMetric, functional
from mmgfnuc.registry import METRICS

from . import two_processes
from .functional.label_maps import SIDE, disturb, draw_map
from .two_processes import assert_two_processes_equal_one

TYPED = {'classes': ('background', 'epithelial', 'lymphocyte', 'stroma')}
COUNTS = ['num_truth', 'num_predicted', 'false_negatives', 'false_positives', 'merged', 'split']
LOGGED = ['aji', 'aji_plus', 'dq', 'sq', 'pq', 'pq_pooled', 'f1_50', 'detection_f1', 'boundary_f1', 'hausdorff95']
LOGGED_TYPED = ['mpq_plus', 'mpq', 'bpq', 'type_f1', 'count_r2']
OTHER_SCORES = ['detection_f1', 'boundary_f1', 'hausdorff95', 'hausdorff95_um']

evaluate = partial(two_processes.evaluate, NucleiInstanceMetric)


def make_sample(img_id, prediction, target, *, group='liver', mpp=None, ignore=None, types=None):
    """Maps of one sample; `types` are the predicted and the true semantic map, by default nucleus or not."""
    prediction, target = np.array(prediction, np.int32), np.array(target, np.int32)
    predicted, true = types or (prediction > 0, target > 0)
    true = np.where(np.zeros(target.shape, bool) if ignore is None else ignore, 255, true)
    sample = SegDataSample(metainfo={'img_id': img_id, 'group': group, 'mpp': mpp})
    maps = {'pred_instance_map': prediction, 'gt_instance_map': target, 'pred_sem_seg': predicted, 'gt_sem_seg': true}
    for name, values in maps.items():
        dtype = np.int32 if name.endswith('instance_map') else np.int64
        setattr(sample, name, PixelData(data=torch.from_numpy(np.asarray(values, dtype)[None])))
    return sample


# IoU 3/4 and 1; nucleus 3 is a false negative, 8 a false positive.
MAPS_A = [[5, 5, 5, 0, 0, 6, 6, 0, 0, 8]], [[1, 1, 1, 1, 0, 2, 2, 0, 3, 0]]
# Nothing overlaps; the centroids are 6 pixels apart, the boundaries 5.
MAPS_B = [[3, 3, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0, 1, 1]]
EMPTY = [[0, 0, 0, 0]]
SAMPLE_A = make_sample('a', *MAPS_A)
SAMPLE_B = make_sample('b', *MAPS_B, group='spleen')


def random_samples(count):
    """Images with nuclei of any type or none, ignored parts, and a known or unknown mpp."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        target = draw_map(rng, 6)
        prediction = disturb(rng, target)
        ignore = np.zeros((SIDE, SIDE), bool)
        ignore[: rng.integers(4), : rng.integers(SIDE)] = True
        kinds = {name: rng.integers(4) for name in np.union1d(prediction, target).tolist()}
        true, predicted = (np.vectorize(kinds.get)(labels) for labels in (target, prediction))
        noise = rng.random(predicted.shape) < 0.4
        types = np.where(noise, rng.integers(0, 4, predicted.shape), predicted) * (prediction > 0), true * (target > 0)
        options = {'group': f'group_{2 - index % 3}', 'mpp': [None, 0.5, 0.25][index % 3]}
        samples.append(make_sample(f'{index}', prediction, target, ignore=ignore, types=types, **options))
    return samples


def majority(label_map, type_map, ids):
    """Type of most pixels of a nucleus, pixel by pixel."""
    types = []
    for nucleus in ids:
        votes = Counter(kind for kind in type_map[label_map == nucleus].tolist() if kind)
        types.append(min(votes, key=lambda kind: (-votes[kind], kind), default=0))
    return np.array(types, int)


def of_functions(sample):
    """What the functions give for one image: its counts, scores and numbers of nuclei by type."""
    maps = ('pred_instance_map', 'gt_instance_map', 'pred_sem_seg', 'gt_sem_seg')
    prediction, target, predicted, true = (getattr(sample, name).data[0].numpy() for name in maps)
    ignore = true == 255
    table = functional.contingency_table(prediction, target, ignore)
    kinds = majority(prediction, predicted, table.predicted_ids), majority(target, true % 255, table.truth_ids)
    points = [functional.centroids(prediction, table.predicted_ids), functional.centroids(target, table.truth_ids)]
    pairs = functional.match_points(*points, 3 / sample.mpp if sample.mpp else 12)
    return {
        'table': table,
        'instances': functional.instance_counts(table),
        'matrix': functional.detection_matrix(pairs, *kinds, 3),
        'boundary': functional.boundary_counts(prediction, target, ignore),
        'distances': functional.hausdorff95(prediction, target, table, ignore),
        'types': functional.typed_counts(table, *kinds, 3),
        'numbers': [[int((side == kind).sum()) for kind in (1, 2, 3)] for side in kinds],
    }


def read(folder):
    with (folder / 'instances.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / 'instances.json').read_text(), parse_constant=pytest.fail)


def column(rows, name):
    return [float(row[name] or 'nan') for row in rows]


def test_two_images_by_hand(tmp_path):
    metrics = evaluate([SAMPLE_A, SAMPLE_B], out_dir=tmp_path)
    assert list(metrics) == LOGGED + COUNTS
    assert metrics['aji'] == metrics['aji_plus'] == pytest.approx(5 / 8 / 2)
    assert metrics['dq'] == metrics['f1_50'] == pytest.approx(2 / 3 / 2)
    assert metrics['sq'] == pytest.approx(7 / 8 / 2)
    assert metrics['pq'] == pytest.approx(7 / 12 / 2)
    assert metrics['pq_pooled'] == pytest.approx((3 / 4 + 1) / (2 + 4 / 2))
    assert metrics['detection_f1'] == 1.0, 'within 12 pixels'
    assert metrics['boundary_f1'] == 0.5
    assert metrics['hausdorff95'] == pytest.approx((0.85 + 0) / 2), 'an image without a match has no distance'
    assert [metrics[name] for name in COUNTS] == [4, 4, 2, 2, 0, 0]

    _, report = read(tmp_path)
    assert report['pq_std'] == pytest.approx(7 / 12 / 2)
    assert report['f1_75'] == pytest.approx(1 / 3 / 2), 'an IoU of 0.75 is not above 0.75'
    assert report['aji_pooled'] == pytest.approx(5 / (8 + 4))
    assert (report['detection_f1_std'], report['boundary_f1_std']) == (0.0, 0.5)
    assert report['boundary_f1_pooled'] == pytest.approx(2 * (6 / 8) * (7 / 9) / (6 / 8 + 7 / 9))
    assert report['hausdorff95_um'] is report['hausdorff95_um_pooled'] is None


@pytest.mark.parametrize(('mpp', 'expected'), [(None, 1.0), (3.0, 1.0), (3.01, 2 / 3), (6.0, 2 / 3), (6.1, 1 / 3)])
def test_radius_of_detection_is_3_micrometres(mpp, expected):
    # Centroids are 0.5, 0 and 1 pixels apart.
    assert evaluate([make_sample('a', *MAPS_A, mpp=mpp)])['detection_f1'] == pytest.approx(expected)


def test_pairs_of_detection_as_the_authors_make_them():
    """Both nuclei have a predicted one 10 pixels off, but one of these lies on the other nucleus."""
    target, prediction = np.zeros((2, 12, 12), int)
    target[0, 0], target[0, 10], prediction[10, 0], prediction[0, 0] = 1, 2, 1, 2
    sample = make_sample('a', prediction, target)
    assert evaluate([sample])['detection_f1'] == 1
    assert evaluate([sample], detection_pairing='nearest')['detection_f1'] == 0.5
    with pytest.raises(UserError, match="detection_pairing='hovernet' is unknown; choose one of most, nearest"):
        NucleiInstanceMetric(detection_pairing='hovernet')


def test_distances_in_micrometres_are_those_of_images_whose_mpp_is_known(tmp_path):
    known = [make_sample(name, *MAPS_A, mpp=mpp) for name, mpp in (('c', 0.5), ('d', 2.0))]
    evaluate([SAMPLE_A, SAMPLE_B, *known], out_dir=tmp_path)
    rows, report = read(tmp_path)
    assert column(rows, 'hausdorff95') == pytest.approx([0.425, math.nan, 0.425, 0.425], nan_ok=True)
    assert column(rows, 'hausdorff95_um') == pytest.approx([math.nan, math.nan, 0.2125, 0.85], nan_ok=True)
    assert report['hausdorff95_um'] == report['hausdorff95_um_pooled'] == pytest.approx((0.2125 + 0.85) / 2)


def test_ignored_nuclei_are_neither_missed_nor_invented():
    ignore = np.array(MAPS_A[1]) * 0 == 1
    ignore[0, [3, 8, 9]] = True
    metrics = evaluate([make_sample('a', *MAPS_A, ignore=ignore)])
    assert metrics['hausdorff95'] == 0.0
    assert metrics['aji'] == metrics['dq'] == metrics['detection_f1'] == metrics['boundary_f1'] == 1.0
    assert [metrics[name] for name in COUNTS] == [2, 2, 0, 0, 0, 0]


def test_images_without_nuclei(tmp_path):
    nothing, positive = make_sample('a', EMPTY, EMPTY), make_sample('b', [[1, 1, 0, 0]], EMPTY)
    ignored = make_sample('c', [[1, 1, 0, 0]], [[2, 2, 0, 0]], ignore=np.ones((1, 4), bool))
    evaluate([nothing, positive, ignored], out_dir=tmp_path)
    rows, report = read(tmp_path)
    for name in ('aji', 'sq', 'f1_95', 'detection_f1', 'boundary_f1'):
        assert [row[name] for row in rows] == ['1.0', '0.0', '']
        assert (report[name], report[f'{name}_pooled']) == (0.5, 0.0)
    assert [row['num_predicted'] for row in rows] == ['0', '1', '0']
    assert (report['num_images'], report['num_unscored'], report['false_positives']) == (3, 1, 1)


@pytest.mark.parametrize('dataset_meta', [None, TYPED])
def test_report_of_unscored_images_is_strict_json(tmp_path, dataset_meta):
    ignored = make_sample('c', [[1, 1, 0, 0]], [[2, 2, 0, 0]], ignore=np.ones((1, 4), bool))
    metrics = evaluate([ignored], dataset_meta, out_dir=tmp_path)
    scores = set(metrics) - set(COUNTS)
    assert all(math.isnan(metrics[name]) for name in scores)
    _, report = read(tmp_path)
    assert {report[name] for name in scores} == {report['groups']['liver'][name] for name in scores} == {None}
    assert set(report['intervals']['scores'].values()) == {None}


def test_types_by_hand(tmp_path):
    """Types 1, 2 and, as 3, one that does not occur: a is right, b confuses the second, c invents, d is ignored."""
    target, prediction = [[1, 1, 1, 1, 0, 2, 2, 2, 2]], [[7, 7, 7, 0, 0, 9, 9, 9, 9]]
    true, right, wrong = [[1, 1, 1, 1, 0, 2, 2, 2, 2]], [[1, 1, 1, 0, 0, 2, 2, 1, 0]], [[1, 1, 1, 0, 0, 1, 1, 2, 0]]
    samples = [
        make_sample('a', prediction, target, types=(right, true)),
        make_sample('b', prediction, target, group='spleen', types=(wrong, true)),
        make_sample('c', [[4, 0]], [[0, 0]], group='spleen', types=([[2, 0]], [[0, 0]])),
        make_sample('d', [[4, 0]], [[4, 0]], group='spleen', ignore=np.ones((1, 2), bool), types=([[1, 0]], [[1, 0]])),
    ]
    metrics = evaluate(samples, TYPED, out_dir=tmp_path)
    assert list(metrics) == LOGGED + COUNTS + LOGGED_TYPED
    # Sums of IoU 2 * 0.75 of 2 true and 3 predicted ones; 1 of 2 and 2.
    pq = [1.5 / 2.5, 1 / 2]
    # 2 right, 1 confused; 1 right, 1 confused, 1 false positive.
    f1 = [4 / (4 + 2), 2 / (2 + 2 + 1)]
    # Numbers of type 1: true 1 1 0, predicted 1 2 0; of type 2: 1 1 0 and 1 0 1; total squares are 2/3.
    r2 = [1 - 1 / (2 / 3), 1 - 2 / (2 / 3), 1.0]
    assert metrics['mpq_plus'] == pytest.approx(np.mean(pq))
    assert metrics['mpq'] == pytest.approx(((0.75 + 1) / 2 + (0.75 / 1.5 + 0) / 2) / 2)
    assert metrics['bpq'] == pytest.approx((0.75 + 1) / 2)
    assert metrics['type_f1'] == pytest.approx(np.mean(f1))
    assert metrics['count_r2'] == pytest.approx(np.mean(r2))

    rows, report = read(tmp_path)
    assert {name: metrics[name] for name in LOGGED_TYPED} == {name: report[name] for name in LOGGED_TYPED}
    keys, types = ('pq', 'f1', 'count_r2', 'num_truth', 'num_predicted'), report['types']
    assert list(types) == ['epithelial', 'lymphocyte', 'stroma']
    assert types['epithelial'] == pytest.approx(dict(zip(keys, (pq[0], f1[0], r2[0], 2, 3), strict=True)))
    assert types['lymphocyte'] == pytest.approx(dict(zip(keys, (pq[1], f1[1], r2[1], 2, 2), strict=True)))
    assert types['stroma'] == dict(zip(keys, (None, None, 1.0, 0, 0), strict=True))
    assert column(rows, 'num_predicted_epithelial') == [1, 2, 0, 0]
    assert column(rows, 'num_predicted_lymphocyte') == [1, 0, 1, 0]
    assert column(rows, 'num_truth_lymphocyte') == [1, 1, 0, 0]


@pytest.fixture(scope='module')
def random_set(tmp_path_factory):
    """What the functions give for each image, the table and the report."""
    folder, samples = tmp_path_factory.mktemp('random'), random_samples(12)
    metrics = evaluate(samples, TYPED, out_dir=folder)
    order = sorted(samples, key=lambda sample: sample.img_id)
    return order, [of_functions(sample) for sample in order], metrics, *read(folder)


def test_random_table_equals_the_functions(random_set):
    samples, expected, _, rows, _ = random_set
    numbers = [f'{name}_{kind}' for kind in TYPED['classes'][1:] for name in ('num_truth', 'num_predicted')]
    assert list(rows[0]) == ['id', 'group', *functional.INSTANCE_SCORE_NAMES, *OTHER_SCORES, *COUNTS, *numbers]
    assert [(row['id'], row['group']) for row in rows] == [(sample.img_id, sample.group) for sample in samples]
    for name in (*functional.INSTANCE_SCORE_NAMES, *COUNTS):
        assert column(rows, name) == [functional.instance_scores(image['instances'])[name] for image in expected]
    assert column(rows, 'detection_f1') == [functional.detection_f1(image['matrix']) for image in expected]
    assert column(rows, 'boundary_f1') == [functional.boundary_f1(image['boundary']) for image in expected]
    distances = [np.mean(image['distances']) if len(image['distances']) else math.nan for image in expected]
    assert column(rows, 'hausdorff95') == pytest.approx(distances, nan_ok=True)
    for index, kind in enumerate(TYPED['classes'][1:]):
        assert column(rows, f'num_predicted_{kind}') == [image['numbers'][0][index] for image in expected]
        assert column(rows, f'num_truth_{kind}') == [image['numbers'][1][index] for image in expected]


def test_random_summary_equals_the_functions(random_set):
    samples, expected, metrics, rows, report = random_set
    assert {name: report[name] for name in metrics} == metrics
    summary = functional.summarise_instances([image['instances'] for image in expected])
    assert {name: report[name] for name in summary} == summary
    for name in OTHER_SCORES:
        assert report[name] == pytest.approx(np.nanmean(column(rows, name)))
        assert report[f'{name}_std'] == pytest.approx(np.nanstd(column(rows, name)))
    matrix, types = (sum(image[name] for image in expected) for name in ('matrix', 'types'))
    distances = np.concatenate([image['distances'] for image in expected])
    assert report['detection_f1_pooled'] == functional.detection_f1(matrix)
    assert report['boundary_f1_pooled'] == functional.boundary_f1(sum(image['boundary'] for image in expected))
    assert report['hausdorff95_pooled'] == pytest.approx(distances.mean())
    groups = [sample.group for sample in samples]
    assert report['mpq_plus'] == functional.mpq_plus(types)
    assert report['mpq'] == functional.mean_over_tissues([functional.mpq(image['types']) for image in expected], groups)
    of_all = [functional.bpq(functional.instance_counts(image['table'])) for image in expected]
    assert report['bpq'] == functional.mean_over_tissues(of_all, groups)
    predicted, true = (np.array([image['numbers'][side] for image in expected]) for side in (0, 1))
    by_type = functional.typed_pq(types), functional.type_f1(matrix), functional.count_r2(predicted, true)
    assert [[row[key] for row in report['types'].values()] for key in ('pq', 'f1', 'count_r2')] == np.array(
        by_type
    ).tolist()


def test_groups_are_sets_by_themselves(random_set):
    samples, _, _, _, report = random_set
    assert list(report['groups']) == ['group_0', 'group_1', 'group_2']
    for group, scores in report['groups'].items():
        alone = evaluate([sample for sample in samples if sample.group == group], TYPED)
        assert {name: scores[name] for name in alone} == pytest.approx(alone)


def test_intervals_over_groups(random_set):
    samples, expected, _, rows, report = random_set
    intervals, groups = report['intervals'], [sample.group for sample in samples]
    names = ['aji', 'aji_plus', 'dq', 'sq', 'pq', 'f1_50', 'detection_f1']
    assert list(intervals['scores']) == [*names, *(f'{name}_pooled' for name in names), 'mpq_plus']
    assert (intervals['level'], intervals['groups']) == (0.95, 3)
    for name in names:
        assert intervals['scores'][name] == pytest.approx(
            functional.bootstrap_interval(column(rows, name), groups, np.mean)
        )
    counts, types = ([image[name] for image in expected] for name in ('instances', 'types'))
    pooled = functional.bootstrap_interval(
        counts, groups, lambda drawn: functional.instance_scores(functional.pool(drawn))['pq']
    )
    assert intervals['scores']['pq_pooled'] == pytest.approx(pooled)
    plus = functional.bootstrap_interval(types, groups, lambda drawn: functional.mpq_plus(sum(drawn)))
    assert intervals['scores']['mpq_plus'] == pytest.approx(plus)


def test_one_group_has_no_intervals(tmp_path):
    evaluate([SAMPLE_A], out_dir=tmp_path)
    intervals = read(tmp_path)[1]['intervals']
    assert intervals['groups'] == 1
    assert set(intervals['scores'].values()) == {None}


def test_model_without_instances_is_refused():
    sample = SAMPLE_A.to_dict()
    del sample['pred_instance_map']
    with pytest.raises(UserError, match=r"no 'pred_instance_map', NucleiInstanceMetric scores it; take a model"):
        NucleiInstanceMetric().process(None, [sample])


def test_beside_the_semantic_metric(tmp_path):
    metrics = [METRICS.build({'type': f'Nuclei{kind}Metric', 'out_dir': tmp_path}) for kind in ('Semantic', 'Instance')]
    evaluator = Evaluator(metrics)
    evaluator.process([SAMPLE_A, SAMPLE_B])
    assert {'dice', 'aji'} < set(evaluator.evaluate(2))
    assert {path.name for path in tmp_path.iterdir()} == {
        *('metrics.json', 'per_image.csv', 'instances.json', 'instances.csv')
    }


@pytest.mark.slow
def test_two_processes_give_exactly_the_single_process_result(tmp_path):
    assert_two_processes_equal_one(tmp_path, NucleiInstanceMetric, random_samples(5), TYPED)

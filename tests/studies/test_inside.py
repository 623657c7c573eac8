import json
import math

import cv2
import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mmgfnuc.datasets.canonical import read_image, read_label_map
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Predictor
from mmgfnuc.models.necks import ContextFusionBlock
from mmgfnuc.studies import inside
from mmgfnuc.studies.inside import evenly_spaced, load_trained, measure_inside
from mmgfnuc.studies.storage import inside_file

from .trained_runs import FUSED, SMALL, runs_of, write_data, write_trained

IMAGES = ['val_0000', 'val_0001', 'val_0002']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Synthetic images, half of one of them ignored."""
    root = write_data(tmp_path_factory.mktemp('inside') / 'data')
    ignore = np.zeros((64, 64), np.uint8)
    ignore[:, 32:] = 255
    (root / 'ignore').mkdir(exist_ok=True)
    cv2.imwrite(str(root / 'ignore' / f'{IMAGES[0]}.png'), ignore)
    return root


def measured(root, data, arm, **changes):
    """Folder of an arm that looks trained, and what is found in it."""
    (run,) = runs_of(data, arm, **changes)
    folder = write_trained(root, run)
    measure_inside(folder)
    return folder, json.loads(inside_file(folder).read_text())


def predictions(folder, data, watch=()):
    """Foreground probabilities of the images; name of a part -> inputs and output of each of its calls."""
    predictor = Predictor(folder / 'iter_1.pth')
    calls = {name: [] for name in watch}
    for name in watch:
        part = predictor.model.get_submodule(name)
        part.register_forward_hook(lambda part, given, made, name=name: calls[name].append((given, made)))
    images = [read_image(data / 'images' / f'{image}.png') for image in IMAGES]
    return [predictor(image).foreground for image in images], calls


def test_calibration_is_that_of_all_pixels_that_count(tmp_path, data):
    folder, found = measured(tmp_path, data, {'unet': 'unet', 'parts': SMALL})
    probabilities, _ = predictions(folder, data)
    truths = [read_label_map(data / 'labels' / f'{image}.png') > 0 for image in IMAGES]
    probability, truth = (
        np.concatenate([maps[0][:, :32], maps[1], maps[2]], axis=None) for maps in (probabilities, truths)
    )
    calibration = found['calibration']
    assert sum(entry['count'] for entry in calibration['bins']) == 64 * 64 * 5 // 2
    frequency, confidence = calibration_curve(truth, probability.astype(float), n_bins=15)
    assert [entry['frequency'] for entry in calibration['bins']] == pytest.approx(frequency)
    assert [entry['confidence'] for entry in calibration['bins']] == pytest.approx(confidence)
    assert calibration['brier'] == pytest.approx(brier_score_loss(truth, probability))
    assert found['gates'] == []


@pytest.mark.slow
@pytest.mark.parametrize('fusion', ['paper', 'context', 'released'])
def test_gates_and_attention_are_those_of_the_prediction(tmp_path, data, fusion):
    folder, found = measured(tmp_path, data, FUSED | {'fusion': fusion})
    block = 'neck.blocks.2'
    _, calls = predictions(folder, data, [f'{block}.gate', f'{block}.attention'])
    values = torch.stack([made for _, made in calls[f'{block}.gate']]).numpy().astype(float)
    (level,) = found['gates']
    assert level['level'] == 2
    assert (level['mean'], level['std']) == pytest.approx((values.mean(), values.std()))
    assert np.histogram(values, level['edges'])[0].tolist() == level['counts']
    assert len(level['counts']) == 20
    assert sum(level['counts']) == len(IMAGES) * 16
    if fusion == 'released':
        assert (level['edges'][0], level['edges'][-1]) == (0, 1)
    else:
        assert (level['edges'][0], level['edges'][-1]) == pytest.approx((values.min(), values.max()))
    attention = load_trained(folder).model.get_submodule(f'{block}.attention')
    shares = [entropy_share(attention, *given[:2]) for given, _ in calls[f'{block}.attention']]
    assert level['entropy'] == pytest.approx(np.mean(shares), abs=1e-5)
    assert level['entropy'] < 1


@torch.no_grad()
def entropy_share(attention, query, key):
    """Mean entropy of the softmax over the keys of each head, by its definition."""
    q, k = (
        part.flatten(2).mT @ linear.weight.T + linear.bias
        for part, linear in ((query, attention.query), (key, attention.key))
    )
    size = q.shape[-1] // attention.num_heads
    entropies = []
    for q_head, k_head in zip(q.split(size, -1), k.split(size, -1), strict=True):
        weights = (q_head @ k_head.mT / math.sqrt(size)).softmax(-1)
        entropies.append(-torch.special.xlogy(weights, weights).sum(-1).mean())
    return float(np.mean(entropies)) / math.log(k.shape[1])


@pytest.mark.parametrize('fusion', ['concat', 'attention-only'])
def test_a_fusion_without_gate(tmp_path, data, fusion):
    assert measured(tmp_path, data, FUSED | {'fusion': fusion})[1]['gates'] == []


@pytest.mark.slow
@pytest.mark.parametrize('fusion', ['gated-multilevel', 'released-multilevel'])
def test_every_fused_level_has_its_gates(tmp_path, data, fusion):
    """The deepest level alone attends."""
    _, found = measured(tmp_path, data, FUSED | {'fusion': fusion})
    assert [(gate['level'], sum(gate['counts'])) for gate in found['gates']] == [(0, 12), (1, 24), (2, 48)]
    assert [gate['entropy'] is None for gate in found['gates']] == [True, True, False]


def test_the_same_bytes_again(tmp_path, data):
    """With the context of the partner image, which differs from that of the image."""
    folder, found = measured(tmp_path, data, FUSED | {'fusion': 'shuffled-context-image'})
    first = inside_file(folder).read_bytes()
    measure_inside(folder)
    assert inside_file(folder).read_bytes() == first
    _, own = measured(tmp_path, data, FUSED | {'fusion': 'context'})
    assert own['gates'][0]['counts'] != found['gates'][0]['counts']


def test_a_part_of_the_images_is_looked_at(tmp_path, data, monkeypatch):
    """The first, half of which is ignored, and the last."""
    monkeypatch.setattr(inside, 'MOST_IMAGES', 2)
    _, found = measured(tmp_path, data, FUSED | {'fusion': 'context'})
    assert sum(found['gates'][0]['counts']) == 2 * 16
    assert sum(entry['count'] for entry in found['calibration']['bins']) == 64 * 64 * 3 // 2


@pytest.mark.parametrize('length', [1, 31, 32, 33, 1000])
def test_images_are_spread_evenly(length):
    chosen = evenly_spaced(length, 32)
    assert len(chosen) == min(length, 32)
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    gaps = np.diff(chosen)
    assert not len(gaps) or np.ptp(gaps) <= 1


def test_weights_that_are_not_finite(tmp_path, data):
    (run,) = runs_of(data, {'unet': 'unet', 'parts': SMALL})
    folder = write_trained(tmp_path, run)
    checkpoint = torch.load(folder / 'iter_1.pth', weights_only=False)
    key = next(key for key in checkpoint['state_dict'] if key.startswith('backbone'))
    checkpoint['state_dict'][key].fill_(math.nan)
    torch.save(checkpoint, folder / 'iter_1.pth')
    with pytest.raises(UserError, match=f'{key} holds NaN or infinity'):
        measure_inside(folder)
    assert not inside_file(folder).exists()


def test_finite_gates_of_a_model_that_gives_nan(tmp_path, data, monkeypatch):
    """One of the 16 gates of each image is NaN."""
    explain = ContextFusionBlock.explain

    def broken(*arguments):
        found = explain(*arguments)
        found['gate'].flatten()[3] = math.nan
        found['attention_entropy'].fill_(math.nan)
        return found

    monkeypatch.setattr(ContextFusionBlock, 'explain', broken)
    _, found = measured(tmp_path, data, FUSED | {'fusion': 'context'})
    (level,) = found['gates']
    assert sum(level['counts']) == len(IMAGES) * 15
    assert math.isfinite(level['mean'])
    assert level['entropy'] is None
    assert found['calibration']['bins']

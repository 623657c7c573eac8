import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mmgfnuc.studies.calibration import Calibration


def counted(*parts, **settings):
    calibration = Calibration(**settings)
    for probability, foreground in parts:
        calibration.add(np.array(probability, np.float32), np.array(foreground, bool))
    return calibration.summary()


def drawn(size, seed=0):
    """Overconfident probabilities, as a network gives them."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.4, 0.6, size).astype(np.float32)
    return probability, rng.random(size) < 0.2 + 0.5 * probability


@pytest.mark.parametrize('num_bins', [5, 15])
def test_curve_and_brier_score_are_those_of_scikit_learn(num_bins):
    probability, foreground = drawn(5000)
    # Values on an edge, and both ends.
    probability[:4], foreground[:4] = [0, 0.2, 0.6, 1], [1, 1, 0, 0]
    found = counted((probability, foreground), num_bins=num_bins)
    frequency, confidence = calibration_curve(foreground, probability.astype(float), n_bins=num_bins)
    assert [entry['frequency'] for entry in found['bins']] == pytest.approx(frequency)
    assert [entry['confidence'] for entry in found['bins']] == pytest.approx(confidence)
    assert sum(entry['count'] for entry in found['bins']) == 5000
    assert found['brier'] == pytest.approx(brier_score_loss(foreground, probability))


def test_ece_by_hand():
    """Two bins: three pixels of mean 0.2, one of them a nucleus; one pixel of 0.9, a nucleus."""
    found = counted(([0.1, 0.2, 0.3, 0.9], [0, 1, 0, 1]), num_bins=2)
    assert found['bins'] == [
        {'confidence': pytest.approx(0.2), 'frequency': pytest.approx(1 / 3), 'count': 3},
        {'confidence': pytest.approx(0.9), 'frequency': 1.0, 'count': 1},
    ]
    assert found['ece'] == pytest.approx(3 / 4 * (1 / 3 - 0.2) + 1 / 4 * 0.1)
    assert found['brier'] == pytest.approx((0.1**2 + 0.8**2 + 0.3**2 + 0.1**2) / 4)


def test_images_add_up_to_the_set():
    probability, foreground = drawn(999)
    parts = zip(np.array_split(probability, 3), np.array_split(foreground, 3), strict=True)
    whole, added = counted((probability, foreground)), counted(*parts)
    assert [entry['count'] for entry in added['bins']] == [entry['count'] for entry in whole['bins']]
    assert (added['ece'], added['brier']) == pytest.approx((whole['ece'], whole['brier']))


def test_nothing_to_count():
    assert counted(([], [])) == {'bins': [], 'ece': None, 'brier': None}

import numpy as np
import pytest

from mmgfnuc.visualization.features import principal_colours


def test_colours_are_principal_components():
    """Against NumPy's singular value decomposition, up to the sign; the percentiles cut 2 % of the values."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 20, 25)) * np.array([9, 6, 4, 1, 1, 1])[:, None, None]
    (colours,) = principal_colours([features])
    rows = features.reshape(6, -1).T
    rows = rows - rows.mean(axis=0)
    components = rows @ np.linalg.svd(rows, full_matrices=False)[2][:3].T
    for channel in range(3):
        shown = colours.reshape(-1, 3)[:, channel].astype(float)
        inside = (shown > 0) & (shown < 255)
        assert inside.mean() == pytest.approx(0.96, abs=0.01)
        assert abs(np.corrcoef(shown[inside], components[inside, channel])[0, 1]) > 0.9999


def test_maps_that_are_shown_together_compare():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(5, 4, 4))
    after = np.concatenate([before, before[:, :2] + 3], axis=1)
    first, second = principal_colours([before, after])
    assert second.shape == (6, 4, 3)
    np.testing.assert_array_equal(first, second[:4])
    assert (first[:2] != second[4:]).any()


@pytest.mark.parametrize('features', [np.ones((4, 3, 3)), np.arange(9.0).reshape(1, 3, 3)])
def test_features_with_fewer_components_than_colours(features):
    (colours,) = principal_colours([features])
    assert colours.shape == (3, 3, 3)
    assert np.ptp(colours[..., 2]) == 0

import io

import numpy as np
import pytest
from PIL import Image, ImageFont

from mmgfnuc.studies.picture_pages import (
    Panel,
    draw_errors,
    draw_page,
    draw_truth,
    encode_jpeg,
    enlarge,
    principal_colours,
    wrap_line,
)
from mmgfnuc.visualization.outline import TRUTH_COLOUR
from mmgfnuc.visualization.panels import STATE_COLOURS

GREY = np.full((12, 12, 3), 100, np.uint8)
NOTHING = np.zeros((12, 12), bool)


def square(top, left, side=4):
    mask = NOTHING.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def test_errors_have_the_colours_of_their_pixels():
    """Truth and prediction overlap in 2 of 4 columns; another nucleus is ignored."""
    truth, prediction, ignore = square(1, 1), square(1, 3), square(7, 7)
    picture = draw_errors(GREY, truth, prediction, prediction.astype(int), ignore).astype(int)
    for state, where in {'matched': (2, 4), 'missed': (2, 1), 'invented': (2, 5)}.items():
        blended = 0.4 * (40 + 0.6 * 100) + 0.6 * np.array(STATE_COLOURS[state])
        np.testing.assert_array_equal(picture[where], blended.round())
    # The predicted nucleus is outlined: in the colour of each of its pixels, undiluted.
    np.testing.assert_array_equal(picture[1, 3], STATE_COLOURS['matched'])
    np.testing.assert_array_equal(picture[1, 6], STATE_COLOURS['invented'])
    np.testing.assert_array_equal(picture[8, 8], [50, 50, 50])
    np.testing.assert_array_equal(picture[11, 0], [100, 100, 100])


def test_truth_is_outlined():
    picture = draw_truth(GREY, square(1, 1).astype(int), square(7, 7))
    np.testing.assert_array_equal(picture[1, 1], TRUTH_COLOUR)
    np.testing.assert_array_equal(picture[2, 2], GREY[0, 0])
    np.testing.assert_array_equal(picture[8, 8], GREY[0, 0] // 2)


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


def test_every_pixel_has_the_colour_of_its_feature():
    """Features of 14 pixels cover more than an image of 32 x 20; every second pixel of one that is finer is shown."""
    picture = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(3, 2, 3)
    large = enlarge(picture, 14, (32, 20))
    assert large.shape == (32, 20, 3)
    for row, column in [(0, 0), (13, 13), (14, 13), (13, 14), (31, 19)]:
        np.testing.assert_array_equal(large[row, column], picture[row // 14, column // 14])
    fine = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(enlarge(fine, 0.5, (4, 4)), fine[1::2, 1::2])


def test_names_are_broken_where_they_may():
    font = ImageFont.load_default(14)
    name = 'eunet3+/shuffled-context-image/vit-tiny:random/semantic'
    lines = wrap_line(name, 200, font)
    assert ''.join(lines) == name
    assert len(lines) > 1
    assert all(font.getlength(line) <= 200 for line in lines)
    assert all(line.endswith('/') for line in lines[:-1])
    assert wrap_line('Dice 0.512', 200, font) == ['Dice 0.512']
    assert wrap_line('', 200, font) == ['']


def test_panels_stand_in_a_grid():
    """Five panels of 8 x 16 pixels, two in a row, drawn 32 pixels wide."""
    panels = [Panel(['x'], np.full((8, 16, 3), 40 * shade, np.uint8)) for shade in range(1, 6)]
    page = draw_page(panels, 2, 32, {'red': (255, 0, 0)})
    assert page.shape[1] == 2 * 32 + 3 * 10
    # Where a column has only the shade of a panel, and no text.
    found = [int(shade) for shade in page[:, 10 + 31, 0] if shade % 40 == 0]
    assert found == [40] * 16 + [120] * 16 + [200] * 16
    found = [int(shade) for shade in page[:, 10 + 32 + 10 + 31, 0] if shade % 40 == 0]
    assert found == [80] * 16 + [160] * 16
    assert (page == [255, 0, 0]).all(axis=2).any()
    assert draw_page(panels, 2, 32, {}).shape[0] < page.shape[0]


def test_quality_gives_way_to_size():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    large, small = encode_jpeg(noise, 10**6), encode_jpeg(noise, 12_000)
    assert len(small) <= 12_000 < len(large)
    assert encode_jpeg(noise, 1)
    assert Image.open(io.BytesIO(small)).size == (128, 128)

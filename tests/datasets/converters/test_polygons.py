"""Polygons become the pixels whose centres they hold."""

import numpy as np
import pytest
import shapely
from matplotlib.path import Path as MatplotlibPath
from scipy.spatial import ConvexHull

from mmgfnuc.datasets.converters import polygons
from mmgfnuc.datasets.converters.polygons import fill, rasterise
from mmgfnuc.errors import UserError

from .features import box


def random_outlines(count, shape, rng):
    centres = rng.uniform(-4, np.array(shape[::-1]) + 4, (count, 2))
    clouds = [centre + rng.normal(0, 5, (12, 2)) for centre in centres]
    return [cloud[ConvexHull(cloud).vertices] for cloud in clouds]


def test_pixel_centres_inside_as_matplotlib_finds_them_and_the_first_polygon_keeps_shared_pixels():
    shape = (37, 53)
    outlines = random_outlines(40, shape, np.random.default_rng(0))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    expected = np.zeros(shape, np.int32)
    for number, outline in enumerate(outlines, start=1):
        inside = MatplotlibPath(outline).contains_points(centres).reshape(shape)
        expected[inside & (expected == 0)] = number
    labels = rasterise(outlines, shape)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(labels)) > 30


def test_order_decides_overlaps_and_a_covered_polygon_keeps_its_number():
    wide, narrow, other = box(0.5, 0.5, 6.5, 4.5), box(2.5, 1.5, 4.5, 3.5), box(5.5, 0.5, 8.5, 4.5)
    labels = rasterise([narrow, wide, other], (6, 10))
    assert (labels == 1).sum() == 2 * 2
    assert (labels == 2).sum() == 6 * 4 - 4
    assert (labels == 3).sum() == 3 * 4 - 4
    np.testing.assert_array_equal(np.unique(rasterise([wide, narrow, other], (6, 10))), [0, 1, 3])


def test_points_on_the_border_belong_to_the_polygon():
    labels = rasterise([box(1, 2, 3, 4)], (6, 6))
    np.testing.assert_array_equal(np.argwhere(labels), [(r, c) for r in (2, 3, 4) for c in (1, 2, 3)])


def test_a_polygon_is_cut_at_the_image_and_a_closed_ring_equals_an_open_one():
    ring = box(-20.5, 1.5, 2.5, 30.5)
    labels = rasterise([ring], (5, 6))
    np.testing.assert_array_equal(labels > 0, np.outer([0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]))
    np.testing.assert_array_equal(rasterise([np.vstack([ring, ring[:1]])], (5, 6)), labels)
    assert not rasterise([box(50, 50, 60, 60)], (5, 6)).any()
    assert rasterise([], (5, 6)).shape == (5, 6)


@pytest.mark.parametrize(
    ('ring', 'fault'),
    [
        (np.zeros((2, 2)), '2 points enclose nothing'),
        (np.zeros((4, 3)), 'not .points, 2.'),
        (np.array([[0, 0], [1, np.nan], [1, 1.0]]), 'not finite'),
        (np.array([[0, 0], [1e30, 0], [1, 1.0]]), 'beyond'),
    ],
)
def test_what_is_no_polygon_is_an_error(ring, fault):
    with pytest.raises(UserError, match=f'polygon 1: .*{fault}'):
        rasterise([box(0, 0, 3, 3), ring], (5, 5))


@pytest.mark.parametrize('step', [1, 2, 0])
def test_borders_through_pixel_centres_as_geos_decides_them(step):
    """Corners at whole pixels, at halves, anywhere: shapely's exact predicates are the other source."""
    shape, rng = (30, 30), np.random.default_rng(step)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    compared = 0
    for _ in range(150):
        count = rng.integers(3, 7)
        ring = rng.integers(-5 * step, 35 * step, (count, 2)) / step if step else rng.normal(15, 12, (count, 2))
        polygon = shapely.Polygon(ring)
        if polygon.is_valid:
            expected = shapely.intersects_xy(polygon, columns.ravel(), rows.ravel()).reshape(shape)
            np.testing.assert_array_equal(rasterise([ring], shape) > 0, expected)
            compared += 1
    assert compared > 30


def test_an_outline_of_very_many_points_is_filled_as_one_of_few(monkeypatch):
    """Also where its crossings are worked through in parts."""
    corners = box(1.2, 2.3, 17.4, 12.6)
    steps = np.linspace(0, 1, 5000)[:, None]
    fine = np.concatenate([a + steps * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])
    monkeypatch.setattr(polygons, 'CROSSINGS', 7)
    np.testing.assert_array_equal(rasterise([fine[::10]], (20, 20)), rasterise([corners], (20, 20)))
    monkeypatch.undo()
    np.testing.assert_array_equal(rasterise([fine], (20, 20)), rasterise([corners], (20, 20)))


def test_fill_gives_the_part_of_the_image_that_is_touched():
    place, mask = fill(box(-4, 3, 2, 40), (10, 12))
    assert place == (slice(3, 10), slice(0, 3))
    assert mask.all()
    assert fill(box(20, 20, 30, 30), (10, 12))[1].size == 0

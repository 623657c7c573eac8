"""Polygons become the pixels whose centres they hold, and ImageScope files become polygons or one clear error."""

import numpy as np
import pytest
from matplotlib.path import Path as MatplotlibPath
from scipy.spatial import ConvexHull

from mmgfnuc.datasets.canonical import BadFileError
from mmgfnuc.datasets.converters.polygons import Region, draw_regions, rasterise, read_mpp, read_regions
from mmgfnuc.errors import UserError

BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>\n<Annotations>&b;</Annotations>'
OUTSIDE_ENTITY = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n<Annotations>&a;</Annotations>'


def box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


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


def test_rings_are_parts_or_holes():
    outer, hole, island, apart = (
        box(0.5, 0.5, 9.5, 9.5), box(2.5, 2.5, 7.5, 7.5), box(4.5, 4.5, 5.5, 5.5), box(10.5, 0.5, 12.5, 2.5)
    )  # fmt: skip
    labels = rasterise([[outer, hole, island, apart]], (12, 14))
    assert (labels == 1).sum() == 81 - 25 + 1 + 4
    assert labels[3, 3] == 0
    assert labels[5, 5] == labels[1, 11] == 1


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


def test_outlines_layers_and_pixel_size_of_an_imagescope_file(tmp_path, write_imagescope):
    first, second, third = box(1, 1, 4, 4), box(5.25, 5.5, 7, 8), box(0, 0, 2, 2)
    layers = {'Epithelial': [first, second], 'Lymphocyte ': [third], 'Empty': []}
    path = write_imagescope(tmp_path / 'a.xml', layers)
    regions = read_regions(path)
    assert [region.name for region in regions] == ['Epithelial', 'Epithelial', 'Lymphocyte']
    for region, points in zip(regions, (first, second, third), strict=True):
        np.testing.assert_array_equal(region.points, points)
    assert read_mpp(path) == 0.252
    assert read_mpp(write_imagescope(tmp_path / 'b.xml', {}, mpp=None)) is None
    assert read_mpp(write_imagescope(tmp_path / 'c.xml', {}, mpp=0)) is None


def test_stray_clicks_are_left_out(tmp_path, write_imagescope):
    outlines = [[], [(1, 1)], [(1, 1), (5, 5)], box(1, 1, 4, 4)]
    path = write_imagescope(tmp_path / 'a.xml', {'Description': outlines})
    assert [len(region.points) for region in read_regions(path)] == [4]


def test_coordinates_of_imagescope_count_from_the_corner_of_the_image(tmp_path):
    labels = draw_regions(tmp_path / 'a.xml', [Region('', box(0, 0, 4, 2))], (5, 6))
    np.testing.assert_array_equal(np.argwhere(labels), [(r, c) for r in (0, 1) for c in (0, 1, 2, 3)])


@pytest.mark.parametrize('outline', [box(-9, 1, 0, 4), box(6, 1, 9, 4), box(1, 5, 4, 9), box(1, -9, 4, -2)])
def test_an_outline_outside_of_the_image_is_an_error(tmp_path, outline):
    with pytest.raises(BadFileError, match=r'a\.xml: outline 2 lies outside of the image \(5, 6\)'):
        draw_regions(tmp_path / 'a.xml', [Region('', box(0, 0, 4, 2)), Region('', outline)], (5, 6))


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        (BOMB, 'EntitiesForbidden'),
        (OUTSIDE_ENTITY, 'EntitiesForbidden'),
        ('', 'unreadable XML'),
        ('<Annotations><Annotation>', 'unreadable XML'),
        ('<?xml version="1.0" encoding="no-such"?><Annotations/>', 'unreadable XML'),
        ('<html/>', 'outermost tag is <html>'),
        ('\x00\x01', 'unreadable XML'),
    ],
)
def test_what_is_no_imagescope_file_is_an_error(tmp_path, text, fault):
    path = tmp_path / 'a.xml'
    path.write_text(text)
    with pytest.raises(BadFileError, match=rf'a\.xml: .*{fault}'):
        read_regions(path)


@pytest.mark.parametrize('text', [BOMB, '<html/>', '', '<Annotations MicronsPerPixel="wide"/>'])
def test_a_pixel_size_that_cannot_be_read_is_an_error(tmp_path, text):
    path = tmp_path / 'a.xml'
    path.write_text(text)
    with pytest.raises(BadFileError, match=r'a\.xml'):
        read_mpp(path)


@pytest.mark.parametrize('vertex', ['<Vertex X="1"/>', '<Vertex X="1" Y="high"/>', '<Vertex X="1" Y="nan"/>'])
def test_a_point_without_place_is_an_error(tmp_path, vertex):
    path = tmp_path / 'a.xml'
    path.write_text(
        '<Annotations><Annotation><Regions><Region><Vertices/></Region>'
        f'<Region><Vertices>{vertex * 3}</Vertices></Region></Regions></Annotation></Annotations>'
    )
    with pytest.raises(BadFileError, match=r'region 2 of layer .* has a point'):
        read_regions(path)

"""Outlines along pixel edges: by hand, for random maps, for real ones, and back by the reader of QuPath's files."""

import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.datasets.converters import CONVERTERS, convert
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.files import write_json
from mmgfnuc.inference.geojson import feature_collection, trace_polygons
from mmgfnuc.inference.results import write_png

CLASSES, PALETTE = ('background', 'epithelial', 'lymphocyte'), [[0, 0, 0], [0, 158, 115], [230, 159, 0]]


def label_map(*rows):
    return np.array([[int(digit) for digit in row] for row in rows])


HOLES_TOUCH = label_map('1111', '1011', '1101', '1111')
HOLE_TOUCHES_OUTSIDE = label_map('0111', '1011', '1111')
PIECES_TOUCH = label_map('10', '01')
ISLAND_IN_A_HOLE = label_map('22222', '20002', '20202', '20002', '22222')


def signed_area(ring):
    """Shoelace formula: positive if the ring turns from x to y."""
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def covered(polygon, shape):
    """Pixels whose centres lie inside of the first ring and of no other one, as scikit-image sees it."""
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    outer, *holes = (points_in_poly(centres, ring).reshape(shape) for ring in polygon)
    return outer & ~np.any(holes, axis=0) if holes else outer


def assert_outlined(labels):
    """Rings are closed, simple and turn the right way; areas are exact, and the pixels those of the nuclei."""
    nuclei = trace_polygons(labels)
    assert list(nuclei) == [number for number in np.unique(labels).tolist() if number]
    for number, polygons in nuclei.items():
        pixels = labels == number
        found = np.zeros(labels.shape, int)
        for outer, *holes in polygons:
            for ring in (outer, *holes):
                assert ring[0] == ring[-1]
                assert len(set(ring)) == len(ring) - 1
                steps = np.diff(np.array(ring), axis=0)
                # Each corner is a turn: steps go along x and y in turn.
                assert ((steps == 0).sum(1) == 1).all()
                assert (np.argmax(steps != 0, axis=1) != np.argmax(np.roll(steps, 1, axis=0) != 0, axis=1)).all()
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
            found += covered([outer, *holes], labels.shape)
        np.testing.assert_array_equal(found, pixels)
        assert sum(signed_area(ring) for polygon in polygons for ring in polygon) == pixels.sum()


def assert_valid(labels):
    """By the rules of the OGC, as shapely (GEOS) reads them."""
    for number, polygons in trace_polygons(labels).items():
        shape = shapely.MultiPolygon([(outer, holes) for outer, *holes in polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(labels == number)


def test_squares_by_hand():
    assert trace_polygons(label_map('000', '033')) == {3: [[[(1, 1), (3, 1), (3, 2), (1, 2), (1, 1)]]]}
    first, second = trace_polygons(PIECES_TOUCH)[1]
    assert first == [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]
    assert second == [[(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]]
    assert trace_polygons(label_map('12')).keys() == {1, 2}
    assert trace_polygons(np.zeros((3, 0), int)) == trace_polygons(np.zeros((2, 2), int)) == {}


def test_holes_by_hand():
    (polygon,) = trace_polygons(HOLES_TOUCH)[1]
    outer, first, second = polygon
    assert outer == [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)]
    assert set(first) == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert set(second) == {(2, 2), (3, 2), (3, 3), (2, 3)}
    (polygon,) = trace_polygons(HOLE_TOUCHES_OUTSIDE)[1]
    assert len(polygon) == 2
    assert set(polygon[1]) == {(1, 1), (2, 1), (2, 2), (1, 2)}
    outside, island = trace_polygons(ISLAND_IN_A_HOLE)[2]
    assert len(outside) == 2
    assert len(island) == 1


MAPS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 1, 1, 5]))
)


@settings(max_examples=300, deadline=None)
@example(HOLES_TOUCH)
@example(HOLE_TOUCHES_OUTSIDE)
@example(PIECES_TOUCH)
@example(ISLAND_IN_A_HOLE)
@given(MAPS)
def test_any_map(labels):
    assert_outlined(labels)
    assert_valid(labels)


@pytest.mark.data
@pytest.mark.skipif('MMGFNUC_DATA' not in os.environ, reason='needs real images: set MMGFNUC_DATA')
def test_real_maps_are_valid():
    files = sorted((Path(os.environ['MMGFNUC_DATA']) / 'nuinsseg').glob('*/label masks modify/*.tif'))
    assert len(files) > 100
    for file in files[::20]:
        assert_valid(read_label_map(file))


def collection(labels, types, measures=None, name='tile'):
    count = np.unique(labels[labels > 0]).size
    measures = measures or [{'area_px': 1}] * count
    return feature_collection(name, trace_polygons(labels), np.array(types), CLASSES, PALETTE, measures)


def test_features_are_what_qupath_reads():
    content = collection(label_map('1022', '0000', '3000', '0300'), [2, 0, 1], [{'area_px': 1, 'confidence': 0.5}] * 3)
    assert content['type'] == 'FeatureCollection'
    first, second, third = content['features']
    assert first == {
        'type': 'Feature',
        'id': first['id'],
        'geometry': {'type': 'Polygon', 'coordinates': [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]},
        'properties': {
            'objectType': 'detection',
            'name': '1',
            'classification': {'name': 'lymphocyte', 'color': [230, 159, 0]},
            'measurements': {'area_px': 1, 'confidence': 0.5},
        },
    }
    assert 'classification' not in second['properties']
    assert third['geometry']['type'] == 'MultiPolygon'
    assert np.shape(third['geometry']['coordinates']) == (2, 1, 5, 2)


def test_ids_are_unique_and_the_same_in_every_run():
    labels = label_map('102', '000', '304')
    ids = [feature['id'] for feature in collection(labels, [1] * 4)['features']]
    assert ids == [feature['id'] for feature in collection(labels, [1] * 4)['features']]
    others = [feature['id'] for feature in collection(labels, [1] * 4, name='other')['features']]
    assert len({uuid.UUID(name) for name in ids + others}) == 8


@pytest.mark.parametrize('types', [1, 2])
def test_the_reader_of_qupath_files_gives_the_same_nuclei(tmp_path, types):
    """A written file, prepared as a dataset: label map and types come back pixel by pixel."""
    image, labels = render_tile(np.random.default_rng(2), 96)[:2]
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    labels[labels == 3] = 2  # a nucleus in two pieces
    kinds = np.arange(np.unique(labels).size - 1) % types + 1
    write_png(tmp_path / 'images' / 'tile.png', image)
    content = collection(labels, kinds)
    write_json(tmp_path / 'annotations' / 'tile.geojson', content)
    convert(CONVERTERS['geojson'], tmp_path, tmp_path / 'out')
    numbers = np.unique(labels)
    back = read_label_map(tmp_path / 'out' / 'labels' / 'tile.png')
    np.testing.assert_array_equal(numbers[back], labels)
    assert json.loads((tmp_path / 'annotations' / 'tile.geojson').read_text())['type'] == 'FeatureCollection'
    if types == 2:
        read = read_label_map(tmp_path / 'out' / 'types' / 'tile.png')
        np.testing.assert_array_equal(read, np.append(0, kinds)[back])

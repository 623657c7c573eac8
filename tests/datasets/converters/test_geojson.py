"""Sources of users: GeoJSON, right and wrong, in tiny hand-made folders."""

import gzip
import json
import os

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.inference.geojson import feature_collection, trace_polygons

from .features import add_features, closed, feature
from .own_source import CONVERTERS, add_image, convert, fault, instances, labels_of, prepare, types_of


class TestGeoJSON:
    def test_polygons_with_holes_and_types(self, source, tmp_path):
        ring = feature('Polygon', [closed(1, 1, 8, 8), closed(3, 3, 5, 5)], 'tumour')
        parts = feature('MultiPolygon', [[closed(9, 1, 12, 4)], [closed(9, 6, 15, 11), closed(11, 7, 13, 9)]], 'immune')
        add_features(source, [ring, parts])
        add_features(source, [feature('Polygon', [closed(0, 0, 4, 4)], 'stroma')], 'b', '.json')
        out = prepare('geojson', source, tmp_path / 'out')
        nuclei = instances(np.s_[1:8, 1:8], np.s_[1:4, 9:12])
        nuclei[6:11, 9:15] = 2
        nuclei[3:5, 3:5] = nuclei[7:9, 11:13] = 0
        np.testing.assert_array_equal(labels_of(out), nuclei)
        np.testing.assert_array_equal(types_of(out), np.array(['background', 'tumour', 'immune'])[nuclei])
        np.testing.assert_array_equal(types_of(out, 'b') == 'stroma', instances(np.s_[0:4, 0:4]) > 0)
        assert canonical.read_meta(out)['classes'] == ['background', 'immune', 'stroma', 'tumour']
        assert validate_dataset(out) == []

    @pytest.mark.parametrize('name', [None, 'nucleus'])
    def test_without_several_names_the_set_is_binary(self, source, tmp_path, name):
        add_features(source, [feature('Polygon', [closed(1, 1, 8, 8)], name)])
        out = prepare('geojson', source, tmp_path / 'out')
        assert canonical.read_meta(out)['classes'] == canonical.CLASSES
        np.testing.assert_array_equal(labels_of(out), instances(np.s_[1:8, 1:8]))

    def test_a_list_of_features_and_a_single_one(self, source, tmp_path):
        nucleus = feature('Polygon', [closed(1, 1, 8, 8)])
        add_features(source, json.dumps([nucleus]), 'a')
        add_features(source, json.dumps(nucleus), 'b')
        add_features(source, [], 'c')
        out = prepare('geojson', source, tmp_path / 'out')
        assert [canonical.count_nuclei(labels_of(out, stem)) for stem in 'abc'] == [1, 1, 0]

    def test_of_a_cell_the_nucleus_is_taken(self, source, tmp_path):
        nucleus = {'type': 'Polygon', 'coordinates': [closed(3, 3, 5, 5)]}
        add_features(source, [feature('Polygon', [closed(1, 1, 8, 8)], nucleusGeometry=nucleus)])
        np.testing.assert_array_equal(
            labels_of(prepare('geojson', source, tmp_path / 'out')), instances(np.s_[3:5, 3:5])
        )

    def test_points_beyond_x_and_y_are_left_out(self, source, tmp_path):
        add_features(source, [feature('Polygon', [[[*point, 0] for point in closed(1, 1, 8, 8)]])])
        np.testing.assert_array_equal(
            labels_of(prepare('geojson', source, tmp_path / 'out')), instances(np.s_[1:8, 1:8])
        )

    def test_every_bad_file_is_reported_at_once(self, source, tmp_path):
        nucleus = feature('Polygon', [closed(1, 1, 8, 8)])
        faults = {
            'point': ([feature('Point', [3, 3], 'tumour')], 'feature 1: a Point, no polygon'),
            'few': (
                [feature('Polygon', [[[1, 1], [5, 5], [1, 1]]], 'immune')],
                'feature 1: less than 3 different points',
            ),
            'ragged': ([feature('Polygon', [[[1, 1], [5], [1, 4]]], 'immune')], 'no list of x and y'),
            'unnamed': ([nucleus], 'feature 1 of 1 without classification'),
            'text': ('{"features": [', 'no JSON'),
            'foreign': ('{"shapes": []}', 'no features as QuPath writes them'),
            'odd': ([nucleus | {'properties': {'classification': 5}}], 'its classification is not a name'),
            'list': ([nucleus | {'properties': ['tumour']}], 'no feature of GeoJSON'),
            'away': ([feature('Polygon', [closed(50, 1, 58, 8)], 'immune')], 'feature 1: outside of the image'),
            'cell': (
                [feature('Polygon', [closed(1, 1, 8, 8)], 'immune', 'cell')],
                'without the outline of its nucleus',
            ),
        }
        add_features(source, [feature('Polygon', [closed(1, 1, 8, 8)], name) for name in ('tumour', 'immune')], 'good')
        for stem, (content, _) in faults.items():
            add_features(source, content, stem)
        add_image(source, 'alone')
        add_image(source, 'pipe')
        os.mkfifo(source / 'annotations' / 'pipe.geojson')
        first, *lines = fault('geojson', source, tmp_path).splitlines()
        faults |= {'alone': ('', 'no alone (.geojson .json'), 'pipe': ('', 'a folder, named pipe or device')}
        assert first == f'{len(faults)} bad source files, nothing was written:'
        for stem, (_, what) in faults.items():
            assert sum(f'{stem}.' in line and what in line for line in lines) == 1, stem

    def test_a_region_is_no_nucleus_where_some_were_detected(self, source, tmp_path):
        """QuPath exports the annotation in which it looked along with what it found."""
        add_image(source)
        region = feature('Polygon', [closed(0, 0, 16, 12)])
        found = feature('Polygon', [closed(2, 3, 6, 8)])
        region['properties']['objectType'], found['properties']['objectType'] = 'annotation', 'detection'
        add_features(source, [region, found])
        out = prepare('geojson', source, tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(out) > 0, instances(np.s_[3:8, 2:6]) > 0)

    def test_background_is_no_nucleus_type(self, source, tmp_path):
        add_image(source)
        add_features(source, [feature('Polygon', [closed(2, 3, 6, 8)], 'background')] * 2)
        text = fault('geojson', source, tmp_path)
        assert 'feature 1, feature 2 of 2 classified as background' in text

    @pytest.mark.parametrize('name', [None, 'background'])
    def test_one_nucleus_without_type_costs_no_other(self, source, tmp_path, name):
        """Its area is ignored, where no other nucleus is."""
        content = [feature('Polygon', [closed(0, 0, 4, 4)], name)]
        content += [feature('Polygon', [closed(*c)], n) for c, n in (((3, 0, 8, 6), 'one'), ((9, 0, 12, 4), 'two'))]
        add_features(source, content)
        report = convert(CONVERTERS['geojson'], source, tmp_path / 'out')
        types = np.array(['background', 'one', 'two'])[instances(np.s_[:6, 3:8], np.s_[:4, 9:12])]
        np.testing.assert_array_equal(types_of(tmp_path / 'out'), types)
        ignored = canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png')
        np.testing.assert_array_equal(ignored, instances(np.s_[:4, :3]) > 0)
        (notice,) = report.notices
        assert notice.startswith('outlines left out, ')
        assert notice.endswith(': 1 (a: feature 1)')

    @pytest.mark.parametrize(
        ('kind', 'coordinates'),
        [
            ('MultiPolygon', [[closed(0, 0, 4, 4)], [[[9, 9], [10, 10]]]]),
            ('MultiPolygon', [[[[9, 9], [10, 10]]], [closed(0, 0, 4, 4)]]),
            ('MultiPolygon', [[closed(0, 0, 4, 4)], 5]),
            ('Polygon', [closed(0, 0, 4, 4), [[1, 'x']]]),
        ],
    )
    def test_sound_parts_of_a_broken_outline_are_ignored(self, source, tmp_path, kind, coordinates):
        add_features(source, [feature(kind, coordinates), feature('Polygon', [closed(6, 0, 9, 4)])])
        out = prepare('geojson', source, tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(out) > 0, instances(np.s_[:4, 6:9]) > 0)
        ignored = canonical.read_ignore(out / 'ignore' / 'a.png')
        np.testing.assert_array_equal(ignored, instances(np.s_[:4, :4]) > 0)

    def test_many_nuclei_in_one_outline_are_told(self, source, tmp_path):
        """Most of a file being such, it holds one outline for each class, and is refused."""
        parts = [[closed(4 * k, 0, 4 * k + 2, 2)] for k in range(4)]
        many, plain = (
            feature('MultiPolygon', parts),
            feature('MultiPolygon', [[closed(1, 5, 4, 8)], [closed(6, 5, 9, 8)]]),
        )
        add_features(source, [many, plain])
        (notice,) = convert(CONVERTERS['geojson'], source, tmp_path / 'out').notices
        assert 'in more than 3 parts' in notice
        assert notice.endswith(': 1 (a: feature 1 (4 parts))')
        add_features(source, [many, many | {'geometry': {'type': 'MultiPolygon', 'coordinates': parts[:1] * 9}}, many])
        (tmp_path / 'second').mkdir()
        with pytest.raises(UserError, match=r'a\.geojson: 2 of 3 outlines lie in many parts.*Split annotations'):
            prepare('geojson', source, tmp_path / 'second' / 'out')

    def test_a_lone_area_that_is_taken_for_a_nucleus_is_told(self, source, tmp_path):
        """In tiny images a nucleus may be as large."""
        for stem, size in (('a', 60), ('b', 12)):
            add_features(source, [feature('Polygon', [closed(0, 0, size, 12)])], stem)
            Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(source / 'images' / f'{stem}.png')
        add_features(source, [feature('Polygon', [closed(0, 0, 60, 60)])])
        (notice,) = convert(CONVERTERS['geojson'], source, tmp_path / 'out').notices
        assert 'Region*' in notice
        assert notice.endswith(': 1 (a: feature 1)')

    def test_bad_outlines_cost_no_others(self, source, tmp_path):
        """Each is named, of all files together, and the whole list is written."""
        nucleus = feature('Polygon', [closed(2, 3, 6, 8)])
        broken = [
            feature('Polygon', []),
            feature('MultiPolygon', [[], []]),
            nucleus | {'geometry': None},
            None,
            feature('Polygon', [[[1, 1], [5, 'x'], [1, 4]]]),
            feature('Polygon', [[[1, 1], [10**399, 5], [1, 4]]]),
            feature('Polygon', [closed(20, 20, 24, 24)]),
            feature('LineString', [[1, 1], [5, 5]]),
        ]
        for stem in 'abcde':
            add_features(source, [*broken, nucleus], stem)
        report = convert(CONVERTERS['geojson'], source, tmp_path / 'out')
        for stem in 'abcde':
            np.testing.assert_array_equal(labels_of(tmp_path / 'out', stem) > 0, instances(np.s_[3:8, 2:6]) > 0)
        assert sum(int(line.rsplit(' (', 1)[0].rsplit(': ', 1)[1]) for line in report.notices) == 5 * len(broken)
        assert all('left out' in line and '2 more images, all in notices/' in line for line in report.notices)
        assert any('outside of the image: 5 (a: feature 7; b: feature 7; ' in line for line in report.notices)
        written = json.loads((tmp_path / 'out' / 'notices' / 'e.json').read_text())
        assert sorted(name for names in written.values() for name in names) == [f'feature {i}' for i in range(1, 9)]
        assert validate_dataset(tmp_path / 'out') == []

    def test_packed_files_and_names_with_the_suffix_of_the_image(self, source, tmp_path):
        content = json.dumps([feature('Polygon', [closed(2, 3, 6, 8)])])
        names = {'a': 'a.geojson.gz', 'b': 'b.png.geojson', 'c': 'c.png.json.GZ', 'd.e': 'd.e.geojson'}
        for stem, name in names.items():
            add_image(source, stem)
            packed = name.lower().endswith('gz')
            (source / 'annotations').mkdir(exist_ok=True)
            (source / 'annotations' / name).write_bytes(
                gzip.compress(content.encode()) if packed else content.encode('utf-16')
            )
        out = prepare('geojson', source, tmp_path / 'out')
        assert [canonical.count_nuclei(labels_of(out, stem)) for stem in names] == [1] * 4

    @pytest.mark.filterwarnings('error:.*not read')
    @pytest.mark.parametrize('name', ['a.geojson', 'a.png.geojson', 'a.geojson.gz'])
    def test_files_that_lie_beside_the_images(self, source, tmp_path, name):
        add_image(source)
        content = json.dumps(feature('Polygon', [closed(2, 3, 6, 8)])).encode()
        (source / 'images' / name).write_bytes(gzip.compress(content) if name.endswith('gz') else content)
        for root, folder in ((source, 'images'), (source / 'images', '.')):
            out = prepare('geojson', root, tmp_path / f'out_{folder}', images=folder, annotations=folder)
            assert canonical.count_nuclei(labels_of(out)) == 1

    def test_two_files_for_one_image(self, source, tmp_path):
        for suffix in ('.geojson', '.png.json'):
            add_features(source, [], suffix=suffix)
        assert 'belong to one image' in fault('geojson', source, tmp_path)

    @pytest.mark.parametrize(
        ('content', 'what'),
        [
            (gzip.compress(b'[' + b' ' * 10**8 + b']'), 'too much for its size'),
            (gzip.compress(b'[]')[:-6], 'no JSON'),
            (b'[]', 'no JSON'),
        ],
        ids=['bomb', 'cut off', 'not packed'],
    )
    def test_packed_files_that_are_bombs_or_damaged(self, source, tmp_path, content, what):
        add_features(source, [], suffix='.geojson.gz')
        (source / 'annotations' / 'a.geojson.gz').write_bytes(content)
        first, line = fault('geojson', source, tmp_path).splitlines()
        assert 'a.geojson.gz: ' in line
        assert what in line


def test_what_we_export_comes_back_pixel_by_pixel(source, tmp_path):
    """Nuclei in several pieces, with holes, that touch: out as GeoJSON for QuPath, and in again, with their types."""
    labels = np.kron(np.random.default_rng(0).integers(0, 5, (3, 4)), np.ones((4, 4), int))
    labels[1::4, 1::4] = 0
    types = np.array([1, 2, 2, 1])
    classes = ['background', 'one', 'two']
    content = feature_collection('a', trace_polygons(labels), types, classes, [[0, 0, 0]] * 3, [{'Area px^2': 1.0}] * 4)
    add_features(source, json.dumps(content))
    out = prepare('geojson', source, tmp_path / 'out')
    np.testing.assert_array_equal(labels_of(out), labels)
    np.testing.assert_array_equal(types_of(out), np.array(classes)[np.array([0, *types])[labels]])

"""Sources of users: COCO and GeoJSON, right and wrong ones, in tiny hand-made folders."""

import json

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.outlines import uncompressed
from mmgfnuc.datasets.nuclei import NucleiDataset
from mmgfnuc.datasets.validate import validate_dataset

from .own_source import SIZE, add_image, fault, instances, labels_of, prepare, types_of


def rectangle(left, top, right, bottom):
    """Corners of a rectangle of pixels, `right` and `bottom` excluded."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


class Coco:
    """A COCO JSON, built entry by entry."""

    def __init__(self, source):
        self.source = source
        self.content = {
            'images': [],
            'annotations': [],
            'categories': [{'id': 5, 'name': 'tumour'}, {'id': 2, 'name': 'lymphocyte'}],
        }

    def image(self, stem='a', number=1, **fields):
        add_image(self.source, stem)
        entry = {'id': number, 'file_name': f'{stem}.png', 'height': 12, 'width': 16}
        self.content['images'].append(entry | fields)

    def nucleus(self, segmentation, category=5, image=1, **fields):
        number = len(self.content['annotations']) + 10
        entry = {'id': number, 'image_id': image, 'category_id': category, 'segmentation': segmentation}
        self.content['annotations'].append(entry | fields)

    def polygon(self, *rectangles, **fields):
        self.nucleus([np.ravel(rectangle(*corners)).tolist() for corners in rectangles], **fields)

    def prepare(self, out, **options):
        self.write()
        return prepare('coco', self.source, out, **options)

    def write(self):
        (self.source / 'annotations.json').write_text(json.dumps(self.content))

    def fault(self, tmp_path):
        self.write()
        return fault('coco', self.source, tmp_path)


@pytest.fixture
def coco(source):
    return Coco(source)


class TestCoco:
    def test_polygons_and_both_forms_of_rle(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4))
        # Columns of 12 pixels: the nucleus has rows 4 to 7 of columns 1 and 2.
        coco.nucleus({'size': [12, 16], 'counts': [16, 4, 8, 4, 160]}, category=2)
        # The same in columns 5 and 6, at rows 4 to 7: runs 64, 4, 8, 4 (as 0: that of two before), 112 (as 104 more).
        coco.nucleus({'size': [12, 16], 'counts': 'P248' + '0' + 'X3'}, category=5)
        out = coco.prepare(tmp_path / 'out')
        nuclei = instances(np.s_[1:4, 1:5], np.s_[4:8, 1:3], np.s_[4:8, 5:7])
        np.testing.assert_array_equal(labels_of(out), nuclei)
        np.testing.assert_array_equal(types_of(out), np.array(['background', 'tumour', 'lymphocyte', 'tumour'])[nuclei])
        assert canonical.read_meta(out)['classes'] == ['background', 'tumour', 'lymphocyte']
        assert validate_dataset(out) == []

    def test_types_reach_the_reader(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4), category=2)
        sample = NucleiDataset(coco.prepare(tmp_path / 'out'), types=True)[0]
        np.testing.assert_array_equal(np.unique(sample['type_map']), [0, 2])

    def test_parts_of_one_nucleus_are_one_even_if_they_overlap(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4), (3, 2, 8, 6), (10, 10, 12, 12))
        expected = instances(np.s_[1:4, 1:5])
        expected[2:6, 3:8] = expected[10:12, 10:12] = 1
        np.testing.assert_array_equal(labels_of(coco.prepare(tmp_path / 'out')), expected)

    def test_the_first_nucleus_keeps_shared_pixels(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4))
        coco.polygon((3, 2, 8, 6))
        expected = instances(np.s_[0:0, 0:0], np.s_[2:6, 3:8])
        expected[1:4, 1:5] = 1
        np.testing.assert_array_equal(labels_of(coco.prepare(tmp_path / 'out')), expected)

    def test_a_crowd_is_ignored(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4))
        coco.nucleus({'size': [12, 16], 'counts': [16, 4, 8, 4, 160]}, iscrowd=1)
        out = coco.prepare(tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(out), instances(np.s_[1:4, 1:5]))
        ignored = canonical.read_ignore(canonical.sample_paths(out, 'a').ignore)
        np.testing.assert_array_equal(ignored, instances(np.s_[4:8, 1:3]) > 0)

    @pytest.mark.parametrize('polygons', [True, False])
    def test_a_crowd_takes_no_pixel_from_a_nucleus(self, coco, tmp_path, polygons):
        """It stands first, and covers all of the image."""
        coco.image()
        whole = [[0, 0, 16, 0, 16, 12, 0, 12]] if polygons else {'size': [12, 16], 'counts': [0, 192]}
        coco.nucleus(whole, iscrowd=1)
        coco.polygon((2, 3, 6, 8))
        out = coco.prepare(tmp_path / 'out')
        expected = instances(np.s_[3:8, 2:6])
        np.testing.assert_array_equal(labels_of(out) > 0, expected > 0)
        np.testing.assert_array_equal(canonical.read_ignore(out / 'ignore' / 'a.png'), expected == 0)

    def test_outlines_of_another_image_are_refused(self, coco, tmp_path):
        coco.image()
        coco.polygon((100, 100, 110, 110))
        assert 'outline 1 lies outside of the image (12, 16)' in coco.fault(tmp_path)

    def test_polygons_that_leave_the_image_are_cut(self, coco, tmp_path):
        coco.image()
        coco.polygon((-5, -5, 3, 2))
        np.testing.assert_array_equal(labels_of(coco.prepare(tmp_path / 'out')), instances(np.s_[0:2, 0:3]))

    def test_an_image_without_nuclei_stays(self, coco, tmp_path):
        coco.image()
        coco.image('b', 2)
        coco.polygon((1, 1, 5, 4))
        assert not labels_of(coco.prepare(tmp_path / 'out'), 'b').any()

    @pytest.mark.parametrize('names', [['nucleus'], ['background', 'nucleus'], []])
    def test_one_category_makes_a_binary_set(self, coco, tmp_path, names):
        coco.content['categories'] = [{'id': number, 'name': name} for number, name in enumerate(names)]
        coco.image()
        if names:
            coco.polygon((1, 1, 5, 4), category=len(names) - 1)
        assert canonical.read_meta(coco.prepare(tmp_path / 'out'))['classes'] == canonical.CLASSES

    def test_json_beside_the_images(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4))
        coco.write()
        (coco.source / 'annotations.json').rename(coco.source / 'images' / '_annotations.coco.json')
        out = prepare(
            'coco', coco.source / 'images', tmp_path / 'out', images='.', annotations='_annotations.coco.json'
        )
        np.testing.assert_array_equal(labels_of(out), instances(np.s_[1:4, 1:5]))

    @pytest.mark.parametrize(
        ('counts', 'runs'),
        [
            ('', []),
            ('324', [3, 2, 4]),
            ('32401', [3, 2, 4, 2, 5]),
            ('055NM', [0, 5, 5, 3, 2]),
            ('d0_1X1', [20, 47, 40]),
            ('1T32nN', [1, 100, 2, 66]),
        ],
    )
    def test_compressed_counts_worked_out_by_hand(self, counts, runs):
        assert uncompressed(counts) == runs

    def test_a_random_mask_comes_back_from_its_runs(self, coco, tmp_path):
        mask = np.random.default_rng(0).random(SIZE) > 0.5
        column_wise = mask.T.ravel()
        changes = np.flatnonzero(np.diff(column_wise.astype(int))) + 1
        runs = np.diff([0, *changes, column_wise.size]).tolist()
        coco.image()
        coco.nucleus({'size': [12, 16], 'counts': [0, *runs] if mask[0, 0] else runs})
        np.testing.assert_array_equal(labels_of(coco.prepare(tmp_path / 'out')) > 0, mask)

    @pytest.mark.parametrize(
        ('segmentation', 'what'),
        [
            ([[1, 1, 5, 4]], '2 different points enclose nothing'),
            ([[1, 1, 5, 4, 1, 1]], '2 different points enclose nothing'),
            ([[1, 1, 5, 4, 3]], 'a polygon is no list of x, y'),
            ([[1, 1, 5, 'x', 3, 4]], 'a polygon is no list of x, y'),
            ([[1, 1, 5, float('nan'), 3, 4]], 'a coordinate is not finite'),
            ([], 'no segmentation'),
            (None, 'no segmentation'),
            ({'size': [16, 12], 'counts': [192]}, 'RLE of size [16, 12], image [12, 16]'),
            ({'size': [12, 16], 'counts': [16, 4]}, 'run lengths do not fill the 192 pixels'),
            ({'size': [12, 16], 'counts': [200, -8]}, 'run lengths do not fill the 192 pixels'),
            ({'size': [12, 16], 'counts': [10**15]}, 'run lengths do not fill the 192 pixels'),
            ({'size': [12, 16], 'counts': 'é'}, 'counts are no run lengths'),
            ({'size': [12, 16]}, 'counts are no run lengths'),
        ],
    )
    def test_bad_segmentations_are_explained(self, coco, tmp_path, segmentation, what):
        coco.image()
        coco.nucleus(segmentation)
        line = coco.fault(tmp_path).splitlines()[1]
        assert 'a.png: annotation 10: ' in line
        assert what in line

    def test_unknown_images_and_categories_are_reported_at_once(self, coco, tmp_path):
        coco.image()
        coco.image('gone', 2)
        (coco.source / 'images' / 'gone.png').unlink()
        coco.image('small', 3, height=6, width=8)
        coco.polygon((1, 1, 5, 4), category=9)
        coco.polygon((1, 1, 5, 4), image=77)
        text = coco.fault(tmp_path)
        assert text.startswith('4 bad source files')
        assert 'annotations.json: 1 annotations of image 77, which "images" lacks' in text
        assert 'a.png: annotation 10: unknown category 9' in text
        assert 'gone.png: missing' in text
        assert 'small.png: size (12, 16) differs from (6, 8) of the JSON' in text

    @pytest.mark.parametrize(
        ('change', 'what'),
        [
            ({'images': None}, 'no list "images"'),
            ({'annotations': [{'id': 1, 'image_id': 1}]}, 'an entry of "annotations" lacks id, image_id, category_id'),
            ({'categories': [{'id': 1}]}, 'an entry of "categories" lacks id, name'),
            (
                {'categories': [{'id': 1, 'name': 'x'}, {'id': 1, 'name': 'y'}]},
                'two entries of "categories" have one id',
            ),
            ({'images': [{'id': 1, 'file_name': '../../secret.png'}]}, 'leads out of the source'),
        ],
    )
    def test_bad_json_is_explained(self, coco, tmp_path, change, what):
        coco.content |= change
        assert what in coco.fault(tmp_path)

    @pytest.mark.parametrize('text', ['{"images": [', '[]', 'null'])
    def test_no_coco_at_all(self, coco, tmp_path, text):
        (coco.source / 'annotations.json').write_text(text)
        line = fault('coco', coco.source, tmp_path)
        assert 'annotations.json: no ' in line
        assert '\n' not in line


def feature(kind, coordinates, name=None, **fields):
    properties = {'objectType': 'annotation'}
    if name:
        properties['classification'] = {'name': name, 'color': [200, 0, 0]}
    geometry = {'type': kind, 'coordinates': coordinates}
    return {'type': 'Feature', 'id': 'x', 'geometry': geometry, 'properties': properties} | fields


def closed(*corners):
    """Ring of GeoJSON: the last point is the first."""
    ring = rectangle(*corners)
    return [*ring, ring[0]]


def add_features(source, content, stem='a', suffix='.geojson'):
    add_image(source, stem)
    (source / 'annotations').mkdir(exist_ok=True)
    if isinstance(content, list):
        content = {'type': 'FeatureCollection', 'features': content}
    text = content if isinstance(content, str) else json.dumps(content)
    (source / 'annotations' / f'{stem}{suffix}').write_text(text)


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
        faults = {
            'point': ([feature('Point', [3, 3], 'tumour')], 'feature 1 is a Point'),
            'few': (
                [feature('Polygon', [[[1, 1], [5, 5], [1, 1]]], 'immune')],
                'feature 1: 2 different points enclose nothing',
            ),
            'ragged': ([feature('Polygon', [[[1, 1], [5], [1, 4]]], 'immune')], 'are no rings of points'),
            'unnamed': ([feature('Polygon', [closed(1, 1, 8, 8)])], 'feature 1 has no classification'),
            'text': ('{"features": [', 'no JSON'),
            'foreign': ('{"shapes": []}', 'no features as QuPath writes them'),
            'odd': (
                [feature('Polygon', [closed(1, 1, 8, 8)]) | {'properties': {'classification': 'x'}}],
                'no features',
            ),
        }
        add_features(source, [feature('Polygon', [closed(1, 1, 8, 8)], name) for name in ('tumour', 'immune')], 'good')
        for stem, (content, _) in faults.items():
            add_features(source, content, stem)
        add_image(source, 'alone')
        first, *lines = fault('geojson', source, tmp_path).splitlines()
        assert first == '8 bad source files, nothing was written:'
        for stem, (_, what) in (faults | {'alone': ('', 'no alone (.geojson .json) in annotations/')}).items():
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
        names = ('background', 'tumor', 'stroma')
        add_features(source, [feature('Polygon', [closed(2, 3, 6, 8)], name) for name in names])
        assert 'feature 1 is classified as background' in fault('geojson', source, tmp_path)

"""Sources of users: COCO JSON, right and wrong, in tiny hand-made folders."""

import json
import os

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.coco import uncompressed
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .features import rectangle
from .own_source import CONVERTERS, SIZE, add_image, convert, fault, instances, labels_of, prepare, types_of


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

    def test_parts_of_one_nucleus_are_one_even_if_they_overlap(self, coco, tmp_path):
        coco.image()
        coco.polygon((1, 1, 5, 4), (3, 2, 8, 6), (10, 10, 12, 12))
        expected = instances(np.s_[1:4, 1:5])
        expected[2:6, 3:8] = expected[10:12, 10:12] = 1
        np.testing.assert_array_equal(labels_of(coco.prepare(tmp_path / 'out')), expected)

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
        line = coco.fault(tmp_path).splitlines()[1]
        assert 'a.png: ' in line
        assert '12 x 16 pixels' in line
        assert 'annotation 10: outside of the image' in line

    def test_one_bad_outline_costs_no_other(self, coco, tmp_path):
        """Nor the set; all kinds of bad ones in one file, each named."""
        coco.image()
        coco.polygon((1, 1, 5, 4))
        bad = [[(100, 100, 110, 110)], [(0.6, 0.6, 0.9, 0.9)]]
        for rectangles in bad:
            coco.polygon(*rectangles)
        for segmentation in ([[1, 1, 5, 4]], [], {'size': [12, 16], 'counts': [2**62] * 4 + [192]}, 'x'):
            coco.nucleus(segmentation)
        coco.write()
        report = convert(CONVERTERS['coco'], coco.source, tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(tmp_path / 'out'), instances(np.s_[1:4, 1:5]))
        assert len(report.notices) == 6
        for number, notice in enumerate(sorted(report.notices, key=lambda line: line[-3:]), start=11):
            assert notice.startswith('outlines left out, ')
            assert notice.endswith(f': 1 (a: annotation {number})')
        assert json.loads((tmp_path / 'out' / 'notices' / 'a.json').read_text())

    def test_categories_of_one_name_are_one(self, coco, tmp_path):
        coco.content['categories'] = [{'id': number, 'name': 'nucleus'} for number in (0, 1)]
        coco.image()
        coco.polygon((1, 1, 5, 4), category=1)
        assert canonical.read_meta(coco.prepare(tmp_path / 'out'))['classes'] == canonical.CLASSES

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
            ([[1, 1, 5, 4]], 'enclose nothing'),
            ([[1, 1, 5, 4, 1, 1]], 'enclose nothing'),
            ([[1, 1, 5, 4, 3]], 'no list of x, y'),
            ([[1, 1, 5, 'x', 3, 4]], 'no list of x and y'),
            ([[1, 1, 5, None, 3, 4]], 'no list of x and y'),
            ([[1, 1, 5, 10**399, 3, 4]], 'no list of x and y'),
            ([[1, 1, [[5]], 5, 3, 4]], 'no list of x and y'),
            ([{'x': 1}], 'no list of x, y'),
            (7, 'no list of x, y'),
            ([[1, 1, 5, float('nan'), 3, 4]], 'not finite'),
            ([], 'no segmentation'),
            (None, 'no segmentation'),
            ({'size': [16, 12], 'counts': [192]}, 'another size'),
            ({'size': [12, 16], 'counts': [16, 4]}, 'do not fill the image'),
            ({'size': [12, 16], 'counts': [200, -8]}, 'do not fill the image'),
            ({'size': [12, 16], 'counts': [10**15]}, 'do not fill the image'),
            ({'size': [12, 16], 'counts': [2**62] * 4 + [192]}, 'do not fill the image'),
            ({'size': [12, 16], 'counts': [2**64 - 1, 193]}, 'run lengths'),
            ({'size': [12, 16], 'counts': [10**399]}, 'not run lengths'),
            ({'size': [12, 16], 'counts': [96.5, 95.5]}, 'not run lengths'),
            ({'size': [12, 16], 'counts': ['192']}, 'not run lengths'),
            ({'size': [12, 16], 'counts': [[192]]}, 'not run lengths'),
            ({'size': [12, 16], 'counts': 'é'}, 'not run lengths'),
            ({'size': [12, 16]}, 'not run lengths'),
        ],
    )
    def test_bad_segmentations_are_explained(self, coco, tmp_path, segmentation, what):
        coco.image()
        coco.nucleus(segmentation)
        line = coco.fault(tmp_path).splitlines()[1]
        assert 'a.png: ' in line
        assert 'annotation 10: ' in line
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
        assert 'annotation 10: unknown category 9' in text
        assert 'gone.png: missing' in text
        assert 'small.png: size (12, 16) differs from (6, 8) of the JSON' in text

    @pytest.mark.parametrize(
        ('change', 'what'),
        [
            ({'images': None}, 'no list "images"'),
            ({'annotations': [{'id': 1, 'image_id': 1}]}, 'entry 1 of "annotations" lacks id, image_id, category_id'),
            ({'categories': [{'id': 1}]}, 'entry 1 of "categories" lacks id, name'),
            (
                {'categories': [{'id': 1, 'name': 'x'}, {'id': 1, 'name': 'y'}]},
                'two entries of "categories" have one id',
            ),
            ({'images': [{'id': 1, 'file_name': '../../secret.png'}]}, 'leads out of the source'),
            ({'images': [{'id': 1, 'file_name': 5}]}, 'entry 1 of "images" lacks'),
            ({'images': [{'id': 1, 'file_name': 'x' * 300}]}, 'at most 255 bytes'),
            ({'images': [{'id': 1, 'file_name': 'a\0.png'}]}, 'no control characters'),
            ({'images': [{'id': 1, 'file_name': '\ud800.png'}]}, 'no control characters'),
            ({'images': [{'id': [1], 'file_name': 'a.png'}]}, 'entry 1 of "images" lacks'),
            ({'categories': [{'id': 1, 'name': 2}]}, 'entry 1 of "categories" lacks'),
            ({'annotations': ['x']}, 'entry 1 of "annotations" lacks'),
        ],
    )
    def test_bad_json_is_explained(self, coco, tmp_path, change, what):
        coco.content |= change
        assert what in coco.fault(tmp_path)

    @pytest.mark.parametrize('field', [{'iscrowd': 'yes'}, {'iscrowd': [1]}, {'category_id': 'x\ny'}])
    def test_fields_of_other_types(self, coco, tmp_path, field):
        coco.image()
        coco.polygon((1, 1, 5, 4), **field)
        first, line = coco.fault(tmp_path).splitlines()
        assert 'annotation 10: ' in line

    @pytest.mark.parametrize('fields', [{'category': 9}, {'category': 7}, {'iscrowd': 'yes'}])
    def test_one_wrong_field_costs_no_other(self, coco, tmp_path, fields):
        """Its area is ignored."""
        coco.content['categories'].append({'id': 7, 'name': 'background'})
        coco.image()
        coco.polygon((1, 1, 5, 4))
        coco.polygon((8, 1, 12, 4), **fields)
        coco.write()
        report = convert(CONVERTERS['coco'], coco.source, tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(tmp_path / 'out'), instances(np.s_[1:4, 1:5]))
        ignored = canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png')
        np.testing.assert_array_equal(ignored, instances(np.s_[1:4, 8:12]) > 0)
        (notice,) = report.notices
        assert notice.endswith(': 1 (a: annotation 11)')

    @pytest.mark.parametrize('broken', [[50, 50], [1, 2, 3], 'x', [1, 1, 'x', 2, 3, 3]])
    def test_sound_parts_of_a_broken_outline_are_ignored(self, coco, tmp_path, broken):
        coco.image()
        coco.polygon((1, 1, 5, 4))
        coco.nucleus([broken, np.ravel(rectangle(8, 1, 12, 4)).tolist()])
        out = coco.prepare(tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(out), instances(np.s_[1:4, 1:5]))
        ignored = canonical.read_ignore(out / 'ignore' / 'a.png')
        np.testing.assert_array_equal(ignored, instances(np.s_[1:4, 8:12]) > 0)

    def test_many_nuclei_in_one_annotation_are_told(self, coco, tmp_path):
        """Polygons and masks; parts that touch are one."""
        coco.image()
        coco.polygon(*((2 * k, 10, 2 * k + 2, 12) for k in range(5)))
        coco.polygon((1, 5, 5, 8))
        coco.polygon((8, 5, 12, 8))
        coco.polygon(*((4 * k, 0, 4 * k + 2, 2) for k in range(4)))
        mask = instances(*(np.s_[3:5, 4 * k : 4 * k + 2] for k in range(4))) > 0
        runs = np.diff([0, *(np.flatnonzero(np.diff(mask.T.ravel().astype(int))) + 1), mask.size]).tolist()
        coco.nucleus({'size': [12, 16], 'counts': runs})
        coco.write()
        (notice,) = convert(CONVERTERS['coco'], coco.source, tmp_path / 'out').notices
        assert notice.endswith(': 2 (a: annotation 13 (4 parts), annotation 14 (4 parts))')
        del coco.content['annotations'][:3]
        (coco.source / 'annotations.json').unlink()
        coco.write()
        (tmp_path / 'second').mkdir()
        with pytest.raises(UserError, match=r'a\.png: 2 of 2 outlines lie in many parts'):
            prepare('coco', coco.source, tmp_path / 'second' / 'out')

    def test_a_named_pipe_is_not_waited_for(self, coco, tmp_path):
        os.mkfifo(coco.source / 'annotations.json')
        assert 'annotations.json: a folder, named pipe or device' in fault('coco', coco.source, tmp_path)

    @pytest.mark.parametrize('text', ['{"images": [', '[]', 'null', '[' * 10**5, '{"images": [' + '9' * 5000 + ']}'])
    def test_no_coco_at_all(self, coco, tmp_path, text):
        (coco.source / 'annotations.json').write_text(text)
        line = fault('coco', coco.source, tmp_path)
        assert 'annotations.json: no ' in line
        assert '\n' not in line

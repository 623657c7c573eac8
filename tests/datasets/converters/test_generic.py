"""Sources of users: label maps and binary masks, right and wrong ones, in tiny hand-made folders."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .own_source import CONVERTERS, LABELS, SIZE, add_image, add_map, fault, groups_of, instances, labels_of, prepare


class TestFolders:
    @pytest.mark.parametrize('suffix', ['.png', '.tif', '.tiff', '.npy'])
    def test_ids_are_kept(self, source, tmp_path, suffix):
        image = add_image(source)
        add_map(source, suffix=suffix)
        out = prepare('folders', source, tmp_path / 'out')
        np.testing.assert_array_equal(labels_of(out), LABELS)
        np.testing.assert_array_equal(canonical.read_image(out / 'images' / 'a.png'), image)
        meta = canonical.read_meta(out)
        assert (meta['name'], meta['classes']) == ('own', canonical.CLASSES)
        assert validate_dataset(out) == []

    @pytest.mark.parametrize('suffix', ['.tif', '.tiff', '.jpg', '.JPEG', '.bmp', '.webp', '.svs'])
    def test_images_of_other_formats(self, source, tmp_path, suffix):
        if suffix == '.svs':
            image = add_image(source, suffix='.tif')
            (source / 'images' / 'a.tif').rename(source / 'images' / 'a.svs')
        else:
            image = add_image(source, suffix=suffix)
        add_map(source)
        out = prepare('folders', source, tmp_path / 'out')
        written = canonical.read_image(out / 'images' / 'a.png').astype(int)
        if suffix.startswith('.t'):
            np.testing.assert_array_equal(written, image)
        assert abs(written.mean() - image.mean()) < 10

    def test_the_pixel_size_of_a_file_wins_over_that_of_the_user(self, source, tmp_path):
        for stem, size in (('a', 0.5), ('b', 0.5), ('c', 5000)):
            add_map(source, stem=stem)
            size = {'PhysicalSizeX': size, 'PhysicalSizeY': size}
            add_map(source, np.zeros((*SIZE, 3), np.uint8), stem, '.tif', 'images', ome=True, metadata=size)
        line = r'c\.tif: 5000 micrometres per pixel .* 0\.05 to 5'
        assert re.search(line, fault('folders', source, tmp_path))
        report = convert(CONVERTERS['folders'], source, tmp_path / 'given', source_mpp=0.25)
        others, impossible = report.notices
        assert others.endswith('2 (a: 0.5, b: 0.5)')
        assert re.search(line, impossible)
        (source / 'images' / 'c.tif').unlink()
        add_image(source, 'c')
        convert(CONVERTERS['folders'], source, tmp_path / 'out')
        sizes = [
            {stem: entry['mpp'] for stem, entry in canonical.read_meta(tmp_path / name)['images'].items()}
            for name in ('given', 'out')
        ]
        assert sizes == [{'a': 0.5, 'b': 0.5, 'c': 0.25}, {'a': 0.5, 'b': 0.5, 'c': None}]

    def test_a_photograph_on_its_side_fits_its_map(self, source, tmp_path):
        image = add_image(source)
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.rot90(image)).save(source / 'images' / 'a.png', exif=exif)
        add_map(source)
        out = prepare('folders', source, tmp_path / 'out')
        np.testing.assert_array_equal(canonical.read_image(out / 'images' / 'a.png'), image)

    def test_a_name_that_is_not_utf_8(self, source, tmp_path):
        stem = os.fsdecode(b'caf\xe9')
        add_image(source, 'a').tofile(source / 'images' / f'{stem}.png')
        add_map(source, stem='a')
        (source / 'labels' / f'{stem}.png').touch()
        assert 'is not a name in UTF-8; rename' in fault('folders', source, tmp_path)

    @pytest.mark.parametrize('dtype', [np.int64, np.uint8, np.float32, bool])
    def test_whole_numbers_of_any_type_in_npy(self, source, tmp_path, dtype):
        labels = instances(np.s_[1:4, 1:5]).astype(dtype)
        add_image(source)
        add_map(source, labels, suffix='.npy')
        np.testing.assert_array_equal(labels_of(prepare('folders', source, tmp_path / 'out')), labels.astype(int))

    def test_folders_of_other_names_below_the_source(self, source, tmp_path):
        add_image(source, folder='batch [1]/rgb tiles')
        add_map(source, folder='batch [1]/ids')
        out = prepare('folders', source, tmp_path / 'out', images='rgb tiles', labels='ids', name='biopsies')
        np.testing.assert_array_equal(labels_of(out), LABELS)
        assert canonical.read_meta(out)['name'] == 'biopsies'

    @pytest.mark.parametrize('name', ['/etc', '../other'])
    def test_folders_outside_of_the_source_are_refused(self, source, tmp_path, name):
        assert 'leads out of the source' in fault('folders', source, tmp_path, images=name)

    def test_a_missing_folder_is_named(self, source, tmp_path):
        add_image(source)
        assert 'holds no images and labels side by side' in fault('folders', source, tmp_path)

    def test_empty_folders(self, source, tmp_path):
        (source / 'labels').mkdir()
        assert 'no image of' in fault('folders', source, tmp_path)

    def test_every_bad_file_is_reported_at_once(self, source, tmp_path):
        for stem in ('alone', 'wide', 'cut_png', 'cut_tiff', 'cut_npy', 'fraction', 'objects', 'colours', 'negative'):
            add_image(source, stem)
        for stem in ('stray', 'cut_png'):
            add_map(source, stem=stem)
        add_map(source, LABELS[:, :15], 'wide')
        image = source / 'images' / 'cut_png.png'
        image.write_bytes(image.read_bytes()[:200])
        for stem, suffix in (('cut_tiff', '.tif'), ('cut_npy', '.npy')):
            path = add_map(source, stem=stem, suffix=suffix)
            path.write_bytes(path.read_bytes()[:150])
        add_map(source, LABELS + 0.5, 'fraction', '.npy')
        np.save(source / 'labels' / 'objects.npy', np.array([[{'harm': 1}]]), allow_pickle=True)
        add_map(source, np.zeros((*SIZE, 3), np.uint8), 'colours')
        add_map(source, -LABELS.astype(np.int32), 'negative', '.tif')
        first, *lines = fault('folders', source, tmp_path).splitlines()
        assert first == '10 bad source files, nothing was written:'
        faults = {
            'alone.png': 'no alone (.png .tif .tiff .npy) in labels/; add it',
            'stray.png': 'no image of that name in images/',
            'wide.png': 'size (12, 15) differs from (12, 16)',
            'cut_png.png': 'unreadable',
            'cut_tiff.tif': 'unreadable',
            'cut_npy.npy': 'unreadable',
            'fraction.npy': '0.5, no whole number',
            'objects.npy': 'Python objects',
            'colours.png': 'shape (12, 16, 3) is not (H, W)',
            'negative.tif': '-300, no whole number',
        }
        for name, what in faults.items():
            assert sum(name in line and what in line for line in lines) == 1, name

    def test_what_is_not_read_of_the_images_is_named(self, source, tmp_path):
        add_image(source)
        add_map(source)
        for name in ('notes.txt', '.hidden', 'b.ndpi'):
            (source / 'images' / name).touch()
        with pytest.warns(UserWarning, match=r'2 in .*images not read, .*: b\.ndpi, notes\.txt'):
            prepare('folders', source, tmp_path / 'out')
        add_map(source, stem='b')
        with (
            pytest.warns(UserWarning, match='not read'),
            pytest.raises(UserError, match=r'b\.png: no image of that name in images/, only b\.ndpi; save it as'),
        ):
            prepare('folders', source, tmp_path / 'again')

    @pytest.mark.parametrize('background', [1, 65535])
    def test_a_background_that_is_not_0_is_pointed_out(self, source, tmp_path, background):
        add_image(source)
        add_map(source, np.where(LABELS == 0, background, LABELS).astype(np.uint16))
        (notice,) = convert(CONVERTERS['folders'], source, tmp_path / 'out').notices
        assert 'the background is 0' in notice
        assert 'a: 100%' in notice

    @pytest.mark.parametrize('classes', [1, 2])
    def test_maps_that_bear_one_id_for_many_nuclei_are_refused(self, source, tmp_path, classes):
        labels = np.zeros(SIZE, np.uint8)
        labels[::3, ::3] = 1
        labels[::3, 9:] *= classes
        add_image(source)
        add_map(source, labels)
        first, line = fault('folders', source, tmp_path).splitlines()
        assert 'a.png: ' in line
        assert ('0/1 binary map' if classes == 1 else '2 ids lie in many pieces') in line

    def test_a_named_pipe_is_not_waited_for(self, source, tmp_path):
        add_image(source)
        (source / 'labels').mkdir()
        os.mkfifo(source / 'labels' / 'a.png')
        assert 'a.png: a folder, named pipe or device' in fault('folders', source, tmp_path)

    @pytest.mark.slow
    @pytest.mark.data
    @pytest.mark.skipif('MMGFNUC_DATA' not in os.environ, reason='needs real images: set MMGFNUC_DATA')
    def test_a_real_folder_comes_over_as_it_is(self, tmp_path):
        source = Path(os.environ['MMGFNUC_DATA']) / 'dsb2018_stained'
        out = prepare('folders', source, tmp_path / 'out')
        assert groups_of(out) == json.loads((source / 'groups.json').read_text())
        assert len(canonical.list_ids(out)) == 107
        for path in (source / 'labels').iterdir():
            np.testing.assert_array_equal(labels_of(out, path.stem), np.array(Image.open(path)))


class TestGroups:
    @pytest.fixture(autouse=True)
    def _images(self, source):
        for stem in ('s1_x', 's1_y', 's2_x'):
            add_image(source, stem)
            add_map(source, stem=stem)

    def test_each_image_is_its_own_group(self, source, tmp_path):
        assert groups_of(prepare('folders', source, tmp_path / 'out')) == {
            stem: stem for stem in ('s1_x', 's1_y', 's2_x')
        }

    def test_groups_cut_out_of_the_stem(self, source, tmp_path):
        out = prepare('folders', source, tmp_path / 'out', group_pattern='^(s[0-9])_')
        assert groups_of(out) == {'s1_x': 's1', 's1_y': 's1', 's2_x': 's2'}

    def test_licence_and_citation_are_those_that_are_given(self, source, tmp_path):
        assert [
            canonical.read_meta(prepare('folders', source, tmp_path / 'out'))[key] for key in ('licence', 'citation')
        ] == ['', '']
        out = prepare('folders', source, tmp_path / 'terms', licence='CC0 1.0', citation='Ada 1843')
        assert [canonical.read_meta(out)[key] for key in ('licence', 'citation')] == ['CC0 1.0', 'Ada 1843']

    def test_groups_of_a_json_come_first(self, source, tmp_path):
        (source / 'groups.json').write_text('{"s1_x": "P1", "s1_y": "P1", "s2_x": 2, "not here": "P9"}')
        (source / 'groups.csv').write_text('nonsense')
        out = prepare('folders', source, tmp_path / 'out', group_pattern='^(s[0-9])_')
        assert groups_of(out) == {'s1_x': 'P1', 's1_y': 'P1', 's2_x': '2'}

    @pytest.mark.parametrize('head', ['', 'stem,group\n', '\ufeff'])
    def test_groups_of_a_csv(self, source, tmp_path, head):
        (source / 'groups.csv').write_text(head + 's1_x,P1\ns1_y,P1\n\ns2_x,P2\n', encoding='utf-8')
        out = prepare('folders', source, tmp_path / 'out')
        assert groups_of(out) == {'s1_x': 'P1', 's1_y': 'P1', 's2_x': 'P2'}

    @pytest.mark.parametrize(
        ('name', 'text', 'what'),
        [
            ('groups.json', '{"s1_x": "P1"}', 'gives no group of s1_y and 1 more images'),
            ('groups.json', '{"s1_x": ', 'no JSON'),
            ('groups.json', '["P1"]', 'no table of groups'),
            ('groups.json', '[' * 10**5, 'nested too deeply'),
            ('groups.csv', 's1_x;P1\n', 'a line has not two columns'),
            ('groups.csv', 's1_x,P1\ns1_y,P1\n', 'gives no group of s2_x'),
        ],
    )
    def test_bad_tables_are_explained(self, source, tmp_path, name, text, what):
        (source / name).write_text(text)
        line = fault('folders', source, tmp_path)
        assert name in line
        assert what in line

    @pytest.mark.parametrize(
        ('pattern', 'what'),
        [
            ('(', 'is not a regular expression'),
            ('^s[0-9]', 'has 0 groups in ()'),
            ('^(s)([0-9])', 'has 2 groups in ()'),
            ('_(y)', 'gives no group of s1_x and 1 more'),
        ],
    )
    def test_bad_patterns_are_explained(self, source, tmp_path, pattern, what):
        assert what in fault('folders', source, tmp_path, group_pattern=pattern)


class TestMasks:
    def test_connected_regions_become_instances_and_a_warning_says_so(self, source, tmp_path):
        mask = np.zeros(SIZE, np.uint8)
        # Two that touch at a corner, one apart.
        mask[1:4, 1:5] = mask[4:8, 5:7] = mask[9:11, 9:16] = 255
        for stem in 'ab':
            add_image(source, stem)
            add_map(source, mask, stem, folder='masks')
        with pytest.warns(UserWarning, match='nuclei that touch are counted as one') as caught:
            out = prepare('masks', source, tmp_path / 'out')
        assert len(caught) == 1
        for stem in 'ab':
            labels = labels_of(out, stem)
            np.testing.assert_array_equal(labels > 0, mask > 0)
            assert canonical.count_nuclei(labels) == 2
            assert labels[1, 1] == labels[7, 6] != labels[9, 9]

    @pytest.mark.filterwarnings('ignore:a binary mask')
    @pytest.mark.parametrize('suffix', ['.png', '.tif', '.npy'])
    def test_any_value_may_mean_nucleus(self, source, tmp_path, suffix):
        add_image(source)
        add_map(source, (LABELS > 0).astype(np.uint8), folder='masks', suffix=suffix)
        assert canonical.count_nuclei(labels_of(prepare('masks', source, tmp_path / 'out'))) == 2

    @pytest.mark.filterwarnings('ignore:a binary mask')
    def test_bad_masks_are_reported_at_once(self, source, tmp_path):
        for stem in ('map', 'wide'):
            add_image(source, stem)
        add_map(source, stem='map', folder='masks')
        add_map(source, (LABELS[:, :15] > 0), stem='wide', folder='masks')
        text = fault('masks', source, tmp_path)
        assert 'map.png: 3 values besides 0, so it is not a binary mask; take the source "folders"' in text
        assert 'wide.png: size (12, 15) differs' in text

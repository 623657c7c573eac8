"""NuInsSeg's own layout, in tiny fake trees and in the real images, comes out as one sound dataset or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import CONVERTERS, convert
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, truncate


class FakeNuInsSeg:
    """A tree in the authors' layout, built image by image."""

    def __init__(self, root):
        self.root = root

    def add(self, organ, number=1, label_size=(12, 16), rgba=False):
        name = f'{organ.replace(" ", "_")}_{number:02d}'
        image = np.random.default_rng(number).integers(0, 256, (12, 16, 4 if rgba else 3), dtype=np.uint8)
        image[..., 3:] = 255  # no pixel is transparent
        labels = np.zeros(label_size, np.uint16)
        labels[1:3, 1:5] = 300
        labels[3:6, 1:5] = 5
        labels[8, 8] = 5
        Image.fromarray(image).save(self.file(organ, 'tissue images', f'{name}.png'))
        tifffile.imwrite(self.file(organ, 'label masks modify', f'{name}.tif'), labels)
        return name, image[..., :3], labels

    def add_vague(self, organ, folder, name, size=(12, 16)):
        mask = np.zeros(size, np.uint8)
        mask[-2:] = 255
        Image.fromarray(mask).save(self.file(organ, folder, f'{name}.png'))
        return mask > 0

    def file(self, organ, kind, name):
        path = self.root / organ / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def source(tmp_path):
    return FakeNuInsSeg(tmp_path / 'NuInsSeg')


def prepare(source, out):
    convert(CONVERTERS['nuinsseg'], source.root, out)
    return out


def test_images_ids_and_groups_come_over_unchanged(source, tmp_path):
    samples = {'human bladder': source.add('human bladder'), 'mouse muscle_tibia': source.add('mouse muscle_tibia', 2)}
    out = prepare(source, tmp_path / 'out')
    assert canonical.list_ids(out) == ['human_bladder_01', 'mouse_muscle_tibia_02']
    for name, image, labels in samples.values():
        paths = canonical.sample_paths(out, name)
        np.testing.assert_array_equal(canonical.read_image(paths.image), image)
        np.testing.assert_array_equal(canonical.read_label_map(paths.label), labels)
        assert paths.ignore is None
        assert canonical.count_nuclei(labels) == 2
    meta = canonical.read_meta(out)
    assert {i: entry['group'] for i, entry in meta['images'].items()} == {
        name: organ for organ, (name, _, _) in samples.items()
    }
    assert meta['licence'] == 'CC BY 4.0'
    assert '10.1038/s41597-024-03117-2' in meta['citation']
    assert validate_dataset(out) == []


def test_rgba_image_becomes_rgb(source, tmp_path):
    name, rgb, _ = source.add('human brain', rgba=True)
    out = prepare(source, tmp_path / 'out')
    assert Image.open(out / 'images' / f'{name}.png').mode == 'RGB'
    np.testing.assert_array_equal(canonical.read_image(out / 'images' / f'{name}.png'), rgb)


@pytest.mark.parametrize('folder', ['vague areas/mask binary', 'vague areas/mask binary_vague', 'mask binary_vague'])
def test_vague_areas_become_ignore_maps_of_their_images(source, tmp_path, folder):
    name, _, _ = source.add('human brain', 1)
    other, _, _ = source.add('human brain', 2)
    expected = source.add_vague('human brain', folder, name)
    out = prepare(source, tmp_path / 'out')
    np.testing.assert_array_equal(canonical.read_ignore(canonical.sample_paths(out, name).ignore), expected)
    assert canonical.sample_paths(out, other).ignore is None


def test_every_bad_file_is_reported_at_once_and_nothing_is_written(source, tmp_path):
    source.add('human liver', 1)
    unlabelled, _, _ = source.add('human liver', 2)
    source.file('human liver', 'label masks modify', f'{unlabelled}.tif').unlink()
    source.add('human liver', 3, label_size=(12, 15))
    broken, _, _ = source.add('mouse brain', 4)
    truncate(source.file('mouse brain', 'tissue images', f'{broken}.png'))
    fractions, _, _ = source.add('mouse brain', 5)
    tifffile.imwrite(
        source.file('mouse brain', 'label masks modify', f'{fractions}.tif'), np.full((12, 16), 0.5, np.float32)
    )
    vague, _, _ = source.add('mouse brain', 6)
    source.add_vague('mouse brain', 'vague areas/mask binary', vague, size=(5, 5))
    source.add_vague('mouse brain', 'vague areas/mask binary', 'mouse_brain_77')
    faults = {
        'human_liver_02.png': 'no label map',
        'human_liver_03.tif': 'size (12, 15) differs from (12, 16)',
        'mouse_brain_04.png': 'unreadable',
        'mouse_brain_05.tif': '0.5, no whole number',
        'mouse_brain_06.png': 'size (5, 5) differs',
        'mouse_brain_77.png': 'no image of that name',
    }
    assert_refused(CONVERTERS['nuinsseg'], source.root, tmp_path / 'out', faults)


def test_wrong_source_folder_is_explained(source, tmp_path):
    with pytest.raises(UserError, match='is not there; give the folder or archive'):
        prepare(source, tmp_path / 'out')
    source.root.mkdir()
    with pytest.raises(UserError, match='holds no "<organ>/tissue images'):
        prepare(source, tmp_path / 'out')


def test_one_name_in_two_organs_is_refused(source, tmp_path):
    name, _, _ = source.add('human liver', 1)
    twin = source.file('human brain', 'tissue images', f'{name}.png')
    twin.write_bytes(source.file('human liver', 'tissue images', f'{name}.png').read_bytes())
    with pytest.raises(UserError, match="'human_liver_01' in 'human brain' and 'human liver'"):
        prepare(source, tmp_path / 'out')


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif('MMGFNUC_DATA' not in os.environ, reason='needs real images: set MMGFNUC_DATA')
def test_real_images_give_the_documented_counts(tmp_path):
    out = tmp_path / 'out'
    convert(CONVERTERS['nuinsseg'], Path(os.environ['MMGFNUC_DATA']) / 'nuinsseg', out)
    ids = canonical.list_ids(out)
    assert len(ids) == 181
    assert sum(canonical.count_nuclei(canonical.read_label_map(out / 'labels' / f'{i}.png')) for i in ids) == 8440
    assert len({image['group'] for image in canonical.read_meta(out)['images'].values()}) == 16
    # Two images are dense: half of them is nuclei.
    assert {problem.kind for problem in validate_dataset(out)} == {'foreground above half of the image'}

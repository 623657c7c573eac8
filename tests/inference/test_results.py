import os

import numpy as np
from PIL import Image

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.inference.results import printable, write_label_map, write_mask, write_png


def test_masks_are_visible_grey_levels(tmp_path):
    write_mask(tmp_path / 'deep' / 'two.png', np.array([[0, 1]], np.uint8))
    assert np.array(Image.open(tmp_path / 'deep' / 'two.png')).tolist() == [[0, 255]]
    write_mask(tmp_path / 'four.png', np.array([[0, 1, 2, 3]], np.uint8), num_classes=4)
    assert np.array(Image.open(tmp_path / 'four.png')).tolist() == [[0, 85, 170, 255]]


def test_pictures_keep_their_colours(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / 'a.png', picture)
    assert np.array_equal(np.array(Image.open(tmp_path / 'a.png')), picture)


def test_label_maps_are_those_of_the_canonical_form(tmp_path):
    for largest, suffix, kind in ((65_535, 'png', np.uint16), (65_536, 'tif', np.int32)):
        labels = np.array([[0, 1], [300, largest]], np.int32)
        write_label_map(tmp_path, 'a', labels)
        # The file of the other kind, of the run before, is gone.
        assert [path.name for path in tmp_path.iterdir()] == [f'a.{suffix}']
        assert np.array_equal(read_label_map(tmp_path / f'a.{suffix}'), labels)
        assert np.array(Image.open(tmp_path / f'a.{suffix}')).dtype == kind
    write_label_map(tmp_path, 'a', np.zeros((2, 3), np.int32))
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_names_that_nothing_can_show():
    assert printable('a\nb\x1b[2J\u2028') == r'a\nb\x1b[2J\u2028'
    assert printable(os.fsdecode(b'caf\xe9')) == r'caf\udce9'
    for name in ('Zürich', 'क्षेत्र', 'Bild\u202f1', '=cmd()'):
        assert printable(name) == name

import numpy as np
import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.inference.folder import find_images, measure_nuclei
from mmgfnuc.postprocess import connected_components


@pytest.fixture
def folder(tmp_path):
    for name in ('b.png', 'a.TIF', 'c.jpeg', 'notes.txt', 'deep/d.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found):
    return [path.name for path in found]


def test_a_file_a_folder_or_a_pattern(folder):
    assert names(find_images([str(folder / 'b.png')])) == ['b.png']
    assert names(find_images([str(folder)])) == ['a.TIF', 'b.png', 'c.jpeg']
    assert names(find_images([str(folder / '*.png')])) == ['b.png']
    assert names(find_images([str(folder / '**' / '*.png')])) == ['b.png', 'd.png']


def test_several_sources_give_each_image_once_and_sorted(folder):
    sources = [str(folder / 'deep'), str(folder / 'c.jpeg'), str(folder / '*.png'), str(folder / 'b.png')]
    assert names(find_images(sources)) == ['b.png', 'c.jpeg', 'd.png']


def test_nothing_found(folder):
    for source in ('none.png', '*.bmp', 'empty'):
        (folder / 'empty').mkdir(exist_ok=True)
        with pytest.raises(UserError, match='names no image'):
            find_images([str(folder / 'b.png'), str(folder / source)])


def test_two_images_that_would_write_one_mask(folder):
    (folder / 'b.jpg').touch()
    with pytest.raises(UserError, match="1 file names differ only in folder or suffix, such as 'b'; rename them"):
        find_images([str(folder)])
    (folder / 'deep' / 'c.png').touch()
    with pytest.raises(UserError, match="such as 'c'"):
        find_images([str(folder / 'c.jpeg'), str(folder / 'deep')])


def test_rows_of_a_small_map():
    semantic = np.zeros((5, 8), np.uint8)
    semantic[1:3, 1:5] = 1
    semantic[4, 7] = 2
    assert measure_nuclei('x', semantic, None) == [('x', 1, 2.5, 1.5, 8, ''), ('x', 2, 7.0, 4.0, 1, '')]
    assert measure_nuclei('x', semantic, 0.5) == [('x', 1, 2.5, 1.5, 8, 2.0), ('x', 2, 7.0, 4.0, 1, 0.25)]
    assert measure_nuclei('x', semantic * 0, 0.5) == []


def test_areas_and_centres_by_brute_force():
    semantic = (np.random.default_rng(0).random((60, 50)) < 0.3).astype(np.uint8)
    regions = connected_components(semantic > 0)
    rows = measure_nuclei('x', semantic, None)
    assert [row[1] for row in rows] == list(range(1, regions.max() + 1))
    for _, number, x, y, area, _ in rows:
        ys, xs = np.nonzero(regions == number)
        # Centroids are rounded to a tenth of a pixel.
        assert (x, y) == pytest.approx((xs.mean(), ys.mean()), abs=0.0501)
        assert area == len(ys)

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets.drawing import outline
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Prediction
from mmgfnuc.inference.folder import find_images, segment_images
from mmgfnuc.inference.writers import write_png


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


class Stub:
    """Finds in every image three nuclei: two that touch, of types 1 and 2, and one of no type."""

    mpp = 0.5
    classes = ('background', 'epithelial', 'lymphocyte')
    palette = ((0, 0, 0), (0, 158, 115), (230, 159, 0))

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.classes = ('background', 'nucleus') if num_classes == 2 else self.classes
        self.scales = []

    def predict(self, image, mpp):
        self.scales.append(mpp)
        labels = np.zeros(image.shape[:2], np.int32)
        labels[1:4, 1:4], labels[1:4, 4:8], labels[6:9, 1:9] = 1, 2, 3
        types = np.array([0, 1, self.num_classes - 1, 0], np.uint8)
        return Prediction(types[labels], labels, (labels > 0) * np.float32(0.75))


@pytest.fixture
def scans(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in ('a', 'b'):
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')]), image


def segmented(scans, out, num_classes, mpp):
    stub = Stub(num_classes)
    segment_images(stub, scans[0], out, mpp)
    assert stub.scales == [mpp, mpp]
    with (out / 'nuclei.csv').open() as table:
        return list(csv.DictReader(table))


def read(path):
    return np.array(Image.open(path))


def test_every_file_of_a_binary_model(scans, tmp_path):
    out = tmp_path / 'out'
    rows = segmented(scans, out, 2, mpp=None)
    names = {str(path.relative_to(out)) for path in out.rglob('*.*')}
    folders = [('geojson', 'geojson'), ('labels', 'png'), ('masks', 'png'), ('overlays', 'png')]
    assert names == {*(f'{folder}/{name}.{suffix}' for folder, suffix in folders for name in 'ab'), 'nuclei.csv'}
    labels = Stub(2).predict(scans[1], None).labels
    assert np.array_equal(read(out / 'labels' / 'a.png'), labels)
    assert np.array_equal(read(out / 'masks' / 'b.png'), np.array([0, 255, 255, 0])[labels])
    picture = read(out / 'overlays' / 'a.png')
    assert np.array_equal((picture != scans[1]).any(2), outline(labels))
    assert [(row['image'], row['nucleus'], row['type']) for row in rows] == [
        (image, str(number), 'nucleus' if number < 3 else '') for image in 'ab' for number in (1, 2, 3)
    ]
    assert {row[name] for row in rows for name in row if '_um' in name} == {''}


def test_a_typed_model_in_micrometres(scans, tmp_path):
    rows = segmented(scans, tmp_path, 3, mpp=0.5)
    assert [row['type'] for row in rows[:3]] == ['epithelial', 'lymphocyte', '']
    first = rows[0]
    assert list(first) == [
        *('image', 'nucleus', 'type', 'x_px', 'y_px', 'area_px', 'perimeter_px', 'major_axis_px', 'minor_axis_px'),
        *('eccentricity', 'optical_density', 'confidence'),
        *('x_um', 'y_um', 'area_um2', 'perimeter_um', 'major_axis_um', 'minor_axis_um'),
    ]
    values = [float(first[name]) for name in ('x_px', 'y_px', 'area_px', 'x_um', 'y_um', 'area_um2', 'confidence')]
    assert values == [2, 2, 9, 1, 1, 2.25, 0.75]
    assert sorted(np.unique(read(tmp_path / 'masks' / 'a.png'))) == [0, 127, 255]
    assert read(tmp_path / 'overlays' / 'a.png').shape[0] > 20, 'a legend is below'


def test_geojson_and_table_agree(scans, tmp_path):
    rows = segmented(scans, tmp_path, 3, mpp=0.5)
    features = json.loads((tmp_path / 'geojson' / 'b.geojson').read_text())['features']
    for row, feature in zip(rows[3:], features, strict=True):
        properties = feature['properties']
        assert properties['name'] == row['nucleus']
        assert properties.get('classification', {'name': ''})['name'] == row['type']
        measured = {name: float(value) for name, value in row.items() if name not in ('image', 'nucleus', 'type')}
        assert properties['measurements'] == measured


def test_no_nuclei(scans, tmp_path):
    stub = Stub(3)
    empty = np.zeros((20, 40), np.int32)
    stub.predict = lambda image, mpp: Prediction(empty.astype(np.uint8), empty, empty.astype(np.float32))
    segment_images(stub, scans[0], tmp_path, 0.5)
    assert len((tmp_path / 'nuclei.csv').read_text().splitlines()) == 1
    assert json.loads((tmp_path / 'geojson' / 'a.geojson').read_text()) == {'type': 'FeatureCollection', 'features': []}

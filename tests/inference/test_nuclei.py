"""What Python gets of the nuclei of an image, and what is saved of them: the same as `mmgfnuc predict` writes."""

import csv
import json
import math
import os
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from PIL import Image

from mmgfnuc.errors import UserError
from mmgfnuc.inference.folder import segment_images
from mmgfnuc.inference.pixel_size import PixelSize
from mmgfnuc.inference.results import FILES, NUCLEI_HEADER
from mmgfnuc.visualization.overlay import outline

from .stub import Stub, outputs, read, table


@pytest.fixture
def nuclei(many):
    """Of three nuclei: epithelial, lymphocyte, and one of no type."""
    return Stub(3)(read(many[0]), PixelSize(0.5, 'given'), name='a')


@pytest.fixture(params=[(0.5, 'file'), (0.5, 'first pass'), (None, 'unknown')])
def sized(nuclei, request):
    mpp, comes_from = request.param
    return replace(nuclei, mpp=mpp, mpp_from=comes_from)


def saved_rows(nuclei, folder):
    nuclei.save(folder)
    with (folder / 'nuclei' / f'{nuclei.name}.csv').open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_the_table_is_that_of_the_file(sized, tmp_path, monkeypatch):
    """Without pandas too, where it has as many lines and the same columns."""
    monkeypatch.setitem(sys.modules, 'pandas', None)
    rows = saved_rows(sized, tmp_path)
    assert list(sized.table) == list(rows[0])[1:] == list(NUCLEI_HEADER[1:])
    assert len(sized.table) == len(sized) == len(rows) == 3
    assert sized.table['type'].tolist() == ['epithelial', 'lymphocyte', '']
    for name in NUCLEI_HEADER[3:]:
        written = [float(row[name]) if row[name] else math.nan for row in rows]
        np.testing.assert_array_equal(sized.table[name], written, err_msg=name)
    assert np.isnan(sized.table['area_um2']).all() == (sized.mpp_from != 'file'), (
        'what is assumed of nuclei measures none'
    )
    assert sized.table['area_px'].tolist() == np.bincount(sized.labels.ravel())[1:].tolist()


def test_the_table_is_a_data_frame_where_pandas_is_there(nuclei, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pandas', SimpleNamespace(DataFrame=lambda columns: ('frame', columns)))
    kind, columns = nuclei.table
    assert kind == 'frame'
    assert type(columns) is dict, 'pandas asks a dict for its length'
    assert list(columns) == list(NUCLEI_HEADER[1:])


def test_polygons_cover_the_nuclei(nuclei):
    assert list(nuclei.polygons) == [1, 2, 3]
    for number, pieces in nuclei.polygons.items():
        shape = shapely.MultiPolygon([(outer, holes) for outer, *holes in pieces])
        ys, xs = np.nonzero(nuclei.labels == number)
        assert shape.area == len(ys)
        assert shape.bounds == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize('classes', [2, 3])
@pytest.mark.parametrize('mpp', [0.5, None])
def test_saved_are_the_files_of_mmgfnuc_predict(many, tmp_path, classes, mpp):
    stub = Stub(classes, mpp=mpp)
    segment_images(stub, many[:2], tmp_path / 'run')
    saved = [stub(path) for path in many[:2]]
    rows = [row for nuclei in saved for row in saved_rows(nuclei, tmp_path / 'saved')]
    assert rows == table(tmp_path / 'run', 'nuclei.csv')
    assert outputs(tmp_path / 'saved') == outputs(tmp_path / 'run')
    for name in outputs(tmp_path / 'run'):
        assert (tmp_path / 'saved' / name).read_bytes() == (tmp_path / 'run' / name).read_bytes()
    written = json.loads((tmp_path / 'saved' / 'geojson' / 'a.geojson').read_text())
    assert written == json.loads(json.dumps(saved[0].to_geojson()))


def test_an_image_of_the_same_name_is_replaced(nuclei, tmp_path):
    nuclei.save(tmp_path)
    again = replace(nuclei, labels=(nuclei.labels == 2).astype(np.int32), types=np.array([2]))
    assert [row['type'] for row in saved_rows(again, tmp_path)] == ['lymphocyte']
    assert read(tmp_path / 'labels' / 'a.png').max() == 1
    replace(nuclei, name='b').save(tmp_path)
    assert len(outputs(tmp_path)) == 2 * len(FILES)


def test_the_overlay_shows_the_contours(many):
    image = read(many[0])
    nuclei = Stub()(image, PixelSize(None, 'unknown'), name='a')
    assert np.array_equal((nuclei.overlay() != image).any(2), outline(nuclei.labels))


def test_no_nuclei_are_a_table_without_lines(nuclei, tmp_path):
    none = replace(nuclei, labels=np.zeros_like(nuclei.labels), types=np.zeros(0, int))
    assert len(none) == len(none.table) == 0
    assert none.polygons == {}
    assert none.to_geojson() == {'type': 'FeatureCollection', 'features': []}
    assert saved_rows(none, tmp_path) == []
    assert '0 in' in repr(none)


def test_one_line_says_what_was_found_and_what_to_know(nuclei):
    shown = repr(replace(nuclei, name='a\nb', notices=('the first notice', 'the second')))
    for part in ('3 in', '40 x 20', '0.5 um', '1 epithelial', '1 lymphocyte', 'the first notice', 'the second'):
        assert part in shown
    assert '\n' not in shown
    assert repr(replace(nuclei, mpp_from='first pass')) != repr(nuclei)


def test_nuclei_go_to_another_process(nuclei):
    measured = nuclei.table
    back = pickle.loads(pickle.dumps(nuclei))
    assert list(back.table) == list(measured)
    assert back.to_geojson() == nuclei.to_geojson()


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('../a', "is not the name of a file; give predictor(image, name=...) one without '/'"),
        ('/a', 'not the name of a file'),
        ('', 'not the name of a file'),
        ('a\0b', 'not the name of a file'),
        ('x' * 250, 'cannot be written (File name too long)'),
        # Of the four files the last one alone has too long a name.
        ('x' * 239, 'cannot be written (File name too long)'),
    ],
)
def test_names_that_are_none_of_files(nuclei, tmp_path, name, said):
    with pytest.raises(UserError) as caught:
        replace(nuclei, name=name).save(tmp_path / 'out')
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]
    assert {path.name for path in tmp_path.iterdir()} <= {'in', 'out'}


def test_a_folder_whose_tables_would_no_longer_agree_is_refused(nuclei, many, tmp_path):
    segment_images(Stub(), many[:1], tmp_path / 'run')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'meta.json').write_text('{}')
    (tmp_path / 'file').write_text('')
    for folder, said in (('run', 'results of mmgfnuc predict'), ('data', 'a dataset'), ('file', 'Not a directory')):
        with pytest.raises(UserError, match=said):
            nuclei.save(tmp_path / folder)


def test_a_run_removes_the_saved_table_of_its_image(nuclei, many, tmp_path):
    nuclei.save(tmp_path)
    segment_images(Stub(), many[:1], tmp_path)
    assert not list((tmp_path / 'nuclei').iterdir())


def test_what_the_predictor_says_of_an_image(predictor, image, tmp_path):
    Image.fromarray(image).save(tmp_path / 'tissue.v2.png')
    opened = Image.open(tmp_path / 'tissue.v2.png')
    given = {'image': image, 'tissue.v2': tmp_path / 'tissue.v2.png'}
    for name, source in (*given.items(), ('tissue.v2', opened), ('image', opened.convert('L'))):
        assert predictor(source).name == name
    nuclei = predictor(os.fspath(tmp_path / 'tissue.v2.png'), 0.25, name='mine')
    assert (nuclei.name, nuclei.mpp) == ('mine', 0.25)
    assert predictor(image).mpp is None
    assert (nuclei.classes, nuclei.palette) == (predictor.preprocessing.classes, predictor.preprocessing.palette)
    np.testing.assert_array_equal(nuclei.image, image)


def test_what_is_unlike_the_training_images_is_among_the_notices(predictor, image, monkeypatch):
    def warnings(given, mpp):
        return [f'{given.shape} at {mpp}', 'blank']

    assert predictor(image, 0.25).notices == ()
    monkeypatch.setattr(predictor, 'domain', SimpleNamespace(warnings=warnings))
    assert predictor(image, 0.25).notices == ('(200, 248, 3) at 0.25', 'blank')


def test_the_next_image_may_be_written_into_the_same_array(predictor, image):
    frame = image.copy()
    nuclei = predictor(frame)
    frame[:] = 0
    expected = predictor(image)
    np.testing.assert_array_equal(nuclei.table['optical_density'], expected.table['optical_density'])
    np.testing.assert_array_equal(nuclei.overlay(), expected.overlay())

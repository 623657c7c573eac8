"""`mmgfnuc predict`: an image, a folder or a glob becomes label maps, masks, overlays, GeoJSON and a table."""

import csv
import json
import os
import signal
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.inference import Predictor

pytestmark = pytest.mark.slow


def rows_of(out):
    with (out / 'nuclei.csv').open() as file:
        return list(csv.DictReader(file))


def mask_of(out, name):
    return np.array(Image.open(out / 'masks' / f'{name}.png'))


@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    """Three images: RGB, RGBA and grey, of different sizes; and a file that is none."""
    folder = tmp_path_factory.mktemp('scans')
    image = Image.fromarray(render_tile(np.random.default_rng(5), 128)[0])
    image.crop((0, 0, 70, 50)).save(folder / 'small.png')
    image.convert('RGBA').save(folder / 'alpha.tif')
    image.convert('L').crop((0, 0, 90, 128)).save(folder / 'grey.png')
    (folder / 'notes.txt').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def segmented(tool, scans, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp('segmented')
    with redirect_stdout(StringIO()) as printed:
        assert tool('predict', scans, '--model', checkpoint, '--out', out, '--mpp', 0.5) == 0
    return out, printed.getvalue()


def test_a_folder(segmented):
    out, printed = segmented
    sizes = {'alpha': (128, 128), 'grey': (128, 90), 'small': (50, 70)}
    assert sorted(path.stem for path in (out / 'overlays').iterdir()) == sorted(sizes)
    rows = rows_of(out)
    assert f'3 images, {len(rows)} nuclei -> ' in printed
    assert '1 skipped' in printed
    assert 'notes.txt' in printed
    assert len(rows) > 3
    for name, size in sizes.items():
        mask = mask_of(out, name)
        assert mask.shape == size
        assert set(np.unique(mask)) <= {0, 255}
        assert np.array(Image.open(out / 'overlays' / f'{name}.png')).shape == (*size, 3)
        labels = read_label_map(out / 'labels' / f'{name}.png')
        assert labels.shape == size
        areas = np.bincount(labels.ravel())[1:].tolist()
        assert min(areas, default=1) > 0
        own = [row for row in rows if row['image'] == name]
        assert [(int(row['nucleus']), int(row['area_px'])) for row in own] == list(enumerate(areas, start=1))
        features = json.loads((out / 'geojson' / f'{name}.geojson').read_text())['features']
        assert [feature['properties']['measurements']['area_px'] for feature in features] == areas
        assert {feature['properties']['classification']['name'] for feature in features} <= {'nucleus'}
    assert {row['image'] for row in rows} <= set(sizes)
    assert {row['type'] for row in rows} == {'nucleus'}
    assert all(float(row['area_um2']) == int(row['area_px']) * 0.25 for row in rows)


def test_an_image_alone_a_glob_and_several_give_the_same(tool, scans, checkpoint, segmented, tmp_path):
    for sources, names in (
        ([scans / 'small.png'], ['small']),
        ([scans / '*.png'], ['grey', 'small']),
        ([scans / 's*.png', scans / 'alpha.tif', scans / 'grey.png'], ['alpha', 'grey', 'small']),
    ):
        out = tmp_path / str(len(names))
        assert tool('predict', *sources, '--model', checkpoint, '--out', out) == 0
        assert sorted(path.stem for path in (out / 'masks').iterdir()) == names
        assert all(np.mean(mask_of(out, name) != mask_of(segmented[0], name)) < 1e-3 for name in names)
        assert {row['area_um2'] for row in rows_of(out)} == {''}


def test_options_override_the_config(tool, scans, checkpoint, segmented, tmp_path):
    coarse = ['--cfg-options', 'model.test_cfg.scale=0.25']
    assert tool('predict', scans / 'alpha.tif', '--model', checkpoint, '--out', tmp_path, *coarse) == 0
    mask, usual = mask_of(tmp_path, 'alpha'), mask_of(segmented[0], 'alpha')
    assert mask.shape == usual.shape
    assert np.mean(mask != usual) > 0.01


def test_arguments_that_cannot_be_meant_are_told_before_the_checkpoint_is_read(tool, scans, tmp_path, capsys):
    for out, mpp, said in (
        (tmp_path / 'out', 'nan', 'argument --mpp: nan is not a number above 0'),
        (tmp_path / 'out', -0.5, 'argument --mpp: -0.5 is not a number above 0'),
        (tmp_path / 'out', 0.04, '--mpp: 0.04 micrometres per pixel are not within 0.05 to 5'),
        (tmp_path / 'out', 5.1, '--mpp: 5.1 micrometres per pixel are not within 0.05 to 5'),
        ('/dev/null', 0.5, "--out '/dev/null' is not a folder"),
        (scans / 'notes.txt', 0.5, f"--out '{scans / 'notes.txt'}' is not a folder"),
    ):
        assert tool('predict', scans, '--model', 'not read', '--out', out, '--mpp', mpp) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


def test_the_pixel_size_of_a_slide_is_used(tool, checkpoint, tmp_path, capsys):
    image = render_tile(np.random.default_rng(5), 128)[0]
    slide = tmp_path / 'slide.svs'
    tifffile.imwrite(slide, image, photometric='rgb', description='Aperio Image Library|AppMag = 40|MPP = 0.2500')
    assert tool('predict', slide, '--model', checkpoint, '--out', tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert 'as the files state it: 0.25 um (1)' in printed
    rows = rows_of(tmp_path / 'out')
    assert rows
    assert all(float(row['area_um2']) == int(row['area_px']) * 0.0625 for row in rows)


def test_a_request_to_end_leaves_complete_tables(tool, scans, checkpoint, tmp_path, monkeypatch):
    """What is in work is done to its end, and stands in the tables."""
    predict = Predictor.__call__

    def end_at_the_second(self, path):
        if (tmp_path / 'labels' / 'alpha.png').exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(self, path)

    monkeypatch.setattr(Predictor, '__call__', end_at_the_second)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert tool('predict', scans, '--model', checkpoint, '--out', tmp_path) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    done = {path.stem for path in (tmp_path / 'masks').iterdir()}
    assert {row['image'] for row in rows_of(tmp_path)} == done >= {'alpha'}


def test_images_of_another_magnification_are_scaled(tool, segmented, scans, checkpoint, tmp_path, capsys):
    arguments = [scans / 'small.png', '--model', checkpoint, '--out', tmp_path]
    assert tool('predict', *arguments, '--mpp', 0.25) == 0
    assert not np.array_equal(mask_of(tmp_path, 'small'), mask_of(segmented[0], 'small'))
    assert tool('predict', *arguments, '--mpp', 0.5) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert '(shifted; mpp was 0.25, is 0.5); name another --out, or start anew with --overwrite' in last
    assert tool('predict', *arguments, '--mpp', 0.5, '--overwrite') == 0
    assert [row['area_um2'] for row in rows_of(tmp_path)] == [str(int(row['area_px']) / 4) for row in rows_of(tmp_path)]


def test_an_unreadable_image_does_not_stop_the_others(tool, scans, checkpoint, tmp_path, capsys):
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'a.png').write_bytes(b'no picture')
    (folder / 'b.png').write_bytes((scans / 'small.png').read_bytes())
    assert tool('predict', folder, '--model', checkpoint, '--out', tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].startswith('error: 1 of 2 images failed:')
    assert lines[-1].startswith(f'{folder / "a.png"}: unreadable')
    assert [path.name for path in (tmp_path / 'masks').iterdir()] == ['b.png']


def test_bad_inputs_give_one_line(tool, config, scans, checkpoint, tmp_path, capsys):
    wider = tmp_path / 'wider.py'
    wider.write_text(config.read_text().replace('widths=(\n            4,', 'widths=(\n            6,'))
    assert wider.read_text() != config.read_text()
    damaged = tmp_path / 'damaged.pth'
    damaged.write_bytes(checkpoint.read_bytes()[:5_000])
    image = scans / 'small.png'
    for source, weights, options, message in (
        (tmp_path / 'none', checkpoint, [], 'names no image'),
        (image, tmp_path / 'none.pth', [], 'is not there'),
        (image, damaged, [], 'cannot be read'),
        (image, checkpoint, ['--config', wider], 'the checkpoint does not fit the model: it has backbone.'),
        (image, checkpoint, ['--config', tmp_path / 'none.py'], 'is not there'),
        (image, checkpoint, ['--cfg-options', 'model.backbone.widths=(6,8,16)'], 'the checkpoint does not fit'),
        (image, checkpoint, ['--device', 'cuda:99'], "device 'cuda:99' cannot be used here: "),
    ):
        assert tool('predict', source, '--model', weights, '--out', tmp_path / 'out', *options) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith('error: ')
        assert message in last
    assert not (tmp_path / 'out').exists()

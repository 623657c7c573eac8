"""Micrometres per pixel as files state them."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets.pixel_size import check_mpp, read_mpp
from mmgfnuc.errors import UserError

PIXELS = np.zeros((64, 80, 3), np.uint8)
CM, INCH, NONE = 'CENTIMETER', 'INCH', 'NONE'


def ome(x, unit='µm', y=None):
    return {'PhysicalSizeX': x, 'PhysicalSizeXUnit': unit, 'PhysicalSizeY': y or x, 'PhysicalSizeYUnit': unit}


def svs(text):
    description = f'Aperio Image Library v11.2.1\n80x64 [0,0 80x64] (16x16) JPEG/RGB Q=92|AppMag = 20|{text}'
    return {'description': description, 'tile': (16, 16), 'metadata': None}


@pytest.fixture
def written(tmp_path):
    def write(**settings):
        tifffile.imwrite(tmp_path / 'a.tif', PIXELS, photometric='rgb', **settings)
        return tmp_path / 'a.tif'

    return write


@pytest.mark.parametrize(
    ('settings', 'mpp'),
    [
        (svs('MPP = 0.4990'), 0.499),
        (svs('Left = 25|MPP=0.2525|ICC'), 0.2525),
        (svs('nothing'), None),
        ({'description': 'MPP = 0.4990, says somebody', 'metadata': None}, None),
        ({'ome': True, 'metadata': ome(0.5)}, 0.5),
        ({'ome': True, 'metadata': ome(250, 'nm')}, 0.25),
        ({'ome': True, 'metadata': ome(0.00025, 'mm')}, 0.25),
        ({'ome': True, 'metadata': ome(1, 'pixel')}, None),
        ({'ome': True, 'metadata': {}}, None),
        ({'imagej': True, 'resolution': (4, 4), 'metadata': {'unit': 'um'}}, 0.25),
        ({'imagej': True, 'resolution': (2, 2), 'metadata': {'unit': 'micron'}}, 0.5),
        ({'imagej': True, 'resolution': (2, 2), 'metadata': {'unit': '\\u00B5m'}}, 0.5),
        ({'imagej': True, 'resolution': (4000, 4000), 'metadata': {'unit': 'mm'}}, 0.25),
        ({'imagej': True, 'resolution': (4, 4), 'metadata': {'unit': 'pixel'}}, None),
        ({'resolution': (40_000, 40_000), 'resolutionunit': CM}, 0.25),
        ({'resolution': (50_800, 50_800), 'resolutionunit': INCH}, 0.5),
        ({'resolution': (72, 72), 'resolutionunit': INCH}, None),
        ({'resolution': (300, 300), 'resolutionunit': INCH}, None),
        ({'resolution': (4, 4), 'resolutionunit': NONE}, None),
        ({'resolution': (0, 0), 'resolutionunit': CM}, None),
        ({}, None),
    ],
)
def test_what_a_file_states(written, settings, mpp):
    assert read_mpp(written(**settings)) == pytest.approx(mpp)


def test_a_page_that_is_not_the_image_states_nothing(tmp_path):
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        file.write(PIXELS[::4, ::4], photometric='rgb', resolution=(10_000, 10_000), resolutionunit=CM)
        file.write(PIXELS, photometric='rgb', resolution=(40_000, 40_000), resolutionunit=CM)
    assert read_mpp(tmp_path / 'a.tif') == pytest.approx(0.25)


@pytest.mark.parametrize(
    ('name', 'dpi', 'mpp'),
    [
        ('a.png', (101_600, 101_600), 0.25),
        ('a.png', (50_800.2, 50_810), 0.5),
        ('a.png', (300, 300), None),
        ('a.png', None, None),
        ('a.jpg', (50_800, 50_800), 0.5),
        ('a.jpg', (72, 72), None),
        ('a.jpg', None, None),
        ('a.bmp', (101_600, 101_600), None),
        ('a.webp', None, None),
    ],
)
def test_the_resolution_of_other_formats(tmp_path, name, dpi, mpp):
    """That of a print, such as 300 per inch, says nothing of a microscope."""
    Image.fromarray(PIXELS).save(tmp_path / name, **({'dpi': dpi} if dpi else {}))
    assert read_mpp(tmp_path / name) == (mpp and pytest.approx(mpp, rel=1e-3))


@pytest.mark.parametrize(('unit', 'x', 'y', 'said'), [(1, 4, 4, 0.25), (0, 4, 4, None), (1, 0, 4, None), (1, 4, 2, '')])
def test_the_resolution_of_a_png_by_its_bytes(tmp_path, unit, x, y, said):
    """Pixels in a metre; a unit of 0 is an aspect."""
    chunk = struct.pack('>4sIIB', b'pHYs', x * 1_000_000, y * 1_000_000, unit)
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    data = (tmp_path / 'a.png').read_bytes()
    (tmp_path / 'a.png').write_bytes(
        data[:33] + struct.pack('>I', 9) + chunk + struct.pack('>I', zlib.crc32(chunk)) + data[33:]
    )
    if said == '':
        with pytest.raises(UserError, match=r'a\.png: pixels of 0\.25 x 0\.5 micrometres are not square'):
            read_mpp(tmp_path / 'a.png')
    else:
        assert read_mpp(tmp_path / 'a.png') == said


def test_a_jpeg_by_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 40_000.0, 40_000.0, 3
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', exif=exif)
    # Without JFIF, which states a resolution of its own.
    data = (tmp_path / 'a.jpg').read_bytes()
    start = data.index(b'\xff\xe0')
    (tmp_path / 'a.jpg').write_bytes(data[:start] + data[start + 18 :])
    assert read_mpp(tmp_path / 'a.jpg') == pytest.approx(0.25)


@pytest.mark.parametrize(
    ('settings', 'value'),
    [
        (svs('MPP = 49.9'), '49.9'),
        (svs('MPP = 0.0000005'), '5e-07'),
        ({'ome': True, 'metadata': ome(0.5, 'mm')}, '500'),
        ({'imagej': True, 'resolution': (4, 4), 'metadata': {'unit': 'cm'}}, '2500'),
    ],
)
def test_no_microscope_gives_such_pixels(written, settings, value):
    with pytest.raises(UserError, match=rf'a\.tif: {value} micrometres .*0\.05 to 5'):
        read_mpp(written(**settings))


@pytest.mark.parametrize(
    'settings',
    [
        {'ome': True, 'metadata': ome(0.25, y=0.5)},
        {'imagej': True, 'resolution': (4, 2), 'metadata': {'unit': 'um'}},
        {'resolution': (40_000, 20_000), 'resolutionunit': CM},
    ],
)
def test_pixels_that_are_not_square(written, settings):
    with pytest.raises(UserError, match=r'0\.25 x 0\.5 micrometres are not square'):
        read_mpp(written(**settings))


def test_rounded_sides_are_square(written):
    assert read_mpp(written(ome=True, metadata=ome(0.2500, y=0.2502))) == 0.25


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match='missing'):
        read_mpp(tmp_path / 'a.tif')
    for name, start in (('a.tif', b'II*\0'), ('a.jpg', b'\xff\xd8\xff')):
        (tmp_path / name).write_bytes(start + b'\xff' * 40)
        with pytest.raises(UserError, match='unreadable') as caught:
            read_mpp(tmp_path / name)
        assert '\n' not in str(caught.value)
    # The one who reads its pixels says what is wrong with it.
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n\0\0\0\x09pHYs\0\0')
    assert read_mpp(tmp_path / 'a.png') is None


def test_what_a_user_gives():
    for value in (0.25, np.float32(0.25), 1):
        assert check_mpp(value, '--mpp') == value
    for value in (0.0, -1, 250, float('nan'), float('inf')):
        with pytest.raises(UserError, match=rf'--mpp: {value:g} micrometres'):
            check_mpp(value, '--mpp')


@pytest.mark.parametrize('value', ['0.5', [0.5], True, None, pytest.param(10**400, id='huge'), np.float32(6)])
def test_what_is_no_number_is_no_pixel_size(value):
    with pytest.raises(UserError, match=r'mpp: .* not within'):
        check_mpp(value, 'mpp')

"""The one reader of files: what it shows is what viewers show; what it cannot show is refused in one line."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import images, limits
from mmgfnuc.datasets.bad_file import BadFileError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
IDS = RNG.integers(0, 60_000, (6, 9)).astype(np.uint16)
READERS = [images.read_image, images.check_image, images.read_label_map, images.read_ignore]


def save(path, pixels, **settings):
    Image.fromarray(pixels).save(path, **settings)
    return path


def turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return save(path, pixels, exif=exif, **({'lossless': True} if path.suffix == '.webp' else {}))


class TestOrientation:
    """Against the independent `ImageOps.exif_transpose`'s convention: each number by what it does to the array."""

    UPRIGHT = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.rot90(np.fliplr(a), 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.fliplr(a), -1),
        8: lambda a: np.rot90(a, 1),
    }

    @pytest.mark.parametrize('orientation', UPRIGHT)
    @pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif'])
    def test_images_are_upright(self, tmp_path, orientation, suffix):
        path = turned(tmp_path / f'a{suffix}', PIXELS, orientation)
        expected = self.UPRIGHT[orientation](PIXELS)
        np.testing.assert_array_equal(images.read_image(path), expected)
        assert images.check_image(path) == expected.shape[:2]

    @pytest.mark.parametrize('suffix', ['.png', '.tif'])
    def test_maps_follow_the_same_rule(self, tmp_path, suffix):
        path = turned(tmp_path / f'a{suffix}', IDS, 6)
        np.testing.assert_array_equal(images.read_label_map(path), np.rot90(IDS, -1))
        np.testing.assert_array_equal(images.read_ignore(path), np.rot90(IDS, -1) > 0)

    def test_a_photograph_fits_its_label_map(self, tmp_path):
        tissue = np.zeros((32, 48, 3), np.uint8)
        tissue[:8, :16] = 255
        turned(tmp_path / 'a.jpg', tissue, 8)
        read = images.read_image(tmp_path / 'a.jpg')
        np.testing.assert_array_equal(read[..., 0] > 128, np.rot90(tissue[..., 0] > 128))


class TestTransparency:
    ALPHA = np.linspace(0, 255, 54).astype(np.uint8).reshape(6, 9)

    @property
    def expected(self):
        share = self.ALPHA[..., None] / 255
        return np.rint(PIXELS * share + 255 * (1 - share))

    @pytest.mark.parametrize('suffix', ['.png', '.tif', '.webp'])
    def test_alpha_is_laid_on_white(self, tmp_path, suffix):
        settings = {'lossless': True, 'exact': True} if suffix == '.webp' else {}
        path = save(tmp_path / f'a{suffix}', np.dstack([PIXELS, self.ALPHA]), **settings)
        np.testing.assert_allclose(images.read_image(path), self.expected, atol=1)

    def test_grey_with_alpha(self, tmp_path):
        path = save(tmp_path / 'a.png', np.dstack([PIXELS[..., 0], self.ALPHA]))
        np.testing.assert_allclose(images.read_image(path), self.expected[..., [0, 0, 0]], atol=1)

    def test_a_transparent_colour_of_a_palette_and_of_rgb(self, tmp_path):
        grey = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert('P')
        grey.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        grey.save(tmp_path / 'palette.png', transparency=1)
        expected = [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
        np.testing.assert_array_equal(images.read_image(tmp_path / 'palette.png'), expected)
        rgb = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)
        Image.fromarray(rgb).save(tmp_path / 'rgb.png', transparency=(40, 50, 60))
        np.testing.assert_array_equal(images.read_image(tmp_path / 'rgb.png'), expected)

    def test_opaque_pixels_keep_their_colours(self, tmp_path):
        path = save(tmp_path / 'a.png', np.dstack([PIXELS, np.full((6, 9), 255, np.uint8)]))
        np.testing.assert_array_equal(images.read_image(path), PIXELS)

    def test_nothing_but_transparency_is_refused(self, tmp_path):
        path = save(tmp_path / 'a.png', np.dstack([PIXELS, np.zeros((6, 9), np.uint8)]))
        with pytest.raises(BadFileError, match='wholly transparent'):
            images.read_image(path)


def test_the_content_counts_not_the_suffix(tmp_path):
    save(tmp_path / 'a.tif', PIXELS).rename(tmp_path / 'a.png')
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), PIXELS)
    np.save(tmp_path / 'ids.npy', IDS.astype(np.float64))
    (tmp_path / 'ids.npy').rename(tmp_path / 'ids.png')
    np.testing.assert_array_equal(images.read_label_map(tmp_path / 'ids.png'), IDS)


@pytest.mark.parametrize('read', [images.read_image, images.check_image])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_png_of_16_bits_is_refused_in_every_kind_of_colour(tmp_path, read, channels):
    kinds = {1: 0, 2: 4, 3: 2, 4: 6}
    rows = b''.join(b'\0' + bytes(9 * channels * 2) for _ in range(6))
    path = tmp_path / 'a.png'
    path.write_bytes(png((9, 6), zlib.compress(rows), depth=16, kind=kinds[channels]))
    with pytest.raises(BadFileError, match='more than 8 bits'):
        read(path)


def png(size, data, depth=8, kind=2, sizes=(), last=()):
    """A PNG of (width, height), whatever its data, which are cut into chunks of these sizes; with further chunks."""
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', *size, depth, kind, 0, 0, 0))]
    for length in (*sizes, len(data)):
        chunks.append((b'IDAT', data[:length]))
        data = data[length:]
    packed = [struct.pack('>I', len(c)) + n + c + struct.pack('>I', zlib.crc32(n + c)) for n, c in [*chunks, *last]]
    return images.PNG + b''.join(packed) + struct.pack('>I4sI', 0, b'IEND', zlib.crc32(b'IEND'))


@pytest.mark.parametrize(
    ('mode', 'suffix', 'what'),
    [
        ('CMYK', '.jpg', 'CMYK'),
        ('CMYK', '.tif', 'SEPARATED'),
        ('LAB', '.tif', 'CIELAB'),
        ('F', '.tif', 'more than 8 bits'),
        ('I', '.tif', 'int32'),
    ],
)
def test_colours_that_one_would_have_to_guess_are_refused(tmp_path, mode, suffix, what):
    Image.new(mode, (9, 6)).save(tmp_path / f'a{suffix}')
    with pytest.raises(BadFileError, match=what):
        images.read_image(tmp_path / f'a{suffix}')


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    for suffix in ('.png', '.webp'):
        frames[0].save(tmp_path / f'a{suffix}', save_all=True, append_images=frames[1:], lossless=True)
        with pytest.raises(BadFileError, match='2 images'):
            images.read_image(tmp_path / f'a{suffix}')


def test_ids_are_not_read_from_a_format_that_changes_them(tmp_path):
    save(tmp_path / 'a.jpg', IDS.astype(np.uint8))
    save(tmp_path / 'a.tif', IDS.astype(np.uint8), compression='jpeg')
    for name in ('a.jpg', 'a.tif'):
        with pytest.raises(BadFileError, match=r'JPEG.* changes the ids'):
            images.read_label_map(tmp_path / name)


@pytest.mark.parametrize(
    ('read', 'pixels'),
    [
        (images.read_image, PIXELS),
        (images.read_image, PIXELS // 128),
        (images.read_label_map, IDS),
        (images.read_label_map, IDS // 30_000),
        (images.read_label_map, PIXELS[..., 0] // 128),
        (images.read_label_map, PIXELS[..., 0] > 128),
        (images.read_ignore, PIXELS[..., 0] // 128),
        (images.read_ignore, PIXELS[..., 0] > 128),
    ],
)
def test_no_flipped_bit_of_a_png_changes_the_pixels_without_a_word(tmp_path, read, pixels):
    path = save(tmp_path / 'a.png', pixels)
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(read(path), pixels)
        except BadFileError:
            refused += 1
    assert refused > 0.8 * len(content)


@pytest.mark.parametrize('sizes', [[], [10], [100], [100, 100, 7], [90, 10, 90, 90, 3], [7] * 30])
def test_an_orientation_after_the_pixels_counts(tmp_path, sizes):
    """Some programs write it there, behind chunks of data of whatever sizes."""
    rows = zlib.compress(b''.join(b'\0' + row.tobytes() for row in PIXELS))
    exif = Image.Exif()
    exif[274] = 3
    content = png((9, 6), rows, sizes=sizes, last=[(b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0'))])
    (tmp_path / 'a.png').write_bytes(content)
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), PIXELS[::-1, ::-1])
    (tmp_path / 'a.png').write_bytes(png((9, 6), rows, sizes=sizes))
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), PIXELS)


def test_every_channel_of_a_mask_counts(tmp_path):
    mask = np.zeros((6, 9, 3), np.uint8)
    mask[2, 3, 2] = 1
    np.testing.assert_array_equal(images.read_ignore(save(tmp_path / 'a.png', mask)), mask.any(axis=2))


class TestSize:
    @pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.bmp'])
    def test_a_limit_of_ours_not_of_pillow(self, tmp_path, monkeypatch, suffix):
        path = save(tmp_path / f'a{suffix}', np.zeros((100, 300, 3), np.uint8))
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
        assert images.read_image(path).shape == (100, 300, 3)
        monkeypatch.setenv(limits.LIMIT_ENV, '0.02')
        for read in (images.read_image, images.check_image, images.read_ignore):
            with pytest.raises(BadFileError, match=rf'100 x 300 .*limit of 0\.02.*{limits.LIMIT_ENV}='):
                read(path)

    @pytest.mark.parametrize('read', READERS)
    @pytest.mark.parametrize(('depth', 'kind'), [(8, 2), (16, 0), (1, 0)])
    def test_a_bomb_is_refused_by_its_header(self, tmp_path, read, depth, kind):
        path = tmp_path / 'a.png'
        path.write_bytes(png((60_000, 60_000), zlib.compress(bytes(1000)), depth, kind))
        with pytest.raises(BadFileError, match='3,600 megapixels, above the limit of 500'):
            read(path)

    @pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif'])
    def test_too_little_memory_is_said_before_decoding(self, tmp_path, monkeypatch, suffix):
        path = save(tmp_path / f'a{suffix}', np.zeros((100, 300, 3), np.uint8))
        monkeypatch.setattr(limits, 'SMALL', 0)
        monkeypatch.setattr(limits, 'free_memory', lambda: 50_000)
        with pytest.raises(BadFileError, match=r'100 x 300 pixels need .* GB of memory to be read, 5e-05 GB are free'):
            images.read_image(path)

    def test_a_decoder_without_memory(self, tmp_path, monkeypatch):
        def fail(*_):
            raise MemoryError

        monkeypatch.setattr(cv2, 'imread', fail)
        with pytest.raises(BadFileError, match='too little memory'):
            images.read_image(save(tmp_path / 'a.png', PIXELS))

    @pytest.mark.slow
    def test_14000_x_14000(self, tmp_path):
        path = tmp_path / 'a.png'
        Image.new('1', (14_000, 14_000), 1).save(path)
        image = images.read_image(path)
        assert image.shape == (14_000, 14_000, 3)
        assert image[::999, ::999].min() == 255


@pytest.mark.parametrize('read', READERS)
class TestNoFile:
    def test_a_named_pipe_is_not_waited_for(self, tmp_path, read):
        os.mkfifo(tmp_path / 'a.png')
        with pytest.raises(BadFileError, match='named pipe'):
            read(tmp_path / 'a.png')

    def test_a_folder_and_nothing(self, tmp_path, read):
        (tmp_path / 'a.png').mkdir()
        with pytest.raises(BadFileError, match='folder'):
            read(tmp_path / 'a.png')
        with pytest.raises(BadFileError, match='missing'):
            read(tmp_path / 'b.png')

    def test_a_name_that_is_not_utf_8(self, tmp_path, read):
        path = tmp_path / os.fsdecode(b'caf\xe9.png')
        path.write_bytes(b'no image')
        with pytest.raises(BadFileError) as caught:
            read(path)
        assert 'unreadable' in str(caught.value).encode().decode()


class TestArrays:
    @pytest.mark.parametrize('shape', [(200_000, 200_000), (2**32, 2**32), (2**63, 4)])
    def test_an_npy_that_claims_more_than_it_holds(self, tmp_path, shape):
        head = repr({'descr': '<i4', 'fortran_order': False, 'shape': shape}).encode()
        head += b' ' * (-len(head) % 64) + b'\n'
        (tmp_path / 'a.npy').write_bytes(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + bytes(64))
        with pytest.raises(BadFileError, match='unreadable') as caught:
            images.read_label_map(tmp_path / 'a.npy')
        assert '\n' not in str(caught.value)

    def test_an_npy_of_149_gib_of_holes(self, tmp_path):
        head = repr({'descr': '<i4', 'fortran_order': False, 'shape': (200_000, 200_000)}).encode()
        head += b' ' * (-len(head) % 64) + b'\n'
        with (tmp_path / 'a.npy').open('wb') as file:
            file.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head)
            file.truncate(file.tell() + 200_000 * 200_000 * 4)
        with pytest.raises(BadFileError, match='40,000 megapixels'):
            images.read_label_map(tmp_path / 'a.npy')

    @pytest.mark.parametrize('value', [0.5, -1, np.nan, 2**31, np.inf])
    def test_values_that_are_no_ids(self, tmp_path, value):
        np.save(tmp_path / 'a.npy', np.full((2, 2), value, np.float64))
        with pytest.raises(BadFileError, match=f'holds {value:.10g}, no whole number'):
            images.read_label_map(tmp_path / 'a.npy')

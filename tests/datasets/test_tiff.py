"""Which image of a TIFF file is read, and how its values become colours."""

import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets.bad_file import BadFileError
from mmgfnuc.datasets.images import read_image, read_label_map

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 80, 3), dtype=np.uint8)
PLANES = PIXELS.transpose(2, 0, 1)
IDS = RNG.integers(0, 60_000, (64, 80)).astype(np.uint16)
SVS = 'Aperio Image Library v11.2.1\n80x64 [0,0 80x64] (16x16) JPEG/RGB Q=92|AppMag = 20|MPP = 0.4990'

GREYS = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
# Of ImageJ: black to red, to green, to blue.
LUTS = [GREYS * np.eye(3, dtype=np.uint8)[channel][:, None] for channel in range(3)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'a.tif'


def write(path, *arrays, **settings):
    with tifffile.TiffWriter(path, ome=settings.pop('ome', None), imagej=settings.pop('imagej', False)) as file:
        for array in arrays:
            file.write(array, **settings)


@pytest.fixture(autouse=True)
def _no_notices():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


class TestWhichImage:
    @pytest.mark.parametrize(
        'settings',
        [
            {'ome': True, 'metadata': {'axes': 'CYX'}, 'photometric': 'minisblack'},
            {'imagej': True, 'metadata': {'axes': 'CYX', 'mode': 'composite'}, 'photometric': 'minisblack'},
            {'metadata': {'axes': 'CYX'}, 'photometric': 'minisblack'},
            {'photometric': 'rgb', 'planarconfig': 'separate'},
        ],
    )
    def test_planes_that_are_channels_are_joined(self, path, settings):
        write(path, PLANES, **settings)
        np.testing.assert_array_equal(read_image(path), PIXELS)

    @pytest.mark.parametrize(
        'settings',
        [
            {'imagej': True, 'metadata': {'axes': 'CYX', 'mode': 'composite', 'LUTs': LUTS[::-1]}},
            {'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Name': ['Blue', 'green', 'R']}}},
            {'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Color': [0xFFFF, 0xFF00FF, -16776961]}}},
            {
                'ome': True,
                'metadata': {
                    'axes': 'CYX',
                    'Channel': {'Name': ['ch1', '', 'red'], 'Color': [65535, 16711935, -16776961]},
                },
            },
        ],
    )
    def test_channels_that_are_named_in_another_order(self, path, settings):
        write(path, PLANES[::-1], photometric='minisblack', **settings)
        np.testing.assert_array_equal(read_image(path), PIXELS)

    @pytest.mark.parametrize(
        'settings',
        [
            {'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Name': ['Channel 0', 'C1', 'Channel:0:2']}}},
            {'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Color': [-1, -1, -1]}}},
            {'imagej': True, 'metadata': {'axes': 'CYX', 'mode': 'grayscale', 'LUTs': [GREYS] * 3}},
        ],
    )
    def test_channels_that_are_not_named_keep_their_order(self, path, settings):
        write(path, PLANES, photometric='minisblack', **settings)
        np.testing.assert_array_equal(read_image(path), PIXELS)

    @pytest.mark.parametrize(
        ('settings', 'said'),
        [
            (
                {'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Name': ['DAPI', 'FITC', 'Cy3']}}},
                'DAPI, FITC, Cy3',
            ),
            ({'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Name': ['red', 'red', 'blue']}}}, 'red, red, blue'),
            ({'ome': True, 'metadata': {'axes': 'CYX', 'Channel': {'Color': [0xFFFFFF, 65535, -1]}}}, '#00ffff, blue'),
            (
                {
                    'imagej': True,
                    'metadata': {'axes': 'CYX', 'mode': 'composite', 'LUTs': [LUTS[0] + LUTS[1], *LUTS[1:]]},
                },
                '#ffff00, green, blue',
            ),
        ],
    )
    def test_channels_of_other_colours_are_refused(self, path, settings, said):
        write(path, PLANES, photometric='minisblack', **settings)
        with pytest.raises(BadFileError, match=f'not red, green and blue .{said}') as caught:
            read_image(path)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize('order', [slice(None), slice(None, None, -1)])
    def test_the_largest_page_wherever_it_lies(self, path, order):
        write(path, *[PIXELS[::step, ::step] for step in (1, 4, 16)][order], photometric='rgb')
        np.testing.assert_array_equal(read_image(path), PIXELS)

    def test_a_pyramid_in_sub_files(self, path):
        with tifffile.TiffWriter(path) as file:
            file.write(PIXELS, photometric='rgb', subifds=1, tile=(16, 16))
            file.write(PIXELS[::2, ::2], photometric='rgb', subfiletype=1, tile=(16, 16))
        np.testing.assert_array_equal(read_image(path), PIXELS)

    def test_a_slide_without_its_thumbnail_label_and_macro(self, path):
        with tifffile.TiffWriter(path) as file:
            file.write(PIXELS, photometric='rgb', tile=(16, 16), description=SVS, metadata=None)
            file.write(PIXELS[::4, ::4], photometric='rgb', metadata=None, description='Aperio thumbnail')
            # Larger than the region that was cut out of the slide.
            for kind in (1, 9):
                file.write(np.zeros((100, 200, 3), np.uint8), photometric='rgb', subfiletype=kind, metadata=None)
        np.testing.assert_array_equal(read_image(path), PIXELS)

    @pytest.mark.parametrize(
        ('settings', 'pages'),
        [
            ({'imagej': True, 'metadata': {'axes': 'ZYX'}}, 5),
            ({'ome': True, 'metadata': {'axes': 'TYX'}}, 5),
            ({'metadata': None}, 5),
            ({}, 5),
        ],
    )
    def test_a_stack_is_refused_with_its_pages(self, path, settings, pages):
        write(path, RNG.integers(0, 256, (pages, 64, 80), dtype=np.uint8), photometric='minisblack', **settings)
        for read in (read_image, read_label_map):
            with pytest.raises(BadFileError, match=f'{pages} pages .*save the one page'):
                read(path)

    def test_three_pages_that_nothing_calls_channels(self, path):
        write(path, *PLANES, photometric='minisblack', metadata=None)
        with pytest.raises(BadFileError, match='3 pages'):
            read_image(path)

    def test_two_images_of_one_size(self, path):
        write(path, PIXELS, 255 - PIXELS, photometric='rgb')
        with pytest.raises(BadFileError, match='2 pages'):
            read_image(path)

    @pytest.mark.parametrize('channels', [2, 4, 5])
    def test_other_numbers_of_channels_are_refused(self, path, channels):
        planes = RNG.integers(0, 256, (channels, 64, 80), dtype=np.uint8)
        write(path, planes, ome=True, metadata={'axes': 'CYX'}, photometric='minisblack')
        with pytest.raises(BadFileError, match=f'{channels} channels'):
            read_image(path)

    def test_an_image_of_another_shape_is_left_out_with_a_notice(self, path):
        write(path, PIXELS, np.zeros((20, 60, 3), np.uint8), photometric='rgb', metadata=None)
        with pytest.warns(UserWarning, match='64 x 80 is taken, not those of 20 x 60'):
            np.testing.assert_array_equal(read_image(path), PIXELS)

    def test_a_page_in_another_file(self, path):
        write(path, PIXELS[..., 0], ome=True, metadata={'axes': 'YX'})
        content = path.read_bytes().replace(b'SizeC="1"', b'SizeC="3"')
        path.write_bytes(content)
        with pytest.raises(BadFileError, match='missing, or in another file'):
            read_image(path)


class TestCoding:
    @pytest.mark.parametrize('compression', ['lzw', 'zlib', 'zstd', 'packbits', 'lzma'])
    @pytest.mark.parametrize('predictor', [False, True])
    @pytest.mark.parametrize('byteorder', ['<', '>'])
    def test_label_maps(self, path, compression, predictor, byteorder):
        if compression == 'packbits' and predictor:
            pytest.skip('TIFF has none for it')
        tifffile.imwrite(path, IDS, compression=compression, predictor=predictor, byteorder=byteorder)
        np.testing.assert_array_equal(read_label_map(path), IDS)

    @pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64, bool])
    def test_label_maps_of_any_type(self, path, dtype):
        labels = (IDS % 100).astype(dtype)
        tifffile.imwrite(path, labels)
        np.testing.assert_array_equal(read_label_map(path), labels.astype(int))

    @pytest.mark.parametrize('compression', ['group4', 'group3', None])
    def test_a_mask_in_black_and_white_is_what_a_viewer_shows(self, path, compression):
        mask = IDS > 30_000
        Image.fromarray(mask).save(path, compression=compression)
        np.testing.assert_array_equal(read_label_map(path), np.array(Image.open(path)).astype(int))
        np.testing.assert_array_equal(read_label_map(path), mask.astype(int))

    @pytest.mark.parametrize('compression', ['lzw', 'zlib', 'webp', 'jpegxl'])
    def test_images(self, path, compression):
        settings = {'compressionargs': {'lossless': True}} if compression in ('webp', 'jpegxl') else {}
        tifffile.imwrite(path, PIXELS, photometric='rgb', compression=compression, **settings)
        np.testing.assert_array_equal(read_image(path), PIXELS)

    @pytest.mark.parametrize('subsampling', [(1, 1), (2, 2)])
    def test_jpeg_in_tiles(self, path, subsampling):
        smooth = np.kron(PIXELS[:8, :10], np.ones((16, 16, 1))).astype(np.uint8)
        tifffile.imwrite(path, smooth, compression='jpeg', tile=(32, 32), subsampling=subsampling, photometric='rgb')
        assert np.abs(read_image(path).astype(int) - smooth).mean() < 12

    def test_a_palette_and_white_at_zero(self, path):
        table = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
        tifffile.imwrite(path, PIXELS[..., 0], photometric='palette', colormap=table * 257)
        np.testing.assert_array_equal(read_image(path), table.T[PIXELS[..., 0]])
        tifffile.imwrite(path, PIXELS[..., 0], photometric='miniswhite')
        np.testing.assert_array_equal(read_image(path), 255 - PIXELS[..., [0, 0, 0]])

    def test_colours_times_alpha(self, path):
        alpha = np.full((64, 80, 1), 51, np.uint8)
        tifffile.imwrite(path, np.dstack([PIXELS // 5, alpha]), photometric='rgb', extrasamples=['assocalpha'])
        np.testing.assert_array_equal(read_image(path), PIXELS // 5 + 204)
        tifffile.imwrite(path, np.dstack([PIXELS, alpha]), photometric='rgb', extrasamples=['unassalpha'])
        np.testing.assert_allclose(read_image(path), PIXELS / 5 + 204, atol=0.5)

    def test_a_fourth_channel_that_nothing_explains(self, path):
        tifffile.imwrite(path, np.dstack([PIXELS, PIXELS[..., 0]]), photometric='rgb', extrasamples=['unspecified'])
        with pytest.raises(BadFileError, match='whether it is transparency'):
            read_image(path)

    @pytest.mark.parametrize('fraction', [0.3, 0.6, 0.95])
    @pytest.mark.parametrize('settings', [{}, {'tile': (16, 16)}, {'compression': 'lzw', 'rowsperstrip': 8}])
    def test_a_file_that_was_cut_off(self, path, fraction, settings):
        tifffile.imwrite(path, PIXELS, photometric='rgb', metadata=None, **settings)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(BadFileError, match='unreadable') as caught:
            read_image(path)
        assert '\n' not in str(caught.value)


class TestDepth:
    DEEP = (PIXELS.astype(np.uint16) << 4) + 7  # 12 bits

    def assert_range_is_12_bits(self, path):
        np.testing.assert_allclose(read_image(path), self.DEEP * (255 / 4095), atol=0.51)

    @pytest.mark.parametrize('byteorder', ['<', '>'])
    @pytest.mark.parametrize('planar', [False, True])
    @pytest.mark.parametrize('compression', [None, 'lzw'])
    def test_by_a_tag(self, path, byteorder, planar, compression):
        pixels = self.DEEP.transpose(2, 0, 1) if planar else self.DEEP
        layout = 'separate' if planar else 'contig'
        settings = dict(byteorder=byteorder, planarconfig=layout, compression=compression, photometric='rgb')
        tifffile.imwrite(path, pixels, **settings)
        with pytest.raises(BadFileError, match='more than 8 bits, whose range is not stated'):
            read_image(path)
        tifffile.imwrite(path, pixels, **settings, extratags=[(281, 'H', 3, (4095,) * 3, False)])
        self.assert_range_is_12_bits(path)

    def test_by_ome(self, path):
        tifffile.imwrite(path, self.DEEP, ome=True, photometric='rgb', metadata={'SignificantBits': 12})
        self.assert_range_is_12_bits(path)

    def test_by_imagej(self, path):
        planes = self.DEEP.transpose(2, 0, 1)
        shown = {'axes': 'CYX', 'mode': 'composite', 'Ranges': (0.0, 4095.0) * 3}
        tifffile.imwrite(path, planes, imagej=True, metadata=shown)
        self.assert_range_is_12_bits(path)
        tifffile.imwrite(path, self.DEEP[..., 0], imagej=True, metadata={'axes': 'YX', 'min': 0.0, 'max': 4095.0})
        np.testing.assert_allclose(read_image(path)[..., 1], self.DEEP[..., 0] * (255 / 4095), atol=0.51)

    def test_by_the_bits_of_a_pixel(self, path):
        tifffile.imwrite(path, self.DEEP, bitspersample=12, photometric='rgb', compression='none')
        self.assert_range_is_12_bits(path)
        tifffile.imwrite(path, PIXELS[..., 0] >> 4, bitspersample=4, photometric='minisblack')
        np.testing.assert_array_equal(read_image(path)[..., 0], (PIXELS[..., 0] >> 4) * 17)

    def test_floats(self, path):
        tifffile.imwrite(path, self.DEEP / np.float32(4095), photometric='rgb')
        with pytest.raises(BadFileError, match='range is not stated'):
            read_image(path)
        tags = [(340, 'f', 3, (0.0,) * 3, False), (341, 'f', 3, (1.0,) * 3, False)]
        tifffile.imwrite(path, self.DEEP / np.float32(4095), photometric='rgb', extratags=tags)
        self.assert_range_is_12_bits(path)

    def test_nothing_is_clipped(self, path):
        tifffile.imwrite(path, self.DEEP, photometric='rgb', extratags=[(281, 'H', 3, (1000,) * 3, False)])
        with pytest.raises(BadFileError, match='leaves the range of 0 to 1000'):
            read_image(path)

    def test_16_bits_said_of_a_camera_of_12(self, path):
        tifffile.imwrite(path, self.DEEP, ome=True, photometric='rgb', metadata={'SignificantBits': 16})
        with pytest.raises(BadFileError, match=f'brightest pixel is {self.DEEP.max()}, .* 65535 is white'):
            read_image(path)

    def test_alpha_is_not_the_brightest(self, path):
        pixels = np.dstack([self.DEEP, np.full((64, 80), 65535, np.uint16)])
        tags = [(281, 'H', 4, (65535,) * 4, False)]
        tifffile.imwrite(path, pixels, photometric='rgb', extrasamples=['unassalpha'], extratags=tags)
        with pytest.raises(BadFileError, match=f'brightest pixel is {self.DEEP.max()}, .* 65535 is white'):
            read_image(path)

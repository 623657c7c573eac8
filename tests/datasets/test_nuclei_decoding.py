"""NucleiDataset decodes common files by a faster way: the pixels and the errors are those of the canonical readers."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import NucleiDataset, canonical

SIDE = 24
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
IDS = RNG.integers(0, 60_000, (SIDE, SIDE)).astype(np.uint16)

IMAGES = {
    'rgb': Image.fromarray(PIXELS),
    'rgba': Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])),
    'grey': Image.fromarray(PIXELS[..., 0]),
    'palette': Image.fromarray(PIXELS).quantize(16),
    'bits': Image.fromarray(PIXELS[..., 0] > 99),
}
LABELS = {
    '16 bits': Image.fromarray(IDS),
    '8 bits': Image.fromarray(IDS.astype(np.uint8)),
    '1 bit': Image.fromarray(IDS > 30_000),
    'palette': Image.fromarray(PIXELS).quantize(16),
}


@pytest.fixture
def root(tmp_path):
    canonical.write_sample(tmp_path, 'a', PIXELS, IDS)
    meta = {'name': 'a', 'classes': canonical.CLASSES, 'licence': '', 'citation': '', 'source': ''}
    canonical.write_meta(tmp_path, meta | {'images': {'a': {'group': 'slide', 'mpp': None}}})
    return tmp_path


@pytest.mark.parametrize('kind', IMAGES)
def test_images(kind, root):
    IMAGES[kind].save(root / 'images/a.png')
    pixels = NucleiDataset(root)[0]['img']
    np.testing.assert_array_equal(pixels, canonical.read_image(root / 'images/a.png'))
    assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)


@pytest.mark.parametrize('kind', LABELS)
def test_label_maps(kind, root):
    LABELS[kind].save(root / 'labels/a.png')
    labels = NucleiDataset(root)[0]['instance_map']
    np.testing.assert_array_equal(labels, canonical.read_label_map(root / 'labels/a.png'))
    assert labels.dtype == np.int32


def test_label_maps_of_large_ids(root):
    tifffile.imwrite(root / 'labels/a.tif', IDS.astype(np.int32) * 1000)
    np.testing.assert_array_equal(NucleiDataset(root)[0]['instance_map'], IDS.astype(np.int32) * 1000)


@pytest.mark.parametrize('name', ['images/a.png', 'labels/a.png'])
@pytest.mark.parametrize('harm', ['cut', 'bit', 'empty', 'gone'])
def test_damaged_files_are_named(name, harm, root):
    dataset, path = NucleiDataset(root), root / name
    content = path.read_bytes()
    if harm == 'gone':
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes({'cut': content[:middle], 'bit': flipped, 'empty': b''}[harm])
    with pytest.raises(canonical.BadFileError, match=r'a\.png: (unreadable|missing)'):
        dataset[0]


def test_deep_colour_is_refused(root):
    Image.fromarray(IDS).save(root / 'images/a.png')
    with pytest.raises(canonical.BadFileError, match='more than 8 bits'):
        NucleiDataset(root)[0]

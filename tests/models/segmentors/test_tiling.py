import itertools

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors.tiling import edge_weights, tile_starts, tiled_forward

TILE, OVERLAP = 32, 16
SIZES = [(32, 32), (33, 47), (90, 64), (100, 131)]


@pytest.mark.parametrize('overlap', [0, 1, 5, 8, 16])
def test_tiles_cover_and_overlap(overlap):
    for length in range(1, 150):
        starts = tile_starts(length, TILE, overlap)
        covered = {pixel for start in starts for pixel in range(start, min(start + TILE, length))}
        assert covered == set(range(length))
        assert starts[-1] + min(TILE, length) == length
        assert all(0 < b - a <= TILE - overlap for a, b in itertools.pairwise(starts))


def test_edge_weights_by_hand():
    """Overlap 8: a margin of 2 pixels without weight, then a ramp of 4; sides on the image border keep theirs."""
    slope = [0, 0, 0.2, 0.4, 0.6, 0.8]
    torch.testing.assert_close(edge_weights(8, 16, 64, 8), torch.tensor([*slope, 1, 1, 1, 1, *slope[::-1]]))
    torch.testing.assert_close(edge_weights(0, 16, 64, 8), torch.tensor([1.0] * 10 + slope[::-1]))
    torch.testing.assert_close(edge_weights(48, 16, 64, 8), torch.tensor([*slope, *[1.0] * 10]))
    assert edge_weights(0, 16, 16, 8).tolist() == [1] * 16


@pytest.mark.parametrize('overlap', [0, 1, 2, 3, 7, 16])
@pytest.mark.parametrize('size', [*SIZES, (20, 70), (5, 5)])
def test_identity(size, overlap):
    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(tiled_forward(lambda x: x, images, TILE, overlap), images)


@pytest.mark.parametrize('size', SIZES)
def test_equals_the_whole_image_where_the_receptive_field_fits(size):
    """Four 3x3 convolutions see 4 pixels to each side, a quarter of the overlap; zeros outside, as at the border."""
    weights = [torch.randn(4, channels, 3, 3) / 5 for channels in (3, 4, 4, 4)]

    def network(x):
        for weight in weights:
            x = F.conv2d(x, weight, padding=1).relu()
        return x

    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(tiled_forward(network, images, TILE, OVERLAP), network(images))
    # The test would notice a wider view:
    weights.append(torch.randn(4, 4, 3, 3) / 5)
    if size != (32, 32):
        assert not torch.allclose(tiled_forward(network, images, TILE, OVERLAP), network(images))


def test_cost_is_linear_in_the_pixels():
    """Each pixel is computed at most (tile / step)**2 times, give or take the last tile of a row and column."""
    per_pixel = []
    for side in (64, 128, 256, 512):
        crops = []

        def network(x, crops=crops):
            crops.append(x.numel())
            return x

        images = torch.zeros(1, 1, side, side)
        tiled_forward(network, images, TILE, 8)
        per_pixel.append(sum(crops) / images.numel())
    # One axis: ceil((side - 32) / 24) + 1 tiles of 32 pixels, that is 3, 5, 11 and 21.
    assert per_pixel == [(tiles * TILE / side) ** 2 for tiles, side in ((3, 64), (5, 128), (11, 256), (21, 512))]


def test_no_crop_is_larger_than_a_tile():
    shapes = set()

    def network(x):
        shapes.add(tuple(x.shape[1:]))
        return x[:, :1]

    assert tiled_forward(network, torch.zeros(3, 2, 20, 100), TILE, OVERLAP).shape == (3, 1, 20, 100)
    assert shapes == {(2, 20, TILE)}


def test_images_of_a_batch_do_not_mix():
    images = torch.rand(3, 2, 70, 50)
    together = tiled_forward(lambda x: x.cumsum(-1), images, TILE, OVERLAP)
    alone = [tiled_forward(lambda x: x.cumsum(-1), image[None], TILE, OVERLAP) for image in images]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize('overlap', [-1, 17, 32])
def test_bad_overlap(overlap):
    with pytest.raises(UserError, match=f'overlap={overlap} must lie between 0 and half the tile, 16 pixels'):
        tiled_forward(lambda x: x, torch.zeros(1, 1, 64, 64), TILE, overlap)


@pytest.mark.parametrize(('number', 'batches'), [(1, [3] * 16), (5, [15, 15, 15, 3]), (100, [48])])
def test_tiles_per_batch(number, batches):
    """Tiles of all images of a batch go together."""
    sizes = []

    def network(x):
        sizes.append(len(x))
        return x.cumsum(-1)

    images = torch.rand(3, 2, 70, 80)
    found = tiled_forward(network, images, TILE, OVERLAP, number)
    assert sizes == batches
    torch.testing.assert_close(found, tiled_forward(lambda x: x.cumsum(-1), images, TILE, OVERLAP))

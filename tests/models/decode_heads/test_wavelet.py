import numpy as np
import pytest
import torch

from mmgfnuc.models.decode_heads.wavelet import haar_transform

LOW, HIGH = np.array([1, 1]) / np.sqrt(2), np.array([1, -1]) / np.sqrt(2)
# Down, right: what is asked of the rows of a block, and of its columns.
BASIS = [np.outer(rows, columns) for rows, columns in [(LOW, LOW), (HIGH, LOW), (LOW, HIGH), (HIGH, HIGH)]]


@pytest.mark.parametrize('size', [(6, 4), (5, 4), (6, 3), (1, 1), (7, 5)])
def test_equals_the_products_with_the_basis(size):
    """Block by block, with the outer products of the two Haar filters, on an image made even by its last pixels."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (0, size[0] % 2), (0, size[1] % 2)], mode='edge')
    height, width = padded.shape[2] // 2, padded.shape[3] // 2
    expected = np.zeros((2, 12, height, width))
    for band, basis in enumerate(BASIS):
        for channel, row, column in np.ndindex(3, height, width):
            block = padded[:, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected[:, 3 * band + channel, row, column] = (block * basis).sum((1, 2))
    torch.testing.assert_close(haar_transform(x), torch.from_numpy(expected))


def test_keeps_the_energy():
    x = torch.randn(1, 2, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(haar_transform(x).square().sum(), x.square().sum())


def test_by_hand():
    block = torch.tensor([[1.0, 2.0], [3.0, 8.0]])[None, None]
    # 14 / 2, (3 - 11) / 2, (4 - 10) / 2, (1 - 2 - 3 + 8) / 2
    torch.testing.assert_close(haar_transform(block).flatten(), torch.tensor([7.0, -4.0, -3.0, 2.0]))

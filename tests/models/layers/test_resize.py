import torch
import torch.nn.functional as F

from mmgfnuc.models.layers import resize, upsample


def test_equal_sizes_are_left_alone():
    x = torch.rand(1, 2, 5, 4)
    assert resize(x, (5, 4)) is resize(x, x.shape[-2:]) is upsample(x, 1) is x


def test_is_bilinear():
    x = torch.rand(1, 2, 5, 4)
    torch.testing.assert_close(resize(x, (9, 7)), F.interpolate(x, (9, 7), mode='bilinear'))


def test_upsampling_by_hand():
    """Centres of the fine pixels lie a quarter to each side of those of the coarse ones; borders are continued."""
    row = torch.tensor([0.0, 4.0])[None, None, None]
    torch.testing.assert_close(upsample(row, 2)[0, 0], torch.tensor([[0.0, 1.0, 3.0, 4.0]] * 2))

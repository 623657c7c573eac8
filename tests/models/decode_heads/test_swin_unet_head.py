import itertools

import torch

from mmgfnuc.models.backbones.swin_unet_encoder import SwinUNetEncoder
from mmgfnuc.models.decode_heads.swin_unet_head import PatchExpand, SwinUNetHead
from mmgfnuc.testing import DecodeHeadBattery, fill_with_noise


class TestContract(DecodeHeadBattery):
    part = dict(type=SwinUNetHead, head_dim=4, window_size=3, drop_path_rate=0.0)
    to_the_image = True


def test_published_size():
    """The paper prints no count; comparisons by others print 27.17 M at 9 classes.

    By hand from the authors' code. A Swin block: two norms, query, key, value, projection, 13x13 position biases for
    each head, an MLP of four times the width. A step: patch expanding with its norm, the linear layer behind the
    skip, two blocks. Then a norm, the last patch expanding with its norm, a 1x1 convolution without bias.
    """
    with torch.device('meta'):
        encoder = SwinUNetEncoder()
        head = SwinUNetHead(encoder.out_channels, in_strides=encoder.out_strides, num_classes=9)

    def block(width, heads):
        attention = 3 * (width * width + width) + width * width + width + 13 * 13 * heads
        return 4 * width + attention + 4 * width * width + 4 * width + 4 * width * width + width

    def step(width, heads):
        return 2 * width * 4 * width + 2 * width + 2 * width * width + width + 2 * block(width, heads)

    end = 2 * 96 + 96 * 16 * 96 + 2 * 96 + 9 * 96
    count = sum(p.numel() for p in head.parameters())
    assert count == step(384, 12) + step(192, 6) + step(96, 3) + end
    assert count + sum(p.numel() for p in encoder.parameters()) == 27_168_900


def test_patch_expand_by_hand():
    """Token (s r + i, s c + j) is the slice s i + j of what (r, c) expands to, normalised."""
    scale = 3
    expand = fill_with_noise(PatchExpand(5, 4, scale), scale=1.0)
    x = torch.randn(1, 2, 3, 5)
    out = expand(x)
    assert out.shape == (1, 6, 9, 4)
    slices = (x @ expand.expand.weight.T).unflatten(-1, (scale * scale, 4))
    for row, column, i, j in itertools.product(range(2), range(3), range(scale), range(scale)):
        token = slices[0, row, column, scale * i + j]
        normalised = (token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt()
        expected = normalised * expand.norm.weight + expand.norm.bias
        torch.testing.assert_close(out[0, scale * row + i, scale * column + j], expected)


def test_decoder_by_hand():
    """Expanded, cropped right and below at an odd size, joined behind the expanded map, attended."""
    head = fill_with_noise(SwinUNetHead((4, 6), head_dim=4, window_size=3, in_strides=(2, 4))).eval()
    skip, deepest = torch.randn(1, 4, 5, 7), torch.randn(1, 6, 3, 4)
    step = head.up_blocks[0]
    up = step.up(deepest.permute(0, 2, 3, 1))[:, :5, :7]
    x = step.blocks(step.join(torch.cat([up, skip.permute(0, 2, 3, 1)], -1)))
    x = head.final_expand(head.norm(x)) @ head.conv_seg.weight[..., 0, 0].T
    torch.testing.assert_close(head((skip, deepest)), x.permute(0, 3, 1, 2))


def test_settings_of_the_levels():
    """Heads of 32 channels; drop path of the encoder's levels, whose deepest has the last share of the rise."""
    head = SwinUNetHead((20, 96, 192), drop_path_rate=0.5)
    blocks = [block for step in reversed(head.up_blocks) for block in step.blocks]
    assert [block.attn.num_heads for block in blocks] == [1, 1, 3, 3]
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for block in blocks]
    torch.testing.assert_close(rates, [0.0, 0.1, 0.2, 0.3])

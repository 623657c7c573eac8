import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.u2net_encoder import U2NetEncoder
from mmgfnuc.models.decode_heads.u2net_head import U2NetHead
from mmgfnuc.testing import DecodeHeadBattery, data_samples, fill_with_noise, pyramid

CHANNELS = DecodeHeadBattery.in_channels
SMALL = {'backbone': {'widths': (64,) * 6, 'mid_widths': (16,) * 6}, 'decode_head': {'mid_widths': (16,) * 5}}


class TestContract(DecodeHeadBattery):
    part = dict(type=U2NetHead)
    loss_keys = {
        f'{output}{key}'
        for output in ('', 'aux_1.', 'aux_2.', 'aux_3.', 'aux_4.')
        for key in ('loss_dice_focal', 'acc_seg')
    }


def published(settings):
    """U2-Net as the authors have it: one output channel."""
    with torch.device('meta'):
        backbone = U2NetEncoder(**settings.get('backbone', {}))
        head = U2NetHead(backbone.out_channels, num_classes=1, threshold=0.5, **settings.get('decode_head', {}))
    return backbone, head


@pytest.mark.parametrize(
    ('settings', 'count', 'megabytes'), [({}, 44_009_869, 176.3), (SMALL, 1_131_181, 4.7)], ids=['full', 'small']
)
def test_published_number_of_parameters(settings, count, megabytes):
    """The paper gives file sizes; the counts are those of the authors' code.

    The authors' convolutions have a bias, which their norms remove: one parameter per normalised channel that is left
    out here. With it the file's float32 numbers, running means and variances included, leave 0.15 MB for names.
    """
    network = nn.ModuleList(published(settings))
    normalised = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters + normalised == count
    assert 0.1 < megabytes - 4e-6 * (count + 2 * normalised) < 0.2


@pytest.mark.parametrize('settings', [{}, SMALL], ids=['full', 'small'])
def test_published_decoder_stages(settings):
    """(L, input, mid, output channels) of the authors' decoder stages, shallow first."""
    full = [(7, 128, 16, 64), (6, 256, 32, 64), (5, 512, 64, 128), (4, 1024, 128, 256), (4, 1024, 256, 512)]
    small = [(7, 128, 16, 64), (6, 128, 16, 64), (5, 128, 16, 64), (4, 128, 16, 64), (4, 128, 16, 64)]
    _, head = published(settings)
    assert [
        (len(stage.down) + 1, stage.enter[0].in_channels, stage.bottom[0].in_channels, stage.enter[0].out_channels)
        for stage in head.stages
    ] == (small if settings else full)
    assert [isinstance(stage.pool, nn.Identity) for stage in head.stages] == [False] * 4 + [True]


def test_written_out():
    """Three levels: what each stage sees, the side outputs and their fusion."""
    head = fill_with_noise(U2NetHead((4, 6, 8)), scale=0.5).eval()
    one, two, three = levels = pyramid(2, 21, 30, (4, 6, 8))

    def up(x, size):
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    with torch.no_grad():
        deep = head.stages[1](torch.cat([up(three, (11, 15)), two], 1))
        shallow = head.stages[0](torch.cat([up(deep, (21, 30)), one], 1))
        sides = [up(c(x), (21, 30)) for c, x in zip(head.side_classifiers, (shallow, deep, three), strict=True)]
        fused, *trained = head.outputs(levels)
        torch.testing.assert_close(trained, sides)
        weight = head.conv_seg.weight[..., 0, 0]
        expected = torch.einsum('oc,bchw->bohw', weight, torch.cat(sides, 1)) + head.conv_seg.bias[:, None, None]
        torch.testing.assert_close(fused, expected)
        torch.testing.assert_close(head(levels), fused, rtol=0, atol=0)


def test_every_output_has_the_same_loss():
    head, levels, samples = U2NetHead(CHANNELS).eval(), pyramid(2, 32, 32), data_samples(2, 32, 32)
    losses = head.loss(levels, samples)
    keys = ['loss_dice_focal', *(f'aux_{i}.loss_dice_focal' for i in (1, 2, 3, 4))]
    for key, logits in zip(keys, head.outputs(levels), strict=True):
        torch.testing.assert_close(losses[key], head.loss_by_feat(logits, samples)['loss_dice_focal'])


def test_dropout_acts_on_features_not_on_logits():
    """A class dropped from the fusion would tip every pixel."""
    seen = []
    head = U2NetHead(CHANNELS, dropout_ratio=0.5)
    head.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    head(pyramid(2, 32, 32))
    assert seen == [4, 4, 6, 10]


@pytest.mark.parametrize('name', ['widths', 'mid_widths'])
def test_errors(name):
    message = rf'{name}=\(4, 4\) has 2 entries for a pyramid of 4 levels; give 3, one per level but the deepest'
    with pytest.raises(UserError, match=message):
        U2NetHead(CHANNELS, **{name: (4, 4)})

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import mmgfnuc
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNet3PlusHead
from mmgfnuc.models.decode_heads.unet3plus_head import resize_to
from mmgfnuc.testing import DecodeHeadBattery, data_samples, pyramid

CHANNELS = DecodeHeadBattery.in_channels
EUNET3PLUS_WIDTHS = (32, 64, 128, 256, 512)


class TestContract(DecodeHeadBattery):
    part = dict(type=UNet3PlusHead, skip_channels=4)


class TestContractDeeplySupervised(DecodeHeadBattery):
    part = dict(type=UNet3PlusHead, skip_channels=4, deep_supervision=True)
    loss_keys = {
        f'{level}{key}' for level in ('', 'aux_1.', 'aux_2.', 'aux_3.') for key in ('loss_dice_focal', 'acc_seg')
    }


class TestContractGuided(DecodeHeadBattery):
    part = dict(type=UNet3PlusHead, skip_channels=4, classification_guided=True)
    loss_keys = {'loss_dice_focal', 'acc_seg', 'loss_guide'}

    def build(self, *args, **settings):
        head = super().build(*args, **settings)
        call_images(head, empty=False)
        return head


def call_images(head, empty):
    """Make the guide call every image empty, or none, without cutting it off its input."""
    torch.nn.init.constant_(head.guide[1].bias[0], 50.0 if empty else -5.0)


def test_nodes_of_eunet3plus():
    """Five sources of 32 channels at each of the four nodes, and what they come from."""
    with torch.device('meta'):
        head = UNet3PlusHead(EUNET3PLUS_WIDTHS, skip_channels=32)
        levels = head.decode(pyramid(1, 256, 256, EUNET3PLUS_WIDTHS))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (160, 256, 256),
        (160, 128, 128),
        (160, 64, 64),
        (160, 32, 32),
        (512, 16, 16),
    ]
    assert [[projection[0].in_channels for projection in node.project] for node in head.nodes] == [
        [32, 160, 160, 160, 512],
        [32, 64, 160, 160, 512],
        [32, 64, 128, 160, 512],
        [32, 64, 128, 256, 512],
    ]
    assert {projection[0].out_channels for node in head.nodes for projection in node.project} == {32}
    assert {(node.fuse[0].in_channels, node.fuse[0].out_channels) for node in head.nodes} == {(160, 160)}


def test_cost_of_eunet3plus():
    """About 54 G multiply-adds per 256x256 image; here by hand and by counting what runs.

    At level i, of side S_i, a 3x3 convolution from a to b channels costs 9 a b S_i**2. (The blur of the
    down-sampling, left out here, adds less than 0.1 %.)
    """
    side = [256 // 2**i for i in range(5)]
    widths = EUNET3PLUS_WIDTHS
    encoder = sum(9 * side[i] ** 2 * 2 * widths[i] * ((3, *widths)[i] + widths[i]) for i in range(5))
    nodes = sum(9 * side[i] ** 2 * (32 * (sum(widths[: i + 1]) + 160 * (3 - i) + 512) + 160 * 160) for i in range(4))
    classifier = 9 * side[0] ** 2 * 160 * 2
    with torch.device('meta'):
        backbone = UNetEncoder(widths=widths, activation='glu', downsampling='max_pool')
        head = UNet3PlusHead(widths, skip_channels=32)
        images = torch.rand(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter:
        head(backbone(images))
    assert counter.get_total_flops() / 2 == encoder + nodes + classifier
    assert 52e9 < encoder + nodes + classifier < 56e9


@pytest.mark.parametrize('factor', [2, 4])
def test_larger_maps_are_max_pooled(factor):
    x = torch.randn(1, 3, 16, 8)
    torch.testing.assert_close(resize_to(x, (16 // factor, 8 // factor)), F.max_pool2d(x, factor))


def test_smaller_maps_are_interpolated_and_equal_ones_pass():
    x = torch.randn(1, 3, 5, 4)
    expected = F.interpolate(x, (10, 8), mode='bilinear', align_corners=False)
    torch.testing.assert_close(resize_to(x, (10, 8)), expected)
    assert resize_to(x, (5, 4)) is x


def guided_head():
    torch.manual_seed(0)
    return UNet3PlusHead(CHANNELS, skip_channels=4, num_classes=3, classification_guided=True).eval()


def test_guide_suppresses_the_nuclei_of_empty_images_in_prediction():
    head, levels = guided_head(), pyramid(2, 32, 32)
    call_images(head, empty=False)
    plain = head(levels)
    assert (plain.argmax(1) > 0).any()
    # The guide looks at the deepest level only: make it call the second image empty by what it sees there.
    with torch.no_grad():
        head.guide[1].weight.zero_()
        head.guide[1].weight[0, 0] = 1.0
        head.guide[1].bias.copy_(torch.tensor([-3.0, 0.0]))
    levels[-1][:, 0] = torch.tensor([0.0, 50.0])[:, None, None]
    head.guide_trained.fill_(True)
    call_free = guided_head()
    call_free.load_state_dict(head.state_dict())
    call_free.guide = None
    plain, guided = call_free(levels), head(levels)
    torch.testing.assert_close(guided[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(guided[1, 0], plain[1, 0], rtol=0, atol=0)
    assert (guided[1].argmax(0) == 0).all()
    assert guided.half().isfinite().all()


def test_a_guide_that_was_never_trained_suppresses_nothing():
    """As where a network is trained with a loss of its own on the logits."""
    head, levels, samples = guided_head(), pyramid(2, 32, 32), data_samples(2, 32, 32)
    call_images(head, empty=True)
    head.loss(levels, samples)
    assert (head.eval()(levels).abs() < 1e3).all()
    head.train().loss(levels, samples)
    assert (head.eval()(levels)[:, 1:] < -1e3).all()
    restored = guided_head()
    restored.load_state_dict(head.state_dict())
    torch.testing.assert_close(restored(levels), head(levels))


def test_guide_leaves_the_training_loss_alone():
    head, levels, samples = guided_head(), pyramid(2, 32, 32), data_samples(2, 32, 32)
    losses = []
    for empty in (False, True):
        call_images(head, empty)
        losses.append(head.loss(levels, samples))
    torch.testing.assert_close(losses[0]['loss_dice_focal'], losses[1]['loss_dice_focal'], rtol=0, atol=0)
    # The truth holds nuclei: to call it empty costs.
    assert losses[1]['loss_guide'] > losses[0]['loss_guide'] + 10


def test_guide_takes_ignored_pixels_for_no_nucleus():
    head, samples = guided_head(), data_samples(1, 32, 32)
    call_images(head, empty=True)
    samples[0].gt_sem_seg.data.zero_()[..., :9] = 255
    assert head.loss(pyramid(1, 32, 32), samples)['loss_guide'] < 1e-6


def test_published_size():
    """Huang et al. 2020, table 1: 26.97 M parameters without deep supervision (and without the guide)."""
    plain = {'deep_supervision': False, 'classification_guided': False}
    with torch.device('meta'):
        model = mmgfnuc.create_model('unet3+', parts={'decode_head': plain})
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 26.97

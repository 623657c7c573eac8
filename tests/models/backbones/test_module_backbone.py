"""Networks of others as backbones: MMSegmentation's, and plain modules."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import ModuleBackbone, UNetEncoder, build_backbone
from mmgfnuc.models.complexity import on_meta
from mmgfnuc.testing import BackboneBattery, fill_with_noise

RESNET = {'type': 'mmseg.ResNet', 'depth': 18, 'base_channels': 4, 'stem_channels': 4}
SWIN = {'type': 'mmseg.SwinTransformer', 'embed_dims': 8, 'depths': (2, 1, 1, 1), 'num_heads': (1, 2, 2, 4)}
SWIN['drop_path_rate'] = 0.0
MIT = {'type': 'mmseg.MixVisionTransformer', 'embed_dims': 4, 'num_layers': [1] * 4, 'num_heads': [1, 2, 4, 8]}


class Plain(nn.Module):
    """Levels of stride 2 and 6."""

    def __init__(self, in_channels=3, width=4):
        super().__init__()
        self.shallow = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(width, 2 * width, 3, stride=3)

    def forward(self, images):
        level = self.shallow(images)
        return [level, self.deep(level)]


class TestContract(BackboneBattery):
    parts = [RESNET, SWIN, MIT, {'type': Plain, 'width': 5}]


@pytest.mark.parametrize(
    ('config', 'channels', 'strides'),
    [
        (RESNET, (4, 8, 16, 32), (4, 8, 16, 32)),
        ({**RESNET, 'type': 'mmseg.ResNetV1c', 'norm_cfg': {'type': 'SyncBN'}}, (4, 8, 16, 32), (4, 8, 16, 32)),
        (SWIN, (8, 16, 32, 64), (4, 8, 16, 32)),
        (MIT, (4, 8, 16, 32), (4, 8, 16, 32)),
        ({'type': Plain}, (4, 8), (2, 6)),
    ],
)
def test_channels_and_strides_are_found(config, channels, strides):
    """Without memory too, as a run is rehearsed."""
    for backbone in (build_backbone(config), on_meta(lambda: build_backbone(config))):
        assert (backbone.out_channels, backbone.out_strides) == (channels, strides)
        assert backbone.multiple == strides[-1]


@torch.no_grad()
def test_levels_are_those_of_the_network():
    """By hand: ImageNet's mean and std, the last row and column repeated up to a multiple of 32, levels cropped."""
    backbone = fill_with_noise(build_backbone(RESNET), 0.3).eval()
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MMSEG_MODELS.build(RESNET)
    network.load_state_dict(backbone.module.state_dict())
    network.eval()
    images = torch.rand(1, 3, 50, 70)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    normalised = (images - mean) / std
    expected = network(F.pad(normalised, (0, 26, 0, 14), mode='replicate'))
    sizes = [(13, 18), (7, 9), (4, 5), (2, 3)]
    cropped = tuple(level[..., :rows, :columns] for level, (rows, columns) in zip(expected, sizes, strict=True))
    assert all(level.std() > 1e-3 for level in cropped)
    torch.testing.assert_close(backbone(images), cropped)


def statistics(config):
    return [buffer.flatten().tolist() for buffer in build_backbone(config).normalize.buffers()]


class WithStatistics(Plain):
    mean = 0.25

    def __init__(self):
        super().__init__()
        self.register_buffer('std', torch.tensor([0.5, 0.25, 0.125]))


def test_mean_and_std():
    """Those that are given go before those of the network, and these before ImageNet's."""
    assert statistics({'type': WithStatistics}) == [[0.25], [0.5, 0.25, 0.125]]
    assert statistics({'type': WithStatistics, 'mean': 0.5}) == [[0.5], [0.5, 0.25, 0.125]]
    assert statistics({**RESNET, 'mean': (0.0, 0.5, 1.0), 'std': 1.0}) == [[0.0, 0.5, 1.0], [1.0]]
    assert statistics({'type': Plain, 'in_channels': 4}) == [[0.5], [0.5]]


class OnlyMultiples(Plain):
    """Takes images whose sides are multiples of 12."""

    def forward(self, images):
        if any(side % 12 for side in images.shape[2:]):
            raise ValueError('no multiple of 12')
        return super().forward(images)


def test_images_are_padded_to_what_the_network_takes():
    backbone = build_backbone({'type': OnlyMultiples, 'multiple': 12})
    assert backbone.multiple == 12
    assert [tuple(level.shape[2:]) for level in backbone(torch.rand(1, 3, 13, 30))] == [(7, 15), (3, 5)]


def test_a_network_that_takes_one_number_of_channels():
    """Which it is by its own nature, not by a setting."""

    class Grey(nn.Sequential):
        def __init__(self):
            super().__init__(Plain(in_channels=1))

    assert build_backbone({'type': Grey, 'in_channels': 1}).in_channels == 1
    with pytest.raises(UserError, match=r'Grey gives no pyramid .* to have 1 channels, but got 3'):
        build_backbone({'type': Grey, 'in_channels': 3})


def test_a_backbone_is_taken_as_it_is():
    assert type(build_backbone({'type': 'mmgfnuc.UNetEncoder', 'widths': (4, 8)})) is UNetEncoder


def test_weights_of_mmsegmentation_are_loaded_by_its_own_setting(tmp_path):
    state = fill_with_noise(build_backbone(RESNET).module).state_dict()
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in state.items()}}, tmp_path / 'published.pth')
    source = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'published.pth'), 'prefix': 'backbone.'}
    backbone = build_backbone({**RESNET, 'init_cfg': source})
    backbone.init_weights()
    assert all(torch.equal(value, state[key]) for key, value in backbone.module.state_dict().items())


class Loaded(Plain):
    def init_weights(self):
        nn.init.zeros_(self.shallow.weight)


def test_weights_that_a_plain_network_loads_itself_are_kept():
    backbone = build_backbone({'type': Loaded})
    backbone.init_weights()
    assert backbone.module.shallow.weight.any()


class OneMap(Plain):
    def forward(self, images):
        return super().forward(images)[0]


class Named(Plain):
    def forward(self, images):
        return dict(enumerate(super().forward(images)))


class Tokens(Plain):
    def forward(self, images):
        return [level.flatten(2) for level in super().forward(images)]


class WithoutPadding(nn.Module):
    def forward(self, images):
        level = images[..., 2:, 2:]
        return [images, level]


class Unused(Plain):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(8, 2)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': OneMap}, 'OneMap gives no pyramid to build on: it gives one map; return a list'),
        ({'type': Named}, r'it gives a dict; return list\(maps.values\(\)\)'),
        ({'type': 'mmseg.UNet', 'base_channels': 2}, 'levels of stride 16, 8, 4, 2, 1 .*, shallow first'),
        ({'type': Tokens}, r'return a list of maps \(B, C, h, w\)'),
        ({'type': WithoutPadding}, '256x512, 254x510 for 256x512 pixels; pad'),
        ({'type': Unused}, '2 parameters of Unused, such as classifier.weight, reach none of its 2 levels'),
        ({**RESNET, 'out_indices': (0, 1)}, 'parameters of ResNet, such as layer3'),
        ({**RESNET, 'strides': (1, 2, 1, 1), 'dilations': (1, 1, 2, 4)}, 'stride 4, 8, 8, 8 .* without dilation'),
        ({'type': OnlyMultiples, 'multiple': 18}, r'no multiple of 12 \(for 3 channels of 18x36 pixels\)'),
        ({'type': dict}, 'the type of the backbone gives a dict; give that of a network'),
        (
            {'type': 'ResNet', 'depth': 18},
            "part of mmseg: write 'mmseg.ResNet', or set default_scope = 'mmseg'",
        ),
        ({**RESNET, 'mean': (0.5, 0.5)}, r'mean=\(0.5, 0.5\): give one number'),
    ],
)
def test_what_gives_no_pyramid_is_refused(config, message):
    with pytest.raises(UserError, match=message) as error:
        build_backbone(config)
    assert '\n' not in str(error.value)


def test_the_mode_of_training_comes_back():
    assert ModuleBackbone(Plain().eval()).module.training is False
    assert build_backbone({**RESNET, 'frozen_stages': 1}).module.layer1[0].bn1.training is False

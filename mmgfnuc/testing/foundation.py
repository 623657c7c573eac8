"""What every foundation encoder must do."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import FoundationEncoder, build_encoder

from .battery import Battery
from .checks import (
    assert_finite,
    assert_image_by_image,
    assert_in_place,
    assert_near,
    assert_refused,
    assert_same,
    assert_trains,
    assert_unchanged,
    fill_with_noise,
    random_sum,
)

DIGEST = 'weights_sha256'


class FoundationEncoderBattery(Battery):
    """Images in [0, 1] -> feature j (B, out_channels[j], *grid_sizes(H, W)[j]), shallow first; frozen, LoRA and full.

    Make the part small: images have 33 to 128 pixels on a side. It is built with random weights, and with those of a
    file that the battery writes. Where it has no attention, and lets no other layers be adapted, the tests of LoRA are
    skipped, with the reason.

    Attributes:
        unfiled: settings with which it is built without a weight file; {} where its constructor gives it its weights.
    """

    unfiled: ClassVar[Mapping[str, Any]] = {'weights': 'random'}

    def build(self, config: Mapping[str, Any], **settings: Any) -> Any:
        """Build the part with settings of FoundationEncoder."""
        return build_encoder({**config, **settings})

    def save_weights(self, encoder: FoundationEncoder, path: Path) -> None:
        """Write the weights of an encoder in a format that it loads: here the state dict of its network."""
        save_file({name: value.clone() for name, value in encoder.network.state_dict().items()}, path)

    def random(self, config: Mapping[str, Any]) -> Any:
        """Build the part without a weight file."""
        return self.build(config, **self.unfiled)

    @pytest.fixture
    def weights(self, config: dict, tmp_path: Path) -> str:
        """A file of weights of the part."""
        return self.weight_file(config, tmp_path / 'weights.safetensors')

    def weight_file(self, config: Mapping[str, Any], path: Path) -> str:
        """Write noise as weights."""
        encoder = self.random(config)
        fill_with_noise(encoder.network, 0.2)
        self.save_weights(encoder, path)
        return str(path)

    def lora(self, config: Mapping[str, Any], weights: str) -> Any:
        """Build the part with adapters, or skip the test where there is nothing that they could adapt."""
        try:
            return self.build(config, weights=weights, tune='lora')
        except UserError as error:
            pytest.skip(str(error))

    def test_is_a_foundation_encoder(self, config: dict) -> None:
        """It is a FoundationEncoder, or wrapped in one, and says what its features are."""
        encoder = self.random(config)
        assert isinstance(encoder, FoundationEncoder), (
            f'{type(encoder).__name__} does not derive from FoundationEncoder'
        )
        assert len(encoder.out_channels) == len(encoder.out_strides) >= 1, 'give channels and strides of each feature'

    @pytest.mark.parametrize('size', [(64, 64), (33, 47), (70, 90)])
    def test_shapes(self, config: dict, size: tuple[int, int]) -> None:
        """A tuple of features, of the channels and grids that it says, for any image size."""
        encoder = self.random(config)
        features, grids = encoder(torch.rand(2, 3, *size)), encoder.grid_sizes(*size)
        assert isinstance(features, tuple), f'forward returns a {type(features).__name__}, not a tuple of features'
        assert len(features) == len(encoder.out_channels) == len(grids), 'give channels and a grid for each feature'
        for number, (feature, channels, grid) in enumerate(zip(features, encoder.out_channels, grids, strict=True)):
            expected = (2, channels, *grid)
            assert tuple(feature.shape) == expected, f'feature {number} has other channels, or another grid, than said'
        assert_finite(features)
        assert encoder.grid_size(*size) == grids[-1], 'grid_size is not that of the deepest feature'

    @pytest.mark.parametrize('size', [(64, 64), (70, 90)])
    def test_token_strides(self, config: dict, size: tuple[int, int]) -> None:
        """Image pixels per pixel of a feature: so many of them cover the image, and one less do not."""
        encoder = self.random(config)
        strides, grids = encoder.token_strides(*size), encoder.grid_sizes(*size)
        assert len(strides) == len(grids), 'token_strides does not give one for each feature'
        for stride, grid in zip(strides, grids, strict=True):
            for side, cells in zip(size, grid, strict=True):
                # Images that are scaled first are rounded to whole pixels.
                assert abs(cells * stride - side - stride / 2) <= stride / 2 + 1, (
                    f'{cells} pixels of {stride:g} image pixels each do not cover a side of {side}'
                )

    def test_features_are_not_larger_than_the_image(self, config: dict) -> None:
        """Where nothing needs padding, nothing is cut off: of a smaller stride than said, a part would be lost."""
        encoder = self.random(config)
        stride = math.lcm(*encoder.out_strides)
        side = encoder.input_size or stride * -(-64 // stride)
        features = encoder.encode(encoder.normalize(torch.rand(1, 3, side, side)))
        for number, (feature, own) in enumerate(zip(features, encoder.out_strides, strict=True)):
            expected = (side // own,) * 2
            assert tuple(feature.shape[2:]) == expected, f'feature {number} has another stride than out_strides'

    def test_features_lie_over_their_pixels(self, config: dict) -> None:
        """What is upper right in the image is upper right in every feature."""
        assert_in_place(self.random(config).eval(), torch.rand(1, 3, 128, 128))

    @pytest.mark.parametrize('channels', [1, 4])
    def test_images_that_are_not_rgb_are_refused(self, config: dict, channels: int) -> None:
        """With a UserError."""
        encoder = self.random(config)
        assert_refused(lambda: encoder(torch.rand(1, channels, 64, 64)), 'images that are not RGB')

    def test_images_are_not_changed(self, config: dict) -> None:
        """The backbone gets the same tensor."""
        encoder, images = self.random(config), torch.rand(2, 3, 64, 64)
        assert_unchanged(lambda: encoder(images), [images])

    def test_evaluation_is_deterministic_and_image_by_image(self, config: dict, weights: str) -> None:
        """An image has the same features each time, and whatever images are beside it."""
        encoder, images = self.build(config, weights=weights), torch.rand(2, 3, 64, 64)
        assert_image_by_image(lambda chosen: encoder(images[chosen]))

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Under autocast, as `--amp` trains."""
        with torch.autocast('cpu', torch.bfloat16):
            assert_finite(self.random(config)(torch.rand(2, 3, 64, 64)), 'in bfloat16')

    def test_frozen_stays_as_it_is(self, config: dict, weights: str) -> None:
        """No gradient, evaluation mode that survives `train()`, and statistics of norms that do not move."""
        encoder = self.build(config, weights=weights).train()
        for name, module in encoder.named_modules():
            assert not module.training, f'after train() {name or "the encoder"} is in training mode'
        for name, parameter in encoder.named_parameters():
            assert not parameter.requires_grad, f'{name} would be trained'
        before = state_of(encoder)
        features = encoder(torch.rand(2, 3, 64, 64))
        assert not any(feature.requires_grad for feature in features), 'features of a frozen encoder have a gradient'
        assert_same(state_of(encoder), before, 'running a frozen encoder changes it')

    def test_frozen_weights_of_a_file_are_not_saved(self, config: dict, weights: str, tmp_path: Path) -> None:
        """The checkpoint holds the digest of the file instead, and loads only beside the same file."""
        encoder, same = (self.build(config, weights=weights) for _ in range(2))
        state = encoder.state_dict()
        assert list(state) == [DIGEST], f'a checkpoint holds more than {DIGEST}: {sorted(state)}'
        images = torch.rand(1, 3, 64, 64)
        same.load_state_dict(state, strict=True)
        assert_same(same(images), encoder(images), 'the same file and checkpoint give other features')
        other = self.build(config, weights=self.weight_file(config, tmp_path / 'other.safetensors'))
        assert_refused(lambda: other.load_state_dict(state), 'a checkpoint beside another weight file')

    def test_weights_of_no_file_are_saved(self, config: dict) -> None:
        """Random ones, and those that a constructor gives: they are known to exist nowhere else."""
        encoder, other = self.random(config), self.random(config)
        fill_with_noise(encoder.network, 0.2)
        other.load_state_dict(encoder.state_dict(), strict=True)
        images = torch.rand(1, 3, 64, 64)
        assert_same(other(images), encoder(images), 'a checkpoint does not bring back weights that are in no file')

    def test_initialisation_keeps_the_weights(self, config: dict, weights: str) -> None:
        """MMEngine calls `init_weights` of all parts before training."""
        encoder = self.build(config, weights=weights)
        before = state_of(encoder)
        encoder.init_weights()
        assert_same(state_of(encoder), before, 'init_weights erases the weights of the file')

    def test_full_tuning_reaches_every_parameter(self, config: dict, weights: str) -> None:
        """`tune='full'`: training mode, and a gradient for every parameter."""
        encoder = self.build(config, weights=weights, tune='full').train()
        assert encoder.training, "with tune='full' the encoder does not go into training mode"
        for name, parameter in encoder.named_parameters():
            assert parameter.requires_grad, f"with tune='full' {name} is not trained"
        assert_trains(encoder, lambda: random_sum(encoder(torch.rand(2, 3, 64, 64))), self.may_stay)

    def test_full_tuning_is_saved(self, config: dict, weights: str) -> None:
        """All of it: it loads into an encoder that began with the same file, and is refused by a frozen one."""
        encoder, other = (self.build(config, weights=weights, tune='full').eval() for _ in range(2))
        fill_with_noise(encoder.network, 0.1)
        other.load_state_dict(encoder.state_dict(), strict=True)
        images = torch.rand(1, 3, 64, 64)
        assert_same(other(images), encoder(images), "a checkpoint does not bring back what tune='full' has trained")
        frozen = self.build(config, weights=weights)
        assert_refused(lambda: frozen.load_state_dict(encoder.state_dict()), 'tuned weights by a frozen encoder')

    def test_lora_trains_adapters_alone(self, config: dict, weights: str) -> None:
        """They begin without effect, each gets a gradient, and nothing else moves, statistics of norms included."""
        encoder = self.lora(config, weights)
        images = torch.rand(2, 3, 64, 64)
        assert_near(
            encoder.eval()(images), self.build(config, weights=weights)(images), 'new adapters change the features'
        )
        encoder.train()
        adapters = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        assert adapters, "with tune='lora' nothing is trained"
        assert all('.lora_' in name for name in adapters), f'not only adapters are trained: {sorted(adapters)}'
        before = {name: value for name, value in state_of(encoder).items() if name not in adapters}
        assert_trains(encoder, lambda: random_sum(encoder(images)))
        assert_same({name: state_of(encoder)[name] for name in before}, before, 'not only adapters change in training')

    def test_lora_is_saved_as_adapters(self, config: dict, weights: str, tmp_path: Path) -> None:
        """Beside the digest of the file: enough, beside the same file."""
        encoder, other = self.lora(config, weights).eval(), self.lora(config, weights).eval()
        adapt_with_noise(encoder)
        state = encoder.state_dict()
        rest = {name for name in state if '.lora_' not in name}
        assert rest == {DIGEST}, f'a checkpoint holds more than adapters and {DIGEST}: {sorted(rest)}'
        other.load_state_dict(state, strict=True)
        images = torch.rand(1, 3, 64, 64)
        assert_same(other(images), encoder(images), 'a checkpoint does not bring back the adapters')
        third = self.lora(config, self.weight_file(config, tmp_path / 'other.safetensors'))
        assert_refused(lambda: third.load_state_dict(state), 'adapters beside another weight file')

    def test_lora_can_be_merged(self, config: dict, weights: str) -> None:
        """Into an ordinary encoder of the same features, which `tune='full'` loads."""
        encoder = self.lora(config, weights).eval()
        adapt_with_noise(encoder)
        images = torch.rand(1, 3, 64, 64)
        expected = encoder(images)
        encoder.merge_lora()
        assert not any('lora' in name for name, _ in encoder.named_parameters()), 'adapters are left after merging'
        assert_near(encoder(images), expected, 'merging changes the features', rtol=1e-3, atol=1e-3)
        plain = self.build(config, weights=weights, tune='full').eval()
        plain.load_state_dict(encoder.state_dict(), strict=True)
        assert_near(plain(images), encoder(images), "tune='full' does not take up what was merged")

    def test_cache_gives_the_same_features(self, config: dict, weights: str, tmp_path: Path) -> None:
        """Computed the first time, read the second; and not those of other weights."""
        cache, images = {'folder': str(tmp_path / 'cache')}, torch.rand(2, 3, 64, 64)
        expected = self.build(config, weights=weights)(images)
        for run in range(2):
            encoder = self.build(config, weights=weights, cache=cache)
            assert_same(encoder(images), expected, 'the cache gives other features')
            assert encoder.cache.hits == 2 * run, 'features were not kept' if run else 'features of nothing were found'
        other = self.weight_file(config, tmp_path / 'other.safetensors')
        cached, plain = self.build(config, weights=other, cache=cache), self.build(config, weights=other)
        assert_same(cached(images), plain(images), 'the cache gives features of other weights')

    def test_layers_are_ordered_by_depth(self, config: dict) -> None:
        """`layer_of` puts each parameter between 0 and `num_layers` - 1, for a learning rate that decays with depth."""
        encoder = self.random(config)
        for name, _ in encoder.network.named_parameters():
            depth = encoder.layer_of(name)
            assert 0 <= depth < encoder.num_layers, f'layer_of({name!r}) is {depth}, of num_layers={encoder.num_layers}'


def state_of(encoder: FoundationEncoder) -> dict[str, Tensor]:
    """Copy all parameters and buffers, also those that no checkpoint holds."""
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def adapt_with_noise(encoder: FoundationEncoder) -> None:
    """Fill the adapters with noise: they begin without effect."""
    trained: list[nn.Parameter] = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=0.1)

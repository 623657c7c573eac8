"""What every U-Net encoder must do."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch

from mmgfnuc.models.backbones import Backbone, build_backbone

from .battery import Battery
from .checks import (
    assert_finite,
    assert_image_by_image,
    assert_in_place,
    assert_refused,
    assert_round_trip,
    assert_trains,
    assert_unchanged,
    random_sum,
)


class BackboneBattery(Battery):
    """Images in [0, 1] -> level i (B, out_channels[i], ceil(H / out_strides[i]), ...), shallow first.

    Make the part small: images have 64 to 140 pixels on a side. Its deepest stride is 64 or less.

    Attributes:
        image_channels: numbers of image channels, besides 3, that it takes as `in_channels`; () for RGB alone.
    """

    image_channels: ClassVar[Sequence[int]] = (1, 4)
    varied: ClassVar[Mapping[str, str]] = {'channels': 'image_channels'}

    def build(self, config: Mapping[str, Any], **changes: Any) -> Any:
        """Build the part."""
        return build_backbone({**config, **changes})

    def test_is_a_backbone(self, config: dict) -> None:
        """It derives from Backbone, and says what its levels are."""
        backbone = self.build(config)
        assert isinstance(backbone, Backbone), f'{type(backbone).__name__} does not derive from Backbone'
        strides = list(backbone.out_strides)
        assert len(backbone.out_channels) == len(strides) >= 2, 'give channels and strides of two or more levels'
        assert strides == sorted(strides), f'out_strides={strides}: the levels are to be shallow first'

    @pytest.mark.parametrize('size', [(64, 64), (100, 140)])
    def test_shapes(self, config: dict, size: tuple[int, int]) -> None:
        """A tuple of levels, of the channels and strides that it says, for any image size."""
        backbone = self.build(config)
        levels = backbone(torch.rand(2, 3, *size))
        assert isinstance(levels, tuple), f'forward returns a {type(levels).__name__}, not a tuple of levels'
        assert len(levels) == len(backbone.out_channels), 'forward returns another number of levels than out_channels'
        for number, (level, *said) in enumerate(zip(levels, backbone.out_channels, backbone.out_strides, strict=True)):
            expected = (2, said[0], *(math.ceil(side / said[1]) for side in size))
            assert tuple(level.shape) == expected, f'level {number} has other channels, or another stride, than said'

    def test_levels_are_not_larger_than_the_image(self, config: dict) -> None:
        """Where nothing needs padding, nothing is cut off: a level of a smaller stride than said would lose a part."""
        backbone = self.build(config)
        side = math.lcm(backbone.multiple, *backbone.out_strides)
        side *= math.ceil(64 / side)
        levels = backbone.encode(backbone.normalize(torch.rand(2, 3, side, side)))
        for number, (level, stride) in enumerate(zip(levels, backbone.out_strides, strict=True)):
            assert tuple(level.shape[2:]) == (side // stride,) * 2, (
                f'level {number} has another stride than out_strides'
            )

    def test_levels_lie_over_their_pixels(self, config: dict) -> None:
        """What is upper right in the image is upper right in every level."""
        assert_in_place(self.build(config).eval(), torch.rand(1, 3, 128, 128))

    def test_image_channels(self, config: dict, channels: int) -> None:
        """Set `in_channels`, it takes images of other channels than RGB."""
        backbone = self.build(config, in_channels=channels).eval()
        assert_finite(backbone(torch.rand(1, channels, 64, 64)))

    @pytest.mark.parametrize('wrong', ['number of channels', 'size'])
    def test_images_that_do_not_fit_are_refused(self, config: dict, wrong: str) -> None:
        """With a UserError: those of other channels, and those smaller than the deepest stride."""
        backbone = self.build(config)
        deepest = backbone.out_strides[-1]
        images = torch.rand(1, 2, 64, 64) if wrong != 'size' else torch.rand(1, 3, 64, max(deepest - 1, 0))
        assert_refused(lambda: backbone(images), f'images of another {wrong}')

    def test_images_are_not_changed(self, config: dict) -> None:
        """The foundation encoder gets the same tensor."""
        backbone, images = self.build(config), torch.rand(2, 3, 64, 64)
        assert_unchanged(lambda: backbone(images), [images])

    def test_every_parameter_gets_a_gradient(self, config: dict) -> None:
        """So that training in several processes needs no `find_unused_parameters`."""
        backbone = self.build(config).train()
        assert_trains(backbone, lambda: random_sum(backbone(torch.rand(2, 3, 64, 64))), self.may_stay)

    def test_state_dict_round_trip(self, config: dict) -> None:
        """A checkpoint holds all that the levels depend on."""
        assert_round_trip(self.build(config), self.build(config), torch.rand(1, 3, 64, 80))

    def test_evaluation_is_deterministic_and_image_by_image(self, config: dict) -> None:
        """In evaluation mode an image has the same levels each time, and whatever images are beside it."""
        backbone, images = self.build(config).eval(), torch.rand(2, 3, 64, 64)
        assert_image_by_image(lambda chosen: backbone(images[chosen]))

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Under autocast, as `--amp` trains."""
        with torch.autocast('cpu', torch.bfloat16):
            assert_finite(self.build(config)(torch.rand(2, 3, 64, 64)), 'in bfloat16')

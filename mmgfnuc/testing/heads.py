"""What every decode head, and every head that gives nuclei, must do."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.decode_heads import InstanceHead
from mmgfnuc.models.decode_heads.building import build_decoder
from mmgfnuc.registry import MODELS

from .battery import Battery
from .checks import (
    assert_finite,
    assert_image_by_image,
    assert_refused,
    assert_round_trip,
    assert_trains,
    assert_unchanged,
    total_loss,
)
from .samples import IGNORED, NUCLEI, data_samples, label_map, nuclei_sample, pyramid


class DecodeHeadBattery(Battery):
    """Pyramid, shallow first -> logits (B, num_classes, H_0, W_0).

    Attributes:
        in_channels: of the levels that it gets, shallow first.
        depths: numbers of levels, 2 to 5, that it takes as well.
        loss_keys: of its losses, and of what it logs beside them.
        to_the_image: does it decode beyond level 0, to the size of the image?
    """

    in_channels: ClassVar[tuple[int, ...]] = (4, 6, 8, 10)
    depths: ClassVar[Sequence[int]] = (2, 3, 5)
    loss_keys: ClassVar[set[str]] = {'loss_dice_focal', 'acc_seg'}
    to_the_image: ClassVar[bool] = False
    varied: ClassVar[Mapping[str, str]] = {'depth': 'depths'}

    def build(
        self,
        config: Mapping[str, Any],
        in_channels: Sequence[int] | None = None,
        in_strides: Sequence[int] | None = None,
        **changes: Any,
    ) -> Any:
        """Build the part as the segmentor does."""
        return build_decoder(dict(config), in_channels or self.in_channels, in_strides, **changes)

    def pyramid(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Levels of `in_channels`."""
        return pyramid(batch, height, width, self.in_channels)

    def test_is_a_head_of_mmsegmentation(self, config: dict) -> None:
        """It derives from BaseDecodeHead."""
        head = self.build(config)
        assert isinstance(head, BaseDecodeHead), f'{type(head).__name__} does not derive from BaseDecodeHead'

    @pytest.mark.parametrize(('batch', 'size'), [(2, (64, 64)), (1, (33, 47)), (2, (25, 70))])
    def test_shapes(self, config: dict, batch: int, size: tuple[int, int]) -> None:
        """Two logits at the size of level 0, for any image size."""
        logits = self.build(config)(self.pyramid(batch, *size))
        assert tuple(logits.shape) == (batch, 2, *size), 'the logits do not have the size of level 0'

    @pytest.mark.parametrize('stride', [1, 2, 4])
    def test_given_strides(self, config: dict, stride: int) -> None:
        """The logits have the size of level 0, or that of the image where the head decodes to it."""
        head = self.build(config, in_strides=[stride * 2**level for level in range(len(self.in_channels))])
        scale = stride if self.to_the_image else 1
        logits = head(self.pyramid(2, 17, 22))
        assert tuple(logits.shape) == (2, 2, 17 * scale, 22 * scale), 'see the attribute to_the_image of the battery'

    def test_depths(self, config: dict, depth: int) -> None:
        """It decodes pyramids of other depths."""
        channels = (4, 6, 8, 10, 12)[:depth]
        logits = self.build(config, channels)(pyramid(1, 32, 32, channels))
        assert tuple(logits.shape) == (1, 2, 32, 32)

    def test_a_single_level_is_refused(self, config: dict) -> None:
        """With a UserError: there is nothing to decode."""
        assert_refused(lambda: self.build(config, (8,)), 'a pyramid of a single level')

    def test_levels_that_do_not_halve_work_or_are_refused(self, config: dict) -> None:
        """With a UserError that says so, where `halving` is set; others decode them."""
        strides = [1, *(2 * 2**level for level in range(1, len(self.in_channels)))]
        levels = [torch.randn(2, width, 64 // s, 64 // s) for width, s in zip(self.in_channels, strides, strict=True)]
        head = self.build(config)
        if getattr(head, 'halving', False):
            with pytest.raises(UserError, match='levels that halve in size from one to the next'):
                head(levels)
            with pytest.raises(UserError, match='levels whose strides double, not'):
                self.build(config, in_strides=strides)
        else:
            assert head(levels).shape[:2] == (2, 2)

    def test_number_of_classes(self, config: dict) -> None:
        """`num_classes` logits, for nucleus types."""
        head = self.build(config, num_classes=5)
        assert tuple(head(self.pyramid(1, 16, 16)).shape) == (1, 5, 16, 16), 'the head does not give num_classes logits'

    def test_loss_keys(self, config: dict) -> None:
        """The losses that it says, all finite."""
        losses = self.build(config).loss(self.pyramid(2, 32, 40), data_samples(2, 32, 40), None)
        assert losses.keys() == self.loss_keys, 'see the attribute loss_keys of the battery'
        assert_finite(losses.values())

    def test_a_batch_of_ignored_pixels(self, config: dict) -> None:
        """A crop may hold nothing that counts: the losses are finite."""
        samples = data_samples(2, 32, 32)
        for sample in samples:
            sample.gt_sem_seg.data.fill_(IGNORED)
        assert_finite(self.build(config).loss(self.pyramid(2, 32, 32), samples, None).values(), 'where all is ignored')

    def test_inputs_are_not_changed(self, config: dict) -> None:
        """A second decoder of the same head gets the same levels."""
        head, levels = self.build(config), self.pyramid(2, 32, 32)
        assert_unchanged(lambda: head(levels), levels)

    def test_every_parameter_gets_a_gradient(self, config: dict) -> None:
        """From its own loss, so that training in several processes needs no `find_unused_parameters`."""
        head = self.build(config).train()
        levels, samples = self.pyramid(2, 64, 64), data_samples(2, 64, 64)
        assert_trains(head, lambda: total_loss(head.loss(levels, samples, None)), self.may_stay)

    def test_every_level_counts(self, config: dict) -> None:
        """The logits depend on each level of the pyramid."""
        levels = [level.requires_grad_() for level in self.pyramid(1, 32, 32)]
        self.build(config).eval()(levels).square().sum().backward()
        for number, level in enumerate(levels):
            assert level.grad is not None, f'level {number} has no influence on the logits'
            assert level.grad.any(), f'level {number} has no influence on the logits'

    def test_state_dict_round_trip(self, config: dict) -> None:
        """A checkpoint holds all that the logits depend on."""
        assert_round_trip(self.build(config), self.build(config), self.pyramid(1, 32, 48))

    def test_evaluation_is_deterministic_and_image_by_image(self, config: dict) -> None:
        """In evaluation mode an image has the same logits each time, and whatever images are beside it."""
        head, levels = self.build(config).eval(), self.pyramid(2, 32, 32)
        assert_image_by_image(lambda chosen: head([level[chosen] for level in levels]))

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Under autocast, as `--amp` trains."""
        with torch.autocast('cpu', torch.bfloat16):
            losses = self.build(config).loss(self.pyramid(2, 32, 32), data_samples(2, 32, 32), None)
        assert_finite(losses.values(), 'in bfloat16')


class InstanceHeadBattery(Battery):
    """Pyramid, shallow first -> maps (B, K + M, H_0, W_0): K logits of the classes, M auxiliary maps; and nuclei.

    Attributes:
        decoder: registry config of the decode head within it.
    """

    decoder: ClassVar[Mapping[str, Any]] = dict(type='mmgfnuc.UNetHead')
    in_channels: ClassVar[tuple[int, ...]] = (4, 6, 8)

    def build(self, config: Mapping[str, Any], **changes: Any) -> Any:
        """Build the part as the segmentor does."""
        strides = [2**level for level in range(len(self.in_channels))]
        wired = dict(decoder=dict(self.decoder), in_channels=self.in_channels, in_strides=strides)
        return MODELS.build({**config, **changes}, default_args=wired)

    def auxiliary(self, truth: Tensor) -> Tensor:
        """Auxiliary maps, as `activate` gives them, of a head that has learned everything.

        Shape:
            (M', H, W), what the transform of the head makes -> (M, H, W)
        """
        return truth.float()

    def samples(self, head: InstanceHead, batch: int, size: int, types: int = 1) -> list:
        """Truth as the training pipeline makes it."""
        return [nuclei_sample(size, types, head.target) for _ in range(batch)]

    def pyramid(self, batch: int, size: int) -> tuple[Tensor, ...]:
        """Levels of `in_channels`."""
        return pyramid(batch, size, size, self.in_channels)

    def test_is_an_instance_head(self, config: dict) -> None:
        """It derives from InstanceHead; what it learns from is packed with the samples."""
        head = self.build(config)
        assert isinstance(head, InstanceHead), f'{type(head).__name__} does not derive from InstanceHead'
        if head.target is not None:
            key = head.target['key']
            assert key in nuclei_sample(16, 1, head.target), f"target: key='{key}': keys that are packed begin with gt_"

    @pytest.mark.parametrize('num_classes', [2, 5])
    def test_maps_and_probabilities(self, config: dict, num_classes: int) -> None:
        """Classes first, then auxiliary maps; `activate` gives float32, and classes that add up to one."""
        head = self.build(config, num_classes=num_classes).eval()
        maps = head(self.pyramid(2, 16))
        assert head.num_classes == num_classes, 'num_classes of the head is not what it was given'
        expected = (2, num_classes + head.num_auxiliary, 16, 16)
        assert tuple(maps.shape) == expected, 'the maps are not num_classes logits and num_auxiliary maps'
        activated = head.activate(3 * maps.bfloat16())
        assert tuple(activated.shape) == expected, 'activate gives another number of maps'
        assert activated.dtype == torch.float32, f'activate gives {activated.dtype}, not float32'
        assert_finite(activated)
        classes = activated[:, :num_classes]
        assert classes.min() >= 0, 'activate gives negative probabilities'
        assert torch.allclose(classes.sum(1), torch.ones(2, 16, 16)), 'probabilities of the classes do not add up to 1'

    def test_nuclei_of_perfect_maps(self, config: dict) -> None:
        """The foreground and the auxiliary maps of the truth give its nuclei, touching ones too."""
        head, labels = self.build(config), label_map(64)
        sample = nuclei_sample(64, 1, head.target)
        truth = torch.zeros(0, 64, 64) if head.target is None else self.auxiliary(sample.get(head.target['key']).data)
        assert tuple(truth.shape) == (head.num_auxiliary, 64, 64), 'see the method auxiliary of the battery'
        found = head.nuclei(torch.from_numpy(labels > 0).float(), truth, None)
        assert found.dtype == np.int32, f'nuclei gives {found.dtype}, not int32'
        assert found.shape == labels.shape
        assert found.max() == NUCLEI, f'of {NUCLEI} nuclei, two of them touching, {found.max()} are found'
        for number in range(1, NUCLEI + 1):
            own = labels == number
            match = found == np.bincount(found[own]).argmax()
            assert (match & own).sum() > 0.7 * (match | own).sum(), f'nucleus {number} is found at another place'

    def test_no_foreground_has_no_nuclei(self, config: dict) -> None:
        """Whatever the auxiliary maps say."""
        head = self.build(config)
        assert head.nuclei(torch.zeros(32, 32), torch.rand(head.num_auxiliary, 32, 32), None).max() == 0

    def test_losses(self, config: dict) -> None:
        """All finite, where everything is ignored too."""
        head = self.build(config)
        samples = self.samples(head, 2, 32)
        losses = head.loss(self.pyramid(2, 32), samples)
        assert any('loss' in key for key in losses), "no key of the losses has 'loss' in it: MMEngine would not train"
        assert_finite(losses.values())
        for sample in samples:
            sample.gt_sem_seg.data.fill_(IGNORED)
        assert_finite(head.loss(self.pyramid(2, 32), samples).values(), 'where all is ignored')

    def test_ignored_pixels_teach_nothing(self, config: dict) -> None:
        """Whatever the map that the head learns from says there."""
        head = self.build(config).eval()
        if head.target is None:
            pytest.skip('the head learns from the classes alone')
        levels, samples = self.pyramid(2, 32), self.samples(head, 2, 32)
        for sample in samples:
            sample.gt_sem_seg.data[..., :16, :] = IGNORED
        before = total_loss(head.loss(levels, samples))
        for sample in samples:
            sample.get(head.target['key']).data[..., :16, :] = 1
        after = total_loss(head.loss(levels, samples))
        assert torch.isclose(after, before), 'the loss depends on the auxiliary truth of ignored pixels'

    def test_samples_that_do_not_fit_are_refused(self, config: dict) -> None:
        """With a UserError: those that lack the map that the head learns from, and those with more classes."""
        head = self.build(config)
        levels, more = self.pyramid(1, 16), self.samples(head, 1, 16, types=3)
        if head.target is not None:
            assert_refused(
                lambda: head.loss(levels, [nuclei_sample(16)]), 'samples without the map that it learns from'
            )
        assert_refused(lambda: head.loss(levels, more), 'samples of more classes than the head has')

    def test_every_parameter_gets_a_gradient(self, config: dict) -> None:
        """From its own loss, so that training in several processes needs no `find_unused_parameters`."""
        head = self.build(config).train()
        levels, samples = self.pyramid(2, 32), self.samples(head, 2, 32)
        assert_trains(head, lambda: total_loss(head.loss(levels, samples)), self.may_stay)

    def test_state_dict_round_trip(self, config: dict) -> None:
        """A checkpoint holds all that the maps depend on."""
        assert_round_trip(self.build(config), self.build(config), self.pyramid(1, 32))

    def test_evaluation_is_deterministic_and_image_by_image(self, config: dict) -> None:
        """In evaluation mode an image has the same maps each time, and whatever images are beside it."""
        head, levels = self.build(config).eval(), self.pyramid(2, 32)
        assert_image_by_image(lambda chosen: head([level[chosen] for level in levels]))

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Under autocast, as `--amp` trains."""
        head = self.build(config)
        with torch.autocast('cpu', torch.bfloat16):
            losses = head.loss(self.pyramid(2, 32), self.samples(head, 2, 32))
        assert_finite(losses.values(), 'in bfloat16')

"""What every fusion block must do."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mmgfnuc.models.necks import FusionBlock, FusionNeck
from mmgfnuc.models.necks.base import taken_by
from mmgfnuc.registry import MODELS

from .battery import Battery
from .checks import (
    assert_finite,
    assert_image_by_image,
    assert_round_trip,
    assert_same,
    assert_trains,
    assert_unchanged,
    fill_with_noise,
)


class FusionBlockBattery(Battery):
    """Local (B, C, H, W) and context (B, D, h, w) -> (B, C, H, W).

    Attributes:
        in_channels: C.
        context_channels: D.
        uses_context: False for a control into which no context enters.
    """

    in_channels: ClassVar[int] = 8
    context_channels: ClassVar[int] = 6
    uses_context: ClassVar[bool] = True

    def build(self, config: Mapping[str, Any]) -> Any:
        """Build the part as the neck does."""
        wired = dict(in_channels=self.in_channels, context_channels=self.context_channels)
        return MODELS.build(dict(config), default_args=taken_by(config, **wired, attention=True, max_keys=None))

    def features(
        self, block: FusionBlock, batch: int = 2, size: tuple[int, int] = (5, 7), grid: tuple[int, int] = (3, 4)
    ) -> list[Tensor]:
        """Random features; those of the context at the grid of the level, unless the block takes tokens."""
        grid = grid if block.takes_tokens else size
        return [torch.randn(batch, self.in_channels, *size), torch.randn(batch, self.context_channels, *grid)]

    def test_is_a_fusion_block(self, config: dict) -> None:
        """It derives from FusionBlock."""
        block = self.build(config)
        assert isinstance(block, FusionBlock), f'{type(block).__name__} does not derive from FusionBlock'

    @pytest.mark.parametrize(('batch', 'size'), [(2, (12, 16)), (1, (5, 7)), (2, (1, 9)), (1, (1, 1))])
    def test_shapes(self, config: dict, batch: int, size: tuple[int, int]) -> None:
        """The fused level has the shape of the local one, whatever grid the context has."""
        block = self.build(config).eval()
        for grid in ((3, 4), (1, 1), (9, 5)):
            local, context = self.features(block, batch, size, grid)
            fused = block(local, context)
            assert fused.shape == local.shape, 'the fused level has another shape than the local one'
            assert_finite(fused)

    @pytest.mark.parametrize('control', [None, 'zero', 'shuffled'])
    def test_works_in_the_neck(self, config: dict, control: str | None) -> None:
        """It takes the settings and the step that FusionNeck gives; at two levels, under the controls of a study."""
        widths = (self.in_channels,) * 2, (self.context_channels,)
        attending = 'all' if taken_by(config, attention=True) else None
        neck = FusionNeck(*widths, (4, 8), 'all', attending, block=config, control=control)
        local = tuple(torch.randn(2, self.in_channels, side, side + 2) for side in (12, 6))
        context = (torch.randn(2, self.context_channels, 3, 4),)
        for mode in (True, False):
            fused = neck.train(mode)(local, context, (16.0,))
            assert [level.shape for level in fused] == [level.shape for level in local]
            assert_finite(fused)

    def test_inputs_are_not_changed(self, config: dict) -> None:
        """Other levels get the same features."""
        block = fill_with_noise(self.build(config)).train()
        features = self.features(block)
        assert_unchanged(lambda: block(*features), features)

    def test_every_parameter_gets_a_gradient_by_the_second_step(self, config: dict) -> None:
        """So that training in several processes needs no `find_unused_parameters`."""
        block = self.build(config).train()
        local, context = self.features(block)
        assert_trains(block, lambda: (block(local, context) - 1).square().mean(), self.may_stay)

    def test_gradients_reach_what_it_fuses(self, config: dict) -> None:
        """So that the backbone learns, and the foundation encoder where it is tuned."""
        block = fill_with_noise(self.build(config), 0.5).train()
        local, context = (feature.requires_grad_() for feature in self.features(block))
        block(local, context).square().mean().backward()
        assert local.grad is not None, 'no gradient reaches the local map: the backbone would not learn'
        assert local.grad.any(), 'no gradient reaches the local map: the backbone would not learn'
        reached = context.grad is not None and bool(context.grad.any())
        assert reached == self.uses_context, (
            'a gradient reaches the context: leave out uses_context = False'
            if reached
            else 'no gradient reaches the context: the foundation encoder has no influence, or could not be tuned'
        )

    def test_state_dict_round_trip(self, config: dict) -> None:
        """A checkpoint holds all that the fused level depends on."""
        block = self.build(config)
        assert_round_trip(block, self.build(config), *self.features(block))

    def test_evaluation_is_deterministic_and_image_by_image(self, config: dict) -> None:
        """In evaluation mode an image is fused the same way each time, and whatever images are beside it."""
        block = fill_with_noise(self.build(config), 0.5).eval()
        local, context = self.features(block)
        assert_image_by_image(lambda chosen: block(local[chosen], context[chosen]))

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Under autocast, as `--amp` trains; forward, backward and explained."""
        block = self.build(config).train()
        with torch.autocast('cpu', torch.bfloat16):
            fused = block(*self.features(block))
            assert_finite(block.explain(*self.features(block)).values(), 'in bfloat16, as explained')
        assert_finite(fused, 'in bfloat16')
        fused.float().square().mean().backward()
        assert_finite([parameter.grad for parameter in block.parameters()], 'in bfloat16, as a gradient')

    def test_explains_in_the_documented_shapes(self, config: dict) -> None:
        """A block need not explain anything; what it does explain is finite and of these features, image by image."""
        block = fill_with_noise(self.build(config), 0.5).eval()
        local, context = self.features(block)
        for key, value in block.explain(local, context).items():
            assert isinstance(value, Tensor), f"explain gives '{key}' as {type(value).__name__}, not as a tensor"
            assert value.isfinite().all(), f"explain gives '{key}' with values that are not finite"
            assert not value.requires_grad, f"explain gives '{key}' with a gradient; compute it under torch.no_grad()"
            assert len(value) == len(local), f"explain gives '{key}' not for each image: {tuple(value.shape)}"
            if key == 'gate':
                assert tuple(value.shape) == tuple(local.shape[:2]), "explain gives 'gate' in another shape than (B, C)"
            if key == 'attention_entropy':
                assert (value.ndim, *value.shape[2:]) == (4, *local.shape[2:]), (
                    f"explain gives 'attention_entropy' as {tuple(value.shape)}, not as (B, num_heads, H, W)"
                )
                assert value.min() >= -1e-5, "explain gives an 'attention_entropy' below 0"

    def test_explaining_changes_nothing(self, config: dict) -> None:
        """Not the features, the weights and buffers, the modes, the random numbers, the gradients or the output."""
        block = fill_with_noise(self.build(config), 0.5).train()
        features = self.features(block)
        state = {key: value.clone() for key, value in block.state_dict().items()}
        modes = [module.training for module in block.modules()]
        random = torch.get_rng_state()
        assert_unchanged(lambda: block.explain(*features), features)
        assert torch.equal(torch.get_rng_state(), random), 'explain draws random numbers: training would go another way'
        assert_same(dict(block.state_dict()), state, 'explain changes weights or buffers')
        assert [module.training for module in block.modules()] == modes, 'explain leaves another mode behind'
        for name, parameter in block.named_parameters():
            assert parameter.grad is None, f'explain leaves a gradient at {name}'
            assert parameter.requires_grad, f'explain leaves {name} frozen'
        fused = block(*features)
        other = self.build(config).train()
        other.load_state_dict(state)
        torch.set_rng_state(random)
        assert_same(fused, other(*features), 'after explain the block fuses in another way')

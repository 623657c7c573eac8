"""What every loss must do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmgfnuc.registry import MODELS

from .battery import Battery
from .checks import assert_near
from .samples import IGNORED, nuclei_sample

SIZE = 32


class _LossRules(Battery, ABC):
    """What is asked of both kinds of losses."""

    @abstractmethod
    def inputs(self) -> tuple[Tensor, ...]:
        """A wrong prediction at random, and its truth, of three images; some pixels are ignored."""

    @abstractmethod
    def loss_of(self, loss: Any, prediction: Tensor, *truth: Tensor) -> Tensor:
        """Call the loss as a head does."""

    @abstractmethod
    def right(self, *truth: Tensor) -> Tensor:
        """Return the prediction that is right."""

    def build(self, config: Mapping[str, Any]) -> Any:
        """Build the part."""
        return MODELS.build(dict(config))

    def test_has_a_name_that_is_trained_on(self, config: dict) -> None:
        """MMEngine adds up the values whose keys contain `loss`; others are only logged."""
        name = getattr(self.build(config), 'loss_name', None)
        assert name, 'the loss has no loss_name, under which its value is told; give the class one, such as loss_own'
        assert 'loss' in name, f"loss_name='{name}' does not contain 'loss': MMEngine would log it and not train on it"

    def test_is_a_finite_number_with_a_finite_gradient(self, config: dict) -> None:
        """A scalar, and a gradient of the prediction that is not zero."""
        prediction, *truth = self.inputs()
        prediction.requires_grad_()
        value = self.loss_of(self.build(config), prediction, *truth)
        assert value.shape == (), f'the loss has shape {tuple(value.shape)}: give a scalar'
        assert value.isfinite(), 'the loss is not finite'
        value.backward()
        assert prediction.grad is not None, 'the prediction gets no gradient'
        assert prediction.grad.isfinite().all(), 'the gradient is not finite'
        assert prediction.grad.any(), 'the gradient is zero'

    def test_ignored_pixels_do_not_matter(self, config: dict) -> None:
        """What is predicted there changes neither the loss nor the gradient elsewhere, and gets no gradient."""
        loss, (prediction, *truth) = self.build(config), self.inputs()
        ignored = self.ignored(prediction, *truth)
        found = []
        for changed in (prediction, torch.where(ignored, 5 * torch.randn_like(prediction), prediction)):
            changed = changed.clone().requires_grad_()
            value = self.loss_of(loss, changed, *truth)
            value.backward()
            assert changed.grad is not None
            assert not changed.grad[ignored].any(), 'ignored pixels get a gradient'
            found.append((value.detach(), changed.grad))
        assert_near(found[1][0], found[0][0], 'the loss depends on what is predicted at ignored pixels')
        assert_near(found[1][1], found[0][1], 'the gradient depends on what is predicted at ignored pixels')

    def ignored(self, prediction: Tensor, *truth: Tensor) -> Tensor:
        """Mark what is ignored of the prediction."""
        classes = truth[-1]
        return (classes.reshape(len(classes), 1, *classes.shape[-2:]) == IGNORED).expand_as(prediction)

    def test_a_batch_of_ignored_pixels_costs_nothing(self, config: dict) -> None:
        """A loss of 0 with a gradient of 0, not a division by 0: a crop may hold nothing that counts."""
        prediction, *truth = self.inputs()
        prediction.requires_grad_()
        value = self.loss_of(self.build(config), prediction, *truth[:-1], torch.full_like(truth[-1], IGNORED))
        assert value.item() == 0, f'a batch of ignored pixels costs {value.item()}, not 0'
        value.backward()
        assert prediction.grad is not None
        assert not prediction.grad.any(), 'a batch of ignored pixels has a gradient'

    def test_a_right_prediction_costs_less(self, config: dict) -> None:
        """Less than one that is right up to some noise, and this less than one at random."""
        loss, (_, *truth) = self.build(config), self.inputs()
        right = self.right(*truth)
        scale = right.std()
        costs = [
            self.loss_of(loss, wrong, *truth).item()
            for wrong in (right, right + scale * torch.randn_like(right), right + 5 * scale * torch.randn_like(right))
        ]
        assert costs == sorted(set(costs)), 'right is to cost less than nearly right, and this less than wrong'

    def test_the_order_of_the_batch_does_not_matter(self, config: dict) -> None:
        """Nor which image is which."""
        loss, inputs = self.build(config), self.inputs()
        order = torch.tensor([2, 0, 1])
        value, other = self.loss_of(loss, *inputs), self.loss_of(loss, *(tensor[order] for tensor in inputs))
        assert_near(other, value, 'the loss depends on the order of the images in the batch')

    def test_finite_in_bfloat16(self, config: dict) -> None:
        """Predictions in half precision, as autocast gives them: near to the loss in full precision."""
        loss, (prediction, *truth) = self.build(config), self.inputs()
        rounded = prediction.bfloat16().requires_grad_()
        value = self.loss_of(loss, rounded, *truth)
        value.backward()
        assert rounded.grad is not None
        assert value.isfinite(), 'the loss is not finite in bfloat16'
        assert rounded.grad.isfinite().all(), 'the gradient is not finite in bfloat16'
        expected = self.loss_of(loss, rounded.detach().float(), *truth)
        assert torch.isclose(value.float(), expected, rtol=0.02), f'{value.item()} in bfloat16, else {expected.item()}'


class LossBattery(_LossRules):
    """Logits (B, K, H, W) and target (B, H, W), with class indices or 255 -> scalar: the loss of a decode head.

    It is called as `loss(logits, target, weight=None, ignore_index=255)`, as by MMSegmentation's heads.

    Attributes:
        num_classes: K, one or several.
    """

    num_classes: ClassVar[Sequence[int]] = (2, 5)
    varied: ClassVar[Mapping[str, str]] = {'classes': 'num_classes'}

    @pytest.fixture(autouse=True)
    def _classes(self, classes: int) -> None:
        self.classes = classes

    def inputs(self) -> tuple[Tensor, ...]:
        """Logits and target; classes are more frequent in one image than in the other."""
        target = (self.classes * torch.rand(3, SIZE, SIZE) ** torch.tensor([0.5, 1, 2])[:, None, None]).long()
        target[:, :2] = IGNORED
        return 2 * torch.randn(3, self.classes, SIZE, SIZE), target

    def loss_of(self, loss: Any, prediction: Tensor, *truth: Tensor) -> Tensor:
        """Call the loss as MMSegmentation's heads do."""
        return loss(prediction, *truth, weight=None, ignore_index=IGNORED)

    def right(self, *truth: Tensor) -> Tensor:
        """Logits that are sure of the true class."""
        (target,) = truth
        return 10.0 * F.one_hot(target.where(target != IGNORED, 0), self.classes).movedim(-1, 1)


class AuxiliaryLossBattery(_LossRules):
    """Prediction (B, M, H, W), truth (B, M', H, W) and classes (B, 1, H, W) -> scalar: the loss of auxiliary maps.

    It is called as `loss(prediction, truth, classes, 255)`; the last is the class of ignored pixels.

    Attributes:
        target: registry config of the transform that makes the truth, the `target` of the head.
    """

    target: ClassVar[Mapping[str, Any] | None] = None

    def right(self, *truth: Tensor) -> Tensor:
        """Return the prediction that is right: the truth, where the loss is of a regression."""
        return truth[0].float()

    def inputs(self) -> tuple[Tensor, ...]:
        """Prediction, truth and classes; the nuclei of the second image are half outside."""
        assert self.target is not None, 'set target = MyHead.target in the class: what the loss is learned from'
        sample = nuclei_sample(SIZE, 1, self.target)
        maps = [sample.get(self.target['key']).data, sample.gt_sem_seg.data]
        truth, classes = (torch.stack([each, each.roll(SIZE // 2, 1), each.flip(2)]) for each in maps)
        return torch.randn(self.right(truth, classes).shape), truth, classes

    def loss_of(self, loss: Any, prediction: Tensor, *truth: Tensor) -> Tensor:
        """Call the loss as the heads do."""
        return loss(prediction, *truth, IGNORED)

    def test_the_truth_of_ignored_pixels_does_not_matter(self, config: dict) -> None:
        """The target transforms do not tell ignored pixels apart."""
        loss, (prediction, truth, classes) = self.build(config), self.inputs()
        other = torch.where(classes == IGNORED, 1 - truth, truth)
        value = self.loss_of(loss, prediction, other, classes)
        expected = self.loss_of(loss, prediction, truth, classes)
        assert_near(value, expected, 'the loss depends on the auxiliary truth of ignored pixels')

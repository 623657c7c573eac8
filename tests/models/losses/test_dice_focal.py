import math

import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.losses import DiceFocalLoss
from mmgfnuc.testing import LossBattery

# One image of two pixels with truth 0 and 1; the softmax gives the first (3/4, 1/4) and the second (1/2, 1/2).
LOGITS = torch.tensor([[[[math.log(3), 0.0]], [[0.0, 0.0]]]])
TARGET = torch.tensor([[[0, 1]]])
# Class 0: p t = 3/4, p + t = 3/4 + 1/2 + 1 -> (3/2 + 1) / (9/4 + 1) = 10/13
# Class 1: p t = 1/2, p + t = 1/4 + 1/2 + 1 -> (1 + 1) / (7/4 + 1) = 8/11
DICE = 1 - (10 / 13 + 8 / 11) / 2
# (1 - 3/4)**2 ln(4/3) and (1 - 1/2)**2 ln 2, averaged.
FOCAL = (math.log(4 / 3) / 16 + math.log(2) / 4) / 2


# With weights 1 and 3: the classes by 1/4 and 3/4, the pixels, one of each class, likewise.
WEIGHTED_DICE = 1 - (10 / 13 + 3 * 8 / 11) / 4
WEIGHTED_FOCAL = (math.log(4 / 3) / 16 + 3 * math.log(2) / 4) / 4


class TestContract(LossBattery):
    parts = [dict(type=DiceFocalLoss, dice_per_image=per_image) for per_image in (False, True)]


@pytest.fixture
def batch():
    """Three images of different content, with pixels to ignore."""
    logits = 2 * torch.randn(3, 2, 8, 9)
    target = (torch.rand(3, 8, 9) < torch.tensor([0.1, 0.5, 0.9])[:, None, None]).long()
    target[:, :2] = 255
    return logits, target


@pytest.mark.parametrize(('dice', 'focal'), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.2, 3.0)])
@pytest.mark.parametrize('dice_per_image', [False, True])
def test_hand_computed(dice, focal, dice_per_image):
    loss = DiceFocalLoss(dice, focal, dice_per_image=dice_per_image)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(dice * DICE + focal * FOCAL)


@pytest.mark.parametrize('dice_per_image', [False, True])
@pytest.mark.parametrize('weights', [(1, 3), [0.1, 0.3]])
def test_class_weights_by_hand(weights, dice_per_image):
    """Only their ratios matter."""
    loss = DiceFocalLoss(0.2, 3.0, dice_per_image=dice_per_image, class_weight=weights)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(0.2 * WEIGHTED_DICE + 3.0 * WEIGHTED_FOCAL)


def test_class_weights_are_those_of_cross_entropy(batch):
    loss = DiceFocalLoss(0.0, 1.0, gamma=0.0, class_weight=[1, 5])(*batch)
    expected = torch.nn.functional.cross_entropy(*batch, weight=torch.tensor([1.0, 5.0]), ignore_index=255)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('dice_per_image', [False, True])
def test_equal_class_weights_change_nothing(batch, dice_per_image):
    plain, weighted = (DiceFocalLoss(dice_per_image=dice_per_image, class_weight=each) for each in (None, [1, 1]))
    assert plain(*batch) == weighted(*batch)


def test_a_class_without_weight_counts_nowhere(batch):
    """A batch of it alone costs nothing, with a finite gradient."""
    logits, _ = batch
    logits.requires_grad_()
    value = DiceFocalLoss(0.0, 1.0, class_weight=[0, 1])(logits, torch.zeros(3, 8, 9, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize('weights', [[], [0, 0], [1, -1], [1, math.inf], [math.nan, 1]])
def test_bad_class_weights(weights):
    with pytest.raises(UserError, match='give numbers of at least 0'):
        DiceFocalLoss(class_weight=weights)


def test_class_weights_for_other_classes(batch):
    with pytest.raises(UserError, match='has 3 weights for 2 classes'):
        DiceFocalLoss(class_weight=[1, 2, 3])(*batch)


def test_defaults_are_those_of_the_paper():
    assert DiceFocalLoss()(LOGITS, TARGET).item() == pytest.approx(0.5 * DICE + 0.5 * FOCAL)


def test_gamma_zero_is_cross_entropy(batch):
    loss = DiceFocalLoss(0.0, 1.0, gamma=0.0)(*batch)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(*batch, ignore_index=255))


@pytest.mark.parametrize('gamma', [0.0, 1.0, 1.5, 2.0])
def test_gradient_is_finite_where_the_answer_is_certain(gamma):
    """1 - p_t is exactly 0 there: its power has a finite slope only for these exponents."""
    logits = torch.tensor([[[[200.0, 0.0]], [[0.0, 0.0]]]], requires_grad=True)
    DiceFocalLoss(0.0, 1.0, gamma=gamma)(logits, TARGET).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[..., 1].all()


@pytest.mark.parametrize('gamma', [0.5, 0.999, 1e-6, -0.5, -1, -2.0])
def test_bad_gamma(gamma):
    with pytest.raises(UserError, match=f'gamma={gamma}: give 0 or at least 1'):
        DiceFocalLoss(gamma=gamma)


@pytest.mark.parametrize('dice_per_image', [False, True])
def test_ignored_pixels_do_not_count(batch, dice_per_image):
    logits, target = batch
    loss = DiceFocalLoss(dice_per_image=dice_per_image)
    changed = logits.clone()
    changed[:, :, :2] = 100 * torch.randn(3, 2, 2, 9)
    changed.requires_grad_()
    value = loss(changed, target)
    torch.testing.assert_close(value, loss(logits, target))
    torch.testing.assert_close(value, loss(logits[:, :, 2:], target[:, 2:]))
    value.backward()
    assert not changed.grad[:, :, :2].any()
    assert changed.grad[:, :, 2:].any()


def test_per_image_dice_is_the_mean_of_the_images(batch):
    logits, target = batch
    loss = DiceFocalLoss(1.0, 0.0, dice_per_image=True)
    single = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, target), torch.stack(single).mean())


def test_batch_dice_is_that_of_all_images_side_by_side(batch):
    logits, target = batch
    loss = DiceFocalLoss(1.0, 0.0)
    side_by_side = torch.cat(list(logits), -1)[None], torch.cat(list(target), -1)[None]
    torch.testing.assert_close(loss(logits, target), loss(*side_by_side))
    assert not torch.isclose(loss(logits, target), DiceFocalLoss(1.0, 0.0, dice_per_image=True)(logits, target))


def test_pixel_weights(batch):
    """Weight 0 is to ignore, and one weight for all pixels changes nothing in the focal mean."""
    logits, target = batch
    loss = DiceFocalLoss()
    weight = torch.ones(3, 8, 9)
    torch.testing.assert_close(loss(logits, target, weight=weight), loss(logits, target))
    weight[..., 5:] = 0
    torch.testing.assert_close(loss(logits, target, weight=weight), loss(logits[..., :5], target[..., :5]))


def test_other_ignore_index(batch):
    logits, target = batch
    loss = DiceFocalLoss()
    torch.testing.assert_close(loss(logits, target.where(target != 255, 7), ignore_index=7), loss(logits, target))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits(dtype):
    """The sums over 512x512 pixels exceed what half precision can hold."""
    logits, target = torch.randn(1, 2, 512, 512).to(dtype), torch.randint(0, 2, (1, 512, 512))
    logits.requires_grad_()
    value = DiceFocalLoss()(logits, target)
    value.backward()
    torch.testing.assert_close(value, DiceFocalLoss()(logits.detach().float(), target))
    assert value.dtype == torch.float32
    assert logits.grad.isfinite().all()


def test_more_classes():
    """A certain, right answer costs nothing, also for classes that are absent."""
    target = torch.randint(0, 3, (2, 6, 6))
    logits = 50.0 * torch.nn.functional.one_hot(target, 5).movedim(-1, 1)
    assert DiceFocalLoss()(logits, target).item() == pytest.approx(0, abs=1e-6)


def test_gradient_is_that_of_finite_differences():
    logits = torch.randn(1, 2, 2, 3, requires_grad=True)
    target = torch.tensor([[[0, 1, 255], [1, 1, 0]]])
    DiceFocalLoss()(logits, target).backward()
    step = 1e-2
    for index in range(logits.numel()):
        offset = torch.zeros(logits.numel())
        offset[index] = step
        offset = offset.view_as(logits)
        with torch.no_grad():
            slope = (DiceFocalLoss()(logits + offset, target) - DiceFocalLoss()(logits - offset, target)) / (2 * step)
        assert logits.grad.flatten()[index].item() == pytest.approx(slope.item(), abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dice_per_image', [False, True])
def test_same_on_the_gpu(batch, dice_per_image):
    logits, target = batch
    loss = DiceFocalLoss(dice_per_image=dice_per_image)
    torch.testing.assert_close(loss(logits.cuda(), target.cuda()).cpu(), loss(logits, target))

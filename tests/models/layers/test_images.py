import cv2
import numpy as np
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import Normalize, longest_side_size, pad_to_multiple, reflect_to_size, resize_longest_side


def test_normalize_per_channel():
    x = torch.tensor([0.5, 0.5, 1.0])[None, :, None, None]
    out = Normalize((0.5, 0.25, 0.0), (1.0, 0.5, 0.25))(x)
    assert out.flatten().tolist() == [0.0, 0.5, 4.0]


def test_normalize_by_one_number_takes_any_channels():
    assert Normalize(0.5, 0.5)(torch.ones(1, 4, 2, 2)).unique().tolist() == [1.0]
    assert not Normalize(0.5, 0.5).state_dict()


@pytest.mark.parametrize(
    ('mean', 'std'), [((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)), (0, 255), (0.5, (0.5, 0.0, 0.5))]
)
def test_what_is_not_of_images_from_0_to_1_is_refused(mean, std):
    with pytest.raises(UserError, match=r'^(mean|std)=.*images are in \[0, 1\].*divide'):
        Normalize(mean, std)


@pytest.mark.parametrize('size', [(14, 28), (15, 28), (1, 13)])
def test_pad_replicates_right_and_below(size):
    x = torch.rand(1, 2, *size)
    bottom, right = -size[0] % 14, -size[1] % 14
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode='edge')
    padded = pad_to_multiple(x, 14)
    assert not padded.shape[-2] % 14
    assert not padded.shape[-1] % 14
    np.testing.assert_array_equal(padded.numpy(), expected)


@pytest.mark.parametrize('size', [(40, 64), (64, 40), (33, 100), (512, 512), (300, 213), (213, 300), (7, 5)])
def test_longest_side_is_that_of_segment_anything(size):
    assert longest_side_size(*size, 128) == ResizeLongestSide.get_preprocess_shape(*size, 128)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = resize_longest_side(torch.from_numpy(image).movedim(-1, 0)[None].float(), 128)
    # The official one works on uint8 and rounds after each axis. (Its variant for tensors mistakes batch and
    # channels for the size of the image.)
    official = ResizeLongestSide(128).apply_image(image).astype(np.float32)
    np.testing.assert_allclose(resized[0].movedim(0, -1).numpy(), official, rtol=0, atol=1.01)


def test_resize_to_the_own_size_changes_nothing():
    x = torch.rand(1, 3, 20, 32)
    assert resize_longest_side(x, 32) is x


@pytest.mark.parametrize('size', [(5, 9), (1, 3), (2, 40), (33, 32)])
def test_reflect_to_size_as_opencv_continues(size):
    """As RandomWarpCrop does in training, however often the mirror image must be repeated."""
    images = torch.rand(1, 2, *size)
    grown, (top, left) = reflect_to_size(images, 32)
    bottom, right = (max(32 - side, 0) - before for side, before in zip(size, (top, left), strict=True))
    assert 0 <= bottom - top <= 1
    assert 0 <= right - left <= 1
    for found, channel in zip(grown[0].numpy(), images[0].numpy(), strict=True):
        expected = cv2.copyMakeBorder(channel, top, bottom, left, right, cv2.BORDER_REFLECT_101)
        np.testing.assert_array_equal(found, expected)

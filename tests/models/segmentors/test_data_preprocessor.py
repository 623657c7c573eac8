import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors import NucleiDataPreprocessor
from mmgfnuc.testing import data_samples


def test_stacks_and_scales_to_one():
    images = [torch.full((3, 4, 5), value, dtype=torch.uint8) for value in (0, 51, 255)]
    samples = data_samples(3, 4, 5)
    data = NucleiDataPreprocessor()({'inputs': images, 'data_samples': samples})
    assert data['inputs'].shape == (3, 3, 4, 5)
    assert data['inputs'].dtype == torch.float32
    assert [image.unique().item() for image in data['inputs']] == [0.0, pytest.approx(0.2), 1.0]
    for sample, given in zip(data['data_samples'], samples, strict=True):
        assert torch.equal(sample.gt_sem_seg.data, given.gt_sem_seg.data)


def test_keeps_the_channel_order():
    image = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    assert (NucleiDataPreprocessor()({'inputs': [image]})['inputs'][0, :, 0, 0] * 255).tolist() == [0, 1, 2]


def test_a_batch_that_is_a_tensor():
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    data = NucleiDataPreprocessor()({'inputs': images})
    assert torch.equal(data['inputs'], torch.ones(2, 3, 4, 4))
    assert data['data_samples'] is None


def test_images_of_different_sizes():
    images = [torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(3, 6, 5, dtype=torch.uint8)]
    with pytest.raises(UserError, match=r'different sizes \(4, 5\) and \(6, 5\) \(pixels\); crop them .* batch_size=1'):
        NucleiDataPreprocessor()({'inputs': images})

"""Whole images, tiles, and other resolutions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors import tiled_forward
from mmgfnuc.models.segmentors.fusion_segmentor import _resize_labels
from mmgfnuc.testing import data_samples, fill_with_noise

from .build import build, without_fusion


class CertainHead(nn.Module):
    """Says nucleus everywhere, without a doubt."""

    num_classes = 2

    def __init__(self, in_channels):
        super().__init__()

    def forward(self, pyramid):
        logits = pyramid[0][:, :2] * 0 - 1000
        return logits + torch.tensor([0.0, 2000.0])[:, None, None]


def test_predict_sets_fields_and_keeps_what_samples_know():
    model = build().eval()
    images, samples = torch.rand(2, 3, 20, 30), data_samples(2, 20, 30)
    truth = [sample.gt_sem_seg.data.clone() for sample in samples]
    with torch.no_grad():
        predicted = model(images, samples, mode='predict')
        logits = model(images, mode='tensor')
    for sample, image_logits, labels in zip(predicted, logits, truth, strict=True):
        torch.testing.assert_close(sample.pred_probabilities.data, image_logits.softmax(0))
        foreground = image_logits[1] > image_logits[0]
        assert torch.equal(sample.pred_sem_seg.data, foreground.long()[None])
        assert torch.equal(sample.gt_sem_seg.data, labels)


def test_predict_without_samples():
    (sample,) = without_fusion().eval()(torch.rand(1, 3, 16, 16), mode='predict')
    assert isinstance(sample, SegDataSample)
    assert sample.pred_sem_seg.data.shape == (1, 16, 16)


@torch.no_grad()
def predicted_logits(test_cfg, images):
    """The model, and logarithms of the probabilities it predicts, from logits that are moderate."""
    model = fill_with_noise(build(test_cfg=test_cfg), 0.5).eval()
    largest = model(images).abs().max()
    for parameter in model.decode_head.decoder.conv_seg.parameters():
        parameter /= largest
    return model, torch.stack([sample.pred_probabilities.data for sample in model(images, mode='predict')]).log()


def enlarged(logits, size):
    """Logarithms of probabilities at another size."""
    return F.interpolate(logits, size, mode='bilinear', align_corners=False).log_softmax(1)


@pytest.mark.parametrize('test_cfg', [None, {}, {'scale': 1}, {'scale': 1.0, 'overlap': 8}, {'tile': None}])
def test_whole_by_default(test_cfg):
    images = torch.rand(2, 3, 40, 70)
    model, logits = predicted_logits(test_cfg, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.encode_decode(images).log_softmax(1))


@pytest.mark.parametrize('test_cfg', [{'tile': 32}, {'tile': 32, 'overlap': 8}])
def test_tiles_blend_probabilities_by_hand(test_cfg):
    """Two tiles of 32 share 8 pixels: a margin of 2, a ramp of 4, a margin of 2."""
    images = torch.rand(1, 3, 32, 56)
    model, logits = predicted_logits(test_cfg, images)
    with torch.no_grad():
        left, right = (model.encode_decode(images[..., x : x + 32]).softmax(1) for x in (0, 24))
    ramp = torch.tensor([0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    shared = (1 - ramp) * left[..., 24:] + ramp * right[..., :8]
    blended = torch.cat([left[..., :24], shared, right[..., 8:]], -1)
    torch.testing.assert_close(logits, blended.log())
    assert not torch.allclose(left[..., 24:], right[..., :8])


def test_overlap_of_the_config():
    images = torch.rand(1, 3, 40, 70)
    model, logits = predicted_logits({'tile': 32, 'overlap': 16}, images)
    with torch.no_grad():
        expected = {
            overlap: tiled_forward(lambda crops: model.encode_decode(crops).softmax(1), images, 32, overlap).log()
            for overlap in (8, 16)
        }
    torch.testing.assert_close(logits, expected[16])
    assert not torch.allclose(expected[8], expected[16])


@pytest.mark.parametrize('size', [(32, 32), (20, 32), (16, 24)])
def test_an_image_within_a_tile_is_continued_to_its_size(size):
    """By its mirror image, on both sides alike."""
    images = torch.rand(2, 3, *size)
    model, logits = predicted_logits({'tile': 32}, images)
    with torch.no_grad():
        whole = F.pad(images, [margin for side in reversed(size) for margin in (16 - side // 2,) * 2], mode='reflect')
        top, left = (16 - side // 2 for side in size)
        expected = model(whole)[..., top : top + size[0], left : left + size[1]]
        torch.testing.assert_close(logits, expected.log_softmax(1))


@pytest.mark.parametrize('setting', [{'tile': 0}, {'tile': -5}, {'scale': 0}, {'mpp': 0}, {'tiles_per_batch': 0}])
def test_settings_that_cannot_be(setting):
    with pytest.raises(UserError, match='give a number above 0, or leave it out'):
        without_fusion(test_cfg=setting)


@pytest.mark.parametrize('overlap', [-1, 17, 32, 300])
def test_an_overlap_that_the_tile_has_no_room_for(overlap):
    with pytest.raises(UserError, match=f'test_cfg.overlap={overlap}: .* tile, 16'):
        without_fusion(test_cfg={'tile': 32, 'overlap': overlap})


def test_certain_tiles_have_finite_probabilities():
    """A probability of 0 has no logarithm, and is resized all the same."""
    model = without_fusion(decode_head={'type': CertainHead}, test_cfg={'tile': 32, 'scale': 0.5}).eval()
    (sample,) = model(torch.rand(1, 3, 32, 56), mode='predict')
    assert sample.pred_probabilities.data.isfinite().all()
    assert (sample.pred_sem_seg.data == 1).all()


@pytest.mark.parametrize('reduction', [2, 4])
@pytest.mark.parametrize('size', [(64, 96), (40, 36)])
def test_lower_resolution(size, reduction):
    images = torch.rand(2, 3, *size)
    model, logits = predicted_logits({'scale': 1 / reduction}, images)
    with torch.no_grad():
        small = model.encode_decode(F.avg_pool2d(images, reduction))
        torch.testing.assert_close(logits, enlarged(small, size), rtol=0, atol=1e-4)
        assert not torch.allclose(logits, model.encode_decode(images))


def test_lower_resolution_in_tiles():
    """Sizes of tiles are those after scaling: an image of 112 pixels has 56, two tiles of 32."""
    images = torch.rand(1, 3, 64, 112)
    model, logits = predicted_logits({'scale': 0.5, 'tile': 32}, images)
    model.test_cfg = {'tile': 32}
    with torch.no_grad():
        half, _ = model.predict_maps(F.avg_pool2d(images, 2))
    assert half.shape == (1, 2, 32, 56)
    # The reduced image is rounded in two ways, which the network may enlarge.
    torch.testing.assert_close(logits, enlarged(half.log(), (64, 112)), rtol=0, atol=1e-4)


@pytest.mark.parametrize('test_cfg', [{'scale': 0.5}, {'scale': 0.5, 'tile': 32}, {'scale': 0.3, 'tile': 16}])
@pytest.mark.parametrize('size', [(33, 51), (90, 35)])
def test_predictions_have_the_size_of_the_image(test_cfg, size):
    _, logits = predicted_logits(test_cfg, torch.rand(1, 3, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ('mpp', 'scale'), [(None, 0.5), (0.25, 0.5), (0.26, 0.5), (0.3, 0.6), (0.5, 1.0), (1.0, 2.0), (0.125, 0.25)]
)
def test_images_of_other_pixels_are_scaled(mpp, scale):
    """Those that differ by more than a few percent, whether they come as a batch or alone."""
    images = torch.rand(2, 3, 32, 48)
    model, _ = predicted_logits({'scale': 0.5, 'mpp': 0.25}, images)
    samples = [SegDataSample(metainfo={'mpp': size}) for size in (mpp, 0.25)]
    with torch.no_grad():
        found, usual = model(images, samples, mode='predict')
        model.test_cfg = {'scale': scale}
        expected, _ = model.predict_maps(images[:1])
        model.test_cfg = {'scale': 0.5}
        torch.testing.assert_close(usual.pred_probabilities.data, model.predict_maps(images[1:])[0][0])
    torch.testing.assert_close(found.pred_probabilities.data, expected[0])


@torch.no_grad()
def test_with_flips_a_mirrored_image_has_the_mirrored_maps():
    head = dict(type='mmgfnuc.HoverHead', decoder=dict(type='mmgfnuc.UNetHead'))
    model = fill_with_noise(build(decode_head=head, test_cfg={'flips': True}), 0.1).eval()
    image = torch.rand(1, 3, 16, 24)
    maps = torch.cat(model.predict_maps(image), dim=1)
    for axis in (-1, -2):
        mirrored = torch.cat(model.predict_maps(image.flip(axis)), dim=1)
        torch.testing.assert_close(model.decode_head.flip(mirrored, axis), maps)
    model.test_cfg = {}
    assert not torch.allclose(torch.cat(model.predict_maps(image), dim=1), maps)


def test_nuclei_are_divided_at_the_pixel_size_of_the_model(monkeypatch):
    """An image of pixels cut in four gives the same nuclei, pixel by pixel."""
    images = F.avg_pool2d(torch.rand(1, 3, 103, 135), 8, 1)
    model = build(test_cfg={'scale': 0.5, 'mpp': 0.25})
    monkeypatch.setattr(model, 'encode_decode', lambda seen: 20 * torch.cat([seen[:, :1], 1 - seen[:, :1]], 1))
    with torch.no_grad():
        (usual,) = model(images, [SegDataSample(metainfo={'mpp': 0.25})], mode='predict')
        finer = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
        (found,) = model(finer, [SegDataSample(metainfo={'mpp': 0.125})], mode='predict')
    labels = usual.pred_instance_map.data[0]
    assert labels.max() > 3
    np.testing.assert_array_equal(found.pred_instance_map.data[0], labels.repeat(2, 0).repeat(2, 1))
    assert found.pred_probabilities.data.shape[1:] == finer.shape[2:]


def test_nuclei_that_vanish_leave_no_gap():
    """The middle row and column of each three are kept."""
    labels = np.zeros((9, 12), np.int32)
    labels[0, 0], labels[1, 4], labels[3:9, 6:12], labels[7, 1] = 1, 2, 3, 4
    expected = [[0, 1, 0, 0], [0, 0, 2, 2], [3, 0, 2, 2]]
    np.testing.assert_array_equal(_resize_labels(labels, (3, 4)), expected)
    np.testing.assert_array_equal(_resize_labels(labels * 0, (3, 4)), np.zeros((3, 4)))
    assert _resize_labels(labels, (3, 4)).dtype == np.int32

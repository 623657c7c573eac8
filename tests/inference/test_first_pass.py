"""A first pass finds the size of a pixel, by a model that knows nuclei of one size only."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmgfnuc.datasets.resampling import resample_image
from mmgfnuc.inference.first_pass import densest_parts
from mmgfnuc.inference.pixel_size import PixelSizes

from .small_models import whole

NUCLEUS_UM = 6.0


def blobs(images):
    """Logits of a detector of dark discs of 12 pixels in radius: the middle darker than what is around it."""
    dark = 1 - images[0, 1].numpy()
    found = cv2.GaussianBlur(dark, (0, 0), 6) - cv2.GaussianBlur(dark, (0, 0), 12)
    margin = torch.from_numpy(20 * (found - 0.2))[None, None]
    return torch.cat([torch.zeros_like(margin), margin], dim=1)


@pytest.fixture
def detector(plain, monkeypatch):
    """Trained at 0.25 um per pixel."""
    predictor = whole(plain)
    monkeypatch.setattr(predictor.model, 'encode_decode', blobs)
    trained = replace(predictor.preprocessing, nucleus_diameter_um=NUCLEUS_UM)
    predictor.pixel_sizes = PixelSizes(trained)
    return predictor


def discs(side=480):
    """Discs of 6 um at 0.25 um per pixel."""
    image = np.full((side, side, 3), 240, np.uint8)
    for y in range(30, side - 20, 60):
        for x in range(30, side - 20, 60):
            cv2.circle(image, (x, y), 12, (90, 40, 120), -1)
    return image


@pytest.mark.parametrize('mpp', [0.125, 0.5])
def test_the_size_at_which_the_model_is_surest(detector, mpp):
    """Sizes are tried in steps of the root of 2. Parts that cut discs may put the best one off by one."""
    image = resample_image(discs(), np.zeros((480, 480), np.int32), 0.25, mpp)[0]
    found = detector.pixel_size(image)
    assert found.source == 'first pass'
    assert abs(np.log2(found.mpp / mpp)) < 0.6
    assert f'{found.mpp:.2g} um are assumed' in found.notice
    known, assumed = detector(image, mpp), detector(image)
    assert assumed.labels.max() == known.labels.max() > 40
    assert (assumed.mpp, assumed.mpp_from, assumed.known_mpp) == (found.mpp, 'first pass', None)
    assert (known.mpp, known.mpp_from, known.known_mpp) == (mpp, 'given', mpp)


def test_the_size_of_a_file_is_that_which_it_states(detector, tmp_path):
    Image.fromarray(discs()).save(tmp_path / 'a.png', dpi=(50_800, 50_800))
    found = detector.pixel_size(tmp_path / 'a.png')
    assert (found.mpp, found.source) == (pytest.approx(0.5, rel=1e-3), 'file')


def test_too_few_nuclei_tell_nothing(detector):
    found = detector.pixel_size(np.full((300, 300, 3), 240, np.uint8))
    assert (found.mpp, found.source) == (None, 'unknown')
    assert 'too few nuclei' in found.notice


def test_the_densest_parts():
    image = np.full((50, 70, 3), 255, np.uint8)
    image[..., 1] = 0
    image[30:40, 45:60, 0] = 60
    image[5:10, 5:15, 0] = 60
    first, second, third = densest_parts(image, 15)
    assert {part.shape for part in (first, second, third)} == {(15, 15, 3)}
    assert [(part[..., 0] == 60).sum() for part in (first, second, third)] == [150, 50, 0]
    assert [part.shape for part in densest_parts(image, 60)] == [(50, 60, 3)]
    assert [part.shape for part in densest_parts(image, 30)] == [(30, 30, 3)] * 2
    assert [part.tolist() for part in densest_parts(image, 1, 1)] == [[[[60, 0, 255]]]]

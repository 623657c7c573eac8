"""Images that a model was not made for are told by name, and images like those of the training pass."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage

from mmgfnuc.datasets.images import read_image
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.errors import UserError
from mmgfnuc.inference.domain import BLANK, BLURRED, BROWN, DARK, FOREIGN, GREY, TrainingDomain

MPP, SIZE = 0.5, 112


@pytest.fixture(scope='module')
def tissue():
    """Of four slides, half to train on and half to look at."""
    tiles = [render_tile(np.random.default_rng(seed), 2 * SIZE)[0] for seed in range(4)]
    return [tile[:SIZE] for tile in tiles], [tile[SIZE:] for tile in tiles]


@pytest.fixture(scope='module')
def domain(tissue):
    return TrainingDomain.of(tissue[0], MPP)


@pytest.fixture
def image(tissue):
    return tissue[1][0]


def picture(name):
    return read_image(Path(skimage.__file__).parent / 'data' / name)


def noisy(light):
    return np.clip(light + np.random.default_rng(0).normal(0, 2, light.shape), 0, 255).astype(np.uint8)


def test_other_tissue_passes_whatever_the_size_of_its_pixels_and_of_the_image(domain, tissue):
    for image in tissue[1]:
        assert not domain.warnings(image, MPP)
        assert not domain.warnings(image, None)
        for factor in (0.5, 2.0):
            resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            assert not domain.warnings(resized, MPP / factor)
    large = np.tile(np.concatenate(tissue[1], axis=1), (12, 2, 1))
    assert not domain.warnings(large, MPP)


@pytest.mark.parametrize(
    ('reason', 'make'),
    [
        (BLANK, lambda image: noisy(np.full((SIZE, SIZE, 3), (240.0, 236.0, 232.0)))),
        (BLANK, lambda image: np.full((1, 1, 3), 200, np.uint8)),
        (DARK, lambda image: np.zeros((SIZE, SIZE, 3), np.uint8)),
        (DARK, lambda image: noisy(np.array([10, 20, 255]) / 255 * (255.0 - image[..., :1]) ** 2 / 255)),
        (DARK, lambda image: picture('hubble_deep_field.jpg')),
        (GREY, lambda image: np.repeat(image[..., :1], 3, axis=2)),
        (GREY, lambda image: picture('brick.png')),
        (BROWN, lambda image: picture('ihc.png')),
        (BROWN, lambda image: picture('coffee.png')),
        (FOREIGN, lambda image: np.ascontiguousarray(image[..., [1, 0, 2]])),  # red for green: green stains
        (FOREIGN, lambda image: picture('rocket.jpg')),
        (BLURRED, lambda image: noisy(cv2.GaussianBlur(image, (0, 0), 4).astype(float))),
    ],
)
def test_what_is_unlike_is_named(domain, image, reason, make):
    (warning,) = [line for line in domain.warnings(make(image), MPP) if line.startswith(reason)]
    assert '\n' not in warning


def test_blur_is_told_by_its_size_in_micrometres(domain, image):
    """Twice the pixels show the same blur."""
    fine = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    blurred = cv2.GaussianBlur(fine, (0, 0), 8)
    assert [line.startswith(BLURRED) for line in domain.warnings(blurred, MPP / 2)] == [True]


def test_numbers_survive_a_file(domain):
    again = TrainingDomain.from_dict(json.loads(json.dumps(domain.to_dict())))
    assert again == domain
    with pytest.raises(UserError, match='no training image'):
        TrainingDomain.of([], MPP)


@pytest.mark.parametrize(
    'change',
    [
        lambda data: None,
        lambda data: [data],
        lambda data: {**data, 'more': 1},
        lambda data: {**data, 'mpp': 'x'},
        lambda data: {**data, 'mpp': 40.0},
        lambda data: {'ranges': data['ranges']},
        lambda data: {**data, 'ranges': {}},
        lambda data: {**data, 'ranges': {**data['ranges'], 'beauty': [0, 1]}},
        *(
            lambda data, value=value: {**data, 'ranges': {**data['ranges'], 'colour': value}}
            for value in (0.5, None, [0.1], ['0', '1'], [True, 1], [0.2, 0.1], [float('nan'), 1], [0, float('inf')])
        ),
    ],
)
def test_numbers_of_another_form_are_refused(domain, change):
    with pytest.raises(UserError, match='config: not the numbers'):
        TrainingDomain.from_dict(change(domain.to_dict()), 'config')

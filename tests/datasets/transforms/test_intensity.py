import cv2
import numpy as np
import pytest

from mmgfnuc.datasets.transforms import RandomCLAHE, RandomGamma, RandomIntensity
from mmgfnuc.errors import UserError

COLOURS = [RandomGamma, RandomCLAHE, RandomIntensity]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)


def apply(transform, image, seed=0):
    labels = np.arange(image.shape[0] * image.shape[1], dtype=np.int32).reshape(image.shape[:2])
    results = {'img': image.copy(), 'instance_map': labels.copy(), 'rng': np.random.default_rng(seed)}
    results = transform(results)
    np.testing.assert_array_equal(results['instance_map'], labels)
    return results['img']


@pytest.mark.parametrize('colour', COLOURS)
def test_image_stays_an_rgb_image(colour, image):
    changed = apply(colour(prob=1), image)
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    assert (changed != image).any()
    assert changed.flags.c_contiguous


@pytest.mark.parametrize('colour', COLOURS)
def test_prob(colour, image):
    np.testing.assert_array_equal(apply(colour(prob=0), image), image)
    share = np.mean([(apply(colour(prob=0.3), image[:16, :16], seed) != image[:16, :16]).any() for seed in range(400)])
    assert share == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize('colour', COLOURS)
def test_draws_come_from_the_given_generator_only(colour, image):
    first = apply(colour(prob=1), image, seed=1)
    np.random.seed(5)
    np.testing.assert_array_equal(apply(colour(prob=1), image, seed=1), first)
    assert (apply(colour(prob=1), image, seed=2) != first).any()


def test_gamma_is_a_power_of_the_unit_interval(image):
    changed = apply(RandomGamma(gamma=(2, 2), prob=1), image)
    np.testing.assert_array_equal(changed, np.rint((image / 255) ** 2 * 255))
    np.testing.assert_array_equal(apply(RandomGamma(gamma=(1, 1), prob=1), image), image)


def test_intensity_off_changes_nothing(image):
    still = RandomIntensity(brightness=0, contrast=0, tint=0, prob=1)
    np.testing.assert_array_equal(apply(still, image), image)


def test_brightness_shifts_all_pixels_alike(image):
    middle = image // 2 + 64
    changed = apply(RandomIntensity(brightness=0.1, contrast=0, tint=0, prob=1), middle).astype(int) - middle
    assert np.ptp(changed) <= 1
    assert 0 < abs(changed).max() <= 26


def test_contrast_turns_about_mid_grey():
    grey = np.dstack([np.arange(64, 192, dtype=np.uint8).reshape(8, 16)] * 3)
    changed = apply(RandomIntensity(brightness=0, contrast=0.3, tint=0, prob=1), grey).astype(float)
    slope, offset = np.polyfit(grey.ravel().astype(float), changed.ravel(), 1)
    assert 0.7 <= slope <= 1.3
    assert slope * 127.5 + offset == pytest.approx(127.5, abs=0.5)
    assert slope != pytest.approx(1, abs=0.01)


def test_tint_scales_each_channel_by_its_own_factor():
    grey = np.full((8, 8, 3), 200, np.uint8)
    changed = apply(RandomIntensity(brightness=0, contrast=0, tint=0.2, prob=1), grey)
    assert len(set(changed[0, 0])) == 3
    assert (np.ptp(changed.reshape(-1, 3), axis=0) == 0).all()
    assert (abs(changed[0, 0] / 200 - 1) <= 0.2 + 0.003).all()


def test_values_are_clipped_and_do_not_wrap(image):
    for seed in range(20):
        transform = RandomIntensity(brightness=0.5, contrast=0.5, tint=0, prob=1)
        changed = apply(transform, np.dstack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3), seed)
        assert (np.diff(changed[..., 0].ravel().astype(int)) >= 0).all()


def test_clahe_spreads_lightness_and_keeps_hue():
    grain = np.random.default_rng(0).normal(150, 5, (256, 256))
    flat = np.dstack([grain, grain * 0.7, grain * 0.9]).astype(np.uint8)
    changed = apply(RandomCLAHE(clip_limit=(3, 3), prob=1), flat)
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(int) for picture in (flat, changed))
    assert after[..., 0].std() > 1.2 * before[..., 0].std()
    assert abs(after[..., 1:] - before[..., 1:]).max() <= 3


@pytest.mark.parametrize(
    ('build', 'words'),
    [
        (lambda: RandomGamma(prob=2), 'prob=2'),
        (lambda: RandomGamma(gamma=(0, 1)), r'gamma=\(0, 1\)'),
        (lambda: RandomCLAHE(clip_limit=(3, 1)), r'clip_limit=\(3, 1\)'),
        (lambda: RandomIntensity(tint=1), 'tint=1'),
        (lambda: RandomIntensity(brightness=-0.1), 'brightness=-0.1'),
    ],
)
def test_bad_settings_are_named(build, words):
    with pytest.raises(UserError, match=words):
        build()

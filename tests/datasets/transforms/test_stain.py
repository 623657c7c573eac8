import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from skimage.color import hed2rgb, hed_from_rgb, rgb2hed
from sklearn.decomposition import DictionaryLearning

from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.datasets.transforms import RandomHED, RandStainNA, StainNormalize, lab_statistics
from mmgfnuc.datasets.transforms.stain import _Reinhard, _sparse_concentrations
from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS

METHODS = ['macenko', 'reinhard', 'vahadane']
JITTERS = [RandomHED, RandStainNA]
# Two slides that differ in nothing but their stains.
PURPLE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
BLUE = np.array([[0.80, 0.55, 0.25], [0.25, 0.85, 0.45]])


def stained(vectors, strength=(1.0, 1.0), size=96, seed=0):
    """An image of two stains and clear glass, by Beer-Lambert absorption."""
    rng = np.random.default_rng(seed)
    concentrations = rng.gamma(0.5, 0.8, (size, size, 2)) * strength
    concentrations[: size // 8] = 0
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.rint(255 * np.exp(-concentrations @ unit)).astype(np.uint8)


def blank(seed=0):
    return np.random.default_rng(seed).integers(235, 250, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp('stain') / 'template.png'
    Image.fromarray(stained(PURPLE)).save(path)
    return path


@pytest.fixture(params=METHODS)
def normalizer(request, template):
    if request.param != 'vahadane':
        pytest.importorskip('torchstain')
    return StainNormalize(request.param, template)


def difference(image, other):
    return np.abs(image.astype(float) - other).mean()


def test_another_staining_of_the_same_tissue_becomes_that_of_the_template(normalizer):
    target, other = stained(PURPLE), stained(BLUE, strength=(0.7, 1.3))
    changed = normalizer.normalize(other)
    assert (changed.dtype, changed.shape) == (np.uint8, other.shape)
    # Colour statistics tell no stains apart; unmixing does.
    share = 0.97 if isinstance(normalizer._normalizer, _Reinhard) else 0.4
    assert difference(changed, target) < share * difference(other, target)


def test_the_template_hardly_changes(normalizer):
    assert difference(normalizer.normalize(stained(PURPLE)), stained(PURPLE)) < 4


def test_equal_images_give_equal_results_and_the_input_is_kept(normalizer):
    image = stained(BLUE, seed=3)
    before = image.copy()
    first = normalizer.normalize(image)
    normalizer.normalize(stained(PURPLE, seed=4))
    np.random.seed(7)
    np.testing.assert_array_equal(normalizer.normalize(image), first)
    np.testing.assert_array_equal(image, before)


def few_cells():
    image = blank()
    image[:6, :12] = stained(PURPLE)[40:46, :12]
    return image


UNTOLD = {
    'blank': blank(),
    'few cells': few_cells(),
    'black': np.zeros((32, 32, 3), np.uint8),
    'white': np.full((32, 32, 3), 255, np.uint8),
    'one colour': np.full((32, 32, 3), (120, 60, 150), np.uint8),
    'one pixel': np.full((1, 1, 3), 90, np.uint8),
}


@pytest.mark.parametrize('name', UNTOLD)
@pytest.mark.filterwarnings('error')
def test_images_without_tissue_pass_unchanged(normalizer, name):
    np.testing.assert_array_equal(normalizer.normalize(UNTOLD[name]), UNTOLD[name])


@pytest.mark.filterwarnings('error')
def test_odd_images_do_not_stop_a_training(normalizer):
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (32, 32, 1), dtype=np.uint8), 3, axis=2)
    one_stain = stained(PURPLE, strength=(1, 0))
    noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for image in (grey, one_stain, noise, noise[:2, :2], noise[:1, :3]):
        changed = normalizer.normalize(image)
        assert (changed.dtype, changed.shape) == (np.uint8, image.shape)


def test_as_a_step_of_a_pipeline_it_draws_nothing_and_leaves_the_maps(template):
    step = TRANSFORMS.build({'type': 'mmgfnuc.StainNormalize', 'method': 'vahadane', 'template': str(template)})
    rng, labels = np.random.default_rng(0), np.arange(96 * 96, dtype=np.int32).reshape(96, 96)
    results = step({'img': stained(BLUE), 'instance_map': labels.copy(), 'rng': rng})
    np.testing.assert_array_equal(results['img'], step.normalize(stained(BLUE)))
    np.testing.assert_array_equal(results['instance_map'], labels)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_macenko_without_a_template_takes_the_published_reference():
    """The pure stains of the reference: H (0.5626, 0.7201, 0.4062), E (0.2159, 0.8012, 0.5581), lamp 240."""
    pytest.importorskip('torchstain')
    rng = np.random.default_rng(0)
    only = rng.uniform(0.3, 2, (96, 96, 1)) * np.eye(2)[rng.integers(2, size=(96, 96))]
    unit = BLUE / np.linalg.norm(BLUE, axis=1, keepdims=True)
    changed = StainNormalize().normalize(np.rint(240 * np.exp(-only @ unit)).astype(np.uint8)).astype(float)
    for stain, reference in enumerate([(0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)]):
        density = -np.log((changed[only[..., stain] > 1] + 1) / 240)
        direction = density.mean(axis=0) / np.linalg.norm(density.mean(axis=0))
        np.testing.assert_allclose(direction, reference / np.linalg.norm(reference), atol=0.04)


def test_reinhard_gives_mean_and_deviation_of_the_template(template):
    pytest.importorskip('torchstain')
    changed = StainNormalize('reinhard', template).normalize(stained(BLUE))
    wanted, got = (lab_statistics([image] * 2) for image in (stained(PURPLE), changed))
    np.testing.assert_allclose(got['means'], wanted['means'], atol=2)
    np.testing.assert_allclose(got['deviations'], wanted['deviations'], atol=2)


@pytest.mark.parametrize('vectors', [PURPLE, BLUE], ids=['purple', 'blue'])
def test_vahadane_finds_the_stains_that_the_image_was_made_with(vectors, tmp_path):
    Image.fromarray(stained(vectors)).save(tmp_path / 'image.png')
    found = StainNormalize('vahadane', tmp_path / 'image.png')._normalizer.stains
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip((found * unit).sum(axis=1), -1, 1)))
    assert (angles < 2).all()


def test_vahadane_reaches_the_optimum_of_scikit_learn(tmp_path):
    """Dictionary learning with the same penalty and bounds, on the same pixels."""
    image, _ = render_tile(np.random.default_rng(0), 64)
    Image.fromarray(image).save(tmp_path / 'image.png')
    step = StainNormalize('vahadane', tmp_path / 'image.png')._normalizer
    pixels = -np.log(np.maximum(image.reshape(-1, 3), 1) / 255)
    pixels = pixels[image[..., 1].ravel() <= 205]
    pixels = pixels[np.linspace(0, len(pixels) - 1, 200).astype(int)]
    learner = DictionaryLearning(
        2,
        alpha=0.02,
        max_iter=100,
        fit_algorithm='cd',
        positive_code=True,
        positive_dict=True,
        tol=1e-9,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        theirs = learner.fit(pixels).components_

    def objective(stains):
        codes = _sparse_concentrations(pixels, stains, 0.02)
        return 0.5 * ((pixels - codes @ stains) ** 2).sum() + 0.02 * codes.sum()

    assert objective(step._learn_stains(pixels)) <= objective(theirs) * (1 + 1e-4)


def test_vahadane_concentrations_are_the_optimum():
    """Against every point of a grid around them."""
    unit = PURPLE / np.linalg.norm(PURPLE, axis=1, keepdims=True)
    density = np.random.default_rng(0).normal(0.3, 0.5, (200, 3))

    def objective(c):
        return 0.5 * ((density - c @ unit) ** 2).sum(axis=-1) + 0.02 * c.sum(axis=-1)

    best = _sparse_concentrations(density, unit, 0.02)
    assert (best >= 0).all()
    assert {(False, False), (False, True), (True, False), (True, True)} == {tuple(row) for row in best > 0}
    for first in (-0.1, -0.001, 0, 0.001, 0.1):
        for second in (-0.1, -0.001, 0, 0.001, 0.1):
            assert (objective(np.maximum(best + np.array([first, second]), 0)) >= objective(best) - 1e-12).all()


def test_missing_torchstain_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchstain', None)
    with pytest.raises(UserError, match='pip install torchstain'):
        StainNormalize()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'method': 'histogram'}, "method='histogram': take one of macenko, reinhard, vahadane"),
        ({'method': 'vahadane'}, "method='vahadane' needs a template"),
        ({'method': 'vahadane', 'template': 'none.png'}, r'none\.png: missing'),
    ],
)
def test_bad_settings_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        StainNormalize(**arguments)


def test_a_template_without_tissue_is_refused(tmp_path):
    Image.fromarray(blank()).save(tmp_path / 'blank.png')
    with pytest.raises(UserError, match=r'blank\.png: 0 of 4096 pixels are tissue'):
        StainNormalize('vahadane', tmp_path / 'blank.png')


def jitter(transform, image, seed=0):
    return transform({'img': image.copy(), 'rng': np.random.default_rng(seed)})['img']


@pytest.mark.parametrize('kind', JITTERS)
def test_jitter_keeps_form_and_draws_from_the_given_generator_only(kind):
    image = stained(PURPLE)
    first = jitter(kind(prob=1), image, seed=1)
    assert (first.dtype, first.shape) == (np.uint8, image.shape)
    assert first.flags.c_contiguous
    np.random.seed(5)
    np.testing.assert_array_equal(jitter(kind(prob=1), image, seed=1), first)
    assert (jitter(kind(prob=1), image, seed=2) != first).any()
    np.testing.assert_array_equal(jitter(kind(prob=0), image), image)


def test_hed_jitter_is_that_of_scikit_image():
    """Unmix, change the three concentrations, mix, by rgb2hed and hed2rgb, whose unit of density is log(1e6)."""
    image = stained(BLUE).clip(1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rng.random()
        factors, shifts = rng.uniform(0.8, 1.2, 3), rng.uniform(-0.2, 0.2, 3)
        concentrations = rgb2hed_signed(image) * factors + shifts / np.log(1e6)
        wanted = 255 * hed2rgb(concentrations)
        assert abs(jitter(RandomHED(sigma=0.2, prob=1), image, seed) - wanted).max() < 2


def rgb2hed_signed(image):
    """As rgb2hed, without its cut at 0: what a pixel absorbs less than its other stains say is kept here."""
    assert np.allclose(rgb2hed(image), np.maximum(-np.log(image / 255) / np.log(1e6) @ hed_from_rgb, 0), atol=1e-3)
    return -np.log(image / 255) / np.log(1e6) @ hed_from_rgb


def test_hed_jitter_of_nothing_changes_nothing():
    np.testing.assert_array_equal(jitter(RandomHED(sigma=0, prob=1), stained(PURPLE).clip(1)), stained(PURPLE).clip(1))


def test_hed_jitter_changes_hematoxylin_and_eosin_apart():
    """Nuclei can grow darker while the rest pales."""
    nuclei = np.full((4, 4, 3), np.rint(255 * np.exp(-PURPLE[0])), np.uint8)
    rest = np.full((4, 4, 3), np.rint(255 * np.exp(-PURPLE[1])), np.uint8)
    changes = [
        [jitter(RandomHED(sigma=0.2, prob=1), part, seed).mean() - part.mean() for part in (nuclei, rest)]
        for seed in range(100)
    ]
    assert any(first < -5 and second > 5 for first, second in changes)
    assert np.corrcoef(np.transpose(changes))[0, 1] < 0.9


def test_virtual_templates_have_the_given_distributions():
    means = [[140.0, 150.0, 115.0], [8.0, 2.0, 1.0]]
    deviations = [[30.0, 6.0, 5.0], [3.0, 1.0, 0.5]]
    step = RandStainNA(means, deviations, prob=1)
    got = lab_statistics(jitter(step, stained(PURPLE, size=64), seed) for seed in range(150))
    np.testing.assert_allclose(got['means'][0], means[0], atol=2)
    np.testing.assert_allclose(got['means'][1], means[1], rtol=0.3, atol=0.5)
    np.testing.assert_allclose(got['deviations'][0], deviations[0], rtol=0.15)
    np.testing.assert_allclose(got['deviations'][1], deviations[1], rtol=0.35, atol=0.2)


def test_a_fixed_virtual_template_is_reinhard(template):
    pytest.importorskip('torchstain')
    fixed = {name: [pair[0], [0.0] * 3] for name, pair in lab_statistics([stained(PURPLE)] * 2).items()}
    changed = jitter(RandStainNA(**fixed, prob=1), stained(BLUE))
    assert difference(changed, StainNormalize('reinhard', template).normalize(stained(BLUE))) < 2


@pytest.mark.parametrize('name', ['blank', 'few cells', 'black', 'white', 'one colour'])
def test_no_template_is_forced_on_blank_images(name):
    np.testing.assert_array_equal(jitter(RandStainNA(prob=1), UNTOLD[name]), UNTOLD[name])


def test_statistics_are_those_of_the_stained_images():
    images = [stained(PURPLE, seed=1), stained(BLUE, seed=2)]
    single = [lab_statistics([image] * 2) for image in images]
    both = lab_statistics([*images, blank(), UNTOLD['black']])
    for name in ('means', 'deviations'):
        values = [statistics[name][0] for statistics in single]
        np.testing.assert_allclose(both[name], [np.mean(values, 0), np.std(values, 0)], atol=2e-3)
        np.testing.assert_array_equal(single[0][name][1], 0)
    RandStainNA(**both)
    with pytest.raises(UserError, match='1 images show tissue'):
        lab_statistics([images[0], blank()])


@pytest.mark.parametrize(
    ('build', 'words'),
    [
        (lambda: RandomHED(sigma=1), 'sigma=1'),
        (lambda: RandomHED(prob=2), 'prob=2'),
        (lambda: RandStainNA(means=[[1, 2, 3]]), r'means=\[\[1, 2, 3\]\]'),
        (lambda: RandStainNA(deviations=[[1, 2, 3], [1, -2, 3]]), 'deviations=.*all 0 or more'),
    ],
)
def test_bad_jitter_is_named(build, words):
    with pytest.raises(UserError, match=words):
        build()

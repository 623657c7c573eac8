import math

import numpy as np
import pytest

from mmgfnuc.datasets.transforms import RandomOrientation, RandomWarpCrop, Rescale
from mmgfnuc.datasets.transforms.geometric import ElasticField
from mmgfnuc.errors import UserError

STILL = {'rotation': (0, 0), 'scale': (1, 1)}


class Fixed(np.random.Generator):
    """A generator whose uniform draws are handed in."""

    def __init__(self, *values):
        super().__init__(np.random.PCG64(0))
        self.values = list(values)

    def uniform(self, *_):
        return self.values.pop(0)


def blobs(rng, height, width, ids=60):
    """Discs with scattered ids, far above 2**16 and 2**24 among them."""
    labels = np.zeros((height, width), np.int32)
    rows, columns = np.mgrid[:height, :width]
    names = np.concatenate([rng.integers(1, 2**16, ids - 2), [2**24 + 1, 2**31 - 1]])
    for name in names:
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 9)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = name
    return labels


def sample(height=90, width=120, seed=0, mpp=0.5):
    rng = np.random.default_rng(seed)
    labels = blobs(rng, height, width)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[..., 0] = np.where(labels > 0, 255, 0)
    ignore = rng.random((height // 10, width // 10)) < 0.1
    return {
        'img': image,
        'instance_map': labels,
        'ignore_map': np.kron(ignore, np.ones((10, 10), bool)),
        'mpp': mpp,
        'rng': np.random.default_rng(seed),
    }


def ramp(height, width):
    """A sample whose pixels name their own place: red the column, green the row, and the instance map both."""
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([columns, rows, np.zeros_like(rows)]).astype(np.uint8)
    return {
        'img': image,
        'instance_map': (rows * width + columns + 1).astype(np.int32),
        'ignore_map': np.zeros((height, width), bool),
        'mpp': None,
    }


def test_orientations_are_the_eight_of_the_square_equally_often():
    source = np.arange(6, dtype=np.int32).reshape(2, 3)
    eight = {array.tobytes() + bytes(array.shape) for flip in (source, source[:, ::-1]) for array in turns(flip)}
    counts = dict.fromkeys(eight, 0)
    rng = np.random.default_rng(0)
    for _ in range(1600):
        results = {'img': np.dstack([source] * 3), 'instance_map': source, 'ignore_map': source > 2, 'rng': rng}
        results = RandomOrientation()(results)
        np.testing.assert_array_equal(results['img'], np.dstack([results['instance_map']] * 3))
        np.testing.assert_array_equal(results['ignore_map'], results['instance_map'] > 2)
        counts[results['instance_map'].tobytes() + bytes(results['instance_map'].shape)] += 1
    assert len(counts) == 8
    assert min(counts.values()) > 150


def turns(array):
    return [np.rot90(array, number).copy() for number in range(4)]


@pytest.mark.parametrize('side', [2, 4])
def test_a_pixel_becomes_the_mean_of_its_area_and_one_of_its_labels(side):
    height, width = 80 // side, 120 // side
    source, results = sample(80, 120), Rescale(1 / side)(sample(80, 120))
    means = source['img'].reshape(height, side, width, side, 3).mean((1, 3))
    assert results['img'].dtype == np.uint8
    assert abs(results['img'] - means).max() <= 0.5
    for key in ('instance_map', 'ignore_map'):
        blocks = source[key].reshape(height, side, width, side).swapaxes(1, 2).reshape(height, width, -1)
        assert results[key].dtype == source[key].dtype
        assert (results[key][..., None] == blocks).any(-1).all()
    ids = set(np.unique(results['instance_map']))
    assert ids <= set(np.unique(source['instance_map']))
    assert max(ids) > 2**24


@pytest.mark.parametrize('factor', [0.5, 0.4, 0.3, 0.77, 1.0])
@pytest.mark.parametrize(('height', 'width'), [(90, 120), (91, 121), (47, 35)])
def test_image_and_maps_show_the_same_place(factor, height, width):
    """Of a ramp, the mean over a pixel's area is the ramp at its centre, and the maps take what lies nearest."""
    source = ramp(height, width)
    source['ignore_map'] = source['instance_map'] % 3 == 0
    results = Rescale(factor)(dict(source))
    size = (round(factor * height), round(factor * width))
    assert results['img'].shape == (*size, 3)
    centres = [(np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip(size, (height, width), strict=True)]
    expected = np.dstack(np.meshgrid(centres[1], centres[0]))
    # Half a grey level of rounding, and a little of INTER_AREA's own.
    assert abs(results['img'][..., :2] - expected).max() < 0.52
    taken = np.dstack(np.divmod(results['instance_map'] - 1, width)[::-1])
    assert abs(taken - expected).max() <= 0.5
    np.testing.assert_array_equal(results['ignore_map'], results['instance_map'] % 3 == 0)


def test_factor_one_changes_nothing():
    source, results = sample(), Rescale(1)(sample())
    for key in ('img', 'instance_map', 'ignore_map', 'mpp'):
        np.testing.assert_array_equal(results[key], source[key])


def test_rescaled_pixels_show_more_micrometres():
    assert Rescale(0.5)(sample(mpp=0.25))['mpp'] == 0.5
    assert Rescale(0.5)(ramp(8, 8))['mpp'] is None


def test_at_least_one_pixel_is_left():
    results = Rescale(0.1)(ramp(3, 40))
    assert results['img'].shape == (1, 4, 3)
    assert results['instance_map'].shape == results['ignore_map'].shape == (1, 4)


@pytest.mark.parametrize('factor', [0, -0.5, 1.01, 2, math.nan])
def test_bad_factor(factor):
    with pytest.raises(UserError, match=f'factor={factor}: give a factor above 0 and at most 1'):
        Rescale(factor)


def test_crop_without_warp_is_an_exact_copy():
    places = set()
    for seed in range(30):
        source, results = sample(seed=1), sample(seed=1)
        results['rng'] = np.random.default_rng(seed)
        results = RandomWarpCrop(64, **STILL)(results)
        hits = np.argwhere((sliding(source['img']) == results['img']).all(axis=(2, 3, 4)))
        assert len(hits) == 1
        row, column = hits[0]
        for key in ('instance_map', 'ignore_map'):
            np.testing.assert_array_equal(results[key], source[key][row : row + 64, column : column + 64])
            assert results[key].dtype == source[key].dtype
        places.add((row, column))
    assert len(places) > 25


def sliding(image, size=64):
    """Every crop of the image, as a view: (rows, columns, size, size, 3)."""
    return np.lib.stride_tricks.sliding_window_view(image, (size, size), (0, 1)).transpose(0, 1, 3, 4, 2)


def test_crop_reaches_both_edges():
    corners = set()
    for seed in range(200):
        results = RandomWarpCrop(4, **STILL)(ramp(5, 5) | {'rng': np.random.default_rng(seed)})
        corners.add(tuple(results['img'][0, 0, 1::-1]))
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_prob_zero_only_crops():
    results = RandomWarpCrop(16, prob=0)(ramp(40, 40) | {'rng': np.random.default_rng(0)})
    assert (np.diff(results['img'][..., 0].astype(int), axis=1) == 1).all()
    assert (np.diff(results['img'][..., 1].astype(int), axis=0) == 1).all()


def test_source_of_exact_size_is_returned_whole():
    source, results = sample(80, 80), sample(80, 80)
    results = RandomWarpCrop(80, **STILL)(results)
    for key in ('img', 'instance_map', 'ignore_map'):
        np.testing.assert_array_equal(results[key], source[key])


@pytest.mark.parametrize(('angle', 'expected'), [(90, 1), (180, 2), (-90, 3)])
def test_quarter_turns_are_exact(angle, expected):
    source = sample(64, 64)
    results = RandomWarpCrop(64, rotation=(angle, angle), scale=(1, 1))(sample(64, 64))
    np.testing.assert_array_equal(results['instance_map'], np.rot90(source['instance_map'], expected))
    difference = results['img'].astype(int) - np.rot90(source['img'], expected)
    assert abs(difference).max() <= 1


def test_magnification_is_that_of_the_nuclei():
    rows, columns = np.mgrid[:131, :131] - 65
    disc = (rows**2 + columns**2 < 20**2).astype(np.int32)
    # 160 / 1.25 pixels turned by 30 degrees span 175: no room, the crop is centred on the disc.
    results = RandomWarpCrop(160, rotation=(30, 30), scale=(1.25, 1.25))(sample(131, 131) | {'instance_map': disc})
    assert math.sqrt(results['instance_map'].sum() / math.pi) == pytest.approx(25, rel=0.02)
    assert results['mpp'] == pytest.approx(0.5 / 1.25)


@pytest.mark.parametrize('elastic', [None, {'alpha': 3, 'sigma': 16}])
@pytest.mark.parametrize('seed', range(5))
def test_image_and_maps_move_by_the_same_formula(elastic, seed):
    """Red and green of the ramp name the source point of each pixel; the maps must show the pixel nearest to it."""
    height, width = 200, 240
    results = ramp(height, width) | {'rng': np.random.default_rng(seed)}
    results = RandomWarpCrop(64, elastic=elastic)(results)
    known = ~results['ignore_map']
    place = results['instance_map'][known] - 1
    column, row = place % width, place // width
    # The image of 8 bits rounds the interpolated place to whole pixels; the map takes the nearest one.
    edge = (column == 0) | (column == width - 1) | (row == 0) | (row == height - 1)
    assert known.mean() > 0.9
    assert abs(results['img'][known][:, 0].astype(int) - column)[~edge].max() <= 1
    assert abs(results['img'][known][:, 1].astype(int) - row)[~edge].max() <= 1


def test_warp_follows_the_documented_formula():
    size, angle, scale = 32, 25.0, 0.9
    rng = Fixed(angle, math.log(scale))
    results = RandomWarpCrop(size, rotation=(-90, 90), scale=(0.5, 2))(ramp(100, 100) | {'rng': rng})
    place = results['instance_map'].astype(float) - 1
    x, y = place % 100, place // 100
    middle = (size - 1) / 2
    cos, sin = math.cos(math.radians(angle)) / scale, math.sin(math.radians(angle)) / scale
    rows, columns = np.mgrid[:size, :size] - middle
    expected_x, expected_y = cos * columns - sin * rows, sin * columns + cos * rows
    centre_x, centre_y = (x - expected_x).mean(), (y - expected_y).mean()
    assert abs(x - centre_x - expected_x).max() < 0.6
    assert abs(y - centre_y - expected_y).max() < 0.6


@pytest.mark.parametrize('seed', range(3))
def test_instances_stay_themselves(seed):
    source = sample(seed=seed)
    results = RandomWarpCrop(96, elastic={'alpha': 2, 'sigma': 12})(sample(seed=seed))
    results = RandomOrientation()(results)
    assert results['instance_map'].dtype == np.int32
    assert results['img'].shape == (96, 96, 3)
    assert set(np.unique(results['instance_map'])) <= set(np.unique(source['instance_map']))
    assert len(np.unique(results['instance_map'])) > 10
    # Red is 255 on nuclei: away from edges, where the interpolation mixes, it says what the maps say.
    red = results['img'][..., 0]
    sure = ((red == 0) | (red == 255)) & ~results['ignore_map']
    assert sure.mean() > 0.3
    np.testing.assert_array_equal(results['instance_map'][sure] > 0, red[sure] == 255)


@pytest.mark.parametrize('shape', [(20, 30), (20, 200), (1, 1)])
def test_small_sources_are_surrounded_by_ignored_area(shape):
    source = sample(*shape) if min(shape) > 1 else ramp(1, 1) | {'rng': np.random.default_rng(0)}
    source['ignore_map'] = np.zeros(shape, bool)
    ids = source['instance_map'].copy()
    results = RandomWarpCrop(64, **STILL)(source)
    known = ~results['ignore_map']
    height, width = min(shape[0], 64), min(shape[1], 64)
    assert results['img'].shape == (64, 64, 3)
    assert known.sum() == height * width
    rows, columns = np.nonzero(known)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (height, width)
    assert abs(rows.min() - (64 - height) / 2) <= 1
    assert not results['instance_map'][~known].any()
    if shape[1] <= 64:
        np.testing.assert_array_equal(results['instance_map'][known].reshape(shape), ids)


def test_rotated_crops_stay_inside_where_they_fit():
    for seed in range(40):
        results = ramp(100, 100) | {'rng': np.random.default_rng(seed)}
        # 60 pixels turned by 45 degrees span 85.
        assert not RandomWarpCrop(60, scale=(1, 1))(results)['ignore_map'].any()


def test_elastic_field_has_the_stated_size_and_smoothness():
    alpha, sigma, size = 3.0, 20.0, 200
    rng = np.random.default_rng(0)
    fields = np.stack([ElasticField(alpha, sigma).draw(rng, size) for _ in range(300)])
    assert fields.mean() == pytest.approx(0, abs=0.1)
    assert fields.std() == pytest.approx(alpha, rel=0.05)
    # White noise under a Gaussian of sigma correlates as exp(-d^2 / (4 sigma^2)).
    for distance in (10, 20, 40):
        apart = (fields[:, :, :-distance] * fields[:, :, distance:]).mean() / fields.var()
        assert apart == pytest.approx(math.exp(-(distance**2) / (4 * sigma**2)), abs=0.05)
    assert (fields[..., 0] * fields[..., 1]).mean() == pytest.approx(0, abs=0.4)


def test_steepest_elastic_field_does_not_fold():
    rng = np.random.default_rng(0)
    for _ in range(50):
        field = ElasticField(4, 16).draw(rng, 128).astype(float)
        (xy, xx), (yy, yx) = np.gradient(field[..., 0]), np.gradient(field[..., 1])
        assert ((1 + xx) * (1 + yy) - xy * yx).min() > 0


def test_elastic_prob():
    rng = np.random.default_rng(0)
    share = np.mean([ElasticField(1, 8, prob=0.3).draw(rng, 8).any() for _ in range(1000)])
    assert share == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'size': 0}, 'size=0'),
        ({'size': 8, 'rotation': (10, -10)}, r'rotation=\(10, -10\)'),
        ({'size': 8, 'scale': (0, 1)}, r'scale=\(0, 1\)'),
        ({'size': 8, 'scale': (2, 1)}, r'scale=\(2, 1\)'),
        ({'size': 8, 'prob': 1.5}, 'prob=1.5'),
        ({'size': 8, 'elastic': {'alpha': 5, 'sigma': 10}}, 'sigma=20 or more'),
        ({'size': 8, 'elastic': {'alpha': 1, 'sigma': 10, 'prob': -1}}, 'prob=-1'),
    ],
)
def test_bad_settings_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        RandomWarpCrop(**arguments)

"""The synthetic H&E generator: repeatable, exactly labelled and typed, and no prey for a global threshold."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.segmentation import expand_labels

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.inspection import inspect_dataset
from mmgfnuc.datasets.synthetic import CLASSES, dataset_tile, nuclei, render_tile, render_typed_tile, write_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.registry import DATASETS

from .small_set import names_in

TYPED_CONFIG = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets' / 'synthetic_typed.py'


@pytest.fixture(scope='module')
def tiles():
    return [dataset_tile(seed=0, part='train', index=index)[:2] for index in range(24)]


@pytest.fixture(scope='module')
def typed_tiles():
    return [render_typed_tile(np.random.default_rng(seed)) for seed in range(8)]


@pytest.fixture(scope='module')
def typed_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic_typed'
    write_dataset(root, num_train=3, num_val=2, size=256, seed=0, types=True)
    return root


def test_same_generator_state_gives_the_same_tile():
    first = render_typed_tile(np.random.default_rng(7), size=96)
    again = render_typed_tile(np.random.default_rng(7), size=96)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_seed_part_and_index_each_change_the_tile():
    images = [
        dataset_tile(*key, size=96)[0] for key in [(0, 'train', 0), (1, 'train', 0), (0, 'val', 0), (0, 'train', 1)]
    ]
    assert len({image.tobytes() for image in images}) == 4


def test_ids_are_consecutive_and_each_is_one_piece(tiles):
    for image, instances in tiles:
        assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
        assert (instances.shape, instances.dtype) == ((256, 256), np.int32)
        ids = np.unique(instances)
        np.testing.assert_array_equal(ids, np.arange(instances.max() + 1))
        pieces = [label(instances == i, connectivity=1).max() for i in ids[1:]]
        assert pieces == [1] * (len(ids) - 1)


def test_nuclei_have_plausible_sizes_and_cover_a_plausible_share(tiles):
    diameters = np.concatenate([[r.equivalent_diameter_area for r in regionprops(lab)] for _, lab in tiles])
    # 0.5 micrometres per pixel: nuclei of 2.5 micrometres (cut by the border) to 13 micrometres.
    assert diameters.min() >= 5.0
    assert diameters.max() <= 26.0
    assert 11.0 <= np.median(diameters) <= 18.0
    # A wide spread is what makes the task: lymphocytes beside vesicular nuclei.
    assert np.percentile(diameters, 90) > 1.8 * np.percentile(diameters, 10)
    shares = [(lab > 0).mean() for _, lab in tiles]
    assert min(shares) > 0.03
    assert max(shares) < 0.40
    assert 0.10 < np.mean(shares) < 0.22


def test_nuclei_touch(tiles):
    def touching(instances):
        right = (instances[:, 1:] != instances[:, :-1]) & (instances[:, 1:] > 0) & (instances[:, :-1] > 0)
        pairs = np.stack([instances[:, 1:][right], instances[:, :-1][right]])
        return np.unique(pairs).size

    share = sum(touching(lab) for _, lab in tiles) / sum(lab.max() for _, lab in tiles)
    assert 0.15 < share < 0.8


def test_nuclei_hold_more_hematoxylin_than_their_surroundings(tiles):
    higher = []
    for image, instances in tiles:
        hematoxylin = rgb2hed(image)[..., 0]
        ring = (expand_labels(instances, 5) > 0) & (instances == 0)
        higher += [hematoxylin[instances == i].mean() > hematoxylin[ring].mean() for i in range(1, instances.max() + 1)]
        assert hematoxylin[instances > 0].mean() > 1.3 * hematoxylin[instances == 0].mean()
    # The pale ones that stay below are meant to be there.
    assert 0.75 < np.mean(higher) < 1.0


def test_global_threshold_fails(tiles):
    scores = []
    for image, instances in tiles:
        red, truth = image[..., 0], instances > 0
        guess = red < threshold_otsu(red)
        scores.append(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
    assert 0.35 < np.mean(scores) < 0.70


def test_each_nucleus_has_one_type_and_the_background_none(typed_tiles):
    for _, instances, types in typed_tiles:
        assert types.dtype == np.uint8
        np.testing.assert_array_equal(types > 0, instances > 0)
        assert all(np.ptp(types[instances == i]) == 0 for i in range(1, instances.max() + 1))
    assert np.unique([types for _, _, types in typed_tiles]).tolist() == [0, 1, 2, 3]


def test_types_are_those_of_the_nuclei_drawn(monkeypatch):
    """Repaint what each call draws, in the order of the calls, by the looks of its kind."""

    def record(rng, tissue, kind, *rest):
        before = tissue.instances.copy()
        drawn = place(rng, tissue, kind, *rest)
        looks = 'lymphocyte' if kind.radius[1] <= 6.5 else 'epithelial'
        if kind.shape.aspect[0] >= 2.0:
            looks = 'connective'
        painted[tissue.instances != before] = CLASSES.index(looks)
        return drawn

    place = nuclei._place_nucleus
    monkeypatch.setattr(nuclei, '_place_nucleus', record)
    for seed in range(4):
        painted = np.zeros((256, 256), np.uint8)
        _, instances, types = render_typed_tile(np.random.default_rng(seed))
        np.testing.assert_array_equal(types, np.where(instances > 0, painted, 0))


@pytest.mark.parametrize('size', [64, 200, 320])
def test_any_size(size):
    image, instances = render_tile(np.random.default_rng(0), size=size)
    assert image.shape == (size, size, 3)
    assert instances.shape == (size, size)
    assert instances.max() > 0


def test_too_small_a_tile_is_an_error():
    with pytest.raises(UserError, match='size=32'):
        render_tile(np.random.default_rng(0), size=32)


def test_write_dataset_round_trip(tmp_path):
    root = tmp_path / 'data' / 'synthetic'
    write_dataset(root, num_train=3, num_val=2, size=96, seed=5)
    split = canonical.read_split(root, 'default')
    assert {part: len(ids) for part, ids in split.items()} == {'train': 3, 'val': 2}
    assert canonical.list_ids(root) == sorted(split['train'] + split['val'])
    meta = canonical.read_meta(root)
    assert meta['name'] == 'synthetic'
    assert meta['classes'] == ['background', 'nucleus']
    groups = {part: {meta['images'][i]['group'] for i in ids} for part, ids in split.items()}
    assert groups['train'].isdisjoint(groups['val'])
    assert {entry['mpp'] for entry in meta['images'].values()} == {0.5}
    for part, ids in split.items():
        for index, sample_id in enumerate(ids):
            paths = canonical.sample_paths(root, sample_id)
            image, instances, _ = dataset_tile(5, part, index, 96)
            np.testing.assert_array_equal(canonical.read_image(paths.image), image)
            np.testing.assert_array_equal(canonical.read_label_map(paths.label), instances)
    assert names_in(root.parent) == ['synthetic']


def test_a_larger_dataset_starts_with_the_same_tiles(tmp_path):
    for name, count in (('small', 1), ('large', 3)):
        write_dataset(tmp_path / name, num_train=count, num_val=count, size=64, seed=0)
    for sample_id in canonical.list_ids(tmp_path / 'small'):
        files = [canonical.sample_paths(tmp_path / name, sample_id) for name in ('small', 'large')]
        assert files[0].image.read_bytes() == files[1].image.read_bytes()
        assert files[0].label.read_bytes() == files[1].label.read_bytes()


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_types_add_their_maps_and_classes_and_change_nothing_else(tmp_path, typed_root):
    write_dataset(tmp_path / 'plain', num_train=3, num_val=2, size=256, seed=0)
    plain, typed = files_of(tmp_path / 'plain'), files_of(typed_root)
    assert typed.keys() - plain.keys() == {f'types/{i}.png' for i in canonical.list_ids(typed_root)}
    assert [name for name in plain if plain[name] != typed[name]] == ['meta.json']
    metas = [canonical.read_meta(root) for root in (tmp_path / 'plain', typed_root)]
    assert metas[1] == metas[0] | {'classes': ['background', 'epithelial', 'lymphocyte', 'connective']}


def test_the_typed_set_is_sound_and_has_every_type(typed_root):
    report = inspect_dataset(typed_root)
    assert report.faults == ()
    paths = [canonical.sample_paths(typed_root, sample_id) for sample_id in canonical.list_ids(typed_root)]
    maps = [(canonical.read_label_map(sample.label), canonical.read_types(sample.types)) for sample in paths]
    for index, name in enumerate(CLASSES[1:], 1):
        number = sum(canonical.count_nuclei(np.where(types == index, instances, 0)) for instances, types in maps)
        assert report.types[name].nuclei == number > 0


def test_the_typed_config_tells_types_apart_in_every_part(typed_root):
    config, plain = (Config.fromfile(TYPED_CONFIG.with_name(name)) for name in (TYPED_CONFIG.name, 'synthetic.py'))
    for part in ('train', 'val', 'test'):
        dataset = DATASETS.build(config[f'{part}_dataloader'].dataset | {'data_root': typed_root})
        assert dataset.metainfo['classes'] == tuple(CLASSES)
        semantic = np.concatenate([sample['data_samples'].gt_sem_seg.data for sample in dataset])
        # 255 is what a warp of the training images brings in from outside.
        assert set(np.unique(semantic)) - {255} == {0, 1, 2, 3}
        plain[f'{part}_dataloader'].dataset.update(data_root='data/synthetic_typed', types=True)
    assert config.to_dict() == plain.to_dict()


@pytest.mark.parametrize(('num_train', 'num_val', 'seed'), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_bad_requests_write_nothing(tmp_path, num_train, num_val, seed):
    with pytest.raises(UserError):
        write_dataset(tmp_path / 'set', num_train=num_train, num_val=num_val, size=64, seed=seed)
    assert names_in(tmp_path) == []

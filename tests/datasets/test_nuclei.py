import json
import re
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmgfnuc.datasets import NucleiDataset, PackNucleiInputs, RandomOrientation
from mmgfnuc.datasets.canonical import read_label_map, sample_paths
from mmgfnuc.datasets.nuclei import _fit, derangement
from mmgfnuc.errors import UserError

IDS = ('kidney_1', 'kidney_2', 'liver_1', 'liver_2', 'liver_3')
SIZE = (40, 56)


@pytest.fixture
def root(tmp_path):
    """A canonical folder written file by file with OpenCV, not with the project's writer."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'labels', 'ignore', 'splits'):
        (tmp_path / folder).mkdir()
    for sample_id in IDS:
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        labels = np.kron(rng.integers(0, 400, (5, 7)), np.ones((8, 8))).astype(np.uint16)
        cv2.imwrite(str(tmp_path / 'images' / f'{sample_id}.png'), image[..., ::-1])
        cv2.imwrite(str(tmp_path / 'labels' / f'{sample_id}.png'), labels)
    ignore = np.zeros(SIZE, np.uint8)
    ignore[:10, :20] = 255
    cv2.imwrite(str(tmp_path / 'ignore' / 'liver_1.png'), ignore)
    write_json(tmp_path / 'splits' / 'organs.json', {'train': IDS[2:], 'val': IDS[:2], 'test': []})
    write_meta(tmp_path)
    return tmp_path


def write_json(path, content):
    path.write_text(json.dumps(content))


def write_meta(root, **changes):
    images = {sample_id: {'group': sample_id.split('_')[0], 'mpp': 0.25} for sample_id in IDS}
    meta = {
        'name': 'toy',
        'classes': ['background', 'nucleus'],
        'licence': 'CC0',
        'citation': 'none',
        'source': 'none',
        'images': images,
    }
    write_json(root / 'meta.json', meta | changes)


def augmenting():
    return [
        {'type': 'RandomWarpCrop', 'size': 32, 'elastic': {'alpha': 1.0, 'sigma': 8.0}},
        {'type': 'RandomOrientation'},
        {'type': 'RandomGamma', 'prob': 1.0},
        {'type': 'PackNucleiInputs'},
    ]


def assert_same(left, right):
    assert torch.equal(left['inputs'], right['inputs'])
    for name in ('gt_sem_seg', 'gt_instance_map'):
        assert torch.equal(left['data_samples'].get(name).data, right['data_samples'].get(name).data)
    assert left['data_samples'].metainfo == right['data_samples'].metainfo


@pytest.mark.parametrize(
    'entry',
    [None, 'kidney', {}, {'group': 'kidney'}, {'group': 1, 'mpp': 1}, {'group': 'a', 'mpp': '0.25'}, {'mpp': 1}],
)
def test_an_entry_of_meta_that_is_none(root, entry):
    images = {sample_id: {'group': 'a', 'mpp': None} for sample_id in IDS} | {'liver_1': entry}
    write_meta(root, images=images)
    with pytest.raises(UserError, match=r"meta\.json: the entry of 'liver_1' is .*; give") as caught:
        NucleiDataset(root)
    assert '\n' not in str(caught.value)


def test_reads_the_files_as_they_are(root):
    dataset = NucleiDataset(root, split='organs', part='train')
    assert len(dataset) == 3
    sample = dataset[0]
    image = cv2.imread(str(root / 'images' / 'liver_1.png'))[..., ::-1]
    labels = cv2.imread(str(root / 'labels' / 'liver_1.png'), cv2.IMREAD_UNCHANGED)
    assert sample['img'].dtype == np.uint8
    assert sample['instance_map'].dtype == np.int32
    assert sample['ignore_map'].dtype == bool
    np.testing.assert_array_equal(sample['img'], image)
    np.testing.assert_array_equal(sample['instance_map'], labels)
    assert sample['ignore_map'].sum() == 200
    assert sample['ignore_map'][:10, :20].all()
    assert {key: sample[key] for key in ('img_id', 'group', 'mpp', 'ori_shape')} == {
        'img_id': 'liver_1',
        'group': 'liver',
        'mpp': 0.25,
        'ori_shape': SIZE,
    }
    assert not dataset[1]['ignore_map'].any()


def test_parts_and_whole_folder(root):
    assert NucleiDataset(root, split='organs', part='val').ids == list(IDS[:2])
    assert NucleiDataset(root).ids == sorted(IDS)


def test_ends_as_a_sequence_does(root):
    dataset = NucleiDataset(root)
    assert [sample['img_id'] for sample in dataset] == sorted(IDS)
    assert dataset[-1]['img_id'] == max(IDS)
    with pytest.raises(IndexError):
        dataset[len(IDS)]


def test_metainfo(root):
    metainfo = NucleiDataset(root).metainfo
    assert metainfo['classes'] == ('background', 'nucleus')
    assert len(metainfo['palette']) == 2
    assert (metainfo['dataset_name'], metainfo['mpp']) == ('toy', 0.25)
    mixed = {sample_id: {'group': 'g', 'mpp': 0.25 if i else 0.5} for i, sample_id in enumerate(IDS)}
    write_meta(root, images=mixed)
    assert NucleiDataset(root).metainfo['mpp'] is None


def test_opening_reads_no_image(root):
    for path in (*root.glob('images/*'), *root.glob('labels/*')):
        path.write_bytes(b'')
    assert len(NucleiDataset(root, split='organs')) == 3


def test_sample_depends_on_seed_epoch_and_index_only(root):
    dataset = NucleiDataset(root, pipeline=augmenting(), seed=3)
    first = dataset[2, 1]
    np.random.seed(99)
    dataset[5, 0]
    assert_same(first, dataset[2, 1])
    assert_same(first, NucleiDataset(root, pipeline=augmenting(), seed=3)[2, 1])
    assert_same(dataset[0, 1], dataset[1])
    for other in (dataset[3, 1], NucleiDataset(root, pipeline=augmenting(), seed=4)[2, 1]):
        assert not torch.equal(first['inputs'], other['inputs'])


def test_draws_of_equal_images_differ_between_indices(root):
    for sample_id in IDS:
        (root / 'images' / f'{sample_id}.png').write_bytes((root / 'images' / 'liver_2.png').read_bytes())
    dataset = NucleiDataset(root, pipeline=augmenting())
    assert not torch.equal(dataset[0, 0]['inputs'], dataset[0, 1]['inputs'])


def test_workers_do_not_change_the_samples(root):
    dataset = NucleiDataset(root, pipeline=augmenting())
    keys = [(epoch, index) for epoch in range(2) for index in range(len(dataset))]
    loader = partial(DataLoader, dataset, batch_size=2, sampler=keys, collate_fn=list)
    alone = [sample for batch in loader(num_workers=0) for sample in batch]
    shared = [sample for batch in loader(num_workers=2) for sample in batch]
    assert len(alone) == len(shared) == len(keys)
    for left, right in zip(alone, shared, strict=True):
        assert_same(left, right)


def test_a_target_that_a_head_does_not_need_is_no_step(root):
    assert NucleiDataset(root, pipeline=[None, dict(type='mmgfnuc.PackNucleiInputs')])[0].keys() == {
        'inputs',
        'data_samples',
    }


def test_pipeline_takes_configs_by_name_by_class_and_built(root):
    forms = [
        [{'type': 'mmgfnuc.RandomOrientation'}, {'type': 'mmgfnuc.PackNucleiInputs'}],
        [{'type': RandomOrientation}, {'type': PackNucleiInputs}],
        [RandomOrientation(), PackNucleiInputs()],
    ]
    first, *others = (NucleiDataset(root, pipeline=pipeline)[1, 1] for pipeline in forms)
    for other in others:
        assert_same(first, other)


def test_derangement():
    """A permutation without a fixed point, and always the same."""
    for length in range(2, 51):
        partners = derangement(length)
        assert sorted(partners) == list(range(length))
        assert all(partner != index for index, partner in enumerate(partners))
        np.random.seed(length)
        assert derangement(length) == partners


def test_derangement_does_not_change_with_versions():
    """Runs of one study must share it: a change here makes older ones another control."""
    assert derangement(2) == [1, 0]
    assert derangement(8) == [4, 7, 6, 0, 1, 2, 3, 5]


def with_partners(root, **settings):
    settings = {'pipeline': augmenting(), 'seed': 3} | settings
    return NucleiDataset(root, **settings), NucleiDataset(root, partner_images=True, **settings)


def test_partner_images_are_appended(root):
    """The sample itself stays; the second half is the partner's own sample of the same epoch."""
    plain, both = with_partners(root)
    partners = derangement(len(IDS))
    for epoch in (0, 2):
        for index in range(len(IDS)):
            sample = both[epoch, index]
            assert sample['inputs'].shape == (6, 32, 32)
            assert sample['inputs'].dtype == torch.uint8
            assert torch.equal(sample['inputs'][3:], plain[epoch, partners[index]]['inputs'])
            assert_same(sample | {'inputs': sample['inputs'][:3]}, plain[epoch, index])
    assert not torch.equal(both[0, 1]['inputs'][3:], both[1, 1]['inputs'][3:])
    assert_same(both[-1], both[len(IDS) - 1])


def test_partners_are_of_the_same_part(root):
    train, validation = (
        NucleiDataset(root, split='organs', part=part, pipeline=[PackNucleiInputs()], partner_images=True)
        for part in ('train', 'val')
    )
    for dataset in (train, validation):
        own = [sample['inputs'][:3].numpy().tobytes() for sample in dataset]
        partners = [sample['inputs'][3:].numpy().tobytes() for sample in dataset]
        assert sorted(partners) == sorted(own)
        assert all(left != right for left, right in zip(own, partners, strict=True))


@pytest.mark.parametrize('own', [(40, 56), (7, 90), (50, 5), (3, 4), (1, 1)])
@pytest.mark.parametrize('size', [(40, 56), (32, 100), (90, 10)])
def test_fit_cuts_and_mirrors(own, size):
    image = torch.randint(0, 256, (3, *own), dtype=torch.uint8)
    missing = [(0, 0), *((0, max(wanted - side, 0)) for side, wanted in zip(own, size, strict=True))]
    expected = np.pad(image.numpy(), missing, mode='symmetric')[:, : size[0], : size[1]]
    np.testing.assert_array_equal(_fit(image, size), expected)


def test_partners_of_other_sizes(root):
    rng = np.random.default_rng(1)
    for sample_id, size in (('kidney_2', (20, 70)), ('liver_2', (64, 30))):
        cv2.imwrite(str(root / 'images' / f'{sample_id}.png'), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        cv2.imwrite(str(root / 'labels' / f'{sample_id}.png'), np.zeros(size, np.uint16))
    plain, both = with_partners(root, pipeline=[PackNucleiInputs()])
    assert len({sample['inputs'].shape for sample in plain}) == 3
    for index, partner in enumerate(derangement(len(IDS))):
        own, sample = plain[index]['inputs'], both[index]['inputs']
        assert torch.equal(sample[:3], own)
        assert torch.equal(sample[3:], _fit(plain[partner]['inputs'], own.shape[1:]))


def test_a_single_image_has_no_partner(root):
    write_json(root / 'splits' / 'organs.json', {'train': IDS[:1]})
    assert len(NucleiDataset(root, split='organs')) == 1
    with pytest.raises(UserError, match='partner_images=True: 1 image has no partner; give at least 2'):
        NucleiDataset(root, split='organs', partner_images=True)


def test_partners_need_packed_inputs(root):
    with pytest.raises(
        UserError, match="partner_images=True joins the 'inputs' of two images: end the pipeline in Pack"
    ):
        NucleiDataset(root, split='organs', partner_images=True)[0]


def test_mmengine_runner_builds_the_loader(root):
    config = {
        'dataset': {'type': 'mmgfnuc.NucleiDataset', 'data_root': str(root), 'pipeline': augmenting()},
        'sampler': {'type': 'mmgfnuc.SeededSampler'},
        'batch_size': 2,
        'num_workers': 0,
    }
    loader = Runner.build_dataloader(config, seed=7)
    assert loader.sampler.seed == 7
    batches = list(loader)
    assert [len(batch['inputs']) for batch in batches] == [2, 2, 1]
    seen = [sample.img_id for batch in batches for sample in batch['data_samples']]
    assert sorted(seen) == sorted(IDS)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'data_root': 'nowhere'}, ('nowhere', 'mmgfnuc prepare')),
        ({'split': 'folds5'}, ('folds5', 'organs', 'mmgfnuc prepare')),
        ({'split': 'organs', 'part': 'dev'}, ('dev', 'train, val', 'mmgfnuc prepare')),
        ({'split': 'organs', 'part': 'test'}, ('test', 'train, val', 'mmgfnuc prepare')),
        ({'seed': -1}, ('seed=-1', '0 or larger')),
    ],
)
def test_bad_arguments_get_one_clear_line(root, arguments, words):
    with pytest.raises(UserError) as caught:
        NucleiDataset(**{'data_root': root} | arguments)
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text


def test_folder_without_images(root):
    for path in root.glob('images/*'):
        path.unlink()
    with pytest.raises(UserError, match='no image'):
        NucleiDataset(root)


def test_split_that_names_an_unknown_image(root):
    write_json(root / 'splits' / 'organs.json', {'train': ['liver_1', 'ghost']})
    with pytest.raises(UserError, match=r"lacks 1 .*'ghost'"):
        NucleiDataset(root, split='organs')


def write_types(root, sample_id, value):
    instances = read_label_map(sample_paths(root, sample_id).label)
    types = np.where(instances > 0, value, 0).astype(np.uint8)
    (root / 'types').mkdir(exist_ok=True)
    cv2.imwrite(str(root / 'types' / f'{sample_id}.png'), types)
    return types


def test_nucleus_types_are_told_apart_if_asked_for(root):
    write_meta(root, classes=['background', 'epithelial', 'lymphocyte'])
    expected = write_types(root, 'liver_2', 2)
    plain, typed = NucleiDataset(root), NucleiDataset(root, types=True, pipeline=[PackNucleiInputs()])
    assert 'type_map' not in plain[plain.ids.index('liver_2')]
    assert plain.metainfo['classes'] == ('background', 'nucleus')
    assert typed.metainfo['classes'] == ('background', 'epithelial', 'lymphocyte')
    assert len(typed.metainfo['palette']) == 3
    labels = typed[typed.ids.index('liver_2')]['data_samples'].gt_sem_seg.data[0].numpy()
    ignored = labels == 255
    assert expected.any()
    np.testing.assert_array_equal(labels[~ignored], expected[~ignored])


def test_types_that_are_not_there(root):
    with pytest.raises(UserError, match=r"types=True: .* has no nucleus types, its classes are \['background', 'nucl"):
        NucleiDataset(root, types=True)
    write_meta(root, classes=['background', 'epithelial', 'lymphocyte'])
    typed = NucleiDataset(root, types=True)
    with pytest.raises(UserError, match=r'has no types/liver_2\.png; prepare the dataset again'):
        typed[typed.ids.index('liver_2')]
    write_types(root, 'liver_2', 3)
    with pytest.raises(UserError, match=r'liver_2\.png: type 3, but meta\.json has 3 classes'):
        typed[typed.ids.index('liver_2')]


def test_sizes_that_differ(root):
    cv2.imwrite(str(root / 'labels' / 'liver_2.png'), np.zeros((8, 9), np.uint16))
    dataset = NucleiDataset(root)
    with pytest.raises(UserError, match=re.escape('(8, 9)')):
        dataset[dataset.ids.index('liver_2')]

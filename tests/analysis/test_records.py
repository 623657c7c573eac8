import csv
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmgfnuc.analysis import make_record, read_records
from mmgfnuc.analysis.records import data_digest, read_run
from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import write_meta, write_sample, write_split
from mmgfnuc.errors import UserError

PROVENANCE = {'versions': {'torch': '2'}, 'hardware': 'a CPU', 'commit': 'abc+changes'}
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.fixture
def data_root(tmp_path):
    root = tmp_path / 'data'
    for sample_id in 'abc':
        write_sample(root, sample_id, IMAGE, np.eye(4, dtype=np.int32))
    meta = dict(name='x', classes=['background', 'nucleus'], licence='', citation='', source='')
    groups = {'a': 'liver', 'b': 'lung', 'c': 'liver'}
    write_meta(root, {**meta, 'images': {key: {'group': group, 'mpp': None} for key, group in groups.items()}})
    write_split(root, 'organs', {'train': ['b'], 'val': ['a', 'c']})
    return root


@pytest.fixture
def dataset(data_root):
    return NucleiDataset(data_root, 'organs', 'val')


def trained_run(folder, seed=0, scored=('c', 'a'), steps=5, **changes):
    """A checkpoint and, beside it, what tools/test.py writes; by default of the images of `dataset`."""
    (folder / 'test').mkdir(parents=True)
    meta = dict(cfg='', seed=seed, iter=steps, dataset_meta={}, train_seconds=90.0 * (seed + 1), **PROVENANCE)
    torch.save({'state_dict': {}, 'meta': meta | changes}, folder / 'last.pth')
    digest = hashlib.sha256((folder / 'last.pth').read_bytes()).hexdigest()
    tested = {'checkpoint': 'last.pth', 'sha256': digest, 'data_root': 'data', 'split': 'organs', 'part': 'val'}
    tested['reports'] = ['metrics.json']
    (folder / 'test' / 'tested.json').write_text(json.dumps(tested))
    (folder / 'test' / 'metrics.json').write_text('{"dice": 0.5}')
    write_table(folder / 'test' / 'per_image.csv', scored, seed)
    return folder / 'last.pth'


def write_table(path, ids, score):
    with path.open('w', newline='') as file:
        csv.writer(file).writerows([('id', 'score'), *((sample_id, score) for sample_id in ids)])


def with_instances(run, aji, scored=('c', 'a')):
    """Add the reports of the instance metric."""
    tested = json.loads((run.parent / 'test' / 'tested.json').read_text())
    tested['reports'].append('instances.json')
    (run.parent / 'test' / 'tested.json').write_text(json.dumps(tested))
    (run.parent / 'test' / 'instances.json').write_text(json.dumps({'aji': aji, 'types': None}))
    write_table(run.parent / 'test' / 'instances.csv', scored, aji)
    return run


def test_a_run_takes_its_provenance_from_the_checkpoint(tmp_path, dataset):
    assert read_run(trained_run(tmp_path / 'run', seed=1), dataset) == {
        'seed': 1,
        'steps': 5,
        'train_minutes': 3.0,
        **PROVENANCE,
        'scores': {'dice': 0.5},
    }


def test_reports_of_an_earlier_test_are_not_taken(tmp_path, dataset):
    run = with_instances(trained_run(tmp_path / 'run'), 0.5)
    tested = json.loads((run.parent / 'test' / 'tested.json').read_text())
    (run.parent / 'test' / 'tested.json').write_text(json.dumps(tested | {'reports': ['metrics.json']}))
    assert 'instances' not in read_run(run, dataset)
    (run.parent / 'test' / 'tested.json').write_text(json.dumps(tested | {'reports': ['instances.json']}))
    with pytest.raises(UserError, match=r'holds no metrics\.json of this checkpoint; test it with'):
        read_run(run, dataset)


def test_record_holds_each_seed_and_copies_its_per_image_scores(tmp_path, dataset):
    runs = [trained_run(tmp_path / f'run{seed}', seed) for seed in (0, 1)]
    path = make_record(tmp_path / 'results', 'name', 'Title', ['make it'], runs, dataset)
    assert path == tmp_path / 'results' / 'name.json'
    record = read_records(tmp_path / 'results')['name']
    assert record['steps'] == 5
    assert record['data']['groups'] == ['liver']
    assert record['data']['images'] == 2
    assert record['data']['sha256'] == data_digest(dataset)
    assert {key: record[key] for key in PROVENANCE} == PROVENANCE
    assert [(run['seed'], run['train_minutes'], run['scores']) for run in record['runs']] == [
        (0, 1.5, {'dice': 0.5}),
        (1, 3.0, {'dice': 0.5}),
    ]
    assert record['picture'] is None
    for seed in (0, 1):
        copied = tmp_path / 'results' / record['runs'][seed]['per_image']
        assert copied.read_bytes() == (tmp_path / f'run{seed}' / 'test' / 'per_image.csv').read_bytes()
        assert record['runs'][seed].keys() == {'seed', 'train_minutes', 'scores', 'per_image'}
    json.dumps(record, allow_nan=False)


def test_record_takes_instance_scores_along_where_they_were_made(tmp_path, dataset):
    runs = [with_instances(trained_run(tmp_path / f'run{seed}', seed), 0.4 + seed / 10) for seed in (0, 1)]
    make_record(tmp_path / 'results', 'name', 'Title', ['make it'], runs, dataset)
    record = read_records(tmp_path / 'results')['name']
    assert [run['instances'] for run in record['runs']] == [{'aji': 0.4, 'types': None}, {'aji': 0.5, 'types': None}]
    assert [run['scores'] for run in record['runs']] == 2 * [{'dice': 0.5}]
    for seed, run in enumerate(record['runs']):
        assert run['per_image'] == f'name_seed{seed}.csv'
        assert run['per_image_instances'] == f'name_seed{seed}_instances.csv'
        copied = tmp_path / 'results' / run['per_image_instances']
        assert copied.read_bytes() == (tmp_path / f'run{seed}' / 'test' / 'instances.csv').read_bytes()


@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
def test_a_picture_is_stored_as_a_jpeg(tmp_path, dataset, mode):
    colours = Image.new('RGB', (32, 16), (200, 40, 90))
    colours.convert(mode).save(tmp_path / 'overlay.png')
    run = trained_run(tmp_path / 'run')
    make_record(tmp_path / 'results', 'name', 't', ['c'], [run], dataset, picture=tmp_path / 'overlay.png')
    record = read_records(tmp_path / 'results')['name']
    assert (record['picture'], record['caption']) == ('name.jpg', 'errors')
    with Image.open(tmp_path / 'results' / 'name.jpg') as stored:
        assert (stored.format, stored.mode, stored.size) == ('JPEG', 'RGB', (32, 16))
        assert np.abs(np.asarray(stored).astype(int) - np.asarray(colours)).max() < 16


def refused(tmp_path, dataset, *runs):
    """The message, after which nothing was written."""
    with pytest.raises(UserError) as caught:
        make_record(tmp_path / 'results', 'n', 't', ['c'], runs, dataset)
    assert not (tmp_path / 'results').exists()
    return str(caught.value)


def test_an_untested_run_is_refused(tmp_path, dataset):
    run = trained_run(tmp_path / 'run')
    (run.parent / 'test' / 'tested.json').unlink()
    message = f'holds no scores that are complete; test again: mmgfnuc test CONFIG {run}'
    assert message in refused(tmp_path, dataset, run)


def test_scores_of_another_checkpoint_are_refused(tmp_path, dataset):
    run = trained_run(tmp_path / 'run')
    # Trained on after the test: the name is the same.
    torch.save({**torch.load(run), 'state_dict': {'weight': torch.ones(1)}}, run)
    message = f'holds the scores of another last.pth; test again: mmgfnuc test CONFIG {run}'
    assert message in refused(tmp_path, dataset, trained_run(tmp_path / 'good'), run)


@pytest.mark.parametrize('scored', ['', 'a', 'ab', 'abc', 'aac'])
def test_scores_of_other_images_are_refused(tmp_path, dataset, scored):
    run = trained_run(tmp_path / 'run', scored=scored)
    assert 'holds the scores of split organs, part val; give these' in refused(tmp_path, dataset, run)


def test_instance_scores_of_other_images_are_refused(tmp_path, dataset):
    run = with_instances(trained_run(tmp_path / 'run'), 0.5, scored='ab')
    assert 'holds the scores of split organs, part val; give these' in refused(tmp_path, dataset, run)


def test_instance_scores_of_some_runs_only_are_refused(tmp_path, dataset):
    runs = with_instances(trained_run(tmp_path / 'a'), 0.5), trained_run(tmp_path / 'b', 1)
    assert f'no instance scores beside {runs[1]}, but beside other runs' in refused(tmp_path, dataset, *runs)


@pytest.mark.parametrize(
    ('key', 'other'), [('steps', 6), ('versions', {'torch': '3'}), ('hardware', 'a GPU'), ('commit', 'def')]
)
def test_unequal_runs_are_refused(tmp_path, dataset, key, other):
    runs = trained_run(tmp_path / 'a'), trained_run(tmp_path / 'b', 1, **{key: other})
    message = refused(tmp_path, dataset, *runs)
    assert f'the runs differ in {key}: ' in message
    assert str(other) in message


def test_digest_changes_with_any_file_of_the_part_and_with_no_other(dataset):
    digests = [data_digest(dataset)]
    assert data_digest(dataset) == digests[0]
    write_sample(dataset.data_root, 'b', IMAGE, np.ones((4, 4), np.int32))
    assert data_digest(dataset) == digests[0], 'b lies in the other part'
    for image, labels, ignore in (
        (IMAGE, np.ones((4, 4), np.int32), None),
        (IMAGE + 1, np.ones((4, 4), np.int32), None),
        (IMAGE + 1, np.ones((4, 4), np.int32), np.eye(4, dtype=bool)),
    ):
        write_sample(dataset.data_root, 'c', image, labels, ignore)
        digests.append(data_digest(dataset))
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    'name', ['../evil', '../../evil', '/tmp/evil', 'a/b', '', '.', '..', '.hidden', 'a b', 'a|b', '<b>']
)
def test_a_name_that_leaves_the_folder_or_is_no_plain_one_is_refused(tmp_path, dataset, name):
    run = trained_run(tmp_path / 'run')
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(UserError, match='is no plain file name'):
        make_record(tmp_path / 'docs' / 'results', name, 'A title', ['none'], [run], dataset)
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('name', ['tested.json', 'metrics.json', 'per_image.csv'])
@pytest.mark.parametrize('content', ['', '{"dice": ', '{"dice": "high"}', '[]'])
def test_damaged_files_of_a_finished_test_are_named(tmp_path, dataset, name, content):
    run = trained_run(tmp_path / 'run')
    (run.parent / 'test' / name).write_text(content)
    text = refused(tmp_path, dataset, run)
    assert str(run.parent / 'test' / name) in text
    assert 'again' in text
    assert '\n' not in text

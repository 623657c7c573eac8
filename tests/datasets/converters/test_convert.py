"""The engine under every converter: whole or not at all, restartable, parallel, resampled, without leaks."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import Content, Converter, Option, Sample, convert
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, output_lock

from ..small_set import names_in

READ = []


def content(seed, size=(20, 30), types=False):
    """Two square nuclei of known place; the image is noise."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    instances = np.zeros(size, np.int32)
    instances[2:8, 3:9] = 5
    instances[10:18, 12:20] = 9
    return Content(image, instances, instances == 9, (instances // 5).astype(np.uint8) if types else None)


def read(seed, **settings):
    READ.append(seed)
    return content(seed, **settings)


def refuse(path):
    raise UserError(f'{path}: unreadable; copy it again')


def samples(number=4, **settings):
    return [
        Sample(f'image_{i}', f'slide_{i // 2}', partial(read, i, **settings), mpp=0.25, magnification=40.0)
        for i in range(number)
    ]


def converter(listed, **changes):
    made = Converter('toy', 'Toy', '  SOURCE/*.png', 'CC0', 'nobody', 'https://example.org', lambda *_: listed)
    return replace(made, **changes)


@pytest.fixture
def source(tmp_path):
    READ.clear()
    (tmp_path / 'source').mkdir()
    return tmp_path / 'source'


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def assert_written(out, sample_id, expected):
    paths = canonical.sample_paths(out, sample_id)
    np.testing.assert_array_equal(canonical.read_image(paths.image), expected.image)
    np.testing.assert_array_equal(canonical.read_label_map(paths.label), expected.instances)
    np.testing.assert_array_equal(canonical.read_ignore(paths.ignore), expected.ignore)


def test_everything_comes_over(source, out):
    report = convert(converter(samples()), source, out)
    assert (report.images, report.nuclei, report.differences) == (4, 8, [])
    for seed in range(4):
        assert_written(out, f'image_{seed}', content(seed))
    meta = canonical.read_meta(out)
    assert meta['images']['image_3'] == {'group': 'slide_1', 'mpp': 0.25, 'magnification': 40.0}
    assert (meta['name'], meta['licence'], meta['source']) == ('toy', 'CC0', 'https://example.org')
    assert validate_dataset(out) == []
    assert sorted(path.name for path in out.iterdir()) == ['ignore', 'images', 'labels', 'meta.json']


@pytest.mark.parametrize('types', [True, False])
def test_types_that_are_unknown_or_missing(source, out, types):
    """With four classes, types 1 to 3 exist; none is given, or a 4."""

    def too_high():
        return replace(content(0, types=True), types=np.full((20, 30), 4, np.uint8))

    sample = Sample('image_0', 'slide', too_high if types else partial(read, 0))
    with pytest.raises(UserError, match=r'nothing was .*\nimage_0: a nucleus type is missing or not one of 0 to 3'):
        convert(converter([sample], classes=['background', 'one', 'two', 'three']), source, out)
    assert not out.exists()


@pytest.mark.parametrize('workers', [1, 2])
def test_all_bad_files_are_reported_and_nothing_is_written(source, out, workers):
    listed = samples() + [Sample(f'bad_{i}', 'x', partial(refuse, f'bad_{i}.png')) for i in range(25)]
    with pytest.raises(UserError) as caught:
        convert(converter(listed), source, out, workers=workers)
    first, *lines, last = str(caught.value).splitlines()
    assert first == '25 bad source files, nothing was written:'
    assert lines[0] == 'bad_0.png: unreadable; copy it again'
    assert last == '... and 5 more'
    assert names_in(out.parent) == ['source']


def test_processes_give_the_same(source, out, tmp_path):
    convert(converter(samples(6)), source, out, workers=1)
    convert(converter(samples(6)), source, tmp_path / 'parallel', workers=2)
    for path in sorted(out.rglob('*.*')):
        assert (tmp_path / 'parallel' / path.relative_to(out)).read_bytes() == path.read_bytes()


def interrupted(listed, at):
    """The same samples, but the user presses Ctrl-C at one of them."""

    def stop():
        raise KeyboardInterrupt

    return [replace(sample, read=stop) if index == at else sample for index, sample in enumerate(listed)]


def test_an_interrupted_run_goes_on_where_it_was(source, out):
    with pytest.raises(KeyboardInterrupt):
        convert(converter(interrupted(samples(), 2)), source, out)
    assert READ == [0, 1]
    assert not out.exists()
    report = convert(converter(samples()), source, out)
    assert READ == [0, 1, 2, 3]
    assert (report.images, report.nuclei) == (4, 8)
    for seed in range(4):
        assert_written(out, f'image_{seed}', content(seed))
    assert names_in(out.parent) == ['out', 'source']


@pytest.fixture
def busy(out):
    """Another process writes to the folder; here it is a thread, which a lock keeps apart in the same way."""
    with ThreadPoolExecutor(1) as other:
        lock = output_lock(out)
        other.submit(lock.__enter__).result()
        yield
        other.submit(lock.__exit__, None, None, None).result()


def test_a_folder_that_another_process_writes_to_is_refused_before_anything_is_read(source, out, busy):
    with pytest.raises(UserError, match=f'another process is writing to {out}'):
        convert(converter(samples()), source, out)
    assert READ == []
    assert names_in(out.parent) == ['source']


def test_a_full_disk_keeps_what_is_written_for_the_next_run(source, out, monkeypatch):
    write = canonical.write_sample

    def full(root, sample_id, *arrays):
        if sample_id == 'image_2':
            raise DiskFullError('no room')
        write(root, sample_id, *arrays)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[convert.__module__], 'write_sample', full)
        with pytest.raises(DiskFullError):
            convert(converter(samples()), source, out, workers=1)
    assert not out.exists()
    READ.clear()
    assert convert(converter(samples()), source, out, workers=1).images == 4
    assert READ == [2, 3]


@pytest.mark.parametrize('settings', [{'mpp': 0.5}, {}])
def test_other_settings_and_a_changed_source_begin_anew(source, out, settings):
    (source / 'image.png').write_text('old')
    with pytest.raises(KeyboardInterrupt):
        convert(converter(interrupted(samples(), 2)), source, out)
    if not settings:
        (source / 'image.png').write_text('newer')
    convert(converter(samples()), source, out, **settings)
    assert READ == [0, 1, 0, 1, 2, 3]


def test_resampled_to_another_resolution(source, out):
    """Twice the pixel size: half the pixels. The maps hold old ids only, the image is averaged."""
    convert(converter(samples()[:1]), source, out, mpp=0.5)
    paths, before = canonical.sample_paths(out, 'image_0'), content(0)
    instances = canonical.read_label_map(paths.label)
    np.testing.assert_array_equal(instances, before.instances[1::2, 1::2])
    np.testing.assert_array_equal(canonical.read_ignore(paths.ignore), before.ignore[1::2, 1::2])
    averaged = before.image.reshape(10, 2, 15, 2, 3).mean((1, 3))
    assert np.abs(canonical.read_image(paths.image) - averaged).max() <= 1
    # The magnification is that of the pixels that there were.
    assert canonical.read_meta(out)['images']['image_0'] == {'group': 'slide_0', 'mpp': 0.5}


def test_resampled_to_more_pixels(source, out):
    convert(converter(samples()[:1]), source, out, mpp=0.125)
    paths = canonical.sample_paths(out, 'image_0')
    np.testing.assert_array_equal(
        canonical.read_label_map(paths.label), content(0).instances.repeat(2, axis=0).repeat(2, axis=1)
    )
    assert canonical.read_image(paths.image).shape == (40, 60, 3)


def test_pixel_sizes_that_are_not_known(source, out):
    unknown = [replace(sample, mpp=None) for sample in samples()]
    with pytest.raises(UserError, match=r'image_0: its micrometres per pixel are not known, .* add --source-mpp'):
        convert(converter(unknown), source, out, mpp=0.5)
    convert(converter(unknown), source, out, mpp=0.5, source_mpp=0.25)
    assert canonical.read_image(out / 'images' / 'image_0.png').shape == (10, 15, 3)
    some = [replace(sample, mpp=None) if index else sample for index, sample in enumerate(samples())]
    convert(converter(some), source, out, source_mpp=0.5)
    sizes = [entry['mpp'] for entry in canonical.read_meta(out)['images'].values()]
    assert sizes == [0.25, 0.5, 0.5, 0.5]


def test_differences_from_what_was_published(source, out):
    made = converter(samples(), images=4, nuclei=8)
    assert convert(made, source, out).differences == []
    assert convert(replace(made, nuclei=10), source, out).differences == ['8 nuclei here, 10 as published (-2)']
    assert convert(replace(made, images=30, nuclei=99), source, out).differences == ['4 images here, 30 as published']


def cut(groups):
    """A split through a slide."""
    return {'cut': {'train': ['image_0', 'image_2'], 'val': ['image_1', 'image_3']}}


def test_a_split_through_a_group_is_refused(source, out):
    with pytest.raises(UserError) as caught:
        convert(converter(samples()), source, out, plan=cut)
    lines = str(caught.value).splitlines()
    assert 'accept it with --allow-leaks' in lines[0]
    assert lines[1:] == [
        "split 'cut': group 'slide_0' stands in several parts: train (image_0), val (image_1)",
        "split 'cut': group 'slide_1' stands in several parts: train (image_2), val (image_3)",
    ]
    assert not out.exists()
    convert(converter(samples()), source, out, plan=cut, allow_leaks=True)
    assert canonical.read_meta(out)['splits_with_leaks'] == ['cut']
    assert validate_dataset(out, 'cut') == []


def test_the_same_image_in_two_parts_is_refused(source, out):
    twin = Sample('twin', 'slide_9', partial(read, 0), mpp=0.25)
    parts = {'train': ['image_0', 'image_1'], 'val': ['twin']}
    with pytest.raises(
        UserError, match=r"split 'twins': one image stands in several parts: train \(image_0\), val \(t"
    ):
        convert(converter([*samples(2), twin]), source, out, plan=lambda groups: {'twins': parts})


def test_the_authors_may_cut_groups(source, out):
    official = converter(samples(), splits=lambda listed: cut({}), leaky=('cut',))
    convert(official, source, out)
    assert canonical.list_splits(out) == ['cut']


def test_options(source, out):
    seen = []
    option = Option('annotator', ('first', 'second'), 'first', 'whose annotations')
    made = converter(samples(), options=(option,), list_samples=lambda _, chosen: seen.append(chosen) or samples())
    convert(made, source, out)
    convert(made, source, out, {'annotator': 'second'})
    assert seen == [{'annotator': 'first'}, {'annotator': 'second'}]
    with pytest.raises(UserError, match="--annotator 'third' is unknown; choose one of first, second"):
        convert(made, source, out, {'annotator': 'third'})
    with pytest.raises(UserError, match='Toy: give --annotator: whose annotations'):
        convert(replace(made, options=(replace(option, default=None),)), source, out)


def test_the_source_is_never_replaced(source, out):
    """It lies in the folder that would be."""
    convert(converter(samples()), source, out)
    (out / 'raw').mkdir()
    for inside in (out, out / 'raw'):
        with pytest.raises(UserError, match=r'the source .* lies in .*, which would be replaced with it; ch'):
            convert(converter(samples()), inside, out)
    assert (out / 'raw').is_dir()


@pytest.mark.parametrize('name', ['ignore/image_0.png', 'splits/mine.json'])
def test_what_was_put_there_by_hand_is_not_lost(source, out, name):
    plain = [replace(sample, read=partial(bare, index)) for index, sample in enumerate(samples())]
    convert(converter(plain), source, out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text('{}')
    with pytest.raises(UserError, match=rf'{name} would be lost, as this run writes none; move it away, or delete'):
        convert(converter(plain), source, out)
    assert (out / name).read_text() == '{}'
    assert names_in(out.parent) == ['out', 'source']


def bare(seed):
    return replace(content(seed), ignore=None)


def test_a_pixel_size_that_is_surely_wrong(source, out):
    listed = [replace(sample, mpp=5.0) for sample in samples()]
    with pytest.raises(UserError, match=r'image_0: from 5 to 0\.05 micrometres per pixel; give --mpp nearer'):
        convert(converter(listed), source, out, mpp=0.05)


@pytest.mark.parametrize('given', [{'mpp': 250}, {'source_mpp': 0.001}, {'mpp': float('nan')}])
def test_a_pixel_size_of_no_microscope_is_refused_before_anything_is_read(source, out, given):
    unknown = [replace(sample, mpp=None) for sample in samples()]
    with pytest.raises(UserError, match=r'--(source-)?mpp: .* not within 0\.05 to 5'):
        convert(converter(unknown), source, out, **given)
    assert READ == []


def test_a_stated_pixel_size_wins_and_those_that_differ_are_counted_and_named(source, out):
    listed = [*samples(3), replace(samples()[3], mpp=None)]
    report = convert(converter(listed), source, out, source_mpp=0.5)
    (notice,) = report.notices
    assert '--source-mpp 0.5' in notice
    assert notice.endswith('3 (image_0: 0.25, image_1: 0.25, image_2: 0.25)')
    assert [entry['mpp'] for entry in canonical.read_meta(out)['images'].values()] == [0.25, 0.25, 0.25, 0.5]
    assert convert(converter(listed), source, out, source_mpp=0.25).notices == []

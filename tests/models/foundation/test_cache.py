import dataclasses
import errno
import multiprocessing
import os
import time
import warnings
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import data_samples, fill_with_noise, total_loss

from ..tiny import SEGMENTOR

VIT = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}


@pytest.fixture
def build(tmp_path, weights_folder, monkeypatch):
    """Encoders with weights from one of two files, whose features are kept in one folder."""
    monkeypatch.setenv('HOME', str(tmp_path))
    for number in (1, 2):
        torch.manual_seed(number)
        network = foundation_encoder('vit-tiny', weights='random', arch=VIT).network
        save_file(dict(fill_with_noise(network, 0.2).state_dict()), weights_folder / f'{number}.safetensors')

    def make(weights='1', out_layers=(0, 1), **settings):
        kept = {'folder': '~/cache'} | settings
        return foundation_encoder('vit-tiny', weights=weights, arch=VIT, out_layers=out_layers, cache=kept)

    return make


def files(tmp_path):
    return sorted((tmp_path / 'cache').rglob('*.features'))


def count(encoder, images):
    """Features, and how many images had to be encoded for them."""
    before = encoder.cache.misses
    return encoder(images), encoder.cache.misses - before


def assert_same(own, expected, **tolerance):
    for a, b in zip(own, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_features_are_computed_once_and_then_the_same(build, tmp_path):
    encoder, images = build(), torch.rand(3, 3, 40, 50)
    first, computed = count(encoder, images)
    assert computed == len(files(tmp_path)) == 3
    assert_same(first, encoder._encode(images), rtol=0, atol=0)
    again, computed = count(build(), images)
    assert computed == 0
    assert_same(again, first, rtol=0, atol=0)


def test_only_what_is_new_is_computed(build, tmp_path):
    encoder, images = build(), torch.rand(4, 3, 32, 32)
    encoder(images[:2])
    features, computed = count(encoder, images[[3, 1, 2, 0]])
    assert computed == 2
    assert_same(features, encoder._encode(images[[3, 1, 2, 0]]), rtol=1e-5, atol=1e-5)
    assert len(files(tmp_path)) == 4


def test_another_input_or_encoder_has_other_features(build, tmp_path):
    """One pixel, the size, the weights, the layers, the arithmetic: all are part of the name."""
    image = torch.rand(1, 3, 32, 32)
    other = image.clone()
    other[0, 0, 5, 5] += 1e-6
    kinds = [
        (build(), image),
        (build(), other),
        (build(), image[..., :16]),
        (build(), image.permute(0, 1, 3, 2).contiguous()),
        (build(weights='2'), image),
        (build(out_layers=(1,)), image),
        (build(dtype='float16'), image),
    ]
    for number, (encoder, pixels) in enumerate(kinds, start=1):
        _, computed = count(encoder, pixels)
        assert computed == 1
        assert len(files(tmp_path)) == number


@pytest.mark.parametrize(('dtype', 'size'), [('float32', 4), ('float16', 2), ('bfloat16', 2)])
def test_precision_on_disk(dtype, size, build, tmp_path):
    encoder, images = build(dtype=dtype), torch.rand(1, 3, 64, 64)
    kept, fresh = [encoder(images), encoder(images)][1], encoder._encode(images)
    assert all(feature.dtype == torch.float32 for feature in kept)
    tolerance = {'float32': 0, 'float16': 1e-3, 'bfloat16': 1e-2}[dtype]
    assert_same(kept, fresh, rtol=tolerance, atol=tolerance)
    values = sum(feature.numel() for feature in fresh)
    assert values * size < files(tmp_path)[0].stat().st_size < values * size + 500


def whole_file(layers):
    """What is whole by its checksum, but not of a cache."""
    body = save({name: torch.full((2, 2), value) for name, value in layers.items()}) if layers else b'pickle'
    return body + zlib.crc32(body).to_bytes(4, 'big')


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: bytes([*content[:99], content[99] ^ 1, *content[100:]]),
        lambda content: content[:-7],
        lambda content: b'',
        lambda content: whole_file({'weight': 1.0}),
        lambda content: whole_file({'0': torch.nan}),
        lambda content: whole_file({}),
    ],
    ids=['flip', 'cut', 'empty', 'other layer', 'nan', 'pickle'],
)
def test_damaged_files_are_made_anew(damage, build, tmp_path):
    encoder, images = build(), torch.rand(1, 3, 32, 32)
    expected = encoder(images)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match='is damaged; its features are computed again'):
        features, computed = count(encoder, images)
    assert computed == 1
    assert_same(features, expected, rtol=0, atol=0)
    assert count(encoder, images)[1] == 0


def test_a_full_disk_is_reported_once_and_survived(build, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, 'No space left on device')

    encoder = build()
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        with pytest.warns(UserWarning, match='feature cache: .*the disk is full; from now on') as warned:
            features = [encoder(torch.rand(1, 3, 32, 32)) for _ in range(3)][-1]
    assert len(warned) == 1
    assert features[0].isfinite().all()
    assert list((tmp_path / 'cache').rglob('*.*')) == []


def test_the_limit_holds(build, tmp_path):
    """Files of this run stay; once there is no room, nothing is written."""
    encoder = build()
    encoder(torch.rand(1, 3, 32, 32))
    size = files(tmp_path)[0].stat().st_size
    encoder = build(max_gb=3.5 * size / 1e9)
    images = torch.rand(5, 3, 32, 32)
    with pytest.warns(UserWarning, match='max_gb; from now on other features are computed each time'):
        encoder(images)
    kept = files(tmp_path)
    assert sum(path.stat().st_size for path in kept) <= 3.5 * size
    assert len(kept) == 3
    assert count(encoder, images)[1] == 2


def test_files_of_earlier_runs_make_room(build, tmp_path):
    encoder = build()
    images = torch.rand(3, 3, 32, 32)
    encoder(images)
    size = files(tmp_path)[0].stat().st_size
    old = time.time() - 1000
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (old + age, old + age))
    oldest = files(tmp_path)[0]
    encoder = build(max_gb=3.5 * size / 1e9)
    encoder(torch.rand(1, 3, 32, 32))
    assert len(files(tmp_path)) == 3
    assert not oldest.exists()


def encode_all(build, path):
    """In a process of its own, as a training of several processes does it."""
    torch.set_num_threads(1)
    encoder = build()
    torch.manual_seed(5)
    images = torch.rand(24, 3, 32, 32)
    for batch in images.split(4):
        encoder(batch)
    torch.save(encoder(images), path)


def test_several_processes_share_a_folder(build, tmp_path):
    fork = multiprocessing.get_context('fork')
    outputs = [tmp_path / f'{number}.pt' for number in range(3)]
    processes = [fork.Process(target=encode_all, args=(build, path)) for path in outputs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(files(tmp_path)) == 24
    first, *others = (torch.load(path) for path in outputs)
    for result in others:
        assert_same(result, first, rtol=1e-5, atol=1e-5)
    assert not [path for path in (tmp_path / 'cache').rglob('*') if path.is_file() and path.suffix != '.features']


def losses(cache_settings, steps=20):
    """Of a model in training on three images, over and over."""
    torch.manual_seed(0)
    encoder = {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': '1', 'arch': VIT}
    model = MODELS.build(SEGMENTOR | {'foundation': encoder | cache_settings}).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    torch.manual_seed(1)
    images, samples = torch.rand(3, 3, 32, 32), data_samples(3, 32, 32)
    done = []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = total_loss(model.loss(images, samples))
        loss.backward()
        optimizer.step()
        done.append(loss.item())
    return done


@pytest.mark.slow
def test_training_is_the_same(build, tmp_path):
    """Bit by bit in float32; within 1 % over 20 steps at half the size."""
    expected = losses({})
    assert max(expected) - min(expected) > 0.01
    folder = str(tmp_path / 'cache')
    assert losses({'cache': {'folder': folder}}) == expected
    assert losses({'cache': {'folder': folder}}) == expected
    for dtype in ('float16', 'bfloat16'):
        assert losses({'cache': {'folder': folder, 'dtype': dtype}}) == pytest.approx(expected, rel=0.01)


def test_weights_that_are_loaded_later_have_their_own_features(build, tmp_path):
    """A checkpoint with random weights, say; two random encoders are told apart."""
    images = torch.rand(1, 3, 32, 32)
    first, second = (
        foundation_encoder('vit-tiny', weights='random', arch=VIT, cache={'folder': str(tmp_path / 'cache')})
        for _ in range(2)
    )
    first(images)
    assert count(second, images)[1] == 1
    second.load_state_dict(first.state_dict())
    features, computed = count(second, images)
    assert computed == 0
    assert_same(features, first._encode(images))


def test_what_rounds_the_features_is_part_of_their_name(build):
    encoder, images = build(), torch.rand(1, 3, 32, 32)
    encoder(images)
    with torch.autocast('cpu', torch.bfloat16):
        assert count(encoder, images)[1] == 1
        assert count(encoder, images)[1] == 0
    assert count(encoder, images)[1] == 0
    encoder.entry = dataclasses.replace(encoder.entry, mean=(0.1, 0.2, 0.3))
    assert count(encoder, images)[1] == 1


def test_features_that_float16_cannot_hold(build, tmp_path):
    encoder = build(dtype='float16')
    with torch.no_grad():
        encoder.network.norm.weight *= 1e6
    images = torch.rand(1, 3, 32, 32)
    with pytest.warns(UserWarning, match="exceed the range of float16; take dtype='bfloat16'; from now on"):
        features = encoder(images)
    assert_same(features, encoder._encode(images), rtol=0, atol=0)
    assert files(tmp_path) == []


def test_the_limit_counts_what_others_write(build, tmp_path):
    encoder = build()
    encoder(torch.rand(1, 3, 32, 32))
    size = files(tmp_path)[0].stat().st_size
    ours, theirs = (build(max_gb=6.5 * size / 1e9) for _ in range(2))
    for number in range(10):
        with warnings.catch_warnings(record=True):
            (ours, theirs)[number % 2](torch.rand(1, 3, 32, 32))
    assert not ours.cache.writes
    assert not theirs.cache.writes
    assert len(files(tmp_path)) == 6


def test_what_dead_processes_left_is_swept(build, tmp_path):
    encoder = build()
    encoder(torch.rand(1, 3, 32, 32))
    folder = files(tmp_path)[0].parent
    for name, age in (('dead.features.1.1', 7200), ('alive.features.2.2', 60)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    build()
    assert not (folder / 'dead.features.1.1').exists()
    assert (folder / 'alive.features.2.2').exists()


def test_files_that_may_not_be_deleted(build, tmp_path, monkeypatch):
    encoder = build()
    encoder(torch.rand(3, 3, 32, 32))
    size = files(tmp_path)[0].stat().st_size
    for path in files(tmp_path):
        os.utime(path, (1, 1))
    encoder = build(max_gb=3.5 * size / 1e9)

    def refuse(self, missing_ok=False):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(Path, 'unlink', refuse)
    with pytest.warns(UserWarning, match='max_gb'):
        assert encoder(torch.rand(1, 3, 32, 32))[0].isfinite().all()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'folder': 'x', 'size': 3}, "cache has no 'size'; it takes folder, dtype, max_gb"),
        ({'dtype': 'float32'}, "cache lacks 'folder'; it takes folder"),
        ({'folder': 'x', 'dtype': 'int8'}, "cache: dtype='int8' is unknown; choose one of float32, float16, bfloat16"),
        ({'folder': 'x', 'max_gb': 0}, 'cache: max_gb=0: give gigabytes, above 0'),
        ({'folder': '/proc/x'}, "cache: folder '/proc/x' cannot be written to .*; give another"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        foundation_encoder('vit-tiny', weights='random', arch=VIT, cache=settings)

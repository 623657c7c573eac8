"""Which encoders have their weights here: in a folder, or in the cache of the hub; nothing is fetched to find out."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.presets import model_config, model_parts
from mmgfnuc.studies.preparation import (
    check_models,
    check_weights,
    draw_missing_data,
    encoder_name,
    encoders_at_hand,
    encoders_of,
    fetch_encoders,
    is_at_hand,
)
from mmgfnuc.studies.storage import inside_file, run_folder
from mmgfnuc.studies.study import make_study

UNET = dict(unet='unet', foundation=None, fusion='none', head='semantic', num_classes=2, in_channels=3, weights=None)
DINO = 'models--timm--vit_small_patch14_dinov2.lvd142m'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of weights, and no network: a download fails the test."""
    monkeypatch.setenv('MMGFNUC_WEIGHTS', str(tmp_path))
    monkeypatch.setattr('mmgfnuc.models.weights.locate.hf_hub_download', lambda *_: pytest.fail('a download'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path


def encoder(name, **settings):
    return dict(type='mmgfnuc.foundation_encoder', name=name, **settings)


def test_files_of_the_folder(folder):
    """Under the encoder's name, timm's, and the publisher's, also of an encoder that the hub does not have."""
    for name in ('vit_tiny_patch16_224.safetensors', 'sam_vit_b_01ec64.pth', 'medsam_vit_b.pth', 'uni.bin'):
        (folder / name).touch()
    assert encoders_at_hand() == ['vit-tiny', 'sam-vit-b', 'medsam-vit-b', 'uni']
    assert is_at_hand(encoder('sam-vit-l', weights='random'))
    assert not is_at_hand(encoder('sam-vit-l'))
    assert is_at_hand(encoder('sam-vit-l', weights=str(folder / 'uni.bin')))
    assert not is_at_hand(encoder('vit-tiny', weights='other-file'))


def test_files_of_the_hubs_cache(folder):
    """As the hub's client lays it out: a snapshot of a commit, and which commit `main` is."""
    commit = 'a' * 40
    snapshot = folder / 'hub' / DINO / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    (snapshot / 'model.safetensors').touch()
    (folder / 'hub' / DINO / 'refs').mkdir()
    (folder / 'hub' / DINO / 'refs' / 'main').write_text(commit)
    assert encoders_at_hand() == ['dinov2-vit-s14']


def test_none_is_here(folder, monkeypatch):
    with pytest.raises(
        UserError, match=r'weights of no encoder are here, neither in \$MMGFNUC_WEIGHTS \(/.*; put files'
    ):
        make_study({'title': '', 'arms': [{'foundation': 'present', 'fusion': 'paper'}]})
    monkeypatch.delenv('MMGFNUC_WEIGHTS')
    with pytest.raises(UserError, match=r'\$MMGFNUC_WEIGHTS is not set'):
        encoders_at_hand()


def test_present_stands_within_a_list_too(folder):
    (folder / 'vit-tiny.pth').touch()
    study = make_study({'title': '', 'arms': [{'foundation': ['present', 'uni'], 'fusion': ['none', 'paper']}]})
    assert [arm.foundation for arm in study.arms] == [None, 'vit-tiny', 'uni']


def test_weights_are_looked_for_once_and_before_anything_runs(folder, runs_of):
    fused = {'foundation': 'vit-tiny', 'fusion': ['paper', 'context']}
    mine = {'foundation': 'conch', 'fusion': 'context', 'parts': {'foundation': {'weights': 'mine'}}}
    runs = runs_of(arms=[{}, fused, {'foundation': 'uni', 'fusion': 'context', 'weights': 'random'}, mine])
    encoders = encoders_of(runs)
    said = [(encoder['name'], encoder.get('weights')) for encoder in encoders]
    assert said == [('vit-tiny', None), ('uni', 'random'), ('conch', 'mine')]
    assert [encoder_name(encoder) for encoder in encoders] == ['vit-tiny', 'uni:random', 'conch:mine']
    (folder / 'vit-tiny.pth').touch()
    fetch_encoders(encoders[:-1])
    with pytest.raises(UserError, match=r"weights 'mine' .* are not there nor in"):
        fetch_encoders(encoders)
    with pytest.raises(UserError, match="foundation='vit-tinny' is unknown; did you mean vit-tiny"):
        fetch_encoders([encoder('vit-tinny')])


@pytest.fixture
def done_runs(runs_of, tmp_path):
    """Runs that look done: a U-Net alone, two with an encoder, of known weights, one with a random one."""
    fused = {'foundation': 'vit-tiny', 'fusion': ['concat', 'context']}
    runs = runs_of(arms=[{}, fused, {'foundation': 'vit-tiny', 'fusion': 'concat', 'weights': 'random'}])
    for run in runs:
        path = run_folder(tmp_path / 'runs', run)
        path.mkdir(parents=True)
        known = run.arm.foundation and run.arm.weights != 'random'
        digest = hashlib.sha256(b'weights').hexdigest() if known else None
        (path / 'run.json').write_text(json.dumps({'weights_sha256': digest}))
        inside_file(path).write_text('{}')
    return runs


def test_other_weights_than_those_of_runs_that_are_done(folder, done_runs):
    root = folder / 'runs'
    # No file to compare with.
    check_weights(done_runs, root)
    (folder / 'vit-tiny.pth').write_bytes(b'weights')
    check_weights(done_runs, root)
    (folder / 'vit-tiny.pth').write_bytes(b'others')
    with pytest.raises(UserError, match=r"run 'unet/concat/vit-tiny/semantic default .* than /.*vit-tiny.pth; "):
        check_weights(done_runs, root)
    for run in done_runs[1:3]:
        (run_folder(root, run) / 'run.json').unlink()
    check_weights(done_runs, root)


def test_settings_that_a_part_does_not_take_are_refused_before_a_run():
    runs = [
        SimpleNamespace(
            arm=SimpleNamespace(name=name), config={'model': model_config(model_parts(parts=parts, **UNET))}
        )
        for name, parts in (('first', {}), ('second', {'backbone': {'widhts': (4, 8)}}))
    ]
    check_models(runs[:1])
    with pytest.raises(UserError, match=r"arm 'second': .*model\.backbone\.widhts; .* near it: widths"):
        check_models(runs)


def test_synthetic_tiles_are_drawn_where_they_are_missing(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr('mmgfnuc.studies.preparation.write_dataset', lambda root, **size: drawn.append(root))
    draw_missing_data(make_study({'title': '', 'arms': [{}], 'data': 'nuinsseg', 'data_root': str(tmp_path / 'none')}))
    assert not drawn
    there, missing = tmp_path / 'there', tmp_path / 'missing'
    there.mkdir()
    for root in (there, missing):
        draw_missing_data(make_study({'title': '', 'arms': [{}], 'data': 'synthetic', 'data_root': str(root)}))
    assert drawn == [missing]
    assert f'{missing} is not there' in capsys.readouterr().err

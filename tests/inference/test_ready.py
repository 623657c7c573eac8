"""Ready models are read as data: what does not belong into a folder is told in one line, and nothing is run."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256
from mmgfnuc.inference import Predictor
from mmgfnuc.inference import ready as ready_module
from mmgfnuc.inference.predictor import load
from mmgfnuc.inference.ready import DEFAULT, FILES, list_ready, read_ready


@pytest.fixture
def folder(ready, tmp_path):
    return shutil.copytree(ready, tmp_path / 'model')


def config_of(folder):
    return json.loads((folder / 'config.json').read_text())


def write_config(folder, config):
    (folder / 'config.json').write_text(json.dumps(config))


def with_keys(**keys):
    return lambda folder: write_config(folder, config_of(folder) | keys)


def within(key, **keys):
    return lambda folder: with_keys(**{key: config_of(folder)[key] | keys})(folder)


def in_model(part, **keys):
    def change(folder):
        model = config_of(folder)['model']
        with_keys(model=model | {part: model[part] | keys})(folder)

    return change


def without(key):
    return lambda folder: write_config(folder, {one: value for one, value in config_of(folder).items() if one != key})


def with_text(text):
    return lambda folder: (folder / 'config.json').write_text(text)


def with_bytes(change):
    """Other bytes, which the config vouches for."""

    def write(folder):
        path = folder / 'model.safetensors'
        path.write_bytes(change(path.read_bytes()))
        with_keys(weights_sha256=file_sha256(path))(folder)

    return write


def with_tensors(change):
    def write(folder):
        tensors = load_file(folder / 'model.safetensors')
        change(tensors)
        with_bytes(lambda _: save(tensors))(folder)

    return write


def linked(name, target):
    def write(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return write


def header(length, text=b'{}'):
    return with_bytes(lambda _: length.to_bytes(8, 'little') + text)


STEM = 'backbone.stages.0.0.0.weight'
HUGE = {'type': 'mmgfnuc.UNetEncoder', 'widths': [10**5, 10**6]}
BAD = {
    'no folder of a model': (
        lambda folder: [(folder / name).unlink() for name in FILES],
        'model.safetensors is missing',
    ),
    'weights missing': (lambda folder: (folder / 'model.safetensors').unlink(), 'model.safetensors is missing'),
    'card missing': (lambda folder: (folder / 'card.md').unlink(), 'card.md is missing'),
    'weights linked': (linked('model.safetensors', '/etc/passwd'), 'a link out of its folder'),
    'config linked': (linked('config.json', '/etc/passwd'), 'a link out of its folder'),
    'config not JSON': (with_text('model = dict()'), 'cannot be read'),
    'config cut off': (lambda folder: os.truncate(folder / 'config.json', 200), 'cannot be read'),
    'config not UTF-8': (lambda folder: (folder / 'config.json').write_bytes(b'{"\xff": 1}'), 'cannot be read'),
    'config a list': (with_text('[]'), 'holds a list'),
    'config nested': (with_text('[' * 10**5), 'cannot be read'),
    'config large': (with_text(' ' * 2**21 + '{}'), 'larger than'),
    'a key twice': (with_text('{"format": 1, "format": 1}'), 'gives a key twice'),
    'NaN': (within('preprocessing', mpp=float('nan')), 'holds NaN'),
    'an endless number': (
        lambda folder: with_text((folder / 'config.json').read_text().replace('"mpp": 0.25', '"mpp": 1e999'))(folder),
        'holds 1e999',
    ),
    'a model nested': (
        lambda folder: with_keys(model={'type': 'x', 'deep': json.loads('[' * 300 + ']' * 300)})(folder),
        'groups within groups',
    ),
    'a newer format': (with_keys(format=2), 'install a newer mmgfnuc'),
    'an older format': (with_keys(format=0), 'format=0'),
    'a format of text': (with_keys(format='1'), "format='1'"),
    'an unknown key': (with_keys(hook='x'), "has 'hook', which is unknown"),
    'a missing key': (without('domain'), 'lacks domain'),
    'a wrong type': (with_keys(model=[]), r'model=\[\], which is of a wrong type'),
    'a name that is a path': (with_keys(name='../x'), "name '../x'"),
    'a data set without licence': (with_keys(data=[{'name': 'x'}]), r'data\[0\] lacks licence'),
    'groups of numbers': (
        lambda folder: with_keys(data=[config_of(folder)['data'][0] | {'groups': [1]}])(folder),
        r'data\[0\] has groups or mpp of a wrong type',
    ),
    'pretrained of text': (with_keys(pretrained=['x']), r'pretrained\[0\] is a str'),
    'versions of numbers': (with_keys(versions={'torch': 2}), 'versions are not texts'),
    'code for a part': (in_model('backbone', type='os.system'), "type='os.system', which is not a registered part"),
    'an unknown part': (in_model('backbone', type='mmgfnuc.Nothing'), 'is not a registered part'),
    'a file for weights': (in_model('backbone', weights='/etc/passwd'), "weights='/etc/passwd'; a ready model names"),
    'a download': (in_model('backbone', arch={'pretrained': True}), 'pretrained=True; a ready model names no file'),
    'a checkpoint to begin with': (in_model('backbone', init_cfg={'checkpoint': 'x'}), 'init_cfg='),
    'a folder to write to': (in_model('backbone', out_dir='../x'), "out_dir='../x'"),
    'an unknown setting': (in_model('backbone', depth=3), 'builds no model'),
    'another model': (with_keys(model={'type': 'mmgfnuc.UNetEncoder'}), 'only a FusionSegmentor'),
    'a model larger than memory': (in_model('backbone', **HUGE), 'do not fit its config'),
    'other widths': (in_model('backbone', widths=[6, 14]), 'do not fit its config'),
    'a test_cfg out of range': (
        lambda folder: with_keys(model=config_of(folder)['model'] | {'test_cfg': {'tile': -1}})(folder),
        'model.test_cfg.tile=-1',
    ),
    'a pixel of a metre': (within('preprocessing', mpp=1e6), 'its preprocessing lacks mpp'),
    'one class': (within('preprocessing', classes=['x']), 'its preprocessing lacks mpp, classes or palette'),
    'three classes': (
        within('preprocessing', classes=['x', 'y', 'z'], palette=[[0, 0, 0]] * 3),
        'num_classes=2, the data set 3 classes',
    ),
    'unknown preprocessing': (within('preprocessing', run='x'), r"preprocessing has \['run'\]"),
    'stains of text': (within('preprocessing', stains='x'), 'no list of stains'),
    'an unknown stain': (within('preprocessing', stains=[{'method': 'x', 'template': None}]), "method='x'"),
    'a stain of a file': (
        within('preprocessing', stains=[{'method': 'reinhard', 'template': ['/etc/passwd']}]),
        'no stain normalisation',
    ),
    'a SHA-256 of another file': (with_keys(weights_sha256='0' * 64), 'does not have the SHA-256'),
    'no SHA-256': (with_keys(weights_sha256='x'), 'is no SHA-256'),
    'weights cut off': (with_bytes(lambda whole: whole[:-100]), 'is not a readable safetensors file'),
    'weights empty': (with_bytes(lambda whole: b''), 'is not a safetensors file'),
    'weights pickled': (with_bytes(lambda whole: b'\x80\x04' + whole), 'is not a safetensors file'),
    'a header longer than the file': (header(2**62), r'a header of 4,611,686,018,427,387,904 bytes'),
    'a header of another form': (header(2, b'[]'), 'is not a readable safetensors file'),
    'a tensor past the end': (
        header(59, b'{"x": {"dtype": "F32", "shape": [9], "data_offsets":[0,36]}}'[:59] + bytes(8)),
        'is not a readable safetensors file',
    ),
    'weights of NaN': (with_tensors(lambda tensors: tensors[STEM].fill_(torch.nan)), f'{STEM} holds NaN'),
    'a weight missing': (with_tensors(lambda tensors: tensors.pop(STEM)), f'lacks {STEM}'),
    'a weight too many': (with_tensors(lambda tensors: tensors.update(x=torch.zeros(1))), 'has x, which'),
    'another shape': (with_tensors(lambda tensors: tensors.update({STEM: torch.zeros(3)})), f'has {STEM} as'),
    'whole numbers': (with_tensors(lambda t: t.update({STEM: torch.zeros_like(t[STEM], dtype=torch.int32)})), 'int32'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_folders(folder, kind):
    change, said = BAD[kind]
    change(folder)
    with pytest.raises(UserError, match=said) as caught:
        Predictor(folder, device='cpu')
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_folder_finds_what_the_checkpoint_finds(ready, plain, image, capfd):
    before, after = Predictor(plain, device='cpu'), Predictor(ready, device='cpu')
    assert after.preprocessing.mpp == before.preprocessing.mpp == 0.25
    assert after.preprocessing.classes == before.preprocessing.classes
    assert {one.dtype for one in after.model.state_dict().values()} == {torch.float32, torch.int64}
    stored = load_file(ready / 'model.safetensors')
    own = before.model.state_dict()
    half = {key for key, one in stored.items() if one.dtype == torch.float16}
    assert half in (set(), {key for key, one in own.items() if one.is_floating_point()})
    for key, one in after.model.state_dict().items():
        assert torch.equal(one, stored[key].to(own[key].dtype))
    found, expected = after(image, 0.25), before(image, 0.25)
    np.testing.assert_allclose(found.foreground, expected.foreground, atol=0.01)
    assert found.labels.max() == pytest.approx(expected.labels.max(), rel=0.1)
    assert capfd.readouterr() == ('', '')


def test_the_models_of_the_package(ready, image, tmp_path, monkeypatch):
    monkeypatch.setattr(ready_module, 'shipped_folder', lambda: tmp_path)
    assert list_ready() == []
    with pytest.raises(UserError, match=f"model='{DEFAULT}' is unknown; give a .pth checkpoint"):
        load()
    for name in (DEFAULT, 'other'):
        shutil.copytree(ready, tmp_path / name)
    (tmp_path / 'notes').mkdir()
    assert list_ready() == [DEFAULT, 'other']
    expected = load(ready)(image).labels
    np.testing.assert_array_equal(load(device='cpu')(image).labels, expected)
    np.testing.assert_array_equal(load('other')(image).labels, expected)
    with pytest.raises(UserError, match=f"model='he-nuclei' is unknown; did you mean {DEFAULT}"):
        load('he-nuclei')


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        ('nowhere', "model='nowhere' is unknown"),
        ('nowhere/at/all', 'is unknown; give a .pth checkpoint, the folder'),
        ('nowhere.pth', "checkpoint 'nowhere.pth' is not there"),
        ('', 'is not a ready model'),
        ('../ada', 'is not a name on huggingface.co'),
        ('ada/a--b', 'is not a name on huggingface.co'),
        ('ada/' + 'x' * 200, 'is not a name on huggingface.co'),
        ('ada/model.git', 'is not a name on huggingface.co'),
        ('ada/he nuclei', 'is unknown'),
        ('https://huggingface.co/ada/he-nuclei', 'is unknown'),
    ],
)
def test_names_of_no_model(model, said):
    with pytest.raises(UserError, match=said) as caught:
        Predictor(model, device='cpu')
    assert '\n' not in str(caught.value)


def test_a_file_of_a_folder_is_not_a_model(ready):
    with pytest.raises(UserError, match='is a file; give the folder of a ready model'):
        Predictor(ready / 'model.safetensors', device='cpu')


def test_files_are_for_everybody_and_belong_together(ready):
    assert {path.name for path in ready.iterdir()} == set(FILES)
    assert len({path.stat().st_mode for path in ready.iterdir()}) == 1
    assert read_ready(ready).config['weights_sha256'] == file_sha256(ready / 'model.safetensors')

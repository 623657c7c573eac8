"""Publishing: what of a checkpoint goes into a folder, and what licences keep out of it."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmgfnuc.commands import publish as command
from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.errors import UserError
from mmgfnuc.inference import Predictor
from mmgfnuc.inference.portable import pretrained_parts
from mmgfnuc.inference.publishing import new_folder, publish
from mmgfnuc.inference.ready import read_ready
from mmgfnuc.models.foundation import CATALOGUE
from mmgfnuc.models.weights.licences import Terms, terms_of
from mmgfnuc.registry import MODELS

from .ready_files import METRICS
from .small_models import FUSED, PLAIN

SAM = FUSED['foundation']
TEMPLATE = render_tile(np.random.default_rng(8), 64)[0]


def published(checkpoint, tmp_path, data_root, **settings):
    folder = tmp_path / 'published'
    folder.mkdir()
    publish(checkpoint, folder, 'small', [data_root], **settings)
    return folder


@pytest.mark.parametrize(
    ('licence', 'terms'),
    [
        ('CC BY 4.0', Terms.FREE),
        ('apache-2.0', Terms.FREE),
        ('CC0 1.0', Terms.FREE),
        ('CC BY-NC-SA 4.0', Terms.LIMITED),
        ('cc-by-nc-4.0', Terms.LIMITED),
        ('DINOv3 License', Terms.LIMITED),
        ('CC-BY-NC-ND-4.0', Terms.FORBIDDEN),
        ('CC BY-ND 4.0', Terms.FORBIDDEN),
        ('Owkin non-commercial licence', Terms.UNKNOWN),
        ('', Terms.UNKNOWN),
        (None, Terms.UNKNOWN),
    ],
)
def test_terms(licence, terms):
    assert terms_of(licence) is terms


@pytest.fixture
def sam_file(tmp_path, weights_folder):
    """Weights of the small encoder, where they are found by its name."""
    torch.manual_seed(5)
    file = weights_folder / 'sam-vit-b.pth'
    torch.save(MODELS.build(SAM).network.state_dict(), file)
    return file


@pytest.fixture
def licensed(monkeypatch):
    """Gives the encoder another licence."""

    def change(licence):
        monkeypatch.setitem(CATALOGUE, 'sam-vit-b', replace(CATALOGUE['sam-vit-b'], licence=licence))

    return change


def encoder(**settings):
    foundation = {key: value for key, value in SAM.items() if key != 'weights'}
    return {**FUSED, 'foundation': foundation | settings}


@pytest.mark.slow
@pytest.mark.parametrize('tune', ['frozen', 'lora'])
def test_an_encoder_that_may_be_copied_is_part_of_the_model(tune, checkpoint_of, sam_file, data_root, image, tmp_path):
    """Its file is not needed any more, nor are adapters."""
    checkpoint = checkpoint_of(f'free-{tune}', encoder(tune=tune))
    expected = Predictor(checkpoint, device='cpu')(image, mpp=0.5).labels
    folder = published(checkpoint, tmp_path, data_root)
    sam_file.unlink()
    after = Predictor(folder, device='cpu')
    assert after(image, mpp=0.5).labels.max() == pytest.approx(expected.max(), rel=0.1)
    (part,) = read_ready(folder).config['pretrained']
    assert (part['name'], part['licence'], part['sha256']) == ('sam-vit-b', 'Apache-2.0', None)
    assert not any('lora' in key for key in after.model.state_dict())


@pytest.mark.slow
def test_an_encoder_that_may_not_be_copied_is_named(checkpoint_of, sam_file, licensed, data_root, image, tmp_path):
    checkpoint = checkpoint_of('limited', encoder())
    licensed('CC-BY-NC-4.0')
    folder = published(checkpoint, tmp_path, data_root)
    config = read_ready(folder).config
    (part,) = config['pretrained']
    assert part['sha256'] == hashlib.sha256(sam_file.read_bytes()).hexdigest()
    assert part['address'].startswith('https://')
    assert config['licence'] == 'CC-BY-NC-4.0'
    kept = [key for key in load_file(folder / 'model.safetensors') if key.startswith('foundation')]
    assert kept == ['foundation.weights_sha256']
    assert Predictor(folder, device='cpu')(image).labels.any()
    torch.save(MODELS.build(SAM).network.state_dict(), sam_file)
    with pytest.raises(UserError, match='other weights'):
        Predictor(folder, device='cpu')
    sam_file.unlink()
    with pytest.raises(UserError, match=f'SHA-256 {part["sha256"]}') as caught:
        Predictor(folder, device='cpu')
    assert part['address'] in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('licence', 'tune', 'said'),
    [
        ('CC-BY-NC-ND-4.0', 'frozen', "'CC-BY-NC-ND-4.0' forbids publishing what is trained on them"),
        (None, 'frozen', 'is not known to allow publishing'),
        ('CC-BY-NC-4.0', 'full', 'leaves copies to the publisher, and tuned weights are one'),
    ],
)
def test_what_a_licence_forbids(licence, tune, said, checkpoint_of, sam_file, licensed, data_root, tmp_path):
    checkpoint = checkpoint_of(f'forbidden-{tune}', encoder(tune=tune))
    licensed(licence)
    with pytest.raises(UserError, match=said) as caught:
        published(checkpoint, tmp_path, data_root)
    assert '\n' not in str(caught.value)
    assert not list((tmp_path / 'published').iterdir())


@pytest.mark.parametrize(
    ('name', 'weights', 'expected'),
    [
        ('tf_efficientnet_lite0', None, []),
        ('tf_efficientnet_lite0', 'lite0.pth', ['apache-2.0']),
        ('convnextv2_tiny', 'x.pth', "licence 'cc-by-nc-4.0' leaves copies to the publisher"),
    ],
)
def test_backbones_of_timm(name, weights, expected):
    """By the licence that timm states; a backbone is always tuned."""
    backbone = f"dict(type='mmgfnuc.TimmBackbone', model_name={name!r}, weights={weights!r})"
    meta = {'cfg': f"model = dict(type='mmgfnuc.FusionSegmentor', backbone={backbone})"}
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            pretrained_parts({'meta': meta}, 'a.pth')
    else:
        assert [part['licence'] for part in pretrained_parts({'meta': meta}, 'a.pth')] == expected


@pytest.fixture
def data_with(data_root, tmp_path):
    """A copy of the data with other entries in its meta.json."""

    def write(name='copy', **changes):
        root = shutil.copytree(data_root, tmp_path / name)
        meta = json.loads((root / 'meta.json').read_text())
        (root / 'meta.json').write_text(json.dumps(meta | changes))
        return root

    return write


def test_data_whose_licence_is_unknown_or_forbids_it(plain, data_with, tmp_path):
    for index, (licence, said) in enumerate([('', 'write what its publisher says'), ('CC BY-ND 4.0', 'forbids')]):
        with pytest.raises(UserError, match=said):
            published(plain, tmp_path / str(index), data_with(f'{index}/data', licence=licence))


def test_what_a_folder_says_of_its_data(plain, data_root, data_with, tmp_path):
    """Two folders of one data set are one; the size of nuclei is that of the label maps."""
    limited = data_with(name='other', licence='CC BY-NC-SA 4.0')
    limited = limited.rename(tmp_path / 'limited')
    meta = json.loads((limited / 'meta.json').read_text()) | {'name': 'other'}
    (limited / 'meta.json').write_text(json.dumps(meta))
    folder = tmp_path / 'model'
    folder.mkdir()
    publish(plain, folder, 'small', [data_root, data_with(), limited])
    config = read_ready(folder).config
    assert [(part['name'], part['images']) for part in config['data']] == [('synthetic', 6), ('other', 3)]
    assert config['licence'] == 'CC BY-NC-SA 4.0'
    sizes = []
    for path in (data_root / 'labels').glob('*.png'):
        labels = read_label_map(path)
        cut = {0, *labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
        whole = set(np.unique(labels)) - cut
        sizes += [0.5 * 2 * ((labels == one).sum() / np.pi) ** 0.5 for one in whole]
    assert config['preprocessing']['nucleus_diameter_um'] == pytest.approx(np.median(sizes), abs=0.01)


def test_the_card_knows_its_own_weights(plain, ready, data_root, tmp_path):
    """Scores may be those of the checkpoint, of a folder that was made of it before, or of another training."""
    own = read_ready(ready).config
    for index, (sha256, same) in enumerate(
        [(own['checkpoint_sha256'], True), (own['weights_sha256'], True), ('0' * 64, False)]
    ):
        (tmp_path / str(index)).mkdir()
        scores = METRICS | {'model': {'name': 'scored', 'sha256': sha256}}
        card = published(plain, tmp_path / str(index), data_root, metrics=scores) / 'card.md'
        assert ('The scored model is this one' in card.read_text()) == same


def test_other_files_of_a_folder_are_not_lost(ready, tmp_path):
    out = shutil.copytree(ready, tmp_path / 'out')
    with new_folder(out) as folder:
        (folder / 'new').touch()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ['out']
    assert [path.name for path in out.iterdir()] == ['new']
    clone = shutil.copytree(ready, tmp_path / 'clone')
    (clone / '.git').mkdir()
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'config.json').touch()
    for other in (clone, foreign, out / 'new'):
        with pytest.raises(UserError, match='name another folder'), new_folder(other):
            pass
    assert (clone / '.git').is_dir()
    assert (foreign / 'config.json').exists()


def test_types_and_stains(checkpoint_of, data_root, image, tmp_path):
    classes = ('background', 'epithelial', 'lymphocyte', 'stromal')
    checkpoint = checkpoint_of('typed', {**PLAIN, 'decode_head': dict(type='mmgfnuc.UNetHead', num_classes=4)}, classes)
    saved = torch.load(checkpoint, weights_only=False)
    stains = [{'method': 'reinhard', 'template': torch.from_numpy(TEMPLATE)}, {'method': 'macenko', 'template': None}]
    saved['meta']['preprocessing']['stains'] = stains
    torch.save(saved, tmp_path / 'stained.pth')
    before = Predictor(tmp_path / 'stained.pth', device='cpu')
    after = Predictor(published(tmp_path / 'stained.pth', tmp_path, data_root), device='cpu')
    assert (after.preprocessing.classes, after.preprocessing.palette) == (classes, PALETTE[:4])
    np.testing.assert_array_equal(after.preprocessing.normalize(image), before.preprocessing.normalize(image))
    np.testing.assert_allclose(after(image).foreground, before(image).foreground, atol=0.01)


def test_parts_that_only_a_training_needs_are_left_out(checkpoint_of, data_root, tmp_path):
    head = dict(type='mmseg.FCNHead', in_index=1, channels=4, num_classes=2)
    checkpoint = checkpoint_of('auxiliary', {**PLAIN, 'auxiliary_head': head})
    folder = published(checkpoint, tmp_path, data_root)
    assert not any(key.startswith('auxiliary') for key in load_file(folder / 'model.safetensors'))
    assert len(Predictor(folder, device='cpu').model.auxiliary_head) == 0


def test_a_model_that_finds_nothing(plain, data_root, tmp_path):
    saved = torch.load(plain, weights_only=False)
    saved['state_dict']['decode_head.decoder.conv_seg.bias'][0] += 1e3
    torch.save(saved, tmp_path / 'empty.pth')
    with pytest.raises(UserError, match='finds no nucleus in 3 images'):
        published(tmp_path / 'empty.pth', tmp_path, data_root)


def test_the_command(plain, data_root, tmp_path, capsys):
    metrics = tmp_path / 'scores' / 'metrics.json'
    out, root = tmp_path / 'he-small', str(data_root)
    arguments = [str(plain), '--out', str(out), '--domain-images', root]
    for _ in range(2):  # an earlier one is replaced
        command.main(arguments)
    assert capsys.readouterr().out.splitlines()[-1].startswith('he-small, 0.')
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for wrong, said in (
        (['--mpp', '0.5'], 'the checkpoint says that its images have 0.25'),
        (['--name', 'A b'], "name 'A b' of a ready model"),
        (['--push', 'nowhere'], 'is not a name on huggingface.co'),
        (['--metrics', str(metrics)], 'metrics.json'),
        (['--domain-images', str(tmp_path)], 'holds no dataset'),
        (['--out', str(tmp_path)], 'is something else than a ready model'),
    ):
        with pytest.raises(UserError, match=said):
            command.main([*arguments, '--name', 'small', *wrong])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

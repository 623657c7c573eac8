"""Segmenting whole images and tiles, by checkpoints that are made here."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.datasets.transforms import StainNormalize
from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.settings import check_model
from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.inference import NucleiInferencer
from mmgfnuc.registry import MODELS

from .small_models import PLAIN, darkness, to_inputs, whole

SMALL_SAM = dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,))
FUSED = dict(
    type='mmgfnuc.FusionSegmentor',
    backbone=dict(type='mmgfnuc.UNetEncoder', widths=(6, 12, 24)),
    foundation=dict(
        type='mmgfnuc.foundation_encoder', name='sam-vit-b', arch=SMALL_SAM, weights='random', input_size=None
    ),
    neck=dict(type='mmgfnuc.FusionNeck'),
    decode_head=dict(type='mmgfnuc.UNetHead'),
)


@pytest.fixture(scope='module')
def fused(checkpoint_of):
    return checkpoint_of('fused', FUSED)


def tiled(checkpoint, tile, overlap):
    options = {'model.test_cfg': dict(tile=tile, overlap=overlap)}
    return NucleiInferencer(checkpoint, load_config(str(checkpoint), options), 'cpu')


def test_a_checkpoint_suffices(fused, image):
    inferencer = whole(fused)
    assert inferencer.mpp == 0.25
    assert inferencer.num_classes == 2
    assert inferencer.classes == ('background', 'nucleus')
    assert inferencer.palette == [[0, 0, 0], [0, 158, 115]]
    prediction = inferencer.predict(image)
    semantic, labels, foreground = prediction.semantic, prediction.labels, prediction.foreground
    assert semantic.shape == labels.shape == foreground.shape == image.shape[:2]
    assert [part.dtype for part in (semantic, labels, foreground)] == [np.uint8, np.int32, np.float32]
    assert set(np.unique(semantic)) == {0, 1}
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    assert labels.max() > 3
    with torch.no_grad():
        logits = inferencer.model.encode_decode(to_inputs(image))
    margin = (logits[0, 1] - logits[0, 0]).numpy()
    certain = np.abs(margin) > 1e-5
    assert certain.mean() > 0.99
    assert np.array_equal(semantic[certain], margin[certain] > 0)
    np.testing.assert_allclose(foreground, 1 / (1 + np.exp(-margin)), rtol=1e-4)


@pytest.mark.parametrize('size', [(1, 1), (17, 40), (200, 31)])
def test_any_image_size(fused, image, size):
    assert whole(fused).predict(np.ascontiguousarray(image[: size[0], : size[1]])).labels.shape == size


def receptive_reach(model, size=96):
    """Pixels around one output pixel in which any input pixel has an effect, by the gradient."""
    # Of several images, as units without activation in one of them would hide what they see.
    inputs = torch.rand(8, 3, size, size, requires_grad=True)
    reach = 0
    for offset in (0, 1):
        centre = size // 2 + offset
        (gradient,) = torch.autograd.grad(model.encode_decode(inputs)[:, :, centre, centre].sum(), inputs)
        distances = (gradient.abs().sum((0, 1)) > 0).nonzero() - centre
        reach = max(reach, int(distances.abs().max()))
    return reach


def test_tiles_whose_halo_covers_the_receptive_field_give_the_whole_image(plain, image):
    inferencer = tiled(plain, tile=96, overlap=48)
    assert receptive_reach(inferencer.model) <= 48 // 4
    by_tiles, at_once = inferencer.predict(image), whole(plain).predict(image)
    np.testing.assert_allclose(by_tiles.foreground, at_once.foreground, atol=2e-5, rtol=1e-5)
    assert np.mean(by_tiles.semantic != at_once.semantic) < 1e-4


def seam_distance(length, tile, overlap):
    """Pixels to the nearest line on which one tile hands over to the next, the middle of their overlap."""
    starts = [*range(0, length - tile, tile - overlap), length - tile]
    seams = [(earlier + tile + later) / 2 for earlier, later in itertools.pairwise(starts)]
    return np.min([np.abs(np.arange(length) + 0.5 - seam) for seam in seams], axis=0)


def disagreement(checkpoint, image, tile, overlap):
    """Share of the pixels that tiles and the whole image label differently: within 8 pixels of a seam, elsewhere."""
    differs = tiled(checkpoint, tile, overlap).predict(image).semantic != whole(checkpoint).predict(image).semantic
    near = np.minimum.outer(*(seam_distance(length, tile, overlap) for length in image.shape[:2])) < 8
    return differs[near].mean(), differs[~near].mean()


def test_seams_are_no_worse_than_elsewhere(fused):
    image = render_tile(np.random.default_rng(12), 384)[0]
    # The fused model sees the whole tile, so that its answers vary a little from tile to tile, anywhere.
    for overlap in (32, 64):
        at_seams, elsewhere = disagreement(fused, image, tile=128, overlap=overlap)
        assert 0 < at_seams <= elsewhere < 0.01
    # The measure does find seams: without overlap they stand out.
    at_seams, elsewhere = disagreement(fused, image, tile=128, overlap=0)
    assert at_seams > 10 * elsewhere


def test_tiles_give_the_nuclei_of_the_whole_image(plain, monkeypatch):
    """No nucleus is cut or doubled at a seam, and none of those at seams is numbered otherwise."""
    image = render_tile(np.random.default_rng(7), 600)[0][:, :500]
    found = {}
    for overlap in (None, 16, 0):
        inferencer = whole(plain) if overlap is None else tiled(plain, 128, overlap)
        monkeypatch.setattr(inferencer.model, 'encode_decode', darkness)
        found[overlap] = inferencer.predict(image, mpp=0.25).labels
    at_seams = np.minimum.outer(*(seam_distance(length, 128, 16) for length in image.shape[:2])) < 1
    assert found[None].max() > 50
    assert np.unique(found[None][at_seams]).size > 20
    np.testing.assert_array_equal(found[16], found[None])
    # Without an overlap the seams show.
    assert not np.array_equal(found[0], found[None])


def test_small_things_are_told_by_their_true_size(plain, image, monkeypatch):
    inferencer = whole(plain)
    monkeypatch.setattr(inferencer.model, 'encode_decode', darkness)
    counts = [inferencer.predict(image, mpp).labels.max() for mpp in (0.1, 0.25, 1.0)]
    assert counts[0] < counts[1] <= counts[2]


def test_types(checkpoint_of, image, tmp_path):
    path = checkpoint_of('typed', {**PLAIN, 'decode_head': dict(type='mmgfnuc.UNetHead', num_classes=4)})
    saved = torch.load(path, weights_only=False)
    classes = ('background', 'epithelial', 'lymphocyte', 'stromal')
    saved['meta']['dataset_meta'].update(classes=classes, palette=PALETTE[:4])
    torch.save(saved, path)
    inferencer = whole(path)
    assert inferencer.num_classes == 4
    assert inferencer.classes == classes
    prediction = inferencer.predict(image)
    with torch.no_grad():
        probabilities = inferencer.model.encode_decode(to_inputs(image))[0].softmax(0).numpy()
    certain = np.abs(probabilities[0] - 0.5) > 1e-5
    expected = np.where(probabilities[0] < 0.5, probabilities[1:].argmax(0) + 1, 0)
    assert np.array_equal(prediction.semantic[certain], expected[certain])
    assert np.unique(prediction.semantic).size > 2


def test_config_overrides_that_of_the_checkpoint(plain):
    wider = {**PLAIN, 'backbone': dict(type='mmgfnuc.UNetEncoder', widths=(8, 12))}
    with pytest.raises(UserError, match='the checkpoint does not fit the model'):
        NucleiInferencer(plain, Config(dict(model=wider)))
    tiles = {**PLAIN, 'test_cfg': dict(tile=64)}
    assert NucleiInferencer(plain, Config(dict(model=tiles))).model.test_cfg == dict(tile=64)


def test_options_override_the_config(plain, image):
    halves = load_config(str(plain), {'model.test_cfg': dict(scale=0.5)})
    inferencer = NucleiInferencer(plain, halves, 'cpu')
    with torch.no_grad():
        halved = to_inputs(image).reshape(1, 3, 100, 2, 124, 2).mean((3, 5))
        logits = F.interpolate(whole(plain).model.encode_decode(halved), (200, 248), mode='bilinear')
    expected = (logits[0, 1] > logits[0, 0]).numpy()
    assert 0.05 < expected.mean() < 0.95
    assert np.mean(inferencer.predict(image).semantic != expected) < 1e-3


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('model.backbone.widhts', (4, 8), 'near it: widths'),
        ('model.backbone.widths', 'wide', 'model.backbone.widths='),
        ('model.backbone.widths', (4, 0), 'give whole numbers'),
        ('model.test_cfg.tle', 64, 'near it: tile'),
        ('backbone.widths', (4, 8), 'near it: model.backbone.widths'),
    ],
)
def test_options_that_do_not_fit(plain, option, value, said):
    def changed():
        config = load_config(str(plain), {option: value})
        check_model(config)
        NucleiInferencer(plain, config, 'cpu')

    with pytest.raises(UserError) as caught:
        changed()
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'cpu:x', 'mps'])
def test_a_device_that_is_not_there(plain, device):
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here: ") as caught:
        NucleiInferencer(plain, device=device)
    assert '\n' not in str(caught.value)


def test_an_encoder_tuned_in_full_needs_no_weight_file(checkpoint_of, image, tmp_path, monkeypatch, recwarn):
    file = tmp_path / 'encoder.pth'
    torch.save(MODELS.build(FUSED).foundation.network.state_dict(), file)
    settings = dict(FUSED, foundation=dict(FUSED['foundation'], weights=str(file), tune='full'))
    path = checkpoint_of('full', settings)
    expected = whole(path).predict(image).foreground
    file.unlink()
    recwarn.clear()
    np.testing.assert_array_equal(whole(path).predict(image).foreground, expected)
    assert not [warning for warning in recwarn if 'RANDOM' in str(warning.message)]


def test_stains_are_normalised_as_in_the_test_pipeline(plain, image, tmp_path):
    """By hand before, or by the dumped config: the same prediction."""
    normalise = {'type': 'mmgfnuc.datasets.transforms.StainNormalize', 'method': 'macenko'}
    config = Config(
        dict(
            model=PLAIN, test_dataloader=dict(dataset=dict(pipeline=[normalise, dict(type='mmgfnuc.PackNucleiInputs')]))
        )
    )
    saved = torch.load(plain, weights_only=False)
    saved['meta']['cfg'] = config.pretty_text
    torch.save(saved, tmp_path / 'normalised.pth')
    expected = whole(plain).predict(StainNormalize().normalize(image)).foreground
    assert not np.array_equal(expected, whole(plain).predict(image).foreground)
    np.testing.assert_array_equal(whole(tmp_path / 'normalised.pth').predict(image).foreground, expected)


def test_a_checkpoint_whose_head_has_other_classes(plain, tmp_path):
    saved = torch.load(plain, weights_only=False)
    saved['meta']['dataset_meta'] |= {'classes': ('background', 'epithelial', 'lymphocyte')}
    torch.save(saved, tmp_path / 'typed.pth')
    with pytest.raises(
        UserError, match=r'num_classes=2, the data set 3 classes \(background, epithelial, lymphocyte\)'
    ):
        whole(tmp_path / 'typed.pth')


def test_a_model_that_gives_no_numbers(plain, image, tmp_path):
    """Its weights are finite, and its logits are not: no image without nuclei."""
    saved = torch.load(plain, weights_only=False)
    saved['state_dict']['decode_head.decoder.conv_seg.weight'].fill_(3e38)
    torch.save(saved, tmp_path / 'large.pth')
    with pytest.raises(DivergedError, match='the model gives NaN: its weights are damaged, or its training failed'):
        whole(tmp_path / 'large.pth').predict(image)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("model = dict(type='os.system', command='touch {proof}')", "type='os.system', which is no registered part"),
        ("model = dict(type='builtins.open', file='{proof}', mode='w')", 'which is no registered part'),
        ("model = __import__('os').system('touch {proof}')", 'line 1 holds code'),
        ("model = dict(type='mmgfnuc.UNetEncoder', bogus=1)", 'builds no model'),
        ("model = dict(type='mmgfnuc.UNetEncoder')", 'only a FusionSegmentor gives nuclei'),
        ('a = 1', 'builds no model'),
    ],
)
def test_a_config_in_a_checkpoint_calls_nothing_but_parts_of_models(plain, tmp_path, text, message):
    saved = torch.load(plain, weights_only=False)
    saved['meta']['cfg'] = text.format(proof=tmp_path / 'ran')
    torch.save(saved, tmp_path / 'hostile.pth')
    with pytest.raises(UserError, match=message) as caught:
        whole(tmp_path / 'hostile.pth')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'ran').exists()


def test_what_a_checkpoint_says_of_its_data(plain, tmp_path):
    saved = torch.load(plain, weights_only=False)
    saved['meta']['dataset_meta'] |= {'classes': 7}
    torch.save(saved, tmp_path / 'typed.pth')
    with pytest.raises(UserError, match=r'dataset_meta\.classes=7'):
        whole(tmp_path / 'typed.pth')


def test_a_config_that_a_checkpoint_carries_makes_no_cache(checkpoint_of, image, tmp_path):
    """Only who starts a prediction says where features lie."""
    folder = tmp_path / 'features'
    model = {**FUSED, 'foundation': {**FUSED['foundation'], 'cache': {'folder': str(folder)}}}
    path = checkpoint_of('cached', FUSED)
    saved = torch.load(path, weights_only=False)
    saved['meta']['cfg'] = Config(
        {**Config.fromstring(saved['meta']['cfg'], '.py').to_dict(), 'model': model}
    ).pretty_text
    torch.save(saved, tmp_path / 'c.pth')
    NucleiInferencer(tmp_path / 'c.pth').predict(image)
    assert not folder.exists()

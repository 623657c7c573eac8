"""From images of all forms to nuclei, whole and in tiles, by checkpoints that are made here."""

import itertools
from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image

from mmgfnuc.datasets import limits
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.engine.config import load_config
from mmgfnuc.engine.settings import check_model
from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.inference import Predictor
from mmgfnuc.inference.pixel_size import PixelSizes
from mmgfnuc.registry import MODELS

from .small_models import FUSED, PLAIN, darkness, tiled, to_inputs, whole


def test_a_checkpoint_suffices(fused, image):
    predictor = whole(fused)
    assert predictor.preprocessing.mpp == 0.25
    assert predictor.preprocessing.classes == ('background', 'nucleus')
    assert predictor.preprocessing.palette == [[0, 0, 0], [0, 158, 115]]
    nuclei = predictor(image)
    labels, semantic, foreground = nuclei.labels, nuclei.semantic, nuclei.foreground
    assert semantic.shape == labels.shape == foreground.shape == image.shape[:2]
    assert [part.dtype for part in (semantic, labels, foreground)] == [np.uint8, np.int32, np.float32]
    assert set(np.unique(semantic)) == {0, 1}
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    assert labels.max() > 3
    assert nuclei.types.tolist() == [1] * labels.max()
    with torch.no_grad():
        logits = predictor.model.encode_decode(to_inputs(image))
    margin = (logits[0, 1] - logits[0, 0]).numpy()
    certain = np.abs(margin) > 1e-5
    assert certain.mean() > 0.99
    assert np.array_equal(semantic[certain], margin[certain] > 0)
    np.testing.assert_allclose(foreground, 1 / (1 + np.exp(-margin)), rtol=1e-4)


@pytest.mark.parametrize('size', [(1, 1), (17, 40), (200, 31)])
def test_any_image_size(fused, image, size):
    assert whole(fused)(np.ascontiguousarray(image[: size[0], : size[1]])).labels.shape == size


def seam_distance(length, tile, overlap):
    """Pixels to the nearest line on which one tile hands over to the next, the middle of their overlap."""
    starts = [*range(0, length - tile, tile - overlap), length - tile]
    seams = [(earlier + tile + later) / 2 for earlier, later in itertools.pairwise(starts)]
    return np.min([np.abs(np.arange(length) + 0.5 - seam) for seam in seams], axis=0)


@pytest.mark.slow
def test_seams_are_no_worse_than_elsewhere(fused):
    """The fused model sees the whole tile, so that its answers vary a little from tile to tile, anywhere."""
    image = render_tile(np.random.default_rng(12), 384)[0]
    expected = whole(fused)(image).semantic

    def disagreement(overlap):
        differs = tiled(fused, 128, overlap)(image).semantic != expected
        near = np.minimum.outer(*(seam_distance(length, 128, overlap) for length in image.shape[:2])) < 8
        return differs[near].mean(), differs[~near].mean()

    for overlap in (32, 64):
        at_seams, elsewhere = disagreement(overlap)
        assert 0 < at_seams <= elsewhere < 0.01
    # The measure does find seams: without overlap they stand out.
    at_seams, elsewhere = disagreement(0)
    assert at_seams > 10 * elsewhere


def test_tiles_give_the_nuclei_of_the_whole_image(plain, monkeypatch):
    """No nucleus is cut or doubled at a seam, and none of those at seams is numbered otherwise."""
    image = render_tile(np.random.default_rng(7), 600)[0][:, :500]
    found = {}
    for overlap in (None, 16, 0):
        predictor = whole(plain) if overlap is None else tiled(plain, 128, overlap)
        monkeypatch.setattr(predictor.model, 'encode_decode', darkness)
        found[overlap] = predictor(image, mpp=0.25).labels
    at_seams = np.minimum.outer(*(seam_distance(length, 128, 16) for length in image.shape[:2])) < 1
    assert found[None].max() > 50
    assert np.unique(found[None][at_seams]).size > 20
    np.testing.assert_array_equal(found[16], found[None])
    # Without an overlap the seams show.
    assert not np.array_equal(found[0], found[None])


def test_tiles_per_batch_change_nothing(fused, image):
    one, many = (tiled(fused, 64, 16, tiles_per_batch=number)(image) for number in (1, 4))
    np.testing.assert_array_equal(many.labels, one.labels)
    np.testing.assert_array_equal(many.foreground, one.foreground)
    assert one.labels.max() > 3
    with pytest.raises(UserError, match=r'test_cfg\.tiles_per_batch=0: give a number above 0'):
        Predictor(fused, device='cpu', tiles_per_batch=0)


@pytest.mark.parametrize('factor', [2, 0.5])
def test_an_image_of_other_pixels_is_scaled_to_those_of_the_training(predictor, image, factor):
    """An image whose pixels are half as large is seen at half its size, one of larger pixels enlarged."""
    other = np.array(Image.fromarray(image).resize([int(side * factor) for side in image.shape[1::-1]], Image.BOX))
    mpp = 0.25 / factor
    found = predictor(other, mpp)
    assert found.labels.shape == other.shape[:2]
    assert predictor.scale_of(mpp) == 1 / factor
    mode = dict(mode='area') if factor > 1 else dict(mode='bilinear')
    with torch.no_grad():
        seen = F.interpolate(to_inputs(other), image.shape[:2], **mode)
        logits = F.interpolate(predictor.model.encode_decode(seen), other.shape[:2], mode='bilinear')
    expected = (logits[0, 1] > logits[0, 0]).numpy()
    assert 0.05 < expected.mean() < 0.95
    assert np.mean(found.semantic != expected) < 1e-3


def test_the_size_of_a_pixel(plain, image, tmp_path, monkeypatch):
    """What is too small for a nucleus is told by it; a call wins over the predictor, and that over the file."""
    predictor = whole(plain)
    tifffile.imwrite(tmp_path / 'a.tif', image, ome=True, metadata={'PhysicalSizeX': 0.3, 'PhysicalSizeY': 0.3})
    monkeypatch.setattr(predictor.model, 'encode_decode', darkness)
    finest, coarsest = (predictor(image, mpp).labels.max() for mpp in (0.2, 0.3))
    assert finest < coarsest
    assert predictor(tmp_path / 'a.tif').labels.max() == coarsest
    assert predictor(tmp_path / 'a.tif', 0.2).labels.max() == finest
    monkeypatch.setattr(predictor, 'pixel_sizes', PixelSizes(predictor.preprocessing, 0.2))
    assert predictor(tmp_path / 'a.tif').labels.max() == predictor(image).labels.max() == finest
    assert predictor(image, 0.3).labels.max() == coarsest
    for value in (250, '0.5'):
        with pytest.raises(UserError, match=f'mpp: {value!r} micrometres'):
            predictor(image, value)
        with pytest.raises(UserError, match=f'mpp: {value!r} micrometres'):
            Predictor(plain, mpp=value)


def test_what_the_memory_does_not_suffice_for_is_refused(predictor, image, tmp_path, monkeypatch):
    """Any form of an image, by the size at which it is worked on."""
    Image.fromarray(image).save(tmp_path / 'a.png')
    monkeypatch.setattr(limits, 'SMALL', 0)
    monkeypatch.setattr(limits, 'free_memory', lambda: 140 * image[..., 0].size)
    for given, name in ((image, 'image'), (tmp_path / 'a.png', 'a.png')):
        assert predictor(given, 0.25).labels.any()
        with pytest.raises(UserError, match=f'{name}: .* GB of memory to be predicted'):
            predictor(given, 0.5)


def test_types(checkpoint_of, image):
    classes = ('background', 'epithelial', 'lymphocyte', 'stromal')
    typed = {**PLAIN, 'decode_head': dict(type='mmgfnuc.UNetHead', num_classes=4)}
    predictor = whole(checkpoint_of('typed', typed, classes))
    assert predictor.preprocessing.classes == classes
    assert predictor.preprocessing.palette == PALETTE[:4]
    nuclei = predictor(image)
    with torch.no_grad():
        probabilities = predictor.model.encode_decode(to_inputs(image))[0].softmax(0).numpy()
    certain = np.abs(probabilities[0] - 0.5) > 1e-5
    expected = np.where(probabilities[0] < 0.5, probabilities[1:].argmax(0) + 1, 0)
    assert np.array_equal(nuclei.semantic[certain], expected[certain])
    assert np.unique(nuclei.semantic).size > 2
    for number, kind in enumerate(nuclei.types, start=1):
        votes = np.bincount(nuclei.semantic[nuclei.labels == number], minlength=4)[1:]
        assert votes[kind - 1] == votes.max() > 0


def test_parts_are_named_in_the_scope_of_the_config(plain):
    """As MMSegmentation's projects name theirs."""
    head = dict(type='FCNHead', in_index=1, channels=4, num_classes=2)
    model = {**PLAIN, 'decode_head': dict(type='mmgfnuc.SemanticHead', decoder=head), 'auxiliary_head': head}
    for scope, said in (('mmseg', 'does not fit the model'), (None, "write 'mmseg.FCNHead'")):
        with pytest.raises(UserError, match=said):
            Predictor(plain, Config(dict(model=model, default_scope=scope)), 'cpu')


def test_config_and_options_override_that_of_the_checkpoint(plain, image):
    wider = {**PLAIN, 'backbone': dict(type='mmgfnuc.UNetEncoder', widths=(8, 12))}
    with pytest.raises(UserError, match='the checkpoint does not fit the model'):
        Predictor(plain, Config(dict(model=wider)))
    tiles = {**PLAIN, 'test_cfg': dict(tile=64)}
    assert Predictor(plain, Config(dict(model=tiles))).model.test_cfg == dict(tile=64, mpp=0.25)
    halves = Predictor(plain, load_config(str(plain), {'model.test_cfg': dict(scale=0.5)}), 'cpu')
    assert halves.scale_of(None) == halves.scale_of(0.25) == 0.5
    assert halves.scale_of(0.5) == 1


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('model.backbone.widhts', (4, 8), 'near it: widths'),
        ('model.backbone.widths', 'wide', 'model.backbone.widths='),
        ('model.test_cfg.tle', 64, 'near it: tile'),
        ('backbone.widths', (4, 8), 'near it: model.backbone.widths'),
    ],
)
def test_options_that_do_not_fit(plain, option, value, said):
    def predictor():
        config = load_config(str(plain), {option: value})
        check_model(config)
        return Predictor(plain, config, 'cpu')

    with pytest.raises(UserError) as caught:
        predictor()
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'cpu:x', 'mps'])
def test_a_device_that_is_not_there(device):
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here: ") as caught:
        Predictor('not read', device=device)
    assert '\n' not in str(caught.value)


def test_an_encoder_tuned_in_full_needs_no_weight_file(checkpoint_of, image, tmp_path, recwarn):
    file = tmp_path / 'encoder.pth'
    torch.save(MODELS.build(FUSED).foundation.network.state_dict(), file)
    settings = dict(FUSED, foundation=dict(FUSED['foundation'], weights=str(file), tune='full'))
    path = checkpoint_of('full', settings)
    expected = whole(path)(image).foreground
    file.unlink()
    recwarn.clear()
    np.testing.assert_array_equal(whole(path)(image).foreground, expected)
    assert not [warning for warning in recwarn if 'RANDOM' in str(warning.message)]


def test_a_config_that_a_checkpoint_carries_makes_no_cache(fused, image, tmp_path):
    """Only who starts a prediction says where features lie."""
    folder = tmp_path / 'features'
    model = {**FUSED, 'foundation': {**FUSED['foundation'], 'cache': {'folder': str(folder)}}}
    saved = torch.load(fused, weights_only=False)
    saved['meta']['cfg'] = Config(dict(model=model)).pretty_text
    torch.save(saved, tmp_path / 'c.pth')
    whole(tmp_path / 'c.pth')(image)
    assert not folder.exists()


def test_a_checkpoint_whose_head_has_other_classes(changed):
    classes = ['background', 'epithelial', 'lymphocyte']
    path = changed(classes=classes, palette=PALETTE[:3])
    with pytest.raises(UserError, match=r'num_classes=2, the data set 3 classes \(background, epithelial, lymphocyte'):
        whole(path)


def test_a_model_that_gives_no_numbers(plain, image, tmp_path):
    """Its weights are finite, and its logits are not: no image without nuclei."""
    saved = torch.load(plain, weights_only=False)
    saved['state_dict']['decode_head.decoder.conv_seg.weight'].fill_(3e38)
    torch.save(saved, tmp_path / 'large.pth')
    with pytest.raises(DivergedError, match='the model gives NaN: its weights are damaged, or its training failed'):
        whole(tmp_path / 'large.pth')(image)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("model = dict(type='os.system', command='touch {proof}')", "type='os.system', which is not a registered part"),
        ("model = dict(type='builtins.open', file='{proof}', mode='w')", 'which is not a registered part'),
        ("model = __import__('os').system('touch {proof}')", 'line 1 holds code'),
        ("model = dict(type='mmgfnuc.UNetEncoder', bogus=1)", 'builds no model'),
        ("model = dict(type='mmgfnuc.UNetEncoder')", 'only a FusionSegmentor gives nuclei'),
        ('a = 1', 'builds no model'),
    ],
)
def test_a_config_in_a_checkpoint_calls_nothing_but_parts_of_models(changed, tmp_path, text, message):
    path = changed(text.format(proof=tmp_path / 'ran'))
    with pytest.raises(UserError, match=message) as caught:
        whole(path)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'ran').exists()


def test_the_same_picture_in_another_form_gives_the_same_nuclei(predictor, image, tmp_path):
    labels = predictor(image).labels
    opaque, grey = np.full(image.shape[:2], 255, np.uint8), image[..., 1]
    Image.fromarray(image).save(tmp_path / 'a.png')
    for same in (
        image / np.float32(255),
        image / np.float64(255),
        np.dstack([image, opaque]),
        Image.fromarray(image),
        Image.fromarray(np.dstack([image, opaque])),
        Image.open(tmp_path / 'a.png'),
        tmp_path / 'a.png',
        str(tmp_path / 'a.png'),
    ):
        np.testing.assert_array_equal(predictor(same).labels, labels)
    for same in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(predictor(same).labels, predictor(np.dstack([grey] * 3)).labels)
    # Alpha is laid on white.
    white = image.copy()
    white[:80], opaque[:80] = 255, 0
    np.testing.assert_array_equal(predictor(np.dstack([image, opaque])).labels, predictor(white).labels)


def damaged_picture(image):
    file = BytesIO()
    Image.fromarray(image).save(file, 'JPEG')
    return Image.open(BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    ('change', 'what'),
    [
        (lambda image: image.astype(np.uint16) * 257, 'uint16 do not say which value is white; divide by'),
        (lambda image: image.astype(np.int64), 'int64 do not say'),
        (lambda image: image.astype(np.float32), 'leaves the range of 0 to 1; give uint8, or floats'),
        (lambda image: image / 255 - 0.5, 'leaves the range of 0 to 1'),
        (lambda image: np.where(image == image[0, 0, 0], np.nan, image / 255), 'a pixel of nan'),
        # 12 bits divided as if they were 16.
        (lambda image: image.astype(np.float32) / 255 / 16, r'brightest pixel is 0\.06.*, .* 1 is white; .* 4095'),
        (lambda image: np.dstack([image[..., 0] / 4096, np.ones(image.shape[:2])]), r'\(200, 248, 2\)'),
        (lambda image: np.dstack([image / 4096, np.ones(image.shape[:2])]), 'brightest pixel is 0'),
        (lambda image: image.transpose(2, 0, 1), r'shape \(3, 200, 248\)'),
        (lambda image: image[None], r'shape \(1, 200, 248, 3\)'),
        (lambda image: image[:0], r'shape \(0, 248, 3\)'),
        (lambda image: torch.from_numpy(image.copy()), 'is a Tensor; give the path'),
        (lambda image: image.tolist(), 'is a list; give the path'),
        (lambda image: Image.fromarray(image).convert('CMYK'), 'colours of kind CMYK; save it as 8-bit RGB'),
        (lambda image: Image.fromarray(image[..., 0].astype(np.uint16) * 257), "'I;16' with more than 8 bits"),
        (lambda image: Image.fromarray(image[:0]), r'shape \(0, 248, 3\) is not that of an image'),
        (damaged_picture, r'the PIL image cannot be read \(.*truncated.*\); open it anew'),
        (lambda image: 'nowhere.png', r'nowhere\.png: missing'),
    ],
)
def test_what_would_be_misread_is_refused(predictor, image, change, what):
    with pytest.raises(UserError, match=what) as caught:
        predictor(change(image))
    assert '\n' not in str(caught.value)

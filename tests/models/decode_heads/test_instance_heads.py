"""Heads that give nuclei, on top of the decode heads of the zoo."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead

import mmgfnuc
from mmgfnuc.datasets.transforms.instance_targets import BoundaryTarget, DistanceTarget, HoverTarget
from mmgfnuc.errors import UserError
from mmgfnuc.models.decode_heads import BoundaryHead, DualDecoderHead, HoverHead, SemanticHead, UNet3PlusHead
from mmgfnuc.postprocess import BoundaryInstances, HoverInstances, WatershedInstances
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import InstanceHeadBattery, data_samples, total_loss
from mmgfnuc.testing.samples import label_map

from ..unets.small import SMALL

CHANNELS, STRIDES = (4, 6, 8), (1, 2, 4)
AUXILIARY = {'semantic': 0, 'dual-decoder': 1, 'hover': 2, 'boundary': 1}
TARGETS = {'dual-decoder': DistanceTarget, 'hover': HoverTarget, 'boundary': BoundaryTarget}
HEADS = {'semantic': SemanticHead, 'dual-decoder': DualDecoderHead, 'hover': HoverHead, 'boundary': BoundaryHead}
each_head = pytest.mark.parametrize('head', AUXILIARY)


def build(head, num_classes=None, decoder='mmgfnuc.UNetHead', **settings):
    torch.manual_seed(0)
    wired = dict(in_channels=CHANNELS, in_strides=STRIDES, num_classes=num_classes)
    return HEADS[head](decoder={'type': decoder, **settings}, **wired)


def build_with(head, postprocess):
    return HEADS[head]({'type': 'mmgfnuc.UNetHead'}, CHANNELS, STRIDES, postprocess={'type': postprocess})


def pyramid(size=16, batch=2):
    return [torch.randn(batch, c, size // s, size // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]


def discs(size, types=1):
    """A label map of four discs, two of them touching, and the classes of its pixels."""
    labels = label_map(size)
    return labels, np.where(labels > 0, (labels - 1) % types + 1, 0)


def key_of(head):
    return HEADS[head].target['key']


def truth(head, size, batch=2, types=1):
    """Samples as the loader packs them."""
    labels, classes = discs(size, types)
    samples = data_samples(batch, size, size)
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(classes)[None].long())
        if head in TARGETS:
            target = torch.from_numpy(np.asarray(TARGETS[head].target(labels)))
            setattr(sample, key_of(head), PixelData(data=target if target.ndim == 3 else target[None]))
    return samples


class TestContract(InstanceHeadBattery):
    parts = [dict(type=head) for head in (SemanticHead, DualDecoderHead, HoverHead)]


class TestContractOfBoundaries(InstanceHeadBattery):
    part = dict(type=BoundaryHead)

    def auxiliary(self, truth):
        return (truth == 2).float()


def test_the_boundary_is_a_part_of_the_nucleus():
    """By hand: logits ln 2, ln 1, ln 3, ln 4 of background, two types and boundary."""
    maps = torch.tensor([2.0, 1.0, 3.0, 4.0]).log()[None, :, None, None]
    activated = build('boundary', num_classes=3).activate(maps).flatten()
    torch.testing.assert_close(activated, torch.tensor([0.2, 0.8 / 4, 0.8 * 3 / 4, 0.4]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('head', 'types'), [('semantic', 1), ('dual-decoder', 3), ('hover', 3), ('boundary', 1), ('boundary', 3)]
)
def test_training_separates_touching_discs(head, types):
    """Overfitted to one image, each head gives its nuclei and types back."""
    model = mmgfnuc.create_model('unet', head=head, num_classes=types + 1, parts={'backbone': {'widths': (8, 16, 24)}})
    labels, classes = discs(48, types)
    image = np.stack([labels == 0, labels % 2, classes == 2]).astype(np.float32)
    images = torch.from_numpy(image)[None] + 0.1 * torch.randn(1, 3, 48, 48)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        total_loss(model(images, truth(head, 48, 1, types), mode='loss')).backward()
        optimizer.step()
    # Statistics of the norms are those of the one image.
    (sample,) = model(images, mode='predict')
    found = sample.pred_instance_map.data[0]
    assert found.dtype == np.int32
    assert found.max() == 4
    for number in range(1, 5):
        nucleus = labels == number
        inside, counts = np.unique(found[nucleus], return_counts=True)
        match = found == inside[counts.argmax()]
        assert (match & nucleus).sum() / (match | nucleus).sum() > 0.7
    agreement = sample.pred_sem_seg.data[0].numpy() == classes
    assert agreement.mean() > 0.95


@pytest.mark.parametrize('unet', SMALL)
@pytest.mark.parametrize('head', ['hover', 'boundary'])
def test_every_u_net_takes_every_head(unet, head):
    """Each parameter gets a gradient, as DDP asks; `dual-decoder` has the same decoders as `hover`."""
    torch.manual_seed(0)
    model = mmgfnuc.create_model(unet, head=head, parts=SMALL[unet]).train()
    losses = model(torch.rand(2, 3, 64, 64), truth(head, 64), mode='loss')
    total_loss(losses).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_losses_of_the_auxiliary_maps_are_those_of_both_outputs():
    """Deep supervision of the decoder supervises its twin too."""
    head = build('hover', decoder='mmgfnuc.UNet3PlusHead', skip_channels=4, deep_supervision=True)
    losses = head.loss(pyramid(), truth('hover', 16))
    assert {'loss_dice_focal', 'loss_hover', 'aux_1.loss_hover', 'aux_2.loss_hover'} <= losses.keys()


def test_settings_of_classes_stay_with_the_classes():
    """A guide that says whether there is any nucleus has no say in the auxiliary maps."""
    settings = dict(skip_channels=4, classification_guided=True, loss_decode=dict(type='mmgfnuc.DiceFocalLoss'))
    head = build('dual-decoder', 3, 'mmgfnuc.UNet3PlusHead', **settings)
    assert isinstance(head.auxiliary_decoder, UNet3PlusHead)
    assert head.decoder.guide is not None
    assert head.auxiliary_decoder.guide is None
    assert (head.decoder.num_classes, head.auxiliary_decoder.num_classes) == (3, 1)


def test_a_decoder_of_mmsegmentation():
    config = dict(type='mmseg.FCNHead', in_index=0, channels=4, num_classes=2, num_convs=1)
    head = MODELS.build(dict(type=HoverHead, decoder=config, in_channels=CHANNELS, in_strides=STRIDES))
    assert head.decoder.in_channels == CHANNELS[0]
    assert isinstance(head.auxiliary_decoder, FCNHead)
    losses = head.loss(pyramid(), truth('hover', 16))
    assert total_loss(losses).isfinite()
    assert head(pyramid()).shape == (2, 4, 16, 16)


def test_ignored_pixels_teach_nothing():
    """Whatever the boundary map says there."""
    head = build('boundary')
    features, samples = pyramid(), truth('boundary', 16)
    for sample in samples:
        sample.gt_sem_seg.data[..., :8, :] = 255
    before = head.loss(features, samples)['loss_dice_focal']
    for sample in samples:
        sample.gt_boundary_map.data[..., :8, :] = 2
    torch.testing.assert_close(head.loss(features, samples)['loss_dice_focal'], before)
    for sample in samples:
        sample.gt_boundary_map.data[..., 8:, :] = 2
    assert head.loss(features, samples)['loss_dice_focal'] != before


@pytest.mark.parametrize('head', TARGETS)
def test_a_target_that_is_missing(head):
    key, name = key_of(head), TARGETS[head].__name__
    with pytest.raises(
        UserError, match=rf"learns from {key}, .* put {{'type': 'mmgfnuc.{name}', 'key': '{key}'}} before"
    ):
        build(head).loss(pyramid(), truth('semantic', 16))


def test_numbers_of_classes_that_differ():
    with pytest.raises(UserError, match='num_classes=3 of the head, 4 of its decoder; give one of them'):
        HoverHead({'type': 'mmgfnuc.UNetHead', 'num_classes': 4}, CHANNELS, STRIDES, num_classes=3)


def test_class_weights_have_one_for_the_boundary():
    decoder = {'type': 'mmgfnuc.UNetHead', 'loss_decode': {'type': 'mmgfnuc.DiceFocalLoss', 'class_weight': [1, 5]}}
    SemanticHead(decoder, CHANNELS, STRIDES)
    with pytest.raises(UserError, match='has 2 weights, the decoder 3 classes'):
        BoundaryHead(decoder, CHANNELS, STRIDES)


def test_post_processing_by_config():
    wired = dict(in_channels=CHANNELS, in_strides=STRIDES)
    head = HoverHead(
        {'type': 'mmgfnuc.UNetHead'}, postprocess={'type': 'mmgfnuc.HoverInstances', 'rise': -0.5}, **wired
    )
    assert head.postprocess == HoverInstances(rise=-0.5)
    assert BoundaryHead({'type': 'mmgfnuc.UNetHead'}, **wired).postprocess == BoundaryInstances()


@each_head
def test_sizes_are_in_micrometres(head):
    """500 pixels of 0.05 micrometres are less than the smallest nucleus, 2.5 square micrometres."""
    foreground = torch.from_numpy(discs(64)[0] > 0).float()
    assert build(head).nuclei(foreground, torch.zeros(AUXILIARY[head], 64, 64), 0.05).max() == 0
    assert build(head).nuclei(foreground, torch.zeros(AUXILIARY[head], 64, 64), None).max() > 0


@each_head
def test_more_classes_in_the_truth_than_in_the_head(head):
    """The boundary is a class after those of the head: a type must not be taken for it."""
    with pytest.raises(UserError, match='the truth has class 3, the head num_classes=2; set num_classes of the head'):
        build(head).loss(pyramid(), truth(head, 16, types=3))


def test_a_post_processor_that_takes_other_maps():
    with pytest.raises(
        UserError, match=r'DistanceInstances takes 1 auxiliary map\(s\), HoverHead predicts 2; give postprocess='
    ):
        build_with('hover', 'mmgfnuc.DistanceInstances')
    with pytest.raises(UserError, match=r'HoverInstances takes 2 auxiliary map\(s\), SemanticHead predicts 0'):
        build_with('semantic', 'mmgfnuc.HoverInstances')


@each_head
def test_the_foreground_alone(head):
    """A watershed takes no auxiliary maps, whatever the head predicts."""
    labels, _ = discs(64)
    found = build_with(head, 'mmgfnuc.WatershedInstances').nuclei(
        torch.from_numpy(labels > 0).float(), torch.rand(AUXILIARY[head], 64, 64), None
    )
    np.testing.assert_array_equal(found, WatershedInstances()((labels > 0).astype(np.float32)))


def test_a_sigmoid_is_no_softmax():
    with pytest.raises(UserError, match='out_channels=1 of the decoder is a sigmoid; give softmax channels'):
        build('semantic', 2, out_channels=1, threshold=0.5)


@pytest.mark.parametrize('axis', [-1, -2])
@pytest.mark.parametrize('head', TARGETS)
def test_mirrored_maps_are_those_of_the_mirrored_nuclei(head, axis):
    labels = label_map(24)[:, :20]

    def maps(labels):
        auxiliary = torch.from_numpy(np.asarray(TARGETS[head].target(np.ascontiguousarray(labels)), np.float32))
        auxiliary = (auxiliary if auxiliary.ndim == 3 else auxiliary[None])[None]
        foreground = torch.from_numpy((labels > 0).astype(np.float32))[None, None]
        return torch.cat([1 - foreground, foreground, auxiliary], dim=1)

    torch.testing.assert_close(build(head).flip(maps(labels), axis), maps(np.flip(labels, axis)))

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

import mmgfnuc
from mmgfnuc import create_model, list_fusions, list_unets
from mmgfnuc.errors import UserError
from mmgfnuc.models import create
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNetHead
from mmgfnuc.models.foundation import SAMEncoder, TimmViTEncoder
from mmgfnuc.models.necks import AddFusionBlock, ConcatFusionBlock, ContextFusionBlock, GatedFusionBlock
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.presets import model_parts
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import fill_with_noise

from .unets.small import SMALL as UNET_PARTS

BASE = Path(__file__).parents[2] / 'configs' / '_base_'
SMALL = {'backbone': {'widths': (4, 8, 16)}}
ENCODER = {
    'type': 'mmgfnuc.foundation_encoder',
    'name': 'vit-tiny',
    'weights': 'random',
    'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 3},
    'out_layers': (0, 1),
}
SCRIPT = """
import sys
import mmgfnuc
assert not {'torch', 'mmengine', 'mmseg', 'timm'} & sys.modules.keys()
print(mmgfnuc.__version__)
"""


def build(unet='unet', parts=SMALL, **settings):
    return create_model(unet, parts=parts, **settings)


def fused(fusion, parts=SMALL, **settings):
    return build(foundation=ENCODER, fusion=fusion, parts=parts, **settings)


def test_a_look_at_the_version_does_not_import_torch(tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    run = subprocess.run([sys.executable, '-W', 'ignore', 'script.py'], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [mmgfnuc.__version__]


def test_names_of_the_package():
    assert mmgfnuc.create_model is create.create_model
    with pytest.raises(AttributeError, match="module 'mmgfnuc' has no attribute 'creat_model'"):
        _ = mmgfnuc.creat_model


def test_example_of_the_docstring():
    (example,) = doctest.DocTestFinder().find(
        create.create_model,
        globs={**vars(create), 'torch': torch, 'PixelData': PixelData, 'SegDataSample': SegDataSample},
    )
    assert len(example.examples) == 7
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize('unet', list_unets())
def test_every_unet_loads(unet):
    """On the meta device: the published size, without memory or time."""
    with torch.device('meta'):
        model = create_model(unet, num_classes=3)
    assert isinstance(model, FusionSegmentor)
    assert model.foundation is model.neck is None
    assert tuple(model.decode_head.decoder.in_channels) == model.backbone.out_channels
    assert model.decode_head.num_classes == 3


@pytest.mark.parametrize('foundation', sorted(path.stem for path in (BASE / 'foundation').glob('*.py')))
def test_every_foundation_preset_loads(foundation):
    with torch.device('meta'):
        model = build(foundation=foundation.replace('_', '-'), fusion='context', weights='random')
    expected = Config.fromfile(BASE / 'foundation' / f'{foundation}.py').foundation
    assert type(model.foundation) is {'sam': SAMEncoder, 'vit': TimmViTEncoder}[foundation.split('_')[0]]
    assert model.foundation.entry.name == expected.name
    assert model.foundation.weights == 'random'
    block = model.neck.blocks['2']
    assert block.project.in_channels == sum(model.foundation.out_channels)


GATED = {
    'paper': ('glu', 'figure'),
    'released': ('sigmoid', 'figure'),
    'released-multilevel': ('sigmoid', 'text'),
    'gated-multilevel': ('sigmoid', 'text'),
}
TYPES = {'add': AddFusionBlock, 'concat': ConcatFusionBlock} | dict.fromkeys(
    (*GATED, 'gate-only', 'attention-only'), GatedFusionBlock
)
CONTROLS = {'zero-context': 'zero', 'shuffled-context-spatial': 'shuffled'}


@pytest.mark.parametrize('fusion', sorted(set(list_fusions()) - {'none'}))
def test_every_fusion_is_what_its_name_says(fusion):
    model = fused(fusion).eval()
    neck, block = model.neck, model.neck.blocks['2']
    assert type(block) is TYPES.get(fusion, ContextFusionBlock)
    assert neck.control == CONTROLS.get(fusion)
    assert list(neck.blocks) == (['0', '1', '2'] if fusion.endswith('multilevel') else ['2'])
    assert neck.within_encoder == (fusion == 'released-multilevel')
    assert neck.adapter.halve[1].padding_mode == ('zeros' if 'released' in fusion else 'replicate')
    assert model.bottleneck_dropout.p == 0
    assert model.partner_context == (fusion == 'shuffled-context-image')
    if isinstance(block, GatedFusionBlock):
        assert (block.gate is None) == (fusion == 'attention-only')
        assert (block.attention is None) == (fusion == 'gate-only')
    if fusion in GATED:
        assert (block.gate.gate, block.wiring) == GATED[fusion]
    channels = 6 if model.partner_context else 3
    with torch.no_grad():
        assert model(torch.rand(1, channels, 33, 50)).shape == (1, 2, 33, 50)


@pytest.mark.parametrize(('num_classes', 'in_channels'), [(2, 3), (5, 1), (3, 4)])
def test_images_in_logits_out(num_classes, in_channels):
    model = build(num_classes=num_classes, in_channels=in_channels).eval()
    assert isinstance(model, nn.Module)
    logits = model(torch.rand(2, in_channels, 100, 140))
    assert logits.shape == (2, num_classes, 100, 140)


def test_is_the_model_that_its_parts_make():
    """Built by hand from the same parts, it has the same weights and gives the same logits."""
    model = fill_with_noise(fused('context'), 0.5).eval()
    by_hand = MODELS.build(
        {
            'type': FusionSegmentor,
            'backbone': {'type': UNetEncoder, 'widths': (4, 8, 16)},
            'decode_head': {'type': UNetHead},
            'foundation': ENCODER,
            'neck': {'type': 'mmgfnuc.FusionNeck', 'block': {'type': ContextFusionBlock}},
        }
    ).eval()
    by_hand.load_state_dict(model.state_dict(), strict=True)
    images = torch.rand(1, 3, 40, 56)
    torch.testing.assert_close(model(images), by_hand(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'fusion': 'context'}, "fusion='context': give both a foundation encoder and a fusion, or neither$"),
        (
            {'foundation': 'sam-vit-b'},
            "foundation='sam-vit-b' with fusion='none': give both a foundation encoder and a fusion, or neither$",
        ),
        ({'weights': 'random'}, "weights='random' are those of a foundation encoder, and none is given; drop them$"),
        (
            {'foundation': ENCODER, 'fusion': 'add', 'in_channels': 4},
            'in_channels=4: foundation encoders take RGB images; give 3, or no foundation$',
        ),
        (
            {'parts': {'tail': {}}},
            "parts has 'tail', which the model lacks; it has backbone, decode_head, head$",
        ),
        (
            {'parts': {'neck': {'levels': 'all'}}},
            "parts has 'neck', which the model lacks; it has backbone, decode_head, head$",
        ),
        ({'parts': {'partner_context': {}}}, "parts has 'partner_context', which the model lacks"),
        (
            {'foundation': ENCODER, 'fusion': 'add', 'parts': {'necks': {}}},
            "parts has 'necks', which the model lacks; it has backbone, decode_head, neck, head, foundation$",
        ),
        (
            {'foundation': ENCODER, 'fusion': 'context', 'parts': {'neck': {'levels': (9,)}}},
            'levels: level 9 does not exist in a pyramid of 5',
        ),
    ],
)
def test_arguments_that_do_not_fit(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        create_model(**settings)
    assert '\n' not in str(caught.value)


def test_weights_replace_those_of_the_preset(weights_folder):
    with pytest.raises(UserError, match=r'mine\.pth'):
        build(foundation='vit-tiny', fusion='add', weights='mine.pth')
    with pytest.raises(UserError, match='vit_tiny_patch16_224'):
        build(foundation='vit-tiny', fusion='add')
    with pytest.raises(UserError, match=r'mine\.pth'):
        build(foundation=ENCODER, fusion='add', weights='mine.pth')


def test_parts_are_laid_over_the_preset():
    """What they do not name stays: the type of the block, the control, the activation of the encoder."""
    parts = SMALL | {
        'decode_head': {'skip_channels': 4},
        'neck': {'levels': 'all', 'block': {'num_heads': 2}},
        'foundation': {'arch': {'depth': 1}, 'out_layers': (0,)},
    }
    model = build('eunet3+', parts, foundation=ENCODER, fusion='shuffled-context-spatial')
    blocks = model.neck.blocks
    assert [type(block) for block in blocks.values()] == [ContextFusionBlock] * 3
    assert [block.attention.num_heads for block in blocks.values()] == [2, 2, 2]
    assert [block.attention.max_keys for block in blocks.values()] == [4096, 4096, None]
    assert model.neck.control == 'shuffled'
    # A GLU takes two channels for each that it gives.
    assert next(model.backbone.parameters()).shape[0] == 2 * 4
    assert (len(model.foundation.network.blocks), model.foundation.out_channels) == (1, (24,))


def test_parts_drop_what_the_preset_says():
    """All of it or what is named; what the arguments say, and what stands beside, stays."""
    block = model_parts('unet', 'vit-tiny', 'released', 'hover', 2, 3, None, {})['neck']['block']
    parts = {
        'neck': {'block': {'_delete_': ['preset'], 'num_heads': 2}},
        'head': {'_delete_': True, 'type': 'mmgfnuc.SemanticHead', 'decoder': {'_delete_': True, 'act': [{'a': 1}]}},
        'foundation': {'_delete_': True, 'type': 'mmgfnuc.MyEncoder'},
    }
    made = model_parts('unet', 'vit-tiny', 'released', 'hover', 4, 3, 'random', parts)
    assert made['neck']['block'] == {'type': block['type'], 'num_heads': 2} != block
    assert made['neck']['blur_padding'] == 'zeros'
    assert made['head'] == {'num_classes': 4, 'type': 'mmgfnuc.SemanticHead', 'decoder': {'act': [{'a': 1}]}}
    assert made['foundation'] == {'weights': 'random', 'type': 'mmgfnuc.MyEncoder'}


def test_nothing_given_is_changed_and_nothing_is_kept():
    encoder, parts = (
        dict(ENCODER, arch=dict(ENCODER['arch'])),
        {'backbone': {'widths': [4, 8]}, 'neck': {'levels': [0]}},
    )
    before = repr((encoder, parts))
    create_model('unet', encoder, 'add', num_classes=4, parts=parts)
    assert repr((encoder, parts)) == before
    with torch.device('meta'):
        model = create_model('unet', encoder, 'add')
    assert list(model.neck.blocks) == [str(len(model.backbone.out_channels) - 1)]
    assert model.backbone.out_channels == (64, 128, 256, 512, 1024)
    assert model.decode_head.num_classes == 2


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'num_classes': 1},
            'num_classes=1: background and nucleus are two softmax channels; give a whole number from 2',
        ),
        ({'num_classes': '2'}, "num_classes='2': background"),
        ({'unet': 'unett'}, "unet='unett' is unknown; did you mean unet"),
        ({'head': 'hoover'}, "head='hoover' is unknown; did you mean hover"),
        ({'foundation': 'sam_vitb', 'fusion': 'paper'}, "^foundation='sam_vitb' is unknown; did you mean sam-vit-b"),
        ({'foundation': 7, 'fusion': 'add'}, 'foundation=7: give the name of an encoder, or '),
        ({'in_channels': 0}, r'in_channels=0, widths=\(64, .*\): give whole numbers from 1, not 0$'),
        ({'parts': 3}, "parts=3: give a dict of settings, such as {'backbone'"),
        ({'parts': {'backbone': 3}}, r"parts\['backbone'\]=3: give a dict of settings"),
        ({'parts': {'backbone': {'widths': (4, -8)}}}, r'widths=\(4, -8\): give whole numbers from 1, not -8$'),
        (
            {'parts': {'backbone': {'width': (4, 8)}}},
            "^a setting does not exist: parts.backbone.width; UNetEncoder has no 'width'; near it: widths$",
        ),
        ({'parts': {'backbone': {'widths': 5}}}, r'^parts.backbone.widths=5: give a list, each item a whole number$'),
        ({'parts': {'decode_head': {'type': 'UNetHed'}}}, "parts.decode_head.type='UNetHed'; near it: UNetHead"),
        (
            {'parts': {'head': {'postprocess': {'type': 'mmgfnuc.WatershedInstances', 'shar': 1}}}},
            "has no 'shar'; near it: share",
        ),
        (
            {'unet': 'timm-unet', 'parts': {'backbone': {'model_name': 'resnet18', 'out_indices': (0, 2)}}},
            r'UNetHead decodes levels whose strides double, not \(2, 8\); choose a backbone or levels',
        ),
        (
            {'unet': 'swin-unet', 'foundation': ENCODER, 'fusion': 'released-multilevel'},
            'EncoderFusionNeck works between .* SwinUNetEncoder cannot be run level by level .* unet, eunet3',
        ),
        ({'foundation': {'weights': 'random'}, 'fusion': 'add'}, "parts.foundation: it has no 'type', which says"),
        (
            {'foundation': ENCODER, 'fusion': 'released', 'parts': {'neck': {'block': {'_delete_': ['presets']}}}},
            r"^parts\['neck'\]\['block'\]\['_delete_'\] names 'presets', which the preset lacks; it has type, preset$",
        ),
        (
            {'parts': {'decode_head': {'loss_decode': {'_delete_': 'x'}}}},
            r"\['loss_decode'\]\['_delete_'\] names 'x', which the preset lacks; it has no settings$",
        ),
        ({'parts': {'backbone': {'_delete_': 3}}}, r"\['_delete_'\]=3: give True, the name of a setting, or a list"),
    ],
)
def test_a_setting_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        mmgfnuc.create_model(**settings)


@MODELS.register_module()
class BrokenHead(UNetHead):
    """A head with a bug: in its constructor, or where it is run."""

    def __init__(self, early: bool = False, **settings):
        super().__init__(**settings)
        if early:
            self._missing = {}['a bug in a part']

    def forward(self, inputs):
        return inputs[0].shape['a bug in a part']


def test_a_bug_of_a_part_keeps_its_traceback():
    parts = SMALL | {'decode_head': {'type': BrokenHead}}
    with pytest.raises(KeyError) as early:
        build(parts=parts | {'decode_head': {'type': BrokenHead, 'early': True}})
    with pytest.raises(TypeError) as late:
        build(parts=parts)(torch.rand(1, 3, 32, 32))
    assert all('a bug in a part' in str(caught.traceback[-1].statement) for caught in (early, late))


# What is trained by `mode='loss'` only.
SIDES = {'unet3+': ('deep_supervision', 'classification_guided')}


@pytest.mark.parametrize('unet', list_unets())
def test_a_loss_on_the_logits_reaches_every_parameter(unet):
    """As the docstring says of side outputs; so DDP works outside MMEngine too."""
    head = UNET_PARTS[unet].get('decode_head', {}) | dict.fromkeys(SIDES.get(unet, ()), False)
    model = build(unet, UNET_PARTS[unet] | {'decode_head': head}).train()
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_an_image_without_a_batch():
    with pytest.raises(UserError, match=r'images have shape \(3, 32, 32\); give batches, \(B, 3, H, W\)$'):
        build()(torch.rand(3, 32, 32))


def test_a_network_in_training_mode_suppresses_nothing():
    """Otherwise an image that the untrained guide calls empty would teach nothing."""
    torch.manual_seed(0)
    parts = {'backbone': {'widths': (4, 8, 12)}, 'decode_head': {'skip_channels': 4}}
    model = mmgfnuc.create_model('unet3+', parts=parts).train()
    for _ in range(8):
        assert model(torch.rand(2, 3, 32, 32)).abs().max() < 1e3

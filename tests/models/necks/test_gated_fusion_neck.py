import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.necks import GatedFusionNeck

CHANNELS = (4, 8, 16)
SIZES = ((12, 20), (6, 10), (3, 5))


@pytest.fixture
def pyramid():
    return tuple(torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True))


@pytest.mark.parametrize(
    ('levels', 'fused'),
    [((-1,), {2}), ((0, -2), {0, 1}), ((2, -1), {2}), ('all', {0, 1, 2})],
)
def test_levels(pyramid, levels, fused):
    neck = GatedFusionNeck(CHANNELS, (6,), levels=levels)
    out = neck(pyramid, [torch.randn(2, 6, 7, 7)])
    assert isinstance(out, tuple)
    assert [level.shape for level in out] == [level.shape for level in pyramid]
    for index, (before, after) in enumerate(zip(pyramid, out, strict=True)):
        assert (after is before) == (index not in fused)
        assert torch.equal(after, before) == (index not in fused)


def test_default_is_the_bottleneck(pyramid):
    assert list(GatedFusionNeck(CHANNELS, (6,)).blocks) == ['2']


def attending(**settings):
    blocks = GatedFusionNeck(CHANNELS, (6,), **settings).blocks
    return {int(level) for level, block in blocks.items() if block.attention is not None}


@pytest.mark.parametrize(
    ('attention_levels', 'expected'), [((-1,), {2}), ((0, -2), {0, 1}), ('all', {0, 1, 2}), ((), set())]
)
def test_attention_levels(attention_levels, expected):
    assert attending(levels='all', attention_levels=attention_levels) == expected


@pytest.mark.parametrize(
    ('levels', 'deepest'), [((1,), {1}), ((0, 1), {1}), ((-2, 0), {1}), ((0,), {0}), ((-1,), {2}), ('all', {2})]
)
def test_by_default_the_deepest_fused_level_attends(levels, deepest):
    assert attending(levels=levels) == attending(levels=levels, attention_levels=None) == deepest


@pytest.mark.parametrize(('attention', 'expected'), [(False, set()), (True, {0, 1, 2})])
def test_the_block_config_has_the_last_word_on_attention(attention, expected):
    block = {'type': 'mmgfnuc.GatedFusionBlock', 'attention': attention}
    assert attending(levels='all', block=block) == expected
    assert block == {'type': 'mmgfnuc.GatedFusionBlock', 'attention': attention}


def test_several_contexts_are_joined(pyramid):
    """Two features of one grid count like the one feature of their channels, whatever is done to each."""
    neck = GatedFusionNeck(CHANNELS, (6, 2), levels='all').eval()
    a, b = torch.randn(2, 6, 7, 7), torch.randn(2, 2, 7, 7)
    joined = GatedFusionNeck(CHANNELS, (8,), levels='all').eval()
    joined.load_state_dict(neck.state_dict())
    torch.testing.assert_close(neck(pyramid, (a, b)), joined(pyramid, [torch.cat([a, b], 1)]))
    coarse = neck(pyramid, (a, torch.randn(2, 2, 2, 3)))
    assert [level.shape for level in coarse] == [level.shape for level in pyramid]


def test_block_settings_reach_every_block():
    block = {'type': 'mmgfnuc.GatedFusionBlock', 'preset': 'released', 'wiring': 'text', 'dropout': 0.1}
    neck = GatedFusionNeck(CHANNELS, (6,), levels='all', block=block)
    assert [(block.wiring, block.dropout.p) for block in neck.blocks.values()] == [('text', 0.1)] * 3


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'levels': (3,)}, 'levels: level 3 does not exist in a pyramid of 3'),
        ({'levels': (0, -4)}, 'levels: level -4 does not exist'),
        ({'attention_levels': (5,)}, 'attention_levels: level 5 does not exist'),
        ({'levels': (1,), 'attention_levels': (-1,)}, r'attention_levels=\[2\] must be among the fused levels=\[1\]'),
        ({'levels': (0, 2), 'attention_levels': 'all'}, r'\[0, 1, 2\] must be among the fused levels=\[0, 2\]'),
        ({'attention_levels': (0, 2)}, r'attention_levels=\[0, 2\] must be among the fused levels=\[2\]'),
        ({'levels': 'deep'}, "levels='deep' is unknown; give 'all' or a list of levels from -3 to 2"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        GatedFusionNeck(CHANNELS, (6,), **settings)

import pytest
import torch
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.necks import AddFusionBlock, ContextAdapter, FusionNeck
from mmgfnuc.testing import fill_with_noise

CHANNELS = (4, 8, 16)
SIZES = ((12, 20), (6, 10), (3, 5))
# Of the few hidden units that a narrow gate has, all may be switched off by the ReLU.
GATED = {'type': 'mmgfnuc.GatedFusionBlock', 'reduction': 1}
CONTEXT = {'type': 'mmgfnuc.ContextFusionBlock', 'reduction': 1}
BLOCKS = {
    'paper': GATED,
    'released': GATED | {'preset': 'released'},
    'gate-only': GATED | {'preset': 'gate-only'},
    'context': CONTEXT,
    'concat': {'type': 'mmgfnuc.ConcatFusionBlock'},
    'add': {'type': 'mmgfnuc.AddFusionBlock'},
}
each_block = pytest.mark.parametrize('block', BLOCKS.values(), ids=BLOCKS)


@pytest.fixture
def pyramid():
    return tuple(torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True))


@pytest.mark.parametrize(
    ('levels', 'fused'),
    [((-1,), {2}), ((0, -2), {0, 1}), ((2, -1), {2}), ('all', {0, 1, 2})],
)
def test_levels(pyramid, levels, fused):
    neck = FusionNeck(CHANNELS, (6,), levels=levels)
    out = neck(pyramid, [torch.randn(2, 6, 7, 7)])
    assert isinstance(out, tuple)
    assert [level.shape for level in out] == [level.shape for level in pyramid]
    for index, (before, after) in enumerate(zip(pyramid, out, strict=True)):
        assert (after is before) == (index not in fused)
        assert torch.equal(after, before) == (index not in fused)


def attending(**settings):
    blocks = FusionNeck(CHANNELS, (6,), **settings).blocks
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
    neck = FusionNeck(CHANNELS, (6, 2), levels='all').eval()
    a, b = torch.randn(2, 6, 7, 7), torch.randn(2, 2, 7, 7)
    joined = FusionNeck(CHANNELS, (8,), levels='all').eval()
    joined.load_state_dict(neck.state_dict())
    torch.testing.assert_close(neck(pyramid, (a, b)), joined(pyramid, [torch.cat([a, b], 1)]))
    coarse = neck(pyramid, (a, torch.randn(2, 2, 2, 3)))
    assert [level.shape for level in coarse] == [level.shape for level in pyramid]


@each_block
def test_every_block_fuses_every_level_with_several_features(pyramid, block):
    neck = fill_with_noise(FusionNeck(CHANNELS, (6, 2), levels='all', block=block), 0.5).eval()
    a, b = torch.randn(2, 6, 7, 4), torch.randn(2, 2, 3, 3)
    fused = neck(pyramid, [a, b])
    assert [level.shape for level in fused] == [level.shape for level in pyramid]
    for features in ([a.square(), b], [a, b.square()]):
        for before, after in zip(fused, neck(pyramid, features), strict=True):
            assert not torch.allclose(before, after)


def test_attention_only_fuses_the_level_that_attends(pyramid):
    block = GATED | {'preset': 'attention-only'}
    fused = FusionNeck(CHANNELS, (6,), block=block)(pyramid, [torch.randn(2, 6, 7, 7)])
    assert not torch.equal(fused[2], pyramid[2])
    with pytest.raises(
        UserError, match="'attention-only' without attention does nothing; fuse only levels that attend"
    ):
        FusionNeck(CHANNELS, (6,), levels='all', block=block)
    assert attending(levels='all', attention_levels='all', block=block) == {0, 1, 2}


def test_attention_that_is_linear_is_had_at_every_level():
    assert attending(levels='all', block=CONTEXT) == {0, 1, 2}
    assert attending(levels=(0, 1), block=CONTEXT) == {0, 1}
    with pytest.raises(UserError, match='is nothing without attention; leave attention_levels out'):
        FusionNeck(CHANNELS, (6,), levels='all', attention_levels=(-1,), block=CONTEXT)


def test_a_block_gets_only_what_it_takes():
    """One without attention needs no settings of it, and is given none."""
    block = {'type': 'mmgfnuc.AddFusionBlock'}
    assert FusionNeck(CHANNELS, (6,), levels='all', block=block).blocks.keys() == {'0', '1', '2'}
    with pytest.raises(UserError, match='AddFusionBlock has no attention; leave it out'):
        FusionNeck(CHANNELS, (6,), attention_levels=(-1,), block=block)
    with pytest.raises(UserError, match="type='LostBlock'"):
        FusionNeck(CHANNELS, (6,), attention_levels=(-1,), block={'type': 'LostBlock'})


def test_a_block_that_passes_its_settings_on_gets_those_of_its_base():
    class Scaled(AddFusionBlock):
        def __init__(self, scale=2.0, **kwargs):
            super().__init__(**kwargs)

    FusionNeck(CHANNELS, (6,), levels='all', block={'type': Scaled})
    with pytest.raises(UserError, match='Scaled has no attention; leave it out'):
        FusionNeck(CHANNELS, (6,), attention_levels=(-1,), block={'type': Scaled})


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({'levels': 'all'}, {0: 4096, 1: 4096, 2: None}),
        ({'levels': (0, 1)}, {0: 4096, 1: 4096}),
        ({'levels': (-1,)}, {2: None}),
        ({'levels': 'all', 'max_keys': 9}, {0: 9, 1: 9, 2: None}),
        ({'levels': 'all', 'max_keys': None}, {0: None, 1: None, 2: None}),
    ],
)
@pytest.mark.parametrize('block', [GATED, CONTEXT], ids=['gated', 'context'])
def test_the_keys_are_limited_except_at_the_bottleneck(settings, expected, block):
    def limits(block):
        blocks = FusionNeck(CHANNELS, (6,), attention_levels=settings['levels'], block=block, **settings).blocks
        return {int(level): block.attention.max_keys for level, block in blocks.items()}

    assert limits(block) == expected
    assert limits(block | {'max_keys': 5}) == dict.fromkeys(expected, 5)


def adapted(features, grid):
    """Features that cover the area of a grid, at that grid."""
    steps = [(grid[0] / feature.shape[-2], grid[1] / feature.shape[-1]) for feature in features]
    return ContextAdapter()(features, grid, steps)


def seen_context(neck, pyramid, features):
    """The context that the block of each level is given."""
    seen = {}
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs, level=level: seen.update({int(level): inputs[1]}))
        for level, block in neck.blocks.items()
    ]
    neck(pyramid, features)
    for hook in hooks:
        hook.remove()
    return seen


@each_block
def test_the_context_comes_at_the_grid_that_the_block_wants(pyramid, block):
    """That of the level, or for blocks that attend to tokens that of the deepest layer of the encoder."""
    neck = FusionNeck(CHANNELS, (6, 2), levels='all', block=block)
    features = [torch.randn(2, 6, 9, 8), torch.randn(2, 2, 7, 4)]
    for level, context in seen_context(neck, pyramid, features).items():
        grid = (7, 4) if block is CONTEXT else SIZES[level]
        assert torch.equal(context, adapted(features, grid))


@pytest.mark.parametrize('patch', [14, 16, 32])
def test_strides_put_the_context_where_it_is(patch):
    """Features that say the row of their centre, in image pixels: after the neck's work so does every level, exactly.

    The image has 96 pixels, the tokens cover the next multiple of their size.
    """
    rows = -(-96 // patch)
    centres = (torch.arange(rows) + 0.5) * patch
    feature = centres[None, None, :, None].expand(1, 1, rows, rows)
    neck = FusionNeck((4, 8), (1,), in_strides=(8, 16), levels='all', attention_levels=())
    pyramid = [torch.zeros(1, 4, 12, 12), torch.zeros(1, 8, 6, 6)]
    seen = {}
    for level, block in neck.blocks.items():
        block.register_forward_pre_hook(lambda _, inputs, level=level: seen.update({int(level): inputs[1]}))
    neck(pyramid, [feature], [float(patch)])
    for level, stride in ((0, 8), (1, 16)):
        expected = (torch.arange(96 // stride) + 0.5) * stride
        inner = (expected > centres[0]) & (expected < centres[-1])
        torch.testing.assert_close(seen[level][0, 0, inner, 0], expected[inner])


def test_steps_of_tokens_are_those_of_the_strides(pyramid):
    neck = FusionNeck(CHANNELS, (6,), in_strides=(1, 2, 4), levels='all', block=CONTEXT)
    steps = {}
    for level, block in neck.blocks.items():
        block.register_forward_pre_hook(lambda _, inputs, level=level: steps.update({int(level): inputs[2]}))
    neck(pyramid, [torch.randn(2, 6, 2, 3)], [7.0])
    assert steps == {0: (7, 7), 1: (3.5, 3.5), 2: (1.75, 1.75)}


@each_block
def test_explains_every_fused_level(pyramid, block):
    neck = fill_with_noise(FusionNeck(CHANNELS, (6,), levels=(0, 2), block=block)).eval()
    features = [torch.randn(2, 6, 7, 4)]
    fused, random = neck(pyramid, features), torch.get_rng_state()
    done = neck.explain(pyramid, features)
    assert list(done) == [0, 2]
    for level, context in seen_context(neck, pyramid, features).items():
        torch.testing.assert_close(done[level], neck.blocks[str(level)].explain(pyramid[level], context))
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(neck(pyramid, features), fused, rtol=0, atol=0)


@pytest.mark.parametrize('training', [True, False])
def test_context_starts_as_the_identity_at_every_level(pyramid, training):
    neck = FusionNeck(CHANNELS, (6, 2), levels='all', block=CONTEXT).train(training)
    # As the runner does before training.
    neck.init_weights()
    for before, after in zip(pyramid, neck(pyramid, [torch.randn(2, 6, 7, 4), torch.randn(2, 2, 3, 3)]), strict=True):
        assert torch.equal(after, before)


@each_block
@pytest.mark.parametrize('training', [True, False])
def test_zero_context(pyramid, block, training):
    neck = fill_with_noise(FusionNeck(CHANNELS, (6,), block=block, control='zero')).train(training)
    free = FusionNeck(CHANNELS, (6,), block=block).train(training)
    free.load_state_dict(neck.state_dict())
    features = [torch.randn(2, 6, 7, 4)]
    torch.manual_seed(1)
    fused = neck(pyramid, features)
    torch.manual_seed(1)
    torch.testing.assert_close(fused, free(pyramid, [torch.zeros(2, 6, 7, 4)]), rtol=0, atol=0)


def shuffling_neck():
    return fill_with_noise(FusionNeck(CHANNELS, (6, 6), block=CONTEXT, control='shuffled'))


def order_of(neck, pyramid, grid=(4, 5)):
    """Where the tokens of a grid end up; both images and both layers must agree."""
    numbers = torch.arange(grid[0] * grid[1]).float().reshape(grid).expand(2, 6, *grid)
    context = seen_context(neck, pyramid, [numbers, numbers])[2]
    assert torch.equal(context, context[:1, :1].expand_as(context))
    return context[0, 0].flatten().long().tolist()


def test_shuffled_tokens_are_drawn_anew_in_training(pyramid):
    neck = shuffling_neck().train()
    orders = [order_of(neck, pyramid) for _ in range(4)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    torch.manual_seed(7)
    again = [order_of(neck, pyramid) for _ in range(2)]
    torch.manual_seed(7)
    assert [order_of(neck, pyramid) for _ in range(2)] == again


def test_shuffled_tokens_are_always_the_same_at_prediction(pyramid):
    neck, random = shuffling_neck().eval(), torch.get_rng_state()
    order = order_of(neck, pyramid)
    assert torch.equal(torch.get_rng_state(), random)
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    torch.manual_seed(99)
    assert order_of(neck, pyramid) == order_of(shuffling_neck().eval(), pyramid) == order


def test_shuffled_tokens_change_the_output(pyramid):
    neck = shuffling_neck().eval()
    free = FusionNeck(CHANNELS, (6, 6), block=CONTEXT).eval()
    free.load_state_dict(neck.state_dict())
    features = [torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5)]
    assert not torch.allclose(neck(pyramid, features)[2], free(pyramid, features)[2], atol=1e-4)
    order = order_of(neck, pyramid)
    shuffled = [feature.flatten(2)[..., order].reshape(feature.shape) for feature in features]
    torch.testing.assert_close(neck(pyramid, features), free(pyramid, shuffled))


def test_layers_of_other_grids_are_shuffled_too(pyramid):
    features = [torch.randn(2, 6, 2, 3), torch.randn(2, 6, 4, 5)]
    context = seen_context(shuffling_neck().eval(), pyramid, features)[2]
    for own, seen in zip((adapted(features[:1], (4, 5)), features[1]), context.split(6, 1), strict=True):
        assert not torch.allclose(seen, own)
    assert torch.equal(context[:, 6:].flatten(2).sort(2)[0], features[1].flatten(2).sort(2)[0])


@pytest.mark.parametrize('training', [True, False])
def test_shuffled_tokens_on_the_meta_device(training):
    with torch.device('meta'):
        neck = FusionNeck(CHANNELS, (6,), block=CONTEXT, control='shuffled').train(training)
        pyramid = [torch.zeros(2, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True)]
        assert neck(pyramid, [torch.zeros(2, 6, 4, 5)])[2].shape == (2, 16, 3, 5)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'levels': ()}, 'fuses nothing; give at least one level'),
        ({'levels': (3,)}, 'levels: level 3 does not exist in a pyramid of 3'),
        ({'levels': (0, -4)}, 'levels: level -4 does not exist'),
        ({'attention_levels': (5,)}, 'attention_levels: level 5 does not exist'),
        ({'levels': (1,), 'attention_levels': (-1,)}, r'attention_levels=\[2\] must be among the fused levels=\[1\]'),
        ({'levels': (0, 2), 'attention_levels': 'all'}, r'\[0, 1, 2\] must be among the fused levels=\[0, 2\]'),
        ({'attention_levels': (0, 2)}, r'attention_levels=\[0, 2\] must be among the fused levels=\[2\]'),
        ({'control': 'shuffle'}, "control='shuffle' is unknown; choose one of zero, shuffled, or None"),
        ({'levels': 'all', 'max_keys': 0, 'block': CONTEXT}, 'max_keys=0 leaves no key'),
        ({'block': {'type': nn.Linear}}, 'block: Linear is not a FusionBlock; derive it from that'),
        ({'levels': 'deep'}, "levels='deep': give 'all' or a list of levels from -3 to 2"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        FusionNeck(CHANNELS, (6,), **settings)

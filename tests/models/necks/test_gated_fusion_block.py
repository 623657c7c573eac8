import itertools
import math

import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.necks import GatedFusionBlock
from mmgfnuc.testing import fill_with_noise

from .oracles import ExplainedBattery, count, entropy_by_loops, gate_by_loops, official_attention, to_tokens


class TestGatedFusionBlock(ExplainedBattery):
    parts = [
        dict(type=GatedFusionBlock, reduction=1, **settings)
        for settings in (
            {},
            {'preset': 'released', 'num_heads': 2},
            {'preset': 'released', 'wiring': 'text'},
            {'attention': False},
            {'preset': 'gate-only'},
        )
    ]

    @torch.no_grad()
    def explained(self, block, local, context):
        done, gated = {}, local
        if block.gate is not None:
            done['gate'] = gate_by_loops(block.gate, local, context)
            gated = done['gate'][:, :, None, None] * local
        if block.attention is not None:
            done['attention_entropy'] = entropy_by_loops(
                block.attention, gated, gated if block.wiring == 'text' else local
            )
        return done


class TestAttentionOnly(TestGatedFusionBlock):
    parts = ()
    part = dict(type=GatedFusionBlock, preset='attention-only', num_heads=4)
    uses_context = False


def test_parameters_of_the_released_variant():
    block = GatedFusionBlock(512, 256, preset='released')
    assert count(block.gate) == 62_000
    assert count(block.attention) == 1_050_624
    assert count(block) == 1_112_624


# A block small enough for pencil and paper: C = 2, D = 1, two pixels.
#
#   local: channel 0 = (1, 3), channel 1 = (2, 0), so that its tokens are p0 = (1, 2) and p1 = (3, 0); context = (4, 0)
#   z = means = (2, 1, 2);  h = ReLU(0.5 * 2 - 1 * 1 + 0.5 * 2) = 1
#   sigmoid gate: W_2 h = (0, ln 3)            -> g = (1/2, 3/4)
#   GLU gate:     W_2 h = (1, 2 | 0, ln 3)     -> g = (1 * 1/2, 2 * 3/4) = (1/2, 3/2)
#   gated tokens: sigmoid q0 = (1/2, 3/2), q1 = (3/2, 0);  GLU q0 = (1/2, 3), q1 = (3/2, 0)
#
# W_q = sqrt(2) ln(b) I and W_k = I undo the division by sqrt(C): the softmax over the two keys weighs b**(q . k).
# W_v = I with bias (0, 1); W_out swaps the two channels and adds (10, 0).
#
#   released, figure, b = 2:  the keys are p0, p1
#                    q0 . p = (7/2, 3/2), ratio 2**2    -> (4/5, 1/5);     q1 . p = (3/2, 9/2), 2**-3 -> (1/9, 8/9)
#                    values (1, 3) and (3, 1)           -> (7/5, 13/5) and (25/9, 11/9)
#   paper, figure, b = 2:
#                    q0 . p = (13/2, 3/2), ratio 2**5   -> (32/33, 1/33);  q1 as above
#                                                       -> (35/33, 97/33) and (25/9, 11/9)
#   released, text, b = 16:  the keys are q0, q1
#                    q0 . q = (5/2, 3/4), ratio 16**(7/4) = 128   -> (128/129, 1/129)
#                    q1 . q = (3/4, 9/4), ratio 16**(-3/2) = 1/64 -> (1/65, 64/65)
#                    values (1/2, 5/2) and (3/2, 1)     -> (65.5/129, 321/129) and (96.5/65, 66.5/65)
#   paper, text, b = 4:
#                    q0 . q = (37/4, 3/4), ratio 4**(17/2) = 2**17 -> (2**17, 1) / (2**17 + 1)
#                    q1 . q = (3/4, 9/4), ratio 4**(-3/2) = 1/8    -> (1/9, 8/9)
#                    values (1/2, 4) and (3/2, 1)       -> (2**16 + 1.5, 2**19 + 1) / (2**17 + 1) and (25/18, 4/3)
LOCAL = [[[[1.0, 3.0]], [[2.0, 0.0]]]]
CONTEXT = [[[[4.0, 0.0]]]]
LN3 = math.log(3)
EXCITE = {'released': [[0.0], [LN3]], 'paper': [[1.0], [2.0], [0.0], [LN3]]}
HAND_COMPUTED = {
    ('released', 'figure'): (2, [(7 / 5, 13 / 5), (25 / 9, 11 / 9)]),
    ('paper', 'figure'): (2, [(35 / 33, 97 / 33), (25 / 9, 11 / 9)]),
    ('released', 'text'): (16, [(65.5 / 129, 321 / 129), (96.5 / 65, 66.5 / 65)]),
    ('paper', 'text'): (4, [((2**16 + 1.5) / (2**17 + 1), (2**19 + 1) / (2**17 + 1)), (25 / 18, 4 / 3)]),
}
each_block = pytest.mark.parametrize(('preset', 'wiring'), sorted(HAND_COMPUTED))


def pencil_block(preset, wiring=None, attention=True):
    base, attended = HAND_COMPUTED[preset, wiring or 'figure']
    excite = EXCITE[preset]
    block = GatedFusionBlock(2, 1, preset, wiring, attention=attention).eval()
    layers = {'gate.squeeze': ([[0.5, -1.0, 0.5]], [0.0]), 'gate.excite': (excite, [0.0] * len(excite))}
    if attention:
        identity = torch.eye(2)
        layers |= {
            'attention.query': (math.sqrt(2) * math.log(base) * identity, [0.0, 0.0]),
            'attention.key': (identity, [0.0, 0.0]),
            'attention.value': (identity, [0.0, 1.0]),
            'attention.out': (identity.flip(0), [10.0, 0.0]),
        }
    block.load_state_dict(
        {f'{name}.weight': torch.as_tensor(weight) for name, (weight, _) in layers.items()}
        | {f'{name}.bias': torch.as_tensor(bias) for name, (_, bias) in layers.items()}
    )
    return block, attended


@pytest.mark.parametrize(('preset', 'wiring'), list(itertools.product(('paper', 'released'), (None, 'figure', 'text'))))
def test_hand_computed(preset, wiring):
    """Without a wiring of its own, the block has that of the preset: for both the one of the figures."""
    block, ((a0, a1), (b0, b1)) = pencil_block(preset, wiring)
    fused = block(torch.tensor(LOCAL), torch.tensor(CONTEXT))
    torch.testing.assert_close(fused, torch.tensor([[[[a1 + 10, b1 + 10]], [[a0, b0]]]]))


@pytest.mark.parametrize('wiring', ['figure', 'text'])
@pytest.mark.parametrize(
    ('preset', 'gated'), [('released', [[0.5, 1.5], [1.5, 0.0]]), ('paper', [[0.5, 1.5], [3.0, 0.0]])]
)
def test_gate_alone_hand_computed(preset, wiring, gated):
    block, _ = pencil_block(preset, wiring, attention=False)
    assert block.attention is None
    fused = block(torch.tensor(LOCAL), torch.tensor(CONTEXT))
    torch.testing.assert_close(fused[0, :, 0], torch.tensor(gated))
    torch.testing.assert_close(block.train()(torch.tensor(LOCAL), torch.tensor(CONTEXT)), fused, rtol=0, atol=0)


def test_negative_excitation_is_clipped():
    block, _ = pencil_block('released', attention=False)
    # z = (2, 1, -4): 1 - 1 - 2 < 0, so h = 0 and both gates are sigmoid(0).
    fused = block(torch.tensor(LOCAL), -2 * torch.tensor(CONTEXT))
    torch.testing.assert_close(fused, torch.tensor(LOCAL) / 2)


@pytest.mark.parametrize('num_heads', [1, 4])
@each_block
def test_attention_is_that_of_torch(preset, wiring, num_heads):
    block = fill_with_noise(GatedFusionBlock(16, 8, preset, wiring, num_heads=num_heads), scale=0.5).eval()
    local, context = torch.randn(2, 16, 5, 3), torch.randn(2, 8, 5, 3)
    gated = to_tokens(block.gate(local, context) * local)
    memory = gated if wiring == 'text' else to_tokens(local)
    expected = official_attention(block.attention)(gated, memory, memory, need_weights=False)[0]
    torch.testing.assert_close(block(local, context), expected.mT.unflatten(2, (5, 3)))


def test_gate_only_is_the_paper_without_attention():
    paper = fill_with_noise(GatedFusionBlock(8, 4, reduction=2), 1.0).eval()
    block = GatedFusionBlock(8, 4, 'gate-only', reduction=2).train()
    state = {key: value for key, value in paper.state_dict().items() if key.startswith('gate.')}
    block.load_state_dict(state, strict=True)
    local, context = torch.randn(2, 8, 5, 3), torch.randn(2, 4, 5, 3)
    expected = gate_by_loops(paper.gate, local, context)[:, :, None, None] * local
    torch.testing.assert_close(block(local, context), expected)


def test_attention_only_is_the_paper_with_an_open_gate():
    block = fill_with_noise(GatedFusionBlock(8, 4, 'attention-only'), 0.5).eval()
    paper = GatedFusionBlock(8, 4).eval()
    paper.load_state_dict(block.state_dict(), strict=False)
    local, context = torch.randn(2, 8, 5, 3), torch.randn(2, 4, 5, 3)
    # GLU halves what it lets through where the switch is 0.
    for name, value in (('weight', 0.0), ('bias', torch.tensor([2.0] * 8 + [0.0] * 8))):
        paper.gate.excite.get_parameter(name).data.copy_(torch.as_tensor(value))
    torch.testing.assert_close(block(local, context), paper(local, context))


def test_no_context_enters_attention_only():
    block = fill_with_noise(GatedFusionBlock(8, 4, 'attention-only'), 0.5).eval()
    local = torch.randn(2, 8, 5, 3)
    assert torch.equal(block(local, torch.randn(2, 4, 5, 3)), block(local, torch.randn(2, 4, 5, 3)))


@each_block
def test_has_no_dropout(preset, wiring):
    """That is the host's."""
    block = fill_with_noise(GatedFusionBlock(8, 4, preset, wiring), scale=1.0)
    local, context = torch.randn(2, 8, 5, 3), torch.randn(2, 4, 5, 3)
    assert torch.equal(block.train()(local, context), block.eval()(local, context))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'preset': 'swain'}, "preset='swain' is unknown; choose one of paper, released, gate-only, attention-only$"),
        ({'preset': 'text'}, "preset='text' is unknown; choose one of paper, released, gate-only, attention-only$"),
        ({'wiring': 'released'}, "wiring='released' is unknown; choose one of figure, text$"),
        ({'wiring': ''}, "wiring='' is unknown; choose one of figure, text$"),
        ({'num_heads': 3}, 'num_heads=3 does not divide the 8 channels'),
        ({'max_keys': 0}, 'max_keys=0 leaves no key'),
        (
            {'preset': 'gate-only', 'wiring': 'text'},
            "wiring='text' has no meaning for preset='gate-only', which does not attend; drop it",
        ),
        (
            {'preset': 'attention-only', 'attention': False},
            "preset='attention-only' without attention does nothing; fuse only levels that attend",
        ),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        GatedFusionBlock(8, 4, **settings)

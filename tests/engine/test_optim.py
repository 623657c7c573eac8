import copy

import pytest
import torch
from mmengine.optim import ConstantLR, DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmgfnuc.engine import BFloat16OptimWrapper, TrainableParamsConstructor
from mmgfnuc.errors import UserError


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    return model


def build(constructor, model, paramwise=None):
    settings = dict(type=OptimWrapper, optimizer=dict(type='Adam', lr=0.1))
    return constructor(settings, paramwise).__call__(model)


def parameters(wrapper):
    return {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}


def test_frozen_parameters_are_left_out(model):
    wrapper = build(TrainableParamsConstructor, model)
    assert parameters(wrapper) == {id(p) for p in [*model[1].parameters(), *model[2].parameters()]}
    # The reason for the class: MMEngine's own constructor takes them in.
    assert parameters(build(DefaultOptimWrapperConstructor, model)) == {id(p) for p in model.parameters()}


def test_with_a_paramwise_cfg(model):
    paramwise = dict(custom_keys={'2.bias': dict(lr_mult=0.5)})
    wrapper = build(TrainableParamsConstructor, model, paramwise)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert rates == {
        id(model[1].weight): 0.1,
        id(model[1].bias): 0.1,
        id(model[2].weight): 0.1,
        id(model[2].bias): 0.05,
    }


def test_bfloat16_holds_for_the_forward_pass_only(model):
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    images = torch.ones(3, 4)
    with wrapper.optim_context(model):
        inside = model(images)
    assert inside.dtype == torch.bfloat16
    assert model(images).dtype == torch.float32


def test_depthwise_convolutions_stay_in_float32_on_a_cpu():
    seen = {}
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, groups=groups) for groups in (1, 4, 2)))
    for module in model:
        module.register_forward_hook(lambda module, _, output: seen.update({module.groups: output.dtype}))
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    images = torch.rand(1, 4, 8, 8)
    for _ in range(2):
        with wrapper.optim_context(model):
            model(images).sum().backward()
    assert seen == {1: torch.bfloat16, 4: torch.float32, 2: torch.bfloat16}
    torch.testing.assert_close(copy.deepcopy(model)(images), model(images))


def test_bfloat16_steps_stay_near_those_in_float32(model):
    start = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(16, 4)
    after = []
    for wrapper_class in (OptimWrapper, BFloat16OptimWrapper):
        model.load_state_dict(start)
        wrapper = wrapper_class(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
        with wrapper.optim_context(model):
            loss = model(images).float().square().mean()
        wrapper.update_params(loss)
        after.append(model[2].weight.detach().clone())
    exact, rounded = after
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, start['2.weight'])
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=2e-3, rtol=0)


class Segmentor(nn.Module):
    """An encoder of three depths, by the names of its layers, and a head."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.foundation = nn.Module()
        self.foundation.network = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)])
        self.foundation.layer_of = lambda name: int(name.split('.')[0])
        self.foundation.num_layers = 3


def rates(model, wrapper):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}


def test_layer_decay_by_the_formula():
    model = Segmentor()
    wrapper = build(TrainableParamsConstructor, model, dict(layer_decay=0.5))
    expected = {'head': 0.1, 'foundation.network.2': 0.1, 'foundation.network.1': 0.05, 'foundation.network.0': 0.025}
    assert rates(model, wrapper) == {
        f'{module}.{kind}': pytest.approx(rate) for module, rate in expected.items() for kind in ('weight', 'bias')
    }


def test_the_wrapper_has_a_default():
    model = Segmentor()
    for paramwise in (None, dict(layer_decay=0.5)):
        constructor = TrainableParamsConstructor(dict(optimizer=dict(type='SGD', lr=0.1)), paramwise)
        assert type(constructor(model)) is OptimWrapper


def test_layer_decay_leaves_frozen_parameters_out_and_follows_a_schedule():
    model = Segmentor()
    model.foundation.network[0].requires_grad_(False)
    wrapper = build(TrainableParamsConstructor, model, dict(layer_decay=0.5))
    ConstantLR(wrapper, factor=0.1)
    found = rates(model, wrapper)
    assert 'foundation.network.0.weight' not in found
    assert found['foundation.network.1.weight'] == pytest.approx(0.005)
    assert found['head.weight'] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [
        (dict(layer_decay=0), 'layer_decay=0: give a number above 0, at most 1'),
        (dict(layer_decay=1.5), 'layer_decay=1.5'),
        (dict(layer_decay=0.5, bias_lr_mult=2), 'goes alone, without bias_lr_mult'),
    ],
)
def test_layer_decay_errors(paramwise, message):
    with pytest.raises(UserError, match=message):
        build(TrainableParamsConstructor, Segmentor(), paramwise)


def test_layer_decay_needs_a_tuned_encoder():
    model = Segmentor()
    model.foundation.requires_grad_(False)
    with pytest.raises(UserError, match='this one is frozen'):
        build(TrainableParamsConstructor, model, dict(layer_decay=0.5))


def test_layer_decay_needs_an_encoder(model):
    with pytest.raises(UserError, match='the model has none; drop it'):
        build(TrainableParamsConstructor, model, dict(layer_decay=0.5))

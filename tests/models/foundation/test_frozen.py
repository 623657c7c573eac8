import hashlib

import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.registry import MODELS
from mmgfnuc.testing import data_samples, fill_with_noise, total_loss

from ..tiny import FOUNDATION, SEGMENTOR, TINY_SAM

DIGEST = 'weights_sha256'


def save_weights(path, seed):
    torch.manual_seed(seed)
    state = fill_with_noise(foundation_encoder('sam-vit-b', weights='random', arch=TINY_SAM)).network.state_dict()
    torch.save(state, path)
    return state


@pytest.fixture
def weights(weights_folder):
    """The weights of `first.pth`; `second.pth` lies beside it."""
    save_weights(weights_folder / 'second.pth', seed=2)
    return save_weights(weights_folder / 'first.pth', seed=1)


def segmentor(weights='first', tune='frozen'):
    return MODELS.build(SEGMENTOR | {'foundation': FOUNDATION | {'weights': weights, 'tune': tune}})


def assert_weights(model, weights, same=True):
    state = dict(model.foundation.network.named_parameters())
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], weights[key]) for key in weights) == same


def train_step(model):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    total_loss(model.train().loss(torch.rand(2, 3, 32, 32), data_samples(2, 32, 32))).backward()
    optimizer.step()


def test_random_weights_warn():
    with pytest.warns(UserWarning, match=r"'sam-vit-b' has RANDOM weights \(model\.foundation\.weights\)"):
        foundation_encoder('sam-vit-b', weights='random', arch=TINY_SAM)


def test_checkpoint_holds_the_digest_instead_of_the_weights(weights, weights_folder):
    state = segmentor().state_dict()
    assert [key for key in state if key.startswith('foundation.')] == [f'foundation.{DIGEST}']
    digest = hashlib.sha256((weights_folder / 'first.pth').read_bytes()).digest()
    assert bytes(state[f'foundation.{DIGEST}'].tolist()) == digest
    others = {key for key in segmentor('random').state_dict() if not key.startswith('foundation.')}
    assert others == state.keys() - {f'foundation.{DIGEST}'}


def test_load_restores_the_weights_and_the_prediction(weights, tmp_path):
    model = segmentor()
    train_step(model)
    torch.save(model.state_dict(), tmp_path / 'checkpoint.pth')
    loaded = segmentor()
    loaded.load_state_dict(torch.load(tmp_path / 'checkpoint.pth', weights_only=True), strict=True)
    assert_weights(loaded, weights)
    images = torch.rand(1, 3, 40, 32)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_other_weights_are_refused(weights):
    state = segmentor('first').state_dict()
    model = segmentor('second')
    with pytest.raises(
        UserError, match=r"other weights of 'sam-vit-b' than 'second'.*give the file it was trained with"
    ):
        model.load_state_dict(state)


def test_random_weights_are_saved():
    model, other = segmentor('random'), segmentor('random')
    saved = {key: value.clone() for key, value in model.foundation.network.named_parameters()}
    assert_weights(other, saved, same=False)
    other.load_state_dict(model.state_dict(), strict=True)
    assert_weights(other, saved)


def test_checkpoint_of_random_weights_is_refused_beside_real_ones(weights):
    with pytest.raises(UserError, match="holds weights of 'sam-vit-b' of its own, from no file or tuned in full"):
        segmentor('first').load_state_dict(segmentor('random').state_dict())


def test_checkpoint_of_full_tuning_is_refused_by_a_frozen_encoder(weights):
    """It would load, and the tuned weights be lost with the next checkpoint."""
    tuned = segmentor('first', tune='full')
    train_step(tuned)
    with pytest.raises(UserError, match=r"tuned in full, .*from a file \(tune='frozen'\); give the config that it was"):
        segmentor('first').load_state_dict(tuned.state_dict())


@pytest.mark.parametrize('tune', ['frozen', 'full'])
def test_init_weights_of_mmengine_keeps_the_pretrained_weights(weights, tune):
    model = segmentor(tune=tune)
    model.init_weights()
    assert_weights(model, weights)


def test_init_weights_keeps_those_of_timm():
    model = MODELS.build(
        SEGMENTOR | {'foundation': {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': 'random'}}
    )
    fill_with_noise(model.foundation)
    before = {key: value.clone() for key, value in model.foundation.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.foundation.state_dict().items())


def test_full_tuning_trains_and_saves(weights):
    model = segmentor(tune='full')
    train_step(model)
    assert_weights(model, weights, same=False)
    tuned = {key: value.clone() for key, value in model.foundation.network.named_parameters()}
    loaded = segmentor(tune='full')
    loaded.load_state_dict(model.state_dict(), strict=True)
    assert_weights(loaded, tuned)

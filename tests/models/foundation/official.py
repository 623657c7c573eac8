"""Models of the official packages, narrow and shallow, and how their features are compared with ours."""

import torch
import transformers

from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.testing import fill_with_noise

from .reduced import VIT

TRANSFORMERS = {'hidden_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 3}
transformers.logging.set_verbosity_error()


def noisy(model):
    """Noise that keeps features of the order of one, norms' scales around one."""
    fill_with_noise(model, 0.2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'norm' in name.lower() or 'ln_' in name or 'lambda1' in name:
                parameter += 1
    return model.eval()


@torch.no_grad()
def assert_equal_features(encoder, expected, images, patch):
    """The features of two layers, given the tokens of the patches of each, before the encoder's own normalisation."""
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    features = encoder.encode(images)
    assert len(features) == len(expected) == 2
    for feature, tokens in zip(features, expected, strict=True):
        assert tokens.std() > 0.3
        torch.testing.assert_close(feature, tokens.mT.unflatten(2, (rows, columns)), rtol=0, atol=1e-4)


def ours(name, path, **arch):
    return foundation_encoder(name, weights=str(path), arch=VIT | arch, out_layers=(0, 1)).eval()

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile, write_dataset
from mmgfnuc.inference.folder import find_images
from mmgfnuc.inference.publishing import publish
from mmgfnuc.inference.results import write_png
from mmgfnuc.registry import MODELS

from .small_models import FUSED, PLAIN, to_inputs, whole


@pytest.fixture(scope='session')
def image():
    return render_tile(np.random.default_rng(3), 256)[0][:200, :248]


@pytest.fixture(scope='session')
def checkpoint_of(image, tmp_path_factory):
    """Writes the checkpoint of a random model that finds nuclei in a third of the image."""
    folder = tmp_path_factory.mktemp('checkpoints')

    def write(name, model_config, classes=CLASSES):
        torch.manual_seed(1)
        model = MODELS.build(model_config)
        with torch.no_grad():
            # Statistics of batch norm that fit the images, by their mean over all passes, of which there is one.
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
            model.train().decode_head(model.extract_feat(to_inputs(image)))
            logits = model.eval().encode_decode(to_inputs(image))[0]
            model.decode_head.decoder.conv_seg.bias[1] -= torch.quantile((logits[1] - logits[0]).flatten(), 2 / 3)
        trained_on = {'mpp': 0.25, 'classes': list(classes), 'palette': PALETTE[: len(classes)], 'stains': []}
        meta = {'cfg': Config(dict(model=model_config)).pretty_text, 'dataset_meta': {}, 'preprocessing': trained_on}
        meta |= {'seed': 0, 'iter': 30, 'versions': {}}
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / f'{name}.pth')
        return folder / f'{name}.pth'

    return write


@pytest.fixture(scope='session')
def plain(checkpoint_of):
    return checkpoint_of('plain', PLAIN)


@pytest.fixture(scope='session')
def fused(checkpoint_of):
    return checkpoint_of('fused', FUSED)


@pytest.fixture(scope='session')
def predictor(plain):
    """Of a model without fusion; not to be changed."""
    return whole(plain)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_dataset(root, num_train=2, num_val=1, size=96, seed=0)
    return root


@pytest.fixture(scope='session')
def ready(plain, data_root, tmp_path_factory):
    """The folder of a ready model, made of `plain`; not to be changed."""
    folder = tmp_path_factory.mktemp('ready') / 'small'
    folder.mkdir()
    publish(plain, folder, 'small', [data_root])
    return folder


@pytest.fixture
def changed(plain, tmp_path):
    """Writes the checkpoint of `plain` with another config, or other entries of its preprocessing."""

    def write(cfg=None, **preprocessing):
        saved = torch.load(plain, weights_only=False)
        saved['meta']['preprocessing'] |= preprocessing
        saved['meta']['cfg'] = cfg or saved['meta']['cfg']
        torch.save(saved, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return write


@pytest.fixture
def many(tmp_path):
    """Four images of one content."""
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in 'abcd':
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')])

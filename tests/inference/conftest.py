import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import render_tile
from mmgfnuc.inference.folder import find_images
from mmgfnuc.inference.writers import write_png
from mmgfnuc.registry import MODELS

from .small_models import PLAIN, to_inputs


@pytest.fixture(scope='module')
def image():
    return render_tile(np.random.default_rng(3), 256)[0][:200, :248]


@pytest.fixture(scope='module')
def checkpoint_of(image, tmp_path_factory):
    """Writes the checkpoint of a random model that finds nuclei in a third of the image."""
    folder = tmp_path_factory.mktemp('checkpoints')

    def write(name, model_config):
        torch.manual_seed(0)
        model = MODELS.build(model_config)
        with torch.no_grad():
            # Statistics of batch norm that fit the images.
            for _ in range(30):
                model.train().backbone(to_inputs(image))
            model.eval()
            head = model.decode_head.train()
            for _ in range(30):
                head(model.extract_feat(to_inputs(image)))
            logits = model.eval().encode_decode(to_inputs(image))[0]
            head.decoder.conv_seg.bias[1] -= torch.quantile((logits[1] - logits[0]).flatten(), 2 / 3)
        trained_on = {'mpp': 0.25, 'classes': CLASSES, 'palette': PALETTE[: len(CLASSES)]}
        meta = {'cfg': Config(dict(model=model_config)).pretty_text, 'dataset_meta': trained_on}
        meta |= {'seed': 0, 'iter': 30, 'versions': {}}
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / f'{name}.pth')
        return folder / f'{name}.pth'

    return write


@pytest.fixture(scope='module')
def plain(checkpoint_of):
    return checkpoint_of('plain', PLAIN)


@pytest.fixture
def many(tmp_path):
    """Four images of one content."""
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in 'abcd':
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')])

"""From a trained checkpoint and an image to a nucleus map."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray

from mmgfnuc.datasets.transforms import StainNormalize
from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS, TRANSFORMS

from .checkpoint import check_fit, read_checkpoint, weights_from_checkpoint


class NucleiInferencer:
    """Segments images with a checkpoint of `tools/train.py`, which carries its own config.

    Resolution and tiles are those of the config's `model.test_cfg`; stains are normalised where its test pipeline says
    so.

    Args:
        checkpoint: a .pth file.
        config: to use instead of the checkpoint's own.
        options: settings to change in the config, such as `model.foundation.weights` where the weight file moved.
        device: a torch device; a GPU where there is one by default.

    Raises:
        UserError: the checkpoint, or the weight file of its frozen encoder, is missing or does not fit.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: Config | None = None,
        options: dict[str, Any] | None = None,
        device: str | None = None,
    ) -> None:
        self.device = _find_device(device)
        saved = read_checkpoint(checkpoint)
        self.config = config or Config.fromstring(saved['meta']['cfg'], file_format='.py')
        self.config.merge_from_dict(options or {})
        self.mpp: float | None = saved['meta']['dataset_meta']['mpp']
        with weights_from_checkpoint(self.config):
            model = MODELS.build(self.config.model)
        check_fit(model.state_dict(), saved['state_dict'])
        model.load_state_dict(saved['state_dict'])
        self.model = model.to(self.device).eval()
        self.normalizers = _stain_normalizers(self.config)

    @property
    def num_classes(self) -> int:
        """Softmax channels, the background counted in."""
        return self.model.decode_head.num_classes

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment one image.

        Shape:
            (H, W, 3) RGB uint8 -> (H, W) uint8: 0 background, 1 nucleus (or nucleus type)
        """
        for normalizer in self.normalizers:
            image = normalizer.normalize(image)
        inputs = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device)
        return self.model.predict_logits(inputs.float() / 255).argmax(1)[0].to('cpu', torch.uint8).numpy()


def _stain_normalizers(config: Config) -> list[StainNormalize]:
    """Build the steps of the test pipeline that the model expects of its images."""
    steps = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', [])
    # A type is a class in a config file, a name in a dumped one.
    classes = [TRANSFORMS.get(step.type) if isinstance(step.type, str) else step.type for step in steps]
    return [TRANSFORMS.build(step) for step, cls in zip(steps, classes, strict=True) if cls is StainNormalize]


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

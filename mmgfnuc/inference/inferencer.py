"""From a trained checkpoint and an image to nuclei."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage, array_to_rgb
from mmgfnuc.datasets.images import read_image
from mmgfnuc.datasets.pixel_size import check_mpp, read_mpp
from mmgfnuc.datasets.transforms import StainNormalize
from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.models.weights.torch_files import reason_of
from mmgfnuc.registry import MODELS, TRANSFORMS

from .checkpoint import carried_config, check_classes, check_fit, read_checkpoint, weights_from_checkpoint
from .dumped_config import MODEL_PARTS, check_registered, find_part, forget_caches


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image, pixel by pixel.

    Attributes:
        semantic: 0 background, 1 nucleus, or its type where the model tells types apart.
        labels: the nuclei, from 1 without gaps; 0 = background.
        foreground: probability that the pixel belongs to a nucleus.

    Shape:
        - semantic: (H, W) uint8
        - labels: (H, W) int32
        - foreground: (H, W) float32
    """

    semantic: NDArray[np.uint8]
    labels: NDArray[np.int32]
    foreground: NDArray[np.float32]


class NucleiInferencer:
    """Segments images with a checkpoint of `tools/train.py`, which carries its own config.

    Resolution and tiles are those of the config's `model.test_cfg`; stains are normalised where its test pipeline says
    so.

    Args:
        checkpoint: a .pth file.
        config: to use instead of the checkpoint's own. `load_config(checkpoint, options)` of `mmgfnuc.engine.config`
            gives the checkpoint's with changed settings: `model.foundation.weights`, where the weight file moved.
        device: a torch device; a GPU where there is one by default.

    Attributes:
        mpp: micrometres per pixel of the images that the model was trained on, None where they differ or are unknown.
        classes: names, the background first.
        palette: colour (RGB) of each class.

    Raises:
        UserError: the checkpoint, or the weight file of its frozen encoder, is missing or does not fit, or its head has
            other classes than the data that it was trained on.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: Config | None = None,
        device: str | None = None,
    ) -> None:
        self.device = _find_device(device)
        saved = read_checkpoint(checkpoint)
        self.config = config or carried_config(saved, checkpoint)
        if config is None:
            used = [self.config.get('model'), _stain_steps(self.config)]
            check_registered(used, f"checkpoint '{checkpoint}'", (*MODEL_PARTS, 'TRANSFORMS'))
            forget_caches(self.config.get('model'))
        trained_on = _trained_on(saved, checkpoint)
        self.mpp: float | None = trained_on['mpp']
        self.classes: tuple[str, ...] = tuple(trained_on['classes'])
        self.palette: list[list[int]] = trained_on['palette']
        source = 'the config' if config else f"the config in checkpoint '{checkpoint}'"
        model, self.normalizers = _build(self.config, source)
        check_fit(model.state_dict(), saved['state_dict'])
        model.load_state_dict(saved['state_dict'])
        check_classes(model.decode_head.num_classes, self.classes)
        self.model = model.to(self.device).eval()

    @property
    def num_classes(self) -> int:
        """Softmax channels, the background counted in."""
        return self.model.decode_head.num_classes

    @torch.inference_mode()
    def predict(self, image: NDArray | str | Path, mpp: float | None = None) -> Prediction:
        """Find the nuclei of one image.

        Args:
            image: an array of uint8, or of floats from 0 to 1: RGB, RGB with alpha, or grey; or the path of a file.
            mpp: micrometres per pixel, where it is known: what is too small for a nucleus is then told by its true
                size. Of a path: those that the file states, unless they are given.

        Shape:
            image (H, W, 3), (H, W, 4) or (H, W)

        Raises:
            UserError: the image is none of these, or mpp none of a microscope.
            DivergedError: the model gives NaN.
        """
        if mpp is not None:
            check_mpp(mpp, 'mpp')
        elif isinstance(image, str | Path):
            mpp = read_mpp(image)
        image = _rgb(image)
        for normalizer in self.normalizers:
            image = normalizer.normalize(image)
        inputs = torch.tensor(image).permute(2, 0, 1)[None].to(self.device)
        (sample,) = self.model.predict(inputs.float() / 255, [SegDataSample(metainfo={'mpp': mpp})])
        return Prediction(
            semantic=sample.pred_sem_seg.data[0].to('cpu', torch.uint8).numpy(),
            labels=sample.pred_instance_map.data[0].cpu().numpy(),
            foreground=-torch.expm1(sample.seg_logits.data[0]).cpu().numpy(),
        )


def _rgb(image: Any) -> RGBImage:
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        fix = 'give a NumPy array, such as numpy.asarray(image.convert("RGB")) of a PIL image, or the path of a file'
        raise UserError(f'image is a {type(image).__name__}; {fix}')
    return array_to_rgb(image)


def _trained_on(saved: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Read what the data set of a checkpoint was like.

    Raises:
        UserError: it is not said, or is of another type.
    """
    match saved['meta']['dataset_meta']:
        case {'mpp': int() | float() | None, 'classes': list() | tuple() as names, 'palette': list()} as known:
            if all(isinstance(name, str) for name in names):
                return known
    raise UserError(
        f"checkpoint '{path}': its dataset_meta lacks mpp, classes or palette; train it with tools/train.py"
    )


def _build(config: Config, source: str) -> tuple[FusionSegmentor, list[StainNormalize]]:
    """Build the model, and the steps of the test pipeline that it expects of its images.

    What a part raises on its settings becomes one line.
    """
    try:
        with weights_from_checkpoint(config):
            model = MODELS.build(config.model)
        if not isinstance(model, FusionSegmentor):
            raise UserError(f'the model is a {type(model).__name__}; only a FusionSegmentor gives nuclei')
        return model, [TRANSFORMS.build(step) for step in _stain_steps(config)]
    except UserError:
        raise
    except Exception as error:  # any that a constructor raises
        raise UserError(
            f'{source} builds no model ({type(error).__name__}: {reason_of(error)}); correct it, or name another one'
        ) from error


def _stain_steps(config: Config) -> list[dict[str, Any]]:
    """Steps of the test pipeline that normalise stains."""
    match config.to_dict():
        case {'test_dataloader': {'dataset': {'pipeline': [*steps]}}}:
            # A type is a class in a config file, a name in a dumped one.
            named = [(step, step.get('type')) for step in steps if isinstance(step, dict)]
            parts = [(step, find_part(kind) if isinstance(kind, str) else kind) for step, kind in named]
            return [step for step, part in parts if part is StainNormalize]
    return []


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

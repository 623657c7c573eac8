"""What becomes of an image before it enters the model: written into checkpoints and ready models, as data."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor

from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.pixel_size import is_mpp
from mmgfnuc.datasets.transforms import Rescale, StainNormalize
from mmgfnuc.errors import UserError
from mmgfnuc.models.segmentors import FusionSegmentor

# Micrometres that the median nucleus of a data set may measure.
DIAMETERS = (0.5, 100.0)


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of its images, and what it says of them.

    Attributes:
        mpp: micrometres per pixel of the images that it was trained on, None where they differ or are unknown.
        classes: names, the background first.
        palette: colour (RGB) of each class.
        stains: stain normalisations, in their order.
        nucleus_diameter_um: median diameter of the nuclei that it was trained on, in micrometres; None where it is
            unknown, as in a checkpoint.
    """

    mpp: float | None
    classes: tuple[str, ...]
    palette: list[list[int]]
    stains: list[StainNormalize]
    nucleus_diameter_um: float | None = None

    def normalize(self, image: RGBImage) -> RGBImage:
        """Bring an image to the staining that the model was trained on."""
        for stain in self.stains:
            image = stain.normalize(image)
        return image


def describe_preprocessing(dataset: Any) -> dict[str, Any]:
    """Describe how a data set prepares its images, for the `meta` of a checkpoint: numbers, text and pixels."""
    known = getattr(dataset, 'metainfo', {})
    stains = [step for step in _steps(dataset) if isinstance(step, StainNormalize)]
    return {
        'mpp': known.get('mpp'),
        'classes': list(known.get('classes') or ()),
        'palette': [list(colour) for colour in known.get('palette') or ()],
        'stains': [{'method': stain.method, 'template': _as_tensor(stain.template)} for stain in stains],
    }


def _steps(dataset: Any) -> list[Any]:
    pipeline = getattr(dataset, 'pipeline', ())
    return list(getattr(pipeline, 'transforms', pipeline))


def _as_tensor(image: RGBImage | None) -> Tensor | None:
    return None if image is None else torch.from_numpy(image.copy())


def read_preprocessing(described: Any, source: str) -> Preprocessing:
    """Read what `describe_preprocessing` gave, or a ready model says.

    Args:
        described: as it stands there.
        source: what it stands in, for an error.

    Raises:
        UserError: a part is missing or of another type, or a stain normalisation cannot be made.
    """
    match described:
        case {'mpp': mpp, 'classes': [*classes], 'palette': [*palette], 'stains': [*stains]}:
            named = bool(classes) and all(isinstance(name, str) for name in classes)
            coloured = len(palette) == len(classes) and all(_is_colour(colour) for colour in palette)
            diameter = described.get('nucleus_diameter_um')
            sized = (mpp is None or is_mpp(mpp)) and (diameter is None or is_diameter(diameter))
            if sized and named and coloured:
                normalisations = [_read_stain(stain, source) for stain in stains]
                return Preprocessing(mpp, tuple(classes), palette, normalisations, diameter)
    raise UserError(
        f'{source}: its preprocessing lacks mpp, classes or palette, or they are of wrong types; train the model with '
        'mmgfnuc train'
    )


def is_diameter(value: Any) -> bool:
    """Whether a value is the diameter of a nucleus in micrometres."""
    low, high = DIAMETERS
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_colour(colour: Any) -> bool:
    return isinstance(colour, list) and len(colour) == 3 and all(value in range(256) for value in colour)


def _read_stain(stain: Any, source: str) -> StainNormalize:
    match stain:
        case {'method': str(method), 'template': None}:
            return StainNormalize(method)
        case {'method': str(method), 'template': Tensor(dtype=torch.uint8) as template}:
            if template.ndim == 3 and template.shape[-1] == 3:
                return StainNormalize(method, template.numpy())
    raise UserError(f'{source}: its preprocessing has no stain normalisation in {str(stain)[:60]!r}')


def use_resolution(model: Any, preprocessing: Preprocessing, dataset: Any = None) -> None:
    """Let a model bring images of another pixel size to the one that it was trained on.

    Args:
        model: a FusionSegmentor; others stay as they are.
        preprocessing: of its checkpoint.
        dataset: that gives the images, which its pipeline may have scaled already.
    """
    model = model.module if is_model_wrapper(model) else model
    if isinstance(model, FusionSegmentor) and preprocessing.mpp is not None:
        factor = math.prod(step.factor for step in _steps(dataset) if isinstance(step, Rescale))
        model.test_cfg = {**model.test_cfg, 'mpp': preprocessing.mpp / factor}

"""From a trained checkpoint and an image to nuclei."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.structures import SegDataSample
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage, array_to_rgb
from mmgfnuc.datasets.images import read_image
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import nucleus_types
from mmgfnuc.models.segmentors import FusionSegmentor, check_test_cfg
from mmgfnuc.models.weights.torch_files import reason_of
from mmgfnuc.registry import MODELS

from .checkpoint import carried_config, check_classes, check_fit, read_checkpoint, weights_from_checkpoint
from .dumped_config import MODEL_PARTS, check_registered, forget_caches
from .first_pass import LOOK_SIDE, Look, densest_part
from .pixel_size import PixelSize, PixelSizes, stated_mpp
from .preprocessing import read_preprocessing, use_resolution


@dataclass(frozen=True)
class Nuclei:
    """The N nuclei that a model finds in an image.

    Attributes:
        labels: the nuclei, from 1 without gaps; 0 = background.
        types: of each nucleus, by number: the class that most of its pixels have, 0 where none has any.
        semantic: class of each pixel, before nuclei are separated: 0 background, 1 nucleus, or its type where the
            model has types.
        foreground: probability that the pixel belongs to a nucleus.

    Shape:
        - labels: (H, W) int32
        - types: (N,) int64
        - semantic: (H, W) uint8
        - foreground: (H, W) float32
    """

    labels: NDArray[np.int32]
    types: NDArray[np.int64]
    semantic: NDArray[np.uint8]
    foreground: NDArray[np.float32]


class Predictor:
    """Finds nuclei with a checkpoint of `mmgfnuc train`, which carries its own config and preprocessing.

    Stains are normalised as in training. Images whose pixels are known to be of another size than those of the training
    are scaled to that, and the maps back. Tiles are those of the config's `model.test_cfg`.

    Args:
        checkpoint: a .pth file.
        config: to build the model of, instead of the checkpoint's own. `load_config(checkpoint, options)` of
            `mmgfnuc.engine.config` gives the checkpoint's with changed settings: `model.foundation.weights`, where the
            weight file moved.
        device: a torch device; a GPU where there is one by default.
        mpp: micrometres per pixel of all images, instead of what their files say.
        nucleus_diameter: of a typical nucleus, in pixels: by it the pixel size is assumed of images of which it is not
            known. By default it is assumed by a first pass over a part of each.
        tiles_per_batch: tiles that go through the model at once on a GPU, instead of the config's.

    Attributes:
        preprocessing: what the model expects of its images, and its classes.
        pixel_sizes: finds the size of a pixel of an image; see PixelSizes for what it refuses.

    Raises:
        UserError: the checkpoint, or the weight file of its frozen encoder, is missing or does not fit, or its head has
            other classes than the data that it was trained on.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: Config | None = None,
        device: str | None = None,
        mpp: float | None = None,
        nucleus_diameter: float | None = None,
        tiles_per_batch: int | None = None,
    ) -> None:
        self.device = _find_device(device)
        saved = read_checkpoint(checkpoint)
        self.preprocessing = read_preprocessing(saved, checkpoint)
        self.pixel_sizes = PixelSizes(self.preprocessing, mpp, nucleus_diameter)
        source = 'the config' if config else f"the config in checkpoint '{checkpoint}'"
        model = _build(config or _own_config(saved, checkpoint), source)
        check_fit(model.state_dict(), saved['state_dict'])
        model.load_state_dict(saved['state_dict'])
        check_classes(model.decode_head.num_classes, self.preprocessing.classes)
        use_resolution(model, self.preprocessing)
        if tiles_per_batch is not None:
            model.test_cfg = check_test_cfg({**model.test_cfg, 'tiles_per_batch': tiles_per_batch})
        self.model = model.to(self.device).eval()

    def scale_of(self, mpp: float | None) -> float:
        """Tell by how much images of this size of pixel (micrometres, None where unknown) are scaled for the model."""
        return self.model.scale_of(mpp)

    def largest_scale(self, mpp: float | None) -> float:
        """Tell the largest scale at which such images are worked on: as given, by the network, or divided."""
        return max(1, self.model.scale_of(mpp), self.model.factor_of(mpp))

    def pixel_size(
        self, image: RGBImage, mpp: float | None = None, stated: float | UserError | None = None
    ) -> PixelSize:
        """Find the size of a pixel of an image: see PixelSizes.

        Args:
            image: RGB.
            mpp: micrometres per pixel, as given; by default those of the predictor.
            stated: by its file, see `stated_mpp`.

        Shape:
            image (H, W, 3)
        """
        return self.pixel_sizes.find(partial(self._look, image), mpp, stated)

    def __call__(self, image: NDArray | str | Path, mpp: float | PixelSize | None = None) -> Nuclei:
        """Find the nuclei of one image.

        Args:
            image: an array of uint8, or of floats from 0 to 1: RGB, RGB with alpha, or grey; or the path of a file.
            mpp: micrometres per pixel, or what `pixel_size` has found; by default that of the predictor, then what the
                file of a path states, then what a first pass assumes. Images of other pixels than those of the training
                are scaled, and what is too small for a nucleus is told by its true size.

        Shape:
            image (H, W, 3), (H, W, 4) or (H, W)

        Raises:
            UserError: the image is none of these, or mpp none of a microscope.
            DivergedError: the model gives NaN.
        """
        pixels = _rgb(image)
        if not isinstance(mpp, PixelSize):
            mpp = self.pixel_size(pixels, mpp, stated_mpp(image) if isinstance(image, str | Path) else None)
        return self._segment(pixels, mpp.mpp)

    @torch.inference_mode()
    def _segment(self, image: RGBImage, mpp: float | None) -> Nuclei:
        inputs = torch.tensor(self.preprocessing.normalize(image)).permute(2, 0, 1)[None].to(self.device)
        (sample,) = self.model.predict(inputs.float() / 255, [SegDataSample(metainfo={'mpp': mpp})])
        labels = sample.pred_instance_map.data[0]
        semantic = sample.pred_sem_seg.data[0].to('cpu', torch.uint8).numpy()
        return Nuclei(
            labels=labels,
            types=nucleus_types(labels, semantic, np.arange(1, labels.max(initial=0) + 1)),
            semantic=semantic,
            foreground=(1 - sample.pred_probabilities.data[0]).cpu().numpy(),
        )

    def _look(self, image: RGBImage, mpp: float) -> Look:
        """Look at the part of an image that has the most nuclei, if its pixels measured so much."""
        nuclei = self._segment(densest_part(image, round(LOOK_SIDE / self.scale_of(mpp))), mpp)
        return Look.at(nuclei.labels, nuclei.foreground)


def _rgb(image: Any) -> RGBImage:
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        fix = 'give a NumPy array, such as numpy.asarray(image.convert("RGB")) of a PIL image, or the path of a file'
        raise UserError(f'image is a {type(image).__name__}; {fix}')
    return array_to_rgb(image)


def _own_config(saved: dict[str, Any], path: str | Path) -> Config:
    """Read the config that a checkpoint carries; its model may be of registered parts only."""
    config = carried_config(saved, path)
    check_registered(config.get('model'), f"checkpoint '{path}'", MODEL_PARTS)
    forget_caches(config.get('model'))
    return config


def _build(config: Config, source: str) -> FusionSegmentor:
    """Build the model; what a part raises on its settings becomes one line."""
    try:
        with weights_from_checkpoint(config), DefaultScope.overwrite_default_scope(config.get('default_scope')):
            model = MODELS.build(config.model)
    except UserError:
        raise
    except Exception as error:  # any that a constructor raises
        raise UserError(
            f'{source} builds no model ({type(error).__name__}: {reason_of(error)}); correct it, or name another one'
        ) from error
    if not isinstance(model, FusionSegmentor):
        raise UserError(f'the model is a {type(model).__name__}; only a FusionSegmentor gives nuclei')
    return model


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

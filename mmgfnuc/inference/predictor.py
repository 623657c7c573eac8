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
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import nucleus_types
from mmgfnuc.models.segmentors import check_test_cfg

from .loading import load_model
from .ready import DEFAULT


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
    """Finds nuclei with a ready model or a checkpoint of `mmgfnuc train`; both carry their config and preprocessing.

    Stains are normalised as in training. Images whose pixels are known to be of another size than those of the training
    are scaled to that, and the maps back. Tiles are those of the config's `model.test_cfg`.

    Args:
        model: a ready model, by its name, its folder or its name on the hub; or a .pth checkpoint.
        config: to build the model of, instead of its own. `load_config(checkpoint, options)` of
            `mmgfnuc.engine.config` gives the checkpoint's with changed settings: `model.foundation.weights`, where the
            weight file moved.
        device: a torch device; a GPU where there is one by default.
        mpp: micrometres per pixel of all images, instead of what their files say.
        tiles_per_batch: tiles that go through the model at once on a GPU, instead of the config's.

    Attributes:
        mpp: as given.
        preprocessing: what the model expects of its images, and its classes.
        domain: which images the model was made for; None where that is unknown, as of a checkpoint.

    Raises:
        UserError: the model, or the weight file of its frozen encoder, is missing or does not fit, or its head has
            other classes than the data that it was trained on.
    """

    def __init__(
        self,
        model: str | Path,
        config: Config | None = None,
        device: str | None = None,
        mpp: float | None = None,
        tiles_per_batch: int | None = None,
    ) -> None:
        self.device = _find_device(device)
        self.mpp = mpp if mpp is None else check_mpp(mpp, 'mpp')
        loaded = load_model(model, config)
        self.preprocessing, self.domain = loaded.preprocessing, loaded.domain
        if tiles_per_batch is not None:
            loaded.network.test_cfg = check_test_cfg({**loaded.network.test_cfg, 'tiles_per_batch': tiles_per_batch})
        self.model = loaded.network.to(self.device).eval()

    def scale_of(self, mpp: float | None) -> float:
        """Tell by how much images of this size of pixel (micrometres, None where unknown) are scaled for the model."""
        return self.model.scale_of(mpp)

    @torch.inference_mode()
    def __call__(self, image: NDArray | str | Path, mpp: float | None = None) -> Nuclei:
        """Find the nuclei of one image.

        Args:
            image: an array of uint8, or of floats from 0 to 1: RGB, RGB with alpha, or grey; or the path of a file.
            mpp: micrometres per pixel; by default that of the predictor, then what the file of a path states. Where it
                is known, images of other pixels than those of the training are scaled, and what is too small for a
                nucleus is told by its true size.

        Shape:
            image (H, W, 3), (H, W, 4) or (H, W)

        Raises:
            UserError: the image is none of these, or mpp none of a microscope.
            DivergedError: the model gives NaN.
        """
        if mpp is not None:
            check_mpp(mpp, 'mpp')
        elif self.mpp is not None:
            mpp = self.mpp
        elif isinstance(image, str | Path):
            mpp = read_mpp(image)
        pixels = self.preprocessing.normalize(_rgb(image))
        inputs = torch.tensor(pixels).permute(2, 0, 1)[None].to(self.device)
        (sample,) = self.model.predict(inputs.float() / 255, [SegDataSample(metainfo={'mpp': mpp})])
        labels = sample.pred_instance_map.data[0]
        semantic = sample.pred_sem_seg.data[0].to('cpu', torch.uint8).numpy()
        return Nuclei(
            labels=labels,
            types=nucleus_types(labels, semantic, np.arange(1, labels.max(initial=0) + 1)),
            semantic=semantic,
            foreground=(1 - sample.pred_probabilities.data[0]).cpu().numpy(),
        )


def load(name_or_folder_or_hub_id: str | Path = DEFAULT, device: str | None = None) -> Predictor:
    """Load a model that is ready for use: `mmgfnuc.load()(image).table` is a table of the nuclei of an image.

    Args:
        name_or_folder_or_hub_id: one of `mmgfnuc.list_ready()`, a folder, or `owner/name` on the Hugging Face hub; the
            path of a .pth checkpoint does, too.
        device: a torch device; a GPU where there is one by default.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    return Predictor(name_or_folder_or_hub_id, device=device)


def _rgb(image: Any) -> RGBImage:
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        fix = 'give a NumPy array, such as numpy.asarray(image.convert("RGB")) of a PIL image, or the path of a file'
        raise UserError(f'image is a {type(image).__name__}; {fix}')
    return array_to_rgb(image)


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

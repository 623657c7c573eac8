"""From a trained checkpoint and an image to nuclei."""

import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from PIL import Image

import mmgfnuc
from mmgfnuc.datasets.colours import RGBImage, array_to_rgb
from mmgfnuc.datasets.images import picture_to_rgb, read_image
from mmgfnuc.datasets.limits import SharedMemory, require_room
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import nucleus_types
from mmgfnuc.models.segmentors import check_test_cfg
from mmgfnuc.models.weights.torch_files import reason_of

from .first_pass import LOOK_SIDE, Look, densest_parts
from .loading import load_model
from .nuclei import UNNAMED, Nuclei
from .pixel_size import KNOWN, PixelSize, PixelSizes, stated_mpp
from .provenance import NAME, describe_model
from .ready import DEFAULT

ImageLike: TypeAlias = str | Path | NDArray | Image.Image
# For each pixel that the model sees: its maps, nuclei, measures and overlay. On a CPU the largest resident memory
# (ru_maxrss) grew by 90 to 105 in images of 2,048 to 4,096 pixels a side with 700 nuclei in each megapixel, head
# `hover`; the rest is for maps of types.
PREDICTION_BYTES = 130


class GivenImage(NamedTuple):
    """Pixels of an image as it was given, its name, and its file where it has one."""

    pixels: RGBImage
    name: str
    path: Path | None = None


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
        nucleus_diameter: of a typical nucleus, in pixels: by it the pixel size is assumed of images of which it is not
            known. By default it is assumed by a first pass over parts of each.
        tiles_per_batch: tiles that go through the model at once on a GPU, instead of the config's.

    Attributes:
        name: of the model.
        config: that its network was built of.
        preprocessing: what the model expects of its images, and its classes.
        pixel_sizes: finds the size of a pixel of an image; see PixelSizes for what it refuses.
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
        nucleus_diameter: float | None = None,
        tiles_per_batch: int | None = None,
    ) -> None:
        self.device = _find_device(device)
        loaded = load_model(model, config)
        self.name, self.config = loaded.name, loaded.config
        self.preprocessing, self.domain = loaded.preprocessing, loaded.domain
        self.pixel_sizes = PixelSizes(self.preprocessing, mpp, nucleus_diameter)
        if tiles_per_batch is not None:
            loaded.network.test_cfg = check_test_cfg({**loaded.network.test_cfg, 'tiles_per_batch': tiles_per_batch})
        self.model = loaded.network.to(self.device).eval()
        self._memory = SharedMemory()

    def twin(self) -> Self:
        """Give a predictor for another thread: its network has parts of its own, and the same weights.

        A part may keep what it sees for later in the same pass, so two threads must not use one at a time.
        """
        twin = copy.copy(self)
        weights = {id(weight): weight for weight in (*self.model.parameters(), *self.model.buffers())}
        twin.model = copy.deepcopy(self.model, weights)
        return twin

    def scale_of(self, mpp: float | None) -> float:
        """Tell by how much images of this size of pixel (micrometres, None where unknown) are scaled for the model."""
        return self.model.scale_of(mpp)

    def pixel_size(
        self, image: ImageLike, mpp: float | None = None, stated: float | UserError | None = None
    ) -> PixelSize:
        """Find the size of a pixel of an image: see PixelSizes.

        Args:
            image: of any form that a call takes.
            mpp: micrometres per pixel, as given; by default those of the predictor.
            stated: by its file, see `stated_mpp`; by default that of a path is asked.

        Raises:
            UserError: see a call.
        """
        given = take_image(image)
        if stated is None and given.path:
            stated = stated_mpp(given.path)
        return self.pixel_sizes.find(partial(self._look, given.pixels), mpp, stated)

    def describe(self) -> dict[str, Any]:
        """Give what the nuclei that it finds depend on beside the image, as JSON holds it."""
        described = describe_model(self.model, self.config, self.preprocessing)
        sizes = {'mpp': self.pixel_sizes.given, 'nucleus_diameter': self.pixel_sizes.nucleus_diameter}
        return {NAME: self.name, 'version': mmgfnuc.__version__, **sizes, **described}

    def __call__(self, image: ImageLike, mpp: float | PixelSize | None = None, *, name: str | None = None) -> Nuclei:
        """Find the nuclei of one image.

        Args:
            image: the path of a file; an array of uint8, or of floats from 0 to 1: RGB, RGB with alpha, or grey; or a
                PIL image, whose rows and columns are taken as they lie; only a path states a pixel size.
            mpp: micrometres per pixel, or what `pixel_size` has found; by default that of the predictor, then what the
                file of a path states, then what a first pass assumes. Images of other pixels than those of the training
                are scaled, and what is too small for a nucleus is told by its true size.
            name: of the image, in its tables and for its files; by default that of the file without its suffix.

        Shape:
            image (H, W, 3), (H, W, 4) or (H, W)

        Raises:
            UserError: the image is none of these, or mpp none of a microscope; or the memory does not suffice.
            DivergedError: the model gives NaN.
        """
        given = take_image(image)
        if not isinstance(mpp, PixelSize):
            mpp = self.pixel_size(given.pixels, mpp, stated_mpp(given.path) if given.path else None)
        with self._memory.take(round(given.pixels[..., 0].size * self._bytes_per_pixel(mpp))):
            return self._predict(given, mpp, name)

    def _predict(self, given: GivenImage, mpp: PixelSize, name: str | None) -> Nuclei:
        if self.device.type == 'cpu':  # else most of it lies in the memory of the GPU
            self._require_room(given, mpp)
        sample = self._segment(given.pixels, mpp.mpp)
        labels = sample.pred_instance_map.data[0]
        semantic = sample.pred_sem_seg.data[0].to('cpu', torch.uint8).numpy()
        return Nuclei(
            labels=labels,
            types=nucleus_types(labels, semantic, np.arange(1, labels.max(initial=0) + 1)),
            semantic=semantic,
            foreground=_foreground(sample),
            image=given.pixels,
            classes=self.preprocessing.classes,
            palette=self.preprocessing.palette,
            mpp=mpp.mpp,
            name=given.name if name is None else name,
            notices=(*([mpp.notice] if mpp.notice else []), *self._warnings(given.pixels, mpp.mpp)),
            mpp_from=mpp.source,
        )

    def _require_room(self, image: GivenImage, size: PixelSize) -> None:
        """Refuse an image that there is no memory for, at the largest size at which it is worked on."""
        height, width = image.pixels.shape[:2]
        require_room(image.path or Path(image.name), height, width, self._bytes_per_pixel(size), _purpose(size))

    def _bytes_per_pixel(self, size: PixelSize) -> float:
        largest = max(1, self.model.scale_of(size.mpp), self.model.factor_of(size.mpp))
        return PREDICTION_BYTES * largest**2

    def _warnings(self, image: RGBImage, mpp: float | None) -> list[str]:
        return self.domain.warnings(image, mpp) if self.domain else []

    @torch.inference_mode()
    def _segment(self, image: RGBImage, mpp: float | None) -> SegDataSample:
        inputs = torch.tensor(self.preprocessing.normalize(image)).permute(2, 0, 1)[None].to(self.device)
        (sample,) = self.model.predict(inputs.float().div_(255), [SegDataSample(metainfo={'mpp': mpp})])
        return sample

    def _look(self, image: RGBImage, mpp: float) -> Look:
        """Look at the parts of an image that have the most nuclei, if its pixels measured so much."""
        parts = densest_parts(image, round(LOOK_SIDE / self.scale_of(mpp)))
        samples = [self._segment(part, mpp) for part in parts]
        return Look.at([(sample.pred_instance_map.data[0], _foreground(sample)) for sample in samples])


def _purpose(size: PixelSize) -> str:
    """Say what memory is for: it grows with the square of the size of a pixel, which may be assumed wrongly."""
    if size.mpp is None or size.source in KNOWN:
        return 'to be predicted'
    return f'to be predicted if its pixels measure {size.mpp:.2g} um, as assumed (--mpp gives the true size)'


def _foreground(sample: SegDataSample) -> NDArray[np.float32]:
    return (1 - sample.pred_probabilities.data[0]).cpu().numpy()


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


def take_image(image: ImageLike) -> GivenImage:
    """Read an image of any form that `Predictor` takes; the pixels are not shared with the caller.

    Shape:
        pixels: (H, W, 3)

    Raises:
        UserError: it is none of these forms, or cannot be read.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        return GivenImage(read_image(path), path.stem, path)
    if isinstance(image, Image.Image):
        return GivenImage(_of_pillow(image), Path(getattr(image, 'filename', '')).stem or UNNAMED)
    if not isinstance(image, np.ndarray):
        fix = 'give the path of a file, a PIL image, or a NumPy array: uint8, or floats from 0 to 1'
        raise UserError(f'image is a {type(image).__name__}; {fix}')
    pixels = array_to_rgb(image)
    # Measures and pictures are made later, when a caller may have written the next image into the same array.
    return GivenImage(pixels.copy() if np.may_share_memory(pixels, image) else pixels, UNNAMED)


def _of_pillow(image: Image.Image) -> RGBImage:
    try:
        return picture_to_rgb(image)
    except UserError:
        raise
    except Exception as error:  # a damaged or closed file fails in Pillow with many types
        raise UserError(
            f'the PIL image cannot be read ({reason_of(error)}); open it anew, or give the path of its file'
        ) from error


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

"""Measurements of one image and its nuclei, and the numbers of many."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import LabelMap, Mask, RGBImage, TypeMap, image_digest

# Of the distribution of sizes: the middle, its half, and the ends without outliers.
PERCENTILES = (5, 25, 50, 75, 95)
# On scanners with white balance empty glass is brighter in all three channels; stained tissue absorbs green at least.
WHITE_LEVEL = 220

Triple = tuple[float, ...]


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of one image, in the order of their ids; all arrays are (n,).

    Attributes:
        ids: in the label map.
        areas: pixels.
        pieces: of 8-connected pixels.
        whole: not cut by the edge of the image.
        types: the class of most of its pixels that have one; 0 without.
        kinds: number of classes among its pixels, 0 (none) counted.
    """

    ids: NDArray[np.int32]
    areas: NDArray[np.int64]
    pieces: NDArray[np.int64]
    whole: NDArray[np.bool_]
    types: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """One image.

    Attributes:
        id: name.
        group: slide, patient or organ.
        mpp: micrometres per pixel.
        shape: (H, W).
        mean: of each channel, 0 to 255.
        std: of each channel.
        clipped: share of the values that are 0 or 255.
        white: share of the pixels that are as bright as empty glass.
        digest: hash of the pixels.
        ignored: ambiguous pixels.
        typed: whether there is a map of types.
        typed_background: pixels that have a type but no nucleus.
        nuclei: those of the label map.
    """

    id: str
    group: str
    mpp: float | None
    shape: tuple[int, int]
    mean: Triple
    std: Triple
    clipped: float
    white: float
    digest: str
    ignored: int
    typed: bool
    typed_background: int
    nuclei: Nuclei

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.shape[0] * self.shape[1]

    @property
    def nucleus_share(self) -> float:
        """Part of the image that nuclei cover."""
        return float(self.nuclei.areas.sum()) / self.pixels


def measure_image(
    sample_id: str,
    group: str,
    mpp: float | None,
    image: RGBImage,
    instances: LabelMap,
    ignore: Mask | None,
    types: TypeMap | None,
) -> Measured:
    """Measure an image and its maps.

    Shape:
        - image: (H, W, 3)
        - instances, ignore, types: (H, W)
    """
    mean, std = cv2.meanStdDev(image)
    white = cv2.inRange(image, (WHITE_LEVEL,) * 3, (255,) * 3)
    return Measured(
        id=sample_id,
        group=group,
        mpp=mpp,
        shape=instances.shape,
        mean=tuple(mean.ravel().tolist()),
        std=tuple(std.ravel().tolist()),
        clipped=float(((image == 0) | (image == 255)).mean()),
        white=cv2.countNonZero(white) / white.size,
        digest=image_digest(image),
        ignored=0 if ignore is None else int(np.count_nonzero(ignore)),
        typed=types is not None,
        typed_background=0 if types is None else int(np.count_nonzero(types[instances == 0])),
        nuclei=measure_nuclei(instances, types),
    )


def measure_nuclei(instances: LabelMap, types: TypeMap | None = None) -> Nuclei:
    """Measure the nuclei of a label map.

    Shape:
        - instances, types: (H, W)
    """
    inside = instances > 0
    ids, index, areas = np.unique(instances[inside], return_inverse=True, return_counts=True)
    regions, count = connected_components(instances, return_num=True)
    id_of_region = np.zeros(count + 1, np.int32)
    id_of_region[regions] = instances
    edge = np.concatenate([instances[0], instances[-1], instances[:, 0], instances[:, -1]])
    votes = np.zeros((len(ids), 2), np.int64)
    if types is not None:
        width = int(types.max()) + 2
        votes = np.bincount(index * width + types[inside], minlength=len(ids) * width).reshape(-1, width)
    return Nuclei(
        ids=ids,
        areas=areas,
        pieces=np.bincount(np.searchsorted(ids, id_of_region[1:]), minlength=len(ids)),
        whole=~np.isin(ids, edge),
        types=np.where(votes[:, 1:].any(axis=1), votes[:, 1:].argmax(axis=1) + 1, 0),
        kinds=np.count_nonzero(votes, axis=1),
    )


def equivalent_diameter(areas: NDArray) -> NDArray[np.float64]:
    """Diameter of the disc of equal area: 2 sqrt(area / pi)."""
    return 2.0 * np.sqrt(areas / np.pi)


@dataclass(frozen=True)
class ClassNumbers:
    """Nuclei of one class. Diameters are of the disc of equal area, without nuclei that the image edge cuts.

    Attributes:
        nuclei: how many.
        diameter_px: their 5th, 25th, 50th, 75th and 95th percentile in pixels; None without nuclei.
        diameter_um: in micrometres, of the images whose mpp is known.
    """

    nuclei: int
    diameter_px: Triple | None
    diameter_um: Triple | None


@dataclass(frozen=True)
class Numbers(ClassNumbers):
    """Numbers of a set of images.

    Attributes:
        images: how many.
        heights: smallest, median and largest, in pixels.
        widths: likewise.
        nuclei_per_image: smallest, median, mean and largest number.
        nucleus_share: part of the area that nuclei cover.
        ignored_share: part of the area that is ambiguous.
        mean: of each channel over all pixels, 0 to 255.
        std: of each channel over all pixels.
        mpp: all values that occur, None where unknown.
    """

    images: int
    heights: Triple
    widths: Triple
    nuclei_per_image: Triple
    nucleus_share: float
    ignored_share: float
    mean: Triple
    std: Triple
    mpp: tuple[float | None, ...]


def diameters(images: Sequence[Measured], index: int | None = None, in_um: bool = False) -> NDArray[np.float64]:
    """Diameters of all nuclei that are not cut by the edge, in pixels or, where mpp is known, micrometres.

    Args:
        images: to take them from.
        index: of the class; None takes all.
        in_um: micrometres instead of pixels.
    """
    found = [np.empty(0)]
    for image in images:
        chosen = image.nuclei.whole & (True if index is None else image.nuclei.types == index)
        scale = image.mpp if in_um else 1.0
        if scale is not None:
            found.append(equivalent_diameter(image.nuclei.areas[chosen]) * scale)
    return np.concatenate(found)


def count_class(images: Sequence[Measured], index: int | None = None) -> ClassNumbers:
    """Count and size of the nuclei of one class; of all with `index` None."""
    nuclei = sum(
        image.nuclei.types.size if index is None else np.count_nonzero(image.nuclei.types == index) for image in images
    )
    sizes = (_percentiles(diameters(images, index, in_um)) for in_um in (False, True))
    return ClassNumbers(int(nuclei), *sizes)


def summarise(images: Sequence[Measured]) -> Numbers:
    """Numbers of one or more images."""
    pixels = np.array([image.pixels for image in images], np.float64)
    weights = (pixels / pixels.sum())[:, None]
    means, stds = np.array([image.mean for image in images]), np.array([image.std for image in images])
    mean = (weights * means).sum(axis=0)
    # The variance over all pixels is that within images and that between their means.
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(axis=0)
    counts = [image.nuclei.ids.size for image in images]
    return Numbers(
        **vars(count_class(images)),
        images=len(images),
        heights=_low_median_high([image.shape[0] for image in images]),
        widths=_low_median_high([image.shape[1] for image in images]),
        nuclei_per_image=(min(counts), float(np.median(counts)), float(np.mean(counts)), max(counts)),
        nucleus_share=sum(int(image.nuclei.areas.sum()) for image in images) / pixels.sum(),
        ignored_share=sum(image.ignored for image in images) / pixels.sum(),
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(variance).tolist()),
        mpp=tuple(sorted({image.mpp for image in images}, key=lambda mpp: mpp or 0.0)),
    )


def _low_median_high(values: Sequence[int]) -> Triple:
    return min(values), float(np.median(values)), max(values)


def _percentiles(values: NDArray[np.float64]) -> Triple | None:
    return tuple(np.percentile(values, PERCENTILES).tolist()) if values.size else None

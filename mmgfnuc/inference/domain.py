"""What the training images look like, in a few numbers, and how an image differs from them.

A model answers on every image. These numbers tell the images that it was not made for: glass without tissue,
fluorescence, brown stains, photographs, and what is out of focus.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.pixel_size import is_mpp
from mmgfnuc.errors import UserError

# Sharpness is looked at in pixels of twice the size of those of the training images. The finest detail of a 40x scan is
# blur of the optics and noise of the camera, in images that are in focus as in others.
REDUCTION = 0.5
# Colours are looked at in pixels of yet twice that size, where noise is averaged out.
COLOUR_REDUCTION = 0.5
# Of a large image, that many windows in each direction are looked at, of that many pixels a side.
WINDOWS, WINDOW = 8, 128
# Of the training images, so that a few odd ones do not widen the range.
PERCENTILES = (1, 99)
# A pixel of which no channel is brighter is nearly black.
NEARLY_BLACK = 50
# Where colour is weaker (optical density, base 10), its hue is noise.
WEAK_COLOUR = 0.04
# A density that anyone sees: a fifth of the light is absorbed. Where there is as much, an image is not blank.
VISIBLE = 0.1
# Of an optical density of which more is colour, no one says that it is grey.
GREYISH = 0.15
# Hues are degrees from the purple between hematoxylin (-24) and eosin (32); blood is at 74, DAB at 114.
PURPLE = 90
BROWN_HUES, STAIN_HUES = (90, 150), (-80, 150)


@dataclass(frozen=True)
class Statistics:
    """Numbers of one image.

    Attributes:
        darkness: share of the pixels that are nearly black.
        contrast: how dense the densest parts are (99.5th percentile of the optical density), against its brightest.
        colour: of the optical density, how much is colour and not grey.
        hue: of the middle of the colour, degrees from purple; blue is negative, red and brown are positive.
        brown: share of the colour that is brown.
        foreign: share of the colour that no usual stain has: green, cyan, yellow.
        sharpness: amplitude of details of about 1.5 pixels (of training, reduced) over those of about 3.
    """

    darkness: float
    contrast: float
    colour: float
    hue: float
    brown: float
    foreign: float
    sharpness: float


STATISTICS = tuple(field.name for field in fields(Statistics))

DARK = 'mostly black, as in fluorescence or dark field'
BLANK = 'blank: next to nothing is stained'
GREY = 'grey, without the colours of H&E, as in fluorescence, phase contrast or a grey photograph'
BROWN = 'brown, as in immunohistochemistry (DAB), of pigment, or in a photograph'
FOREIGN = 'colours that H&E does not have, as of another stain, of ink, or in a photograph'
BLURRED = 'out of focus'


@dataclass(frozen=True)
class _Rule:
    """How far beyond the range of the training images a number may lie, and the reason to give where it lies further.

    The distances are wider than what an organ of NuInsSeg differs from the 15 others.
    """

    statistic: str
    reason: str
    below: Callable[[float], float] = lambda _: -math.inf
    above: Callable[[float], float] = lambda _: math.inf

    def warning(self, seen: Statistics, low: float, high: float) -> str | None:
        value = getattr(seen, self.statistic)
        if self.below(low) <= value <= self.above(high):
            return None
        return f'{self.reason} ({self.statistic} {value:.2g}; training images {low:.2g} to {high:.2g})'


# Nothing more can be said of an image that fails one of these.
FIRST = (
    _Rule('darkness', DARK, above=lambda high: high + 0.25),
    _Rule('contrast', BLANK, below=lambda low: min(low / 2, VISIBLE)),
)
# Only the first that fails is said.
COLOURS = (
    _Rule('colour', GREY, below=lambda low: min(low * 0.8, GREYISH)),
    _Rule('brown', BROWN, above=lambda high: high + 0.1),
    _Rule('foreign', FOREIGN, above=lambda high: high + 0.2),
    _Rule('hue', FOREIGN, below=lambda low: low - 15, above=lambda high: high + 15),
)
FOCUS = (_Rule('sharpness', BLURRED, below=lambda low: low * 0.98),)


@dataclass(frozen=True)
class TrainingDomain:
    """The images that a model was trained on, as plain numbers.

    Attributes:
        mpp: micrometres per pixel of these images, None where unknown.
        ranges: of each of STATISTICS, its 1st and 99th percentile over the images.
    """

    mpp: float | None
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, images: Iterable[RGBImage], mpp: float | None) -> 'TrainingDomain':
        """Measure training images, one at a time.

        Args:
            images: as the files hold them, before stains are normalised.
            mpp: micrometres per pixel, None where unknown.

        Shape:
            each (H, W, 3), uint8 RGB

        Raises:
            UserError: there is none.
        """
        seen = [measure(image, REDUCTION) for image in images]
        if not seen:
            raise UserError('no training image to measure; name a data set that holds images')
        ranges = {name: np.percentile([getattr(each, name) for each in seen], PERCENTILES) for name in STATISTICS}
        return cls(mpp, {name: _range(limits) for name, limits in ranges.items()})

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers as they stand in the config.json of a ready model."""
        return {'mpp': self.mpp, 'ranges': {name: list(limits) for name, limits in self.ranges.items()}}

    @classmethod
    def from_dict(cls, data: Any, where: str = 'domain') -> 'TrainingDomain':
        """Read what `to_dict` gives.

        Args:
            data: of a file, so of any type.
            where: it stands, for the error.

        Raises:
            UserError: a number is missing, too many, or none.
        """
        match data:
            case {'mpp': mpp, 'ranges': {**ranges}, **others} if not others and (mpp is None or is_mpp(mpp)):
                if ranges.keys() == {*STATISTICS} and all(map(_is_range, ranges.values())):
                    return cls(mpp, {name: _range(ranges[name]) for name in STATISTICS})
        raise UserError(
            f'{where}: not the numbers of training images, which are mpp and, in ranges, a lowest and a highest number '
            f'for each of {", ".join(STATISTICS)}; make the model anew with mmgfnuc publish'
        )

    def warnings(self, image: RGBImage, mpp: float | None) -> list[str]:
        """Say in what an image is unlike the training images: a line for each reason, none for an image like them.

        Args:
            image: as given, before stains are normalised.
            mpp: micrometres per pixel; where unknown, those of the training images are taken.

        Shape:
            image (H, W, 3), uint8 RGB
        """
        coarser = mpp / self.mpp if mpp is not None and self.mpp is not None else 1.0
        # Not enlarged: that would be blur.
        seen = measure(image, min(1.0, REDUCTION * coarser))
        first = self._failed(FIRST, seen)
        return first[:1] or [*self._failed(COLOURS, seen)[:1], *self._failed(FOCUS, seen)]

    def _failed(self, rules: Iterable[_Rule], seen: Statistics) -> list[str]:
        warnings = (rule.warning(seen, *self.ranges[rule.statistic]) for rule in rules)
        return [warning for warning in warnings if warning]


def _range(limits: Any) -> tuple[float, float]:
    low, high = limits
    return float(low), float(high)


def _is_range(value: Any) -> bool:
    match value:
        case [int() | float() as low, int() | float() as high]:
            return not isinstance(low, bool) and not isinstance(high, bool) and -math.inf < low <= high < math.inf
    return False


def measure(image: RGBImage, reduction: float) -> Statistics:
    """Measure an image that is scaled to `reduction` of its size first.

    Shape:
        image (H, W, 3), uint8 RGB
    """
    windows = [window.astype(np.float32) for window in _windows(image, reduction)]
    # Channels first, in memory too: NumPy is slow along a last axis of three.
    small = np.concatenate([_reduced(window, COLOUR_REDUCTION).reshape(-1, 3) for window in windows]).T.copy()
    light = np.maximum(np.percentile(small, 99, axis=1), 1).astype(np.float32)[:, None]
    density = np.log10(light / np.clip(small, 1, light))
    strength, hue = _colours(density)
    total = max(float(density.sum()), 1e-6)
    hues = np.bincount(hue, np.where(strength < WEAK_COLOUR, 0, strength), minlength=360)
    shares = hues / max(hues.sum(), 1e-6)
    return Statistics(
        darkness=float((small.max(axis=0) < NEARLY_BLACK).mean()),
        contrast=float(np.percentile(density.mean(axis=0), 99.5)),
        colour=float(strength.sum()) / total,
        hue=float(np.searchsorted(shares.cumsum(), 0.5) - 180) if hues.any() else 0.0,
        brown=_share(shares, *BROWN_HUES),
        foreign=1 - _share(shares, *STAIN_HUES) if hues.any() else 0.0,
        sharpness=_sharpness(windows),
    )


def _windows(image: RGBImage, reduction: float) -> Iterator[RGBImage]:
    """Give reduced parts of an image, all of one size: the whole of a small one, some of all regions of a large one."""
    rows, columns = (_places(side, round(WINDOW / reduction)) for side in image.shape[:2])
    return (_reduced(image[row, column], reduction) for row in rows for column in columns)


def _places(side: int, window: int) -> list[slice]:
    window = min(side, window)
    count = min(WINDOWS, math.ceil(side / window))
    return [slice(start, start + window) for start in np.linspace(0, side - window, count).astype(int).tolist()]


def _reduced(image: NDArray, factor: float) -> NDArray:
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _colours(density: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Strength of colour, and its hue: degrees from purple, plus 180.

    Both are polar coordinates around grey, as in the colour space HSI, of optical density in the place of light: hue is
    that of the stain, however much of it there is. Source: van der Laak et al. 2000, "Hue-saturation-density (HSD)
    model for stain recognition in digital images from transmitted light microscopy".

    Shape:
        density (3, N); both returned (N,)
    """
    red, green, blue = density
    strength, degrees = cv2.cartToPolar(
        red - (green + blue) / 2, math.sqrt(3) / 2 * (green - blue), angleInDegrees=True
    )
    return strength.ravel(), np.floor(degrees.ravel() - PURPLE + 180).astype(np.intp) % 360


def _share(shares: NDArray[np.float64], low: int, high: int) -> float:
    return float(shares[low + 180 : high + 180].sum())


def _sharpness(windows: list[NDArray[np.float32]]) -> float:
    """Amplitude of fine detail over that of the next coarser octave: the same however strong the staining is."""
    grey = np.dstack([cv2.transform(window, np.full((1, 3), 1 / 3)) for window in windows])
    # OpenCV filters each channel by itself.
    fine, middle, coarse = (cv2.GaussianBlur(grey, (6 * sigma + 1,) * 2, sigma) for sigma in (1, 2, 4))
    return math.sqrt(np.square(fine - middle).mean() / max(float(np.square(middle - coarse).mean()), 1e-6))

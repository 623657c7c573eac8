"""Changes of place: the image and all its maps move together."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS

# Maps of a sample, and what they hold beyond its edges. `type_map` is there with nucleus types.
MAPS = {'instance_map': 0, 'ignore_map': True, 'type_map': 0}
# Types of OpenCV by their bytes.
MOVABLE = {1: np.uint8, 2: np.uint16, 4: np.float32}
TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


def _maps(results: dict[str, Any]) -> list[str]:
    made = [key for key in results if key.startswith('gt_')]
    if made:
        raise UserError(f'{made[0]} is made before a change of place; put its transform right before PackNucleiInputs')
    return [key for key in MAPS if key in results]


@TRANSFORMS.register_module()
class RandomOrientation(BaseTransform):
    """One of the eight orientations of a rectangle (four quarter turns, each mirrored or not), equally likely.

    No pixel is interpolated. Height and width change places in half of the draws, so put it after the crop to a
    square where images are batched.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn the image and its maps."""
        mirrored, turns = divmod(int(results['rng'].integers(8)), 4)
        for key in ('img', *_maps(results)):
            results[key] = _turn(results[key], TURNS[turns], bool(mirrored))
        return results


@TRANSFORMS.register_module()
class Rescale(BaseTransform):
    """Bring a sample to the resolution that a model works at: the image by area, the maps by the nearest pixel.

    `mpp`, where known, is divided by the factor.

    Shape:
        - img and maps: (H, W) to (round(factor H), round(factor W))

    Args:
        factor: New size over old; at most 1, since area averaging is for making things smaller.

    Raises:
        UserError: A factor outside (0, 1].
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor <= 1:
            raise UserError(f'factor={factor}: give a factor above 0 and at most 1')
        self.factor = factor

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize the image and its maps; correct `mpp`."""
        height, width = (max(round(self.factor * side), 1) for side in results['instance_map'].shape)
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.intp)
            for new, old in zip((height, width), results['instance_map'].shape, strict=True)
        )
        results['img'] = cv2.resize(results['img'], (width, height), interpolation=cv2.INTER_AREA)
        for key in _maps(results):
            results[key] = results[key].take(rows, axis=0).take(columns, axis=1)
        if results['mpp'] is not None:
            results['mpp'] /= self.factor
        return results


@dataclass(frozen=True)
class ElasticField:
    """Smooth random displacements: white noise under a Gaussian of `sigma` pixels, scaled to a deviation of `alpha`.

    Attributes:
        alpha: Standard deviation of the displacement along each axis, in pixels of the crop.
        sigma: Standard deviation of the smoothing Gaussian, in pixels of the crop.
        prob: Share of the samples that are displaced.

    Raises:
        UserError: `alpha` above `sigma` / 4: the slope of the field has the deviation alpha / (sqrt(2) sigma), and
            where it passes 1 the tissue folds over itself.

    Source: Simard, Steinkraus, Platt, ICDAR 2003, section 2.
    """

    alpha: float
    sigma: float
    prob: float = 1.0

    def __post_init__(self) -> None:
        _check_prob(self.prob)
        if not 0 <= 4 * self.alpha <= self.sigma:
            raise UserError(
                f'elastic alpha={self.alpha}, sigma={self.sigma}: alpha must lie between 0 and sigma / 4, '
                f'or the tissue folds; take sigma={4 * abs(self.alpha):g} or more'
            )

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Displacements (x, y) of a square of `size` pixels, zero where this sample is spared.

        Shape:
            - returns: (size, size, 2), float32
        """
        if rng.random() >= self.prob or self.alpha == 0:
            return np.zeros((size, size, 2), np.float32)
        # Nothing in the field is finer than sigma: two cells per sigma hold it at a fraction of the work.
        cells, margin = math.ceil(2 * size / self.sigma), 6
        noise = rng.standard_normal((cells + 2 * margin, cells + 2 * margin, 2), dtype=np.float32)
        # The blur sums w_i n_i with sum w_i^2 = 1 / (4 pi s^2) for s = 2 cells.
        field = cv2.GaussianBlur(noise, (2 * margin + 1, 2 * margin + 1), 2) * (self.alpha * 4 * math.sqrt(math.pi))
        return cv2.resize(field[margin:-margin, margin:-margin], (size, size), interpolation=cv2.INTER_CUBIC)


@TRANSFORMS.register_module()
class RandomWarpCrop(BaseTransform):
    """A square crop at a random place, rotated, scaled and elastically deformed, with a single interpolation.

    Pixel q of the crop shows the point p of the source,

        p = c + R(angle) (q + d(q) - m) / s,     m = ((size - 1) / 2, (size - 1) / 2),

    with the centre c, the magnification s (log-uniform) and the displacement d. The image is interpolated linearly,
    mirrored beyond its edges; the maps take the nearest pixel. Beyond the edges instance and type map are 0 and the
    ignore map True, so that mirrored tissue is never learnt. Without rotation, scaling and deformation the crop is an
    exact copy. `mpp`, where known, is divided by s.

    c is drawn where the crop lies inside the source; along an axis that is too short for this, the crop is centred,
    which covers most tissue.

    Shape:
        - img: (H, W, 3) to (size, size, 3)
        - maps: (H, W) to (size, size)

    Args:
        size: Edge of the crop, in pixels.
        rotation: Lowest and highest angle, in degrees.
        scale: Lowest and highest magnification; 2 shows nuclei at twice their size.
        prob: Share of the samples that are rotated and scaled; the others are only cropped (and deformed).
        elastic: `alpha`, `sigma` (both in pixels) and `prob` of `ElasticField`; None deforms nothing.

    Raises:
        UserError: A range or a probability that cannot be.
    """

    def __init__(
        self,
        size: int,
        rotation: tuple[float, float] = (-180.0, 180.0),
        scale: tuple[float, float] = (0.8, 1.25),
        prob: float = 1.0,
        elastic: dict[str, float] | None = None,
    ) -> None:
        if size < 1:
            raise UserError(f'size={size}: a crop has at least 1 pixel')
        if rotation[0] > rotation[1]:
            raise UserError(f'rotation={rotation}: the lower angle comes first')
        if not 0 < scale[0] <= scale[1]:
            raise UserError(f'scale={scale}: magnifications are positive, the lower one first; 1 changes nothing')
        _check_prob(prob)
        self.size = size
        self.rotation = rotation
        self.scale = scale
        self.prob = prob
        self.elastic = None if elastic is None else ElasticField(**elastic)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop and warp the image and its maps; correct `mpp`."""
        rng: np.random.Generator = results['rng']
        angle, scale = 0.0, 1.0
        if rng.random() < self.prob:
            angle = math.radians(rng.uniform(*self.rotation))
            scale = math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        x, y = self._source_points(rng, results['instance_map'].shape, angle, scale)

        results['img'] = cv2.remap(results['img'], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for key in _maps(results):
            results[key] = _take_nearest(results[key], x, y, outside=MAPS[key])
        if results['mpp'] is not None:
            results['mpp'] /= scale
        return results

    def _source_points(
        self, rng: np.random.Generator, shape: tuple[int, int], angle: float, scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Source coordinates x and y of every pixel of the crop, two (size, size) float32 arrays."""
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        footprint = self.size * (abs(cos) + abs(sin))
        centre_y, centre_x = (_draw_centre(rng, length, footprint) for length in shape)

        steps = np.arange(self.size, dtype=np.float32) - np.float32((self.size - 1) / 2)
        right, down = steps[None, :], steps[:, None]
        if self.elastic is not None:
            displacement = self.elastic.draw(rng, self.size)
            right, down = right + displacement[..., 0], down + displacement[..., 1]
        x = centre_x + cos * right - sin * down
        y = centre_y + sin * right + cos * down
        return x.astype(np.float32), y.astype(np.float32)


def _turn(array: np.ndarray, turn: int | None, mirrored: bool) -> np.ndarray:
    bits = array.view(np.uint8) if array.dtype == bool else array
    turned = bits if turn is None else cv2.rotate(bits, turn)
    return (cv2.flip(turned, 1) if mirrored else turned).view(array.dtype)


def _draw_centre(rng: np.random.Generator, length: int, footprint: float) -> float:
    """Centre of a crop that spans `footprint` of an axis of `length` pixels."""
    # Whole steps from the edge: without rotation and scaling, pixels of the crop fall on pixels of the source.
    # The tolerance absorbs the rounding of sine and cosine: a half turn spans no more than the crop.
    room = math.floor(length - footprint + 1e-6)
    offset = int(rng.integers(room + 1)) if room > 0 else room // 2
    return footprint / 2 - 0.5 + offset


def _take_nearest(source: np.ndarray, x: np.ndarray, y: np.ndarray, outside: int) -> np.ndarray:
    """`source` at the pixels nearest to (x, y), `outside` beyond its edges; exact for any type of 1, 2 or 4 bytes."""
    # OpenCV moves no integers of 4 bytes and no bools; without interpolation bits of any meaning do.
    bits = source.view(MOVABLE[source.itemsize])
    border = float(np.array(outside, source.dtype).view(bits.dtype))
    taken = cv2.remap(bits, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    return taken.view(source.dtype)


def _check_prob(prob: float) -> None:
    if not 0 <= prob <= 1:
        raise UserError(f'prob={prob}: a probability lies between 0 and 1')

"""The tissue around the nuclei: epithelium, stroma and dark distractors, as concentrations of stain."""

import math
from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

import cv2
import numpy as np

HEMATOXYLIN, EOSIN, ERYTHROCYTE, PIGMENT = range(4)


class Shape(NamedTuple):
    """Range of the axis ratio, and how far the contour departs from an ellipse."""

    aspect: tuple[float, float]
    roughness: float


_DISC, _GRAIN = Shape((1.0, 1.3), 0.02), Shape((1.0, 2.2), 0.12)


@dataclass
class Tissue:
    """The tissue while it is drawn: the four concentrations, what lies where, the architecture that guides it."""

    stains: np.ndarray
    instances: np.ndarray
    types: np.ndarray
    blocked: np.ndarray
    epithelium: np.ndarray
    clumps: np.ndarray
    fibre_angle: float

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.instances.shape[0]


class Blob(NamedTuple):
    """A star-shaped outline on the window around it: `rho` is 0 at the centre and 1 on the contour."""

    window: tuple[EllipsisType, slice, slice]
    rho: np.ndarray
    coverage: np.ndarray
    inside: np.ndarray


def lay_tissue(rng: np.random.Generator, size: int) -> Tissue:
    """Epithelium and stroma with their eosin texture, basophilic haze, lumina and the clefts between fibres."""
    angle = rng.uniform(0.0, math.pi)
    fibres = _fibres(rng, size, angle)
    epithelium = step(noise(rng, size, 70), rng.uniform(-0.8, 1.0), 0.15)
    lumen = step(noise(rng, size, 45) + 0.12 * noise(rng, size, 9), rng.uniform(1.3, 2.8), 0.06)
    cleft = (1.0 - epithelium) * step(-fibres, rng.uniform(1.8, 2.8), 0.15)
    solid = (1.0 - lumen) * (1.0 - 0.9 * cleft)

    cytoplasm = 0.24 + 0.035 * noise(rng, size, 4) + 0.04 * noise(rng, size, 20)
    collagen = 0.27 + 0.05 * fibres + 0.035 * noise(rng, size, 18)
    eosin = np.clip(epithelium * cytoplasm + (1.0 - epithelium) * collagen, 0.03, None)
    haze = np.clip(noise(rng, size, 60), 0.0, 1.8) * rng.uniform(0.08, 0.24)
    hematoxylin = 0.03 + 0.07 * epithelium + haze * (1.0 + 0.1 * fibres)
    empty = np.zeros_like(eosin)
    stains = np.stack([hematoxylin * solid, eosin * solid, empty, empty])
    return Tissue(
        stains,
        instances=np.zeros((size, size), np.int32),
        types=np.zeros((size, size), np.uint8),
        blocked=lumen > 0.5,
        epithelium=epithelium,
        clumps=noise(rng, size, 2.6),
        fibre_angle=angle,
    )


def draw_erythrocytes(rng: np.random.Generator, tissue: Tissue) -> None:
    """Groups of red blood cells: discs of about 7 micrometres, paler in the middle."""
    for _ in range(poisson(rng, 1.6, tissue.size)):
        middle = rng.uniform(0, tissue.size, 2)
        for _ in range(rng.integers(3, 22)):
            centre = middle + rng.normal(0.0, 17.0, 2)
            blob = outline(rng, tissue.size, centre, rng.uniform(5.0, 6.8), _DISC)
            if blob is not None:
                stain = rng.uniform(0.45, 0.95) * (1.0 - 0.35 * np.exp(-((blob.rho / 0.45) ** 2)))
                cover(tissue.stains[ERYTHROCYTE], blob, stain)
                tissue.stains[: EOSIN + 1][blob.window] *= 1.0 - 0.8 * blob.coverage
                tissue.blocked[blob.window] |= blob.inside


def draw_pigment(rng: np.random.Generator, tissue: Tissue) -> None:
    """Brown-black debris: smudges as large as a nucleus, and sprays of granules."""
    size = tissue.size
    grains = [(rng.uniform(0, size, 2), rng.uniform(4.0, 9.0)) for _ in range(poisson(rng, 5.0, size))]
    for _ in range(poisson(rng, 1.8, size)):
        middle = rng.uniform(0, size, 2)
        grains += [(middle + rng.normal(0.0, 9.0, 2), rng.uniform(0.9, 2.6)) for _ in range(rng.integers(4, 22))]
    for centre, radius in grains:
        blob = outline(rng, size, centre, radius, _GRAIN)
        if blob is not None:
            cover(tissue.stains[PIGMENT], blob, rng.uniform(0.5, 1.1) * (1.0 + 0.15 * tissue.clumps[blob.window]))
            tissue.blocked[blob.window] |= blob.inside


def outline(
    rng: np.random.Generator, size: int, centre: np.ndarray, radius: float, shape: Shape, angle: float | None = None
) -> Blob | None:
    """Ellipse of mean `radius` (row, column `centre`) with a smoothly perturbed contour; None when outside the tile.

    In units of the ellipse the contour is 1 + sum over k = 2..5 of a_k cos(k theta + phase_k), with a_k ~ 1 / k.
    """
    angle = rng.uniform(0.0, math.pi) if angle is None else angle
    aspect = rng.uniform(*shape.aspect)
    major, minor = radius * math.sqrt(aspect), radius / math.sqrt(aspect)
    reach = 1.4 * major + 2.0
    top, left = np.maximum(np.floor(centre - reach), 0).astype(int)
    bottom, right = np.minimum(np.ceil(centre + reach) + 1, size).astype(int)
    if top >= bottom or left >= right:
        return None
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - centre[0]
    columns = np.arange(left, right, dtype=np.float32)[None, :] - centre[1]
    u = (math.cos(angle) * columns + math.sin(angle) * rows) / major
    v = (-math.sin(angle) * columns + math.cos(angle) * rows) / minor
    theta = np.arctan2(v, u)
    contour = np.ones_like(theta)
    for k in range(2, 6):
        contour += rng.normal(0.0, 2.0 * shape.roughness / k) * np.cos(k * theta + rng.uniform(0.0, 2.0 * math.pi))
    rho = np.hypot(u, v) / np.clip(contour, 0.6, 1.35)
    coverage = np.clip((1.0 - rho) * minor + 0.5, 0.0, 1.0)
    return Blob((..., slice(top, bottom), slice(left, right)), rho, coverage, rho <= 1.0)


def cover(stain_map: np.ndarray, blob: Blob, stain: np.ndarray) -> None:
    """Replace a concentration under a blob by `stain`, mixed along the contour by how much of a pixel it covers."""
    stain_map[blob.window] += blob.coverage * (stain - stain_map[blob.window])


def poisson(rng: np.random.Generator, mean_per_256: float, size: int) -> int:
    """Number of objects on a tile when a 256 x 256 one holds `mean_per_256` on average."""
    return int(rng.poisson(mean_per_256 * (size / 256) ** 2))


def noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Smooth random field of zero mean and unit variance: a cubic B-spline surface over knots `scale` pixels apart."""
    knots = math.ceil(size / scale) + 4
    position = np.arange(size) / scale + rng.uniform(1.0, 2.0, (2, 1))
    distance = np.abs(position[..., None] - np.arange(knots))
    near, far = 2.0 / 3.0 - distance**2 + distance**3 / 2.0, np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    rows, columns = np.where(distance < 1.0, near, far).astype(np.float32)
    field = rows @ rng.standard_normal((knots, knots), np.float32) @ columns.T
    return (field - field.mean()) / field.std()


def step(field: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """Smooth 0-to-1 step of a field at a threshold."""
    return 0.5 + 0.5 * np.tanh((field - threshold) / (2.0 * softness))


def _fibres(rng: np.random.Generator, size: int, angle: float) -> np.ndarray:
    """Wavy collagen fibres along `angle` (zero mean, unit variance): streaked noise on a rotated and bent grid."""
    streaks = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), sigmaX=9.0, sigmaY=1.2)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    along = math.cos(angle) * columns + math.sin(angle) * rows
    across = -math.sin(angle) * columns + math.cos(angle) * rows + 5.0 * noise(rng, size, 55)
    grid = along.astype(np.float32), across.astype(np.float32)
    field = cv2.remap(streaks, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return (field - field.mean()) / field.std()

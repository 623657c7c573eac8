"""Synthetic H&E tiles with exact instance maps: stain concentrations are drawn, light absorption makes the colours.

Four maps of stain concentration c (hematoxylin, eosin, erythrocyte, pigment) become light by Beer-Lambert absorption,
in base 10 and per colour channel: I = I0 * 10 ** -(c_H v_H + c_E v_E + c_R v_R + c_P v_P). I0 is the unevenly lit white
field, v the unit stain vectors; focus blur and sensor noise follow. Hue, texture and shape tell nuclei from the dark
distractors (erythrocytes, pigment, basophilic haze), darkness alone does not: no global threshold segments them.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple

import cv2
import numpy as np
from skimage.measure import label as label_regions
from tqdm import tqdm

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.staging import staged_dataset
from mmgfnuc.errors import UserError

Tile = tuple[np.ndarray, np.ndarray]

NAME = 'synthetic'
MPP = 0.5
MIN_SIZE = 64
MIN_AREA = 20

_HEMATOXYLIN, _EOSIN, _ERYTHROCYTE, _PIGMENT = range(4)
# Rows: hematoxylin, eosin, erythrocyte (eosin and haemoglobin), pigment (haemosiderin, formalin, carbon). Slides lie
# between the hematoxylin and eosin of Ruifrok & Johnston 2001 and the redder pair usual since Macenko et al. 2009.
_RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.21, 0.78, 0.59], [0.52, 0.58, 0.63]])
_MACENKO = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581], [0.27, 0.73, 0.63], [0.52, 0.58, 0.63]])
# Each slide is stained in its own way, and no slide serves two parts.
_SLIDES = {'train': [f'slide_{i:02d}' for i in range(12)], 'val': [f'slide_{i:02d}' for i in range(12, 16)]}
_STYLE_STREAM, _TILE_STREAM = 0, 1


class _Shape(NamedTuple):
    """Range of the axis ratio, and how far the contour departs from an ellipse."""

    aspect: tuple[float, float]
    roughness: float


class _Kind(NamedTuple):
    """What a kind of nucleus looks like; ranges are uniform, radii in pixels, stain in units of optical density."""

    radius: tuple[float, float]
    shape: _Shape
    stain: tuple[float, float]
    clumps: float
    rim: float
    max_nucleoli: int
    halo: float


_EPITHELIAL = _Kind((6.5, 10.0), _Shape((1.0, 1.6), 0.035), (0.36, 0.66), 0.22, 0.25, 1, 0.25)
_VESICULAR = _Kind((7.5, 12.0), _Shape((1.0, 1.4), 0.025), (0.17, 0.32), 0.28, 0.85, 2, 0.15)
_LYMPHOID = _Kind((4.8, 6.5), _Shape((1.0, 1.25), 0.030), (0.70, 1.05), 0.25, 0.10, 0, 0.20)
_STROMAL = _Kind((4.5, 6.5), _Shape((2.0, 3.8), 0.045), (0.35, 0.80), 0.18, 0.05, 0, 0.05)
_DEEP_STAINED = _Kind((7.0, 11.0), _Shape((1.0, 1.7), 0.060), (0.80, 1.10), 0.20, 0.05, 0, 0.20)
_DISC, _GRAIN = _Shape((1.0, 1.3), 0.02), _Shape((1.0, 2.2), 0.12)
_KINDS = (_EPITHELIAL, _VESICULAR, _LYMPHOID, _STROMAL, _DEEP_STAINED)
_EPITHELIUM_SHARES = np.array([0.40, 0.46, 0.07, 0.0, 0.07])
_STROMA_SHARES = np.array([0.08, 0.18, 0.25, 0.45, 0.04])


@dataclass(frozen=True)
class StainStyle:
    """How one slide was stained and scanned.

    `vectors` are the four unit stain vectors, `strength` the factor on each stain, `white` the colour of the empty
    glass, `defocus` the largest focus blur (standard deviation, pixels), `noise` the sensor noise (grey levels).

    Shape:
        - vectors: (4, 3), RGB; strength: (4,); white: (3,), RGB.
    """

    vectors: np.ndarray
    strength: np.ndarray
    white: np.ndarray
    defocus: float
    noise: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> 'StainStyle':
        """Draw a slide: stain hues between and around the references, weak or strong staining, a tinted lamp."""
        vectors = _RUIFROK + rng.uniform(0.2, 0.7) * (_MACENKO - _RUIFROK)
        vectors = np.clip(vectors + rng.normal(0.0, 0.025, vectors.shape), 0.02, None)
        return cls(
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            strength=rng.uniform([0.8, 0.75, 0.85, 0.9], [1.2, 1.35, 1.15, 1.1]),
            white=rng.uniform(232.0, 248.0) + rng.uniform(-5.0, 5.0, 3),
            defocus=rng.uniform(1.0, 1.9),
            noise=rng.uniform(1.5, 3.5),
        )


@dataclass
class _Slice:
    """The tissue while it is drawn: the four concentrations, what lies where, the architecture that guides it."""

    stains: np.ndarray
    instances: np.ndarray
    blocked: np.ndarray
    epithelium: np.ndarray
    clumps: np.ndarray
    fibre_angle: float

    @property
    def size(self) -> int:
        return self.instances.shape[0]


class _Blob(NamedTuple):
    """A star-shaped outline on the window around it: `rho` is 0 at the centre and 1 on the contour."""

    window: tuple[EllipsisType, slice, slice]
    rho: np.ndarray
    coverage: np.ndarray
    inside: np.ndarray


def render_tile(rng: np.random.Generator, size: int = 256, style: StainStyle | None = None) -> Tile:
    """Render one tile and its exact instance map; without a `style` the tile draws its own.

    Where nuclei overlap, the one drawn later owns the pixels. A nucleus cut into pieces keeps the largest, remains
    below 20 pixels are dropped, and the ids left run from 1 without gaps. One pixel stands for 0.5 micrometres.
    A size below 64 pixels is a UserError.

    Shape:
        - returns: image (size, size, 3), uint8 RGB; instances (size, size), int32, each id 4-connected.

    Source: absorption and stain vectors: Ruifrok & Johnston 2001, Macenko et al. 2009; tissue model and code: own.
    """
    if size < MIN_SIZE:
        raise UserError(f'size={size} is too small for a tile of tissue; use at least {MIN_SIZE} pixels')
    style = style or StainStyle.sample(rng)
    tissue = _lay_tissue(rng, size)
    _draw_erythrocytes(rng, tissue)
    _draw_pigment(rng, tissue)
    _draw_nuclei(rng, tissue)
    return _scan(rng, tissue, style), _tidy_instances(tissue.instances)


def dataset_tile(seed: int, part: str, index: int, size: int = 256) -> tuple[np.ndarray, np.ndarray, str]:
    """Render tile `index` of a part ('train' or 'val'): image and instances as `render_tile`, and the slide it is of.

    The tile depends on the arguments only, never on how many tiles a data set holds.
    """
    part_key = list(_SLIDES).index(part)
    slide = index % len(_SLIDES[part])
    style_rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part_key, _STYLE_STREAM, slide)))
    tile_rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part_key, _TILE_STREAM, index)))
    image, instances = render_tile(tile_rng, size, StainStyle.sample(style_rng))
    return image, instances, _SLIDES[part][slide]


def write_dataset(root: str | Path, *, num_train: int, num_val: int, size: int, seed: int) -> None:
    """Write a data set in the canonical form, with the split `default` (train, val) and one group per slide.

    It is built beside `root` and moved into place when complete, so an interrupted run leaves no half data set. An
    earlier synthetic data set at `root` is replaced. UserError when a part would be empty, the seed is negative, the
    size too small, or `root` holds anything else.
    """
    if min(num_train, num_val) < 1:
        raise UserError(f'num_train={num_train}, num_val={num_val}: each part needs at least one tile')
    if seed < 0:
        raise UserError(f'seed={seed} is negative; use a seed of 0 or more')
    with staged_dataset(root, NAME) as staging:
        parts: dict[str, list[str]] = {}
        images: dict[str, dict[str, str | float]] = {}
        for part, count in (('train', num_train), ('val', num_val)):
            parts[part] = [f'{part}_{index:04d}' for index in range(count)]
            for index, sample_id in enumerate(tqdm(parts[part], desc=f'synthetic H&E, {part}', unit='tile')):
                image, instances, slide = dataset_tile(seed, part, index, size)
                canonical.write_sample(staging, sample_id, image, instances)
                images[sample_id] = {'group': slide, 'mpp': MPP}
        meta = {'name': NAME, 'classes': canonical.CLASSES, 'licence': 'Apache-2.0 (generated)', 'images': images}
        meta['citation'] = 'none: no tissue was imaged'
        meta['source'] = f'synthetic: mmgfnuc.datasets.synthetic, seed {seed}, tiles of {size} pixels'
        canonical.write_meta(staging, meta)
        canonical.write_split(staging, 'default', parts)


def _noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Smooth random field of zero mean and unit variance: a cubic B-spline surface over knots `scale` pixels apart."""
    knots = math.ceil(size / scale) + 4
    position = np.arange(size) / scale + rng.uniform(1.0, 2.0, (2, 1))
    distance = np.abs(position[..., None] - np.arange(knots))
    near, far = 2.0 / 3.0 - distance**2 + distance**3 / 2.0, np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    rows, columns = np.where(distance < 1.0, near, far).astype(np.float32)
    field = rows @ rng.standard_normal((knots, knots), np.float32) @ columns.T
    return (field - field.mean()) / field.std()


def _step(field: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """Smooth 0-to-1 step of a field at a threshold."""
    return 0.5 + 0.5 * np.tanh((field - threshold) / (2.0 * softness))


def _fibres(rng: np.random.Generator, size: int, angle: float) -> np.ndarray:
    """Wavy collagen fibres along `angle` (zero mean, unit variance): streaked noise on a rotated and bent grid."""
    streaks = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), sigmaX=9.0, sigmaY=1.2)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    along = math.cos(angle) * columns + math.sin(angle) * rows
    across = -math.sin(angle) * columns + math.cos(angle) * rows + 5.0 * _noise(rng, size, 55)
    grid = along.astype(np.float32), across.astype(np.float32)
    field = cv2.remap(streaks, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return (field - field.mean()) / field.std()


def _lay_tissue(rng: np.random.Generator, size: int) -> _Slice:
    """Epithelium and stroma with their eosin texture, basophilic haze, lumina and the clefts between fibres."""
    angle = rng.uniform(0.0, math.pi)
    fibres = _fibres(rng, size, angle)
    epithelium = _step(_noise(rng, size, 70), rng.uniform(-0.8, 1.0), 0.15)
    lumen = _step(_noise(rng, size, 45) + 0.12 * _noise(rng, size, 9), rng.uniform(1.3, 2.8), 0.06)
    cleft = (1.0 - epithelium) * _step(-fibres, rng.uniform(1.8, 2.8), 0.15)
    solid = (1.0 - lumen) * (1.0 - 0.9 * cleft)

    cytoplasm = 0.24 + 0.035 * _noise(rng, size, 4) + 0.04 * _noise(rng, size, 20)
    collagen = 0.27 + 0.05 * fibres + 0.035 * _noise(rng, size, 18)
    eosin = np.clip(epithelium * cytoplasm + (1.0 - epithelium) * collagen, 0.03, None)
    haze = np.clip(_noise(rng, size, 60), 0.0, 1.8) * rng.uniform(0.08, 0.24)
    hematoxylin = 0.03 + 0.07 * epithelium + haze * (1.0 + 0.1 * fibres)
    empty = np.zeros_like(eosin)
    stains = np.stack([hematoxylin * solid, eosin * solid, empty, empty])
    instances = np.zeros((size, size), np.int32)
    return _Slice(stains, instances, lumen > 0.5, epithelium, clumps=_noise(rng, size, 2.6), fibre_angle=angle)


def _outline(
    rng: np.random.Generator, size: int, centre: np.ndarray, radius: float, shape: _Shape, angle: float | None = None
) -> _Blob | None:
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
    return _Blob((..., slice(top, bottom), slice(left, right)), rho, coverage, rho <= 1.0)


def _poisson(rng: np.random.Generator, mean_per_256: float, size: int) -> int:
    """Number of objects on a tile when a 256 x 256 one holds `mean_per_256` on average."""
    return int(rng.poisson(mean_per_256 * (size / 256) ** 2))


def _draw_erythrocytes(rng: np.random.Generator, tissue: _Slice) -> None:
    """Groups of red blood cells: discs of about 7 micrometres, paler in the middle."""
    for _ in range(_poisson(rng, 1.6, tissue.size)):
        middle = rng.uniform(0, tissue.size, 2)
        for _ in range(rng.integers(3, 22)):
            centre = middle + rng.normal(0.0, 17.0, 2)
            blob = _outline(rng, tissue.size, centre, rng.uniform(5.0, 6.8), _DISC)
            if blob is not None:
                stain = rng.uniform(0.45, 0.95) * (1.0 - 0.35 * np.exp(-((blob.rho / 0.45) ** 2)))
                _cover(tissue.stains[_ERYTHROCYTE], blob, stain)
                tissue.stains[: _EOSIN + 1][blob.window] *= 1.0 - 0.8 * blob.coverage
                tissue.blocked[blob.window] |= blob.inside


def _draw_pigment(rng: np.random.Generator, tissue: _Slice) -> None:
    """Brown-black debris: smudges as large as a nucleus, and sprays of granules."""
    size = tissue.size
    grains = [(rng.uniform(0, size, 2), rng.uniform(4.0, 9.0)) for _ in range(_poisson(rng, 5.0, size))]
    for _ in range(_poisson(rng, 1.8, size)):
        middle = rng.uniform(0, size, 2)
        grains += [(middle + rng.normal(0.0, 9.0, 2), rng.uniform(0.9, 2.6)) for _ in range(rng.integers(4, 22))]
    for centre, radius in grains:
        blob = _outline(rng, size, centre, radius, _GRAIN)
        if blob is not None:
            _cover(tissue.stains[_PIGMENT], blob, rng.uniform(0.5, 1.1) * (1.0 + 0.15 * tissue.clumps[blob.window]))
            tissue.blocked[blob.window] |= blob.inside


def _cover(stain_map: np.ndarray, blob: _Blob, stain: np.ndarray) -> None:
    """Replace a concentration under a blob by `stain`, mixed along the contour by how much of a pixel it covers."""
    stain_map[blob.window] += blob.coverage * (stain - stain_map[blob.window])


def _draw_nuclei(rng: np.random.Generator, tissue: _Slice) -> None:
    """Scatter nuclei, part of them against a neighbour, so that some touch and some overlap."""
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(_poisson(rng, rng.uniform(40.0, 115.0), tissue.size)):
        centre = rng.uniform(-3.0, tissue.size + 3.0, 2)
        row, column = np.clip(centre, 0, tissue.size - 1).astype(int)
        in_epithelium = rng.random() < tissue.epithelium[row, column]
        kind = _KINDS[rng.choice(len(_KINDS), p=_EPITHELIUM_SHARES if in_epithelium else _STROMA_SHARES)]
        radius = rng.uniform(*kind.radius)
        if placed and rng.random() < 0.4:
            neighbour, neighbour_radius = placed[rng.integers(len(placed))]
            direction = rng.uniform(0.0, 2.0 * math.pi)
            step = (radius + neighbour_radius) * rng.uniform(0.8, 1.05)
            centre = neighbour + step * np.array([math.sin(direction), math.cos(direction)])
        if _place_nucleus(rng, tissue, kind, centre, radius, len(placed) + 1):
            placed.append((centre, radius))


def _place_nucleus(
    rng: np.random.Generator, tissue: _Slice, kind: _Kind, centre: np.ndarray, radius: float, instance: int
) -> bool:
    """Draw a nucleus unless more than a quarter of it would cover something else; True when drawn."""
    angle = tissue.fibre_angle + rng.normal(0.0, 0.3) if kind is _STROMAL else None
    blob = _outline(rng, tissue.size, centre, radius, kind.shape, angle)
    if blob is None or not blob.inside.any():
        return False
    occupied = tissue.blocked[blob.window] | (tissue.instances[blob.window] > 0)
    if occupied[blob.inside].mean() > 0.25:
        return False
    # A nucleus fills part of the section's depth: half of what lies under it still absorbs.
    hematoxylin = tissue.stains[_HEMATOXYLIN]
    _cover(hematoxylin, blob, 0.5 * hematoxylin[blob.window] + _chromatin(rng, tissue, kind, blob))
    halo = kind.halo * np.exp(-(((blob.rho - 1.15) / 0.15) ** 2)) * (blob.rho > 1.0)
    tissue.stains[_EOSIN][blob.window] *= (1.0 - 0.3 * blob.coverage) * (1.0 - halo)
    tissue.stains[_ERYTHROCYTE:][blob.window] *= 1.0 - blob.coverage
    tissue.instances[blob.window][blob.inside] = instance
    return True


def _chromatin(rng: np.random.Generator, tissue: _Slice, kind: _Kind, blob: _Blob) -> np.ndarray:
    """Hematoxylin inside a nucleus: clumped chromatin, a denser membrane, nucleoli."""
    membrane = kind.rim * np.exp(-(((blob.rho - 0.93) / 0.13) ** 2))
    body = 1.0 + membrane + kind.clumps * tissue.clumps[blob.window]
    rows, columns = np.nonzero(blob.rho < 0.6)
    # A nucleus at the edge may have its middle outside the tile.
    for _ in range(rng.integers(0, kind.max_nucleoli + 1) if rows.size else 0):
        spot = rng.integers(rows.size)
        y, x = np.ogrid[: blob.rho.shape[0], : blob.rho.shape[1]]
        squared = (y - rows[spot]) ** 2 + (x - columns[spot]) ** 2
        body += rng.uniform(0.6, 1.2) * np.exp(-squared / (2.0 * rng.uniform(1.0, 1.6) ** 2))
    return rng.uniform(*kind.stain) * np.clip(body, 0.2, None)


def _scan(rng: np.random.Generator, tissue: _Slice, style: StainStyle) -> np.ndarray:
    """Light through the stained tissue: uneven staining and lighting, absorption, uneven focus, sensor noise."""
    size = tissue.size
    thickness = np.exp(rng.uniform(0.10, 0.35) * _noise(rng, size, 110))
    absorption = (style.strength[:, None] * style.vectors).astype(np.float32)
    density = np.tensordot(tissue.stains * thickness, absorption, axes=(0, 0))
    lamp = np.exp(rng.uniform(0.03, 0.12) * _noise(rng, size, 200))
    white = np.minimum(style.white.astype(np.float32) * lamp[..., None], 252.0)
    light = white * np.exp(-math.log(10.0) * density)

    sharp = cv2.GaussianBlur(light, (0, 0), 0.6)
    blurred = cv2.GaussianBlur(light, (0, 0), style.defocus)
    focus = _step(_noise(rng, size, 90), rng.uniform(-1.0, 1.0), 0.5)[..., None]
    image = focus * sharp + (1.0 - focus) * blurred
    image += style.noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _tidy_instances(instances: np.ndarray) -> np.ndarray:
    """Keep the largest 4-connected piece of each id, drop pieces below the smallest area, number the rest from 1."""
    pieces = label_regions(instances, background=0, connectivity=1)
    areas = np.bincount(pieces.ravel())
    owner = np.zeros(areas.size, np.int64)
    owner[pieces] = instances
    order = np.argsort(-areas, kind='stable')
    order = order[(owner[order] > 0) & (areas[order] >= MIN_AREA)]
    _, first = np.unique(owner[order], return_index=True)
    new_ids = np.zeros(areas.size, np.int32)
    new_ids[order[first]] = np.arange(1, first.size + 1)
    return new_ids[pieces]

"""The nuclei: what each kind looks like, where it lies, and the maps of instances and types."""

import math
from typing import NamedTuple

import numpy as np
from skimage.measure import label as label_regions

from .tissue import EOSIN, ERYTHROCYTE, HEMATOXYLIN, Blob, Shape, Tissue, cover, outline, poisson

MIN_AREA = 20
# Coarse types, as Graham et al. merge those of CoNSeP (HoVer-Net, 2019): they differ in size and shape. Fine, open
# (vesicular) and deep-stained chromatin are states of an epithelial nucleus, not types.
CLASSES = ['background', 'epithelial', 'lymphocyte', 'connective']
_EPITHELIAL_TYPE, _LYMPHOCYTE_TYPE, _CONNECTIVE_TYPE = range(1, len(CLASSES))


class _Kind(NamedTuple):
    """Type and looks of a kind of nucleus; ranges are uniform, radii in pixels, stain in units of optical density."""

    type: int
    radius: tuple[float, float]
    shape: Shape
    stain: tuple[float, float]
    clumps: float
    rim: float
    max_nucleoli: int
    halo: float


_EPITHELIAL = _Kind(_EPITHELIAL_TYPE, (6.5, 10.0), Shape((1.0, 1.6), 0.035), (0.36, 0.66), 0.22, 0.25, 1, 0.25)
_VESICULAR = _Kind(_EPITHELIAL_TYPE, (7.5, 12.0), Shape((1.0, 1.4), 0.025), (0.17, 0.32), 0.28, 0.85, 2, 0.15)
_LYMPHOID = _Kind(_LYMPHOCYTE_TYPE, (4.8, 6.5), Shape((1.0, 1.25), 0.030), (0.70, 1.05), 0.25, 0.10, 0, 0.20)
_STROMAL = _Kind(_CONNECTIVE_TYPE, (4.5, 6.5), Shape((2.0, 3.8), 0.045), (0.35, 0.80), 0.18, 0.05, 0, 0.05)
_DEEP_STAINED = _Kind(_EPITHELIAL_TYPE, (7.0, 11.0), Shape((1.0, 1.7), 0.060), (0.80, 1.10), 0.20, 0.05, 0, 0.20)
_KINDS = (_EPITHELIAL, _VESICULAR, _LYMPHOID, _STROMAL, _DEEP_STAINED)
_EPITHELIUM_SHARES = np.array([0.40, 0.46, 0.07, 0.0, 0.07])
_STROMA_SHARES = np.array([0.08, 0.18, 0.25, 0.45, 0.04])


def draw_nuclei(rng: np.random.Generator, tissue: Tissue) -> None:
    """Scatter nuclei, part of them against a neighbour, so that some touch and some overlap."""
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(poisson(rng, rng.uniform(40.0, 115.0), tissue.size)):
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


def tidy_instances(instances: np.ndarray) -> np.ndarray:
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


def _place_nucleus(
    rng: np.random.Generator, tissue: Tissue, kind: _Kind, centre: np.ndarray, radius: float, instance: int
) -> bool:
    """Draw a nucleus unless more than a quarter of it would cover something else; True when drawn."""
    angle = tissue.fibre_angle + rng.normal(0.0, 0.3) if kind is _STROMAL else None
    blob = outline(rng, tissue.size, centre, radius, kind.shape, angle)
    if blob is None or not blob.inside.any():
        return False
    occupied = tissue.blocked[blob.window] | (tissue.instances[blob.window] > 0)
    if occupied[blob.inside].mean() > 0.25:
        return False
    # A nucleus fills part of the section's depth: half of what lies under it still absorbs.
    hematoxylin = tissue.stains[HEMATOXYLIN]
    cover(hematoxylin, blob, 0.5 * hematoxylin[blob.window] + _chromatin(rng, tissue, kind, blob))
    halo = kind.halo * np.exp(-(((blob.rho - 1.15) / 0.15) ** 2)) * (blob.rho > 1.0)
    tissue.stains[EOSIN][blob.window] *= (1.0 - 0.3 * blob.coverage) * (1.0 - halo)
    tissue.stains[ERYTHROCYTE:][blob.window] *= 1.0 - blob.coverage
    tissue.instances[blob.window][blob.inside] = instance
    tissue.types[blob.window][blob.inside] = kind.type
    return True


def _chromatin(rng: np.random.Generator, tissue: Tissue, kind: _Kind, blob: Blob) -> np.ndarray:
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

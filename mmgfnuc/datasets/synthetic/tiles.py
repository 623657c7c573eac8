"""Tiles and the dataset of them."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.staging import staged_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.files import output_lock

from .nuclei import CLASSES, draw_nuclei, tidy_instances
from .scan import StainStyle, scan
from .tissue import draw_erythrocytes, draw_pigment, lay_tissue

Tile = tuple[np.ndarray, np.ndarray]
TypedTile = tuple[np.ndarray, np.ndarray, np.ndarray]

NAME = 'synthetic'
MPP = 0.5
MIN_SIZE = 64

# Each slide is stained in its own way, and no slide serves two parts.
_SLIDES = {'train': [f'slide_{i:02d}' for i in range(12)], 'val': [f'slide_{i:02d}' for i in range(12, 16)]}
_STYLE_STREAM, _TILE_STREAM = 0, 1


def render_typed_tile(rng: np.random.Generator, size: int = 256, style: StainStyle | None = None) -> TypedTile:
    """Render one tile, its exact instance map and the types of its nuclei; without a `style` the tile draws its own.

    Where nuclei overlap, the one drawn later owns the pixels. A nucleus cut into pieces keeps the largest, remains
    below 20 pixels are dropped, and the ids left run from 1 without gaps. One pixel stands for 0.5 micrometres.
    A size below 64 pixels is a UserError.

    Shape:
        - returns: image (size, size, 3), uint8 RGB; instances (size, size), int32, each id 4-connected; types
          (size, size), uint8, the index into `CLASSES` of the nucleus that owns the pixel, 0 outside the nuclei.

    Source: absorption and stain vectors: Ruifrok & Johnston 2001, Macenko et al. 2009.
    """
    if size < MIN_SIZE:
        raise UserError(f'size={size} is too small for a tile of tissue; use at least {MIN_SIZE} pixels')
    style = style or StainStyle.sample(rng)
    tissue = lay_tissue(rng, size)
    draw_erythrocytes(rng, tissue)
    draw_pigment(rng, tissue)
    draw_nuclei(rng, tissue)
    instances = tidy_instances(tissue.instances)
    return scan(rng, tissue, style), instances, np.where(instances > 0, tissue.types, 0)


def render_tile(rng: np.random.Generator, size: int = 256, style: StainStyle | None = None) -> Tile:
    """Image and instances of `render_typed_tile`, without the types."""
    image, instances, _ = render_typed_tile(rng, size, style)
    return image, instances


def dataset_tile(seed: int, part: str, index: int, size: int = 256) -> tuple[np.ndarray, np.ndarray, str]:
    """Render tile `index` of a part ('train' or 'val'): image and instances as `render_tile`, and the slide it is of.

    The tile depends on the arguments only, never on how many tiles a data set holds.
    """
    rng, style, slide = _origin(seed, part, index)
    return *render_tile(rng, size, style), slide


def write_dataset(root: str | Path, *, num_train: int, num_val: int, size: int, seed: int, types: bool = False) -> None:
    """Write a data set in the canonical form, with the split `default` (train, val) and one group per slide.

    With `types` the nucleus types are given too; images and instances are the same without.

    It is built beside `root` and moved into place when complete, so an interrupted run leaves no half data set. An
    earlier synthetic data set at `root` is replaced. UserError when a part would be empty, the seed is negative, the
    size too small, `root` holds anything else, or another process writes to it.
    """
    if min(num_train, num_val) < 1:
        raise UserError(f'num_train={num_train}, num_val={num_val}: each part needs at least one tile')
    if seed < 0:
        raise UserError(f'seed={seed} is negative; use a seed of 0 or more')
    with output_lock(root), staged_dataset(root, NAME) as staging:
        parts: dict[str, list[str]] = {}
        images: dict[str, dict[str, str | float]] = {}
        for part, count in (('train', num_train), ('val', num_val)):
            parts[part] = [f'{part}_{index:04d}' for index in range(count)]
            for index, sample_id in enumerate(tqdm(parts[part], desc=f'synthetic H&E, {part}', unit='tile')):
                rng, style, slide = _origin(seed, part, index)
                image, instances, type_map = render_typed_tile(rng, size, style)
                canonical.write_sample(staging, sample_id, image, instances, types=type_map if types else None)
                images[sample_id] = {'group': slide, 'mpp': MPP}
        classes = CLASSES if types else canonical.CLASSES
        meta = {'name': NAME, 'classes': classes, 'licence': 'Apache-2.0', 'images': images}
        meta['citation'] = 'none: no tissue was imaged'
        meta['source'] = f'synthetic: mmgfnuc.datasets.synthetic, seed {seed}, tiles of {size} pixels'
        canonical.write_meta(staging, meta)
        canonical.write_split(staging, 'default', parts)


def _origin(seed: int, part: str, index: int) -> tuple[np.random.Generator, StainStyle, str]:
    """What tile `index` of a part is drawn from: its random numbers, the staining of its slide, the slide's name."""
    part_key = list(_SLIDES).index(part)
    slide = index % len(_SLIDES[part])
    style_rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part_key, _STYLE_STREAM, slide)))
    tile_rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(part_key, _TILE_STREAM, index)))
    return tile_rng, StainStyle.sample(style_rng), _SLIDES[part][slide]

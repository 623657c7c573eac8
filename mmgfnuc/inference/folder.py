"""Segments a list of image files into an output folder."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops
from tqdm import tqdm

from mmgfnuc.datasets.canonical import read_image
from mmgfnuc.errors import UserError
from mmgfnuc.postprocess import connected_components

from .inferencer import NucleiInferencer
from .overlay import draw_overlay
from .writers import write_csv, write_mask, write_png

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
# Scanner settings may differ by a few percent without harm to a model trained with random scaling.
MPP_TOLERANCE = 0.25


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return the files that paths, folders and glob patterns name, sorted.

    Raises:
        UserError: one of them names no image, or two images would write the same output.
    """
    found = sorted({file for source in sources for file in _files_of(source)})
    twice = [stem for stem, count in Counter(file.stem for file in found).items() if count > 1]
    if twice:
        raise UserError(f"{len(twice)} file names differ only in folder or suffix, such as '{twice[0]}'; rename them")
    return found


def _files_of(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES]
    else:
        found = [path] if path.is_file() else [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207
    if not found:
        raise UserError(f"'{source}' names no image; give a file, a folder or a glob of {', '.join(SUFFIXES)}")
    return found


def measure_nuclei(name: str, semantic: NDArray[np.uint8], mpp: float | None) -> list[tuple]:
    """Return a row for each connected region: image, number, centroid (pixels), area in pixels and um^2 (or empty).

    Shape:
        semantic (H, W), 0 = background
    """
    regions = regionprops(connected_components(semantic > 0))
    return [
        (
            name,
            region.label,
            round(float(region.centroid[1]), 1),
            round(float(region.centroid[0]), 1),
            int(region.area),
            round(float(region.area) * mpp**2, 2) if mpp else '',
        )
        for region in regions
    ]


def segment_images(inferencer: NucleiInferencer, images: list[Path], out: str | Path, mpp: float | None) -> None:
    """Write masks/, overlays/ and nuclei.csv for all images, and print what was found.

    Raises:
        UserError: some images could not be read; the others are done all the same.
    """
    _warn_of_scale(inferencer.mpp, mpp)
    out = Path(out)
    rows: list[tuple] = []
    failures: list[str] = []
    for path in tqdm(images, desc='segment', unit='image'):
        try:
            image = read_image(path)
        except UserError as error:
            failures.append(str(error))
            continue
        semantic = inferencer.predict(image)
        write_mask(out / 'masks' / f'{path.stem}.png', semantic, inferencer.num_classes)
        write_png(out / 'overlays' / f'{path.stem}.png', draw_overlay(image, semantic))
        rows += measure_nuclei(path.stem, semantic, mpp)
    write_csv(out / 'nuclei.csv', ('image', 'nucleus', 'x_px', 'y_px', 'area_px', 'area_um2'), rows)
    print(f'{len(images) - len(failures)} images, {len(rows)} nuclei (connected regions) -> {out}')
    if failures:
        raise UserError(f'{len(failures)} of {len(images)} images failed:\n' + '\n'.join(failures))


def _warn_of_scale(trained: float | None, given: float | None) -> None:
    if trained and given and abs(given / trained - 1) > MPP_TOLERANCE:
        print(
            f'warning: the model was trained at {trained} um per pixel, the images have {given}; '
            f'resize them by {given / trained:.2f} for scores like those of the test'
        )

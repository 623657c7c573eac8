"""Finds the nuclei of a list of image files, into an output folder; docs/prediction.md says what it holds."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmgfnuc.datasets.canonical import read_image
from mmgfnuc.errors import UserError

from .geojson import feature_collection
from .inferencer import NucleiInferencer
from .measurements import MEASURES, Measures, measure_nuclei
from .overlay import draw_overlay
from .typed_overlay import draw_typed_overlay
from .writers import write_csv, write_json, write_label_map, write_mask, write_png

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
# Scanner settings may differ by a few percent without harm to a model trained with random scaling.
MPP_TOLERANCE = 0.25
HEADER = ('image', 'nucleus', 'type', *MEASURES)
DECIMALS = 4


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


def segment_images(inferencer: NucleiInferencer, images: list[Path], out: str | Path, mpp: float | None) -> None:
    """Write labels/, masks/, overlays/, geojson/ and nuclei.csv for all images, and print what was found.

    Raises:
        UserError: some images could not be read; the others are done all the same.
    """
    _warn_of_scale(inferencer.mpp, mpp)
    out = Path(out)
    rows: list[list] = []
    failures: list[str] = []
    for path in tqdm(images, desc='segment', unit='image'):
        try:
            image = read_image(path)
        except UserError as error:
            failures.append(str(error))
            continue
        rows += _segment(inferencer, path.stem, image, out, mpp)
    write_csv(out / 'nuclei.csv', HEADER, rows)
    print(f'{len(images) - len(failures)} images, {len(rows)} nuclei -> {out}')
    if failures:
        raise UserError(f'{len(failures)} of {len(images)} images failed:\n' + '\n'.join(failures))


def _segment(
    inferencer: NucleiInferencer, name: str, image: NDArray[np.uint8], out: Path, mpp: float | None
) -> list[list]:
    """Write all files of one image, and give its lines of the table."""
    prediction = inferencer.predict(image, mpp)
    labels, classes, palette = prediction.labels, inferencer.classes, inferencer.palette
    measures = measure_nuclei(prediction, image, mpp)
    numbers, types = measures['nucleus'], measures['type']
    values = _rounded(measures)
    write_label_map(out / 'labels', name, labels)
    write_mask(out / 'masks' / f'{name}.png', prediction.semantic, inferencer.num_classes)
    typed = inferencer.num_classes > 2
    overlay = draw_typed_overlay(image, labels, types, classes, palette) if typed else draw_overlay(image, labels)
    write_png(out / 'overlays' / f'{name}.png', overlay)
    write_json(out / 'geojson' / f'{name}.geojson', feature_collection(name, labels, types, classes, palette, values))
    return [
        [name, number, classes[kind] if kind else '', *(of_one.get(measure, '') for measure in MEASURES)]
        for number, kind, of_one in zip(numbers, types, values, strict=True)
    ]


def _rounded(measures: Measures) -> list[dict[str, float]]:
    """Give the measures of each nucleus by name."""
    given = {measure: measures[measure].round(DECIMALS).tolist() for measure in MEASURES if measure in measures}
    return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]


def _warn_of_scale(trained: float | None, given: float | None) -> None:
    if trained and given and abs(given / trained - 1) > MPP_TOLERANCE:
        print(
            f'warning: the model was trained at {trained} um per pixel, the images have {given}; '
            f'resize them by {given / trained:.2f} for scores like those of the test'
        )

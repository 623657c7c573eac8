"""The report of an inspection as one HTML file: numbers, faults, distributions and images with their outlines."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmgfnuc.datasets.canonical import CLASSES, read_ignore, read_image, read_label_map, sample_paths
from mmgfnuc.datasets.inspection import Measured, Report
from mmgfnuc.datasets.inspection.faults import by_group
from mmgfnuc.datasets.inspection.measure import diameters
from mmgfnuc.datasets.inspection.text import facts, report_tables, verdict
from mmgfnuc.datasets.nuclei import PALETTE

from .errors import TRUTH_COLOUR, line_width
from .figures import histogram
from .overlay import outline
from .pages import Figure, Table, render
from .panels import Colour, Pixels

# Longer sides show no more on a screen beside others; small images are enlarged, so that outlines stay thin.
LONGEST_SIDE = 512
LARGEST_ENLARGEMENT = 2.0
# The page stays below 10 MB: base64 makes 4 of 3 bytes, and an H&E image with outlines takes up to 0.5 a pixel.
PICTURE_BYTES = 7_000_000
BYTES_PER_PIXEL = 0.5
SHOWN_CASES = 20

NO_TYPE: Colour = (255, 255, 255)
IGNORED = (0, 0, 0, 128)


@dataclass(frozen=True)
class Drawn:
    """A tissue image, and above it outlines with a transparent ground, RGBA."""

    image: Measured
    tissue: Pixels
    outlines: Pixels


def dataset_page(report: Report, pictures: int) -> str:
    """Render a report with at most so many of its images, spread over the groups."""
    drawn = draw_images(report, spread(report.measured, pictures))
    legend = [(name, class_colour(index, report)) for index, name in enumerate(report.classes)][1:]
    legend += [('no type', NO_TYPE)] if report.types else []
    return render(
        'dataset',
        report=report,
        verdict=verdict(report),
        facts=facts(report),
        tables=[Table(*table) for table in report_tables(report)],
        figures=_figures(report.measured),
        legend=legend,
        drawn=drawn,
        shown_cases=SHOWN_CASES,
    )


def spread(images: Sequence[Measured], number: int) -> list[Measured]:
    """Choose images evenly over the groups, and evenly within each."""
    groups = list(by_group(images).values())
    groups = [groups[i] for i in _even(len(groups), number)]
    # Turn by turn each group gives an image, as long as it has one.
    turns = sorted((turn, place) for place, group in enumerate(groups) for turn in range(len(group)))
    shares = Counter(group for _, group in turns[:number])
    return [group[i] for place, group in enumerate(groups) for i in _even(len(group), shares[place])]


def _even(length: int, number: int) -> list[int]:
    return np.linspace(0, length - 1, min(length, number)).round().astype(int).tolist()


def draw_images(report: Report, images: Sequence[Measured]) -> list[Drawn]:
    """Draw images in parallel, as large as the size of the page allows."""
    if not images:
        return []
    side = min(LONGEST_SIDE, int((PICTURE_BYTES / len(images) / BYTES_PER_PIXEL) ** 0.5))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(partial(_draw, report, side), images)
        return list(tqdm(drawn, total=len(images), desc='draw', unit='image'))


def _draw(report: Report, side: int, image: Measured) -> Drawn:
    paths = sample_paths(report.root, image.id)
    scale = min(side / max(image.shape), LARGEST_ENLARGEMENT)
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tissue = cv2.resize(read_image(paths.image), size, interpolation=way)
    instances = _nearest(read_label_map(paths.label), size)
    ignored = None if paths.ignore is None else _nearest(read_ignore(paths.ignore), size)
    return Drawn(image, tissue, draw_outlines(image, instances, ignored, report))


def draw_outlines(
    image: Measured, instances: NDArray[np.int32], ignored: NDArray[np.bool_] | None, report: Report
) -> Pixels:
    """Outline nuclei in the colours of their types, and dim ignored areas; all else is transparent.

    Shape:
        instances and ignored (H, W) -> (H, W, 4) RGBA
    """
    drawn = np.zeros((*instances.shape, 4), np.uint8)
    if ignored is not None:
        drawn[ignored] = IGNORED
    colours = np.array([*(class_colour(index, report) for index in range(len(report.classes))), NO_TYPE], np.uint8)
    types = np.where(image.nuclei.types > 0, image.nuclei.types, -1) if report.types else np.ones_like(image.nuclei.ids)
    edge = outline(instances, line_width(instances))
    drawn[edge, :3] = colours[types[np.searchsorted(image.nuclei.ids, instances[edge])]]
    drawn[edge, 3] = 255
    return drawn


def _nearest(array: NDArray, size: tuple[int, int]) -> NDArray:
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size[::-1], array.shape, strict=True))
    return array[np.ix_(rows.astype(int), columns.astype(int))]


def class_colour(index: int, report: Report) -> Colour:
    """RGB of a class; that of the truth in all pictures without nucleus types."""
    return PALETTE[index % len(PALETTE)] if len(report.classes) > len(CLASSES) else TRUTH_COLOUR


def _figures(images: Sequence[Measured]) -> list[Figure]:
    drawn = [
        ('Nuclei per image', 'nuclei', np.array([image.nuclei.ids.size for image in images])),
        ('Area that nuclei cover', '% of the image', np.array([100 * image.nucleus_share for image in images])),
        ('Size of nuclei', 'diameter in pixels', diameters(images)),
        ('Size of nuclei', 'diameter in µm', diameters(images, in_um=True)),
    ]
    return [Figure(histogram(values, title, unit), title) for title, unit, values in drawn if values.size]

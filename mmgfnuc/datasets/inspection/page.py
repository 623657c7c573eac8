"""The report of an inspection as one HTML file with pictures, which needs nothing else."""

import base64
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mmgfnuc.datasets.canonical import CLASSES, read_ignore, read_image, read_label_map, sample_paths
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.visualization.outline import TRUTH_COLOUR, outline

from .charts import histogram
from .faults import by_group
from .measure import Measured, diameters
from .report import Report
from .style import STYLE
from .text import DIAMETER_NOTE, class_cells, describe, number_cells, verdict

# Longer sides show no more on a screen beside others; small images are enlarged, so that contours stay thin.
LONGEST_SIDE = 512
LARGEST_ENLARGEMENT = 2.0
# The page stays below 10 MB: base64 makes 4 of 3 bytes, and an H&E image with contours takes up to 0.5 a pixel.
PICTURE_BYTES = 7_000_000
BYTES_PER_PIXEL = 0.5
JPEG_QUALITY = 85
SHOWN_CASES = 20

# Beside the indices of the classes. Ignored areas are hatched in both, to be seen on tissue and on glass.
DARK, LIGHT = 254, 255
DARK_COLOUR, LIGHT_COLOUR = (40, 40, 40), (255, 255, 255)
HATCH_PERIOD = 12


@dataclass(frozen=True)
class Picture:
    """A tissue image as JPEG, and its contours as PNG with a transparent ground."""

    image: Measured
    tissue: bytes
    contours: bytes


def build_page(report: Report, pictures: int) -> str:
    """HTML of a report, with at most so many of its images, spread over the groups."""
    shown = draw_pictures(report, spread(report.measured, pictures))
    sections = [
        _section('Numbers', _numbers(report)),
        _section('Faults', _faults(report)),
        _section('Distributions', _charts(report.measured)),
        _section('Images', _sheet(report, shown)),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.name)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{_header(report)}
{''.join(sections)}
</main>
</body>
</html>
"""


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


def draw_pictures(report: Report, images: Sequence[Measured]) -> list[Picture]:
    """Draw the images of a contact sheet, in parallel, as large as the size of the page allows."""
    if not images:
        return []
    side = min(LONGEST_SIDE, int((PICTURE_BYTES / len(images) / BYTES_PER_PIXEL) ** 0.5))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(partial(_draw, report.root, len(report.classes), side), images)
        return list(tqdm(drawn, total=len(images), desc='draw', unit='image'))


def _draw(root: Path, classes: int, side: int, image: Measured) -> Picture:
    paths = sample_paths(root, image.id)
    scale = min(side / max(image.shape), LARGEST_ENLARGEMENT)
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tissue = cv2.resize(read_image(paths.image), size, interpolation=way)
    instances = _nearest(read_label_map(paths.label), size)
    ignored = None if paths.ignore is None else _nearest(read_ignore(paths.ignore), size)
    drawn = contour_map(image, instances, ignored, typed=classes > len(CLASSES))
    return Picture(image, _jpeg(tissue), _png(drawn, classes))


def contour_map(
    image: Measured, instances: NDArray[np.int32], ignored: NDArray[np.bool_] | None, typed: bool
) -> NDArray[np.uint8]:
    """Colour index of each pixel: 0 nothing, along contours the class (LIGHT without), in ignored areas stripes.

    Shape:
        - instances, ignored, returns: (H, W)
    """
    drawn = np.zeros(instances.shape, np.uint8)
    if ignored is not None:
        rows, columns = np.indices(instances.shape)
        phase = (rows + columns) % HATCH_PERIOD
        drawn[ignored & (phase == 0)] = LIGHT
        drawn[ignored & (phase == 1)] = DARK
        drawn[outline(ignored)] = DARK
    colours = np.where(image.nuclei.types > 0, image.nuclei.types, LIGHT) if typed else np.ones(image.nuclei.ids.size)
    edge = outline(instances, width=max(1, round(max(instances.shape) / 300)))
    drawn[edge] = colours[np.searchsorted(image.nuclei.ids, instances[edge])]
    return drawn


def _nearest(array: NDArray, size: tuple[int, int]) -> NDArray:
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size[::-1], array.shape, strict=True))
    return array[np.ix_(rows.astype(int), columns.astype(int))]


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, 'JPEG', quality=JPEG_QUALITY)
    return file.getvalue()


def _png(drawn: NDArray[np.uint8], classes: int) -> bytes:
    picture = Image.fromarray(drawn)
    colours = np.zeros((256, 3), np.uint8)
    colours[:classes] = [class_colour(index, classes) for index in range(classes)]
    colours[[DARK, LIGHT]] = DARK_COLOUR, LIGHT_COLOUR
    picture.putpalette(colours.ravel().tolist())
    file = BytesIO()
    picture.save(file, 'PNG', transparency=0, optimize=True)
    return file.getvalue()


def class_colour(index: int, classes: int) -> Sequence[int]:
    """RGB of a class; that of the truth in all pictures where types are not told apart."""
    return PALETTE[index % len(PALETTE)] if classes > len(CLASSES) else TRUTH_COLOUR


def _section(title: str, parts: Iterable[str]) -> str:
    return f'<section id="{title.lower()}">\n<h2>{title}</h2>\n{"".join(parts)}</section>\n'


def _header(report: Report) -> str:
    facts = {
        'Licence': report.licence,
        'Citation': report.citation,
        'Source': report.source,
        'Classes': ', '.join(report.classes),
    }
    lines = ''.join(f'<dt>{key}</dt><dd>{escape(value) or "not stated"}</dd>' for key, value in facts.items())
    grave = '' if report.sound else ' bad'
    return f"""<header>
<h1>{escape(report.name)}</h1>
<p class="verdict{grave}">{verdict(report)}</p>
<dl>{lines}</dl>
</header>"""


def _numbers(report: Report) -> Iterator[str]:
    if report.total is None:
        yield '<p>No image could be measured.</p>'
        return
    tiles = {
        'images': f'{report.images:,}',
        'nuclei': f'{report.total.nuclei:,}',
        'groups': f'{len(report.groups):,}',
        'nuclei per image': f'{report.total.nuclei_per_image[2]:,.1f}',
        'covered by nuclei': f'{report.total.nucleus_share:.1%}',
    }
    if report.total.diameter_px:
        tiles['median diameter'] = f'{report.total.diameter_px[2]:.1f} px'
    yield '<div class="tiles">'
    yield from (f'<div><b>{value}</b>{key}</div>' for key, value in tiles.items())
    yield '</div>\n<dl>'
    yield from (f'<dt>{key.capitalize()}</dt><dd>{value}</dd>' for key, value in describe(report.total).items())
    yield '</dl>\n'
    if len(report.measured) < report.images:
        yield f'<p>Images with faulty files, not in the numbers: {report.images - len(report.measured)}.</p>'
    header = (
        'Group',
        '',
        'Images',
        'Nuclei',
        'Per image',
        'Area %',
        'Diameter px',
        'Diameter µm',
        'Mean RGB',
        'Std RGB',
    )
    groups = [(escape(name), numbers) for name, numbers in report.groups.items()]
    rows = [('<b>all</b>', report.total), *groups]
    yield _table(header, [[name, _swatch(n.mean, 'mean colour'), *number_cells(n)] for name, n in rows])
    yield f'<p class="note">{DIAMETER_NOTE}</p>'
    if report.types:
        cells = [
            [
                escape(name),
                _class_swatch(report, index),
                *class_cells(numbers),
            ]
            for index, (name, numbers) in enumerate(report.types.items(), start=1)
        ]
        yield _table(('Class', '', 'Nuclei', 'Diameter px', 'Diameter µm'), cells)
    if report.splits:
        cells = [
            [escape(name), ', '.join(f'{count:,} {escape(part)}' for part, count in parts.items())]
            for name, parts in report.splits.items()
        ]
        yield _table(('Split', 'Images'), cells)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = ''.join(f'<th>{cell}</th>' for cell in header)
    body = '\n'.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _swatch(colour: Sequence[float], title: str) -> str:
    red, green, blue = (round(value) for value in colour)
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})" title="{title}"></i>'


def _class_swatch(report: Report, index: int) -> str:
    return _swatch(class_colour(index, len(report.classes)), 'colour of the contours')


def _faults(report: Report) -> Iterator[str]:
    if not report.faults:
        yield '<p>None found.</p>'
    for fault in report.faults:
        hidden = len(fault.cases) - SHOWN_CASES
        cases = [*map(escape, fault.cases[:SHOWN_CASES]), *([f'... and {hidden:,} more'] if hidden > 0 else [])]
        yield (
            f'<details class="{fault.severity}"{" open" * (fault.severity == "error")}>'
            f'<summary><span>{fault.severity}</span> {fault.count:,} × {escape(fault.kind)}</summary>'
            f'<p>{escape(fault.fix)}</p><ul>{"".join(f"<li>{case}</li>" for case in cases)}</ul></details>\n'
        )


def _charts(images: Sequence[Measured]) -> Iterator[str]:
    counts = [image.nuclei.ids.size for image in images]
    shares = [100 * image.nucleus_share for image in images]
    yield '<div class="charts">'
    yield histogram(counts, 'Nuclei per image', 'nuclei', 'images')
    yield histogram(shares, 'Area that nuclei cover', '% of the image', 'images')
    yield histogram(diameters(images), 'Size of nuclei', 'diameter in pixels', 'nuclei')
    yield histogram(diameters(images, in_um=True), 'Size of nuclei', 'diameter in µm', 'nuclei')
    yield '</div>\n<p class="note">Lines: medians. The last bar holds all that lies beyond.</p>'


def _sheet(report: Report, pictures: Sequence[Picture]) -> Iterator[str]:
    yield f'<p>{len(pictures)} of {report.images:,} images, spread over the groups. Click one to enlarge it.</p>\n'
    yield '<input type="checkbox" id="contours" checked><label for="contours">Contours</label>\n<ul class="legend">'
    for index, name in enumerate(report.classes):
        if index:
            yield f'<li>{_class_swatch(report, index)} {escape(name)}</li>'
    if report.types:
        yield f'<li>{_swatch(LIGHT_COLOUR, "colour of the contours")} no type</li>'
    if any(picture.image.ignored for picture in pictures):
        yield '<li><i class="swatch hatched"></i> ignored area</li>'
    yield '</ul>\n<div class="sheet">\n'
    for number, picture in enumerate(pictures):
        yield _figure(number, picture)
    yield '</div>\n'


def _figure(number: int, picture: Picture) -> str:
    image, name = picture.image, escape(picture.image.id)
    height, width = image.shape
    mpp = '' if image.mpp is None else f', {image.mpp:g} µm/px'
    return f"""<figure id="image-{number}">
<div class="picture" id="picture-{number}" style="aspect-ratio:{width}/{height}">
<img src="data:image/jpeg;base64,{base64.b64encode(picture.tissue).decode()}" alt="{name}">
<img class="contours" src="data:image/png;base64,{base64.b64encode(picture.contours).decode()}" alt="">
<a class="open" href="#picture-{number}" aria-label="Enlarge {name}"></a>
<a class="close" href="#image-{number}" aria-label="Close {name}"></a>
</div>
<figcaption><b>{name}</b>{escape(image.group)}<br>
{image.nuclei.ids.size:,} nuclei, {height} x {width} px{mpp}</figcaption>
</figure>
"""

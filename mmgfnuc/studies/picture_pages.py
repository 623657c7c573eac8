"""Drawing of what arms predict and see: panels of one image side by side on a page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.decomposition import PCA

from mmgfnuc.visualization.outline import TRUTH_COLOUR, outline
from mmgfnuc.visualization.panels import STATE_COLOURS

FILL = 0.6
GAP, LINE, TEXT = 10, 19, 14  # pixels
INK, FAINT = (25, 25, 25), (95, 95, 95)
# Outliers must not take the range of colours from the rest.
SHOWN_PERCENTILES = 2, 98
QUALITIES = range(88, 30, -8)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """A drawing and the text above it: a name, which may be empty, and what is said of it, if anything is."""

    lines: Sequence[str]
    pixels: Pixels


def draw_truth(image: Pixels, truth: NDArray[np.integer], ignore: NDArray[np.bool_]) -> Pixels:
    """Outline the true nuclei; ignored areas are dimmed.

    Shape:
        image (H, W, 3) RGB, truth (H, W) label map, ignore (H, W) -> (H, W, 3)
    """
    picture = image.copy()
    picture[outline(truth)] = TRUTH_COLOUR
    picture[ignore] //= 2
    return picture


def draw_errors(
    image: Pixels,
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    nuclei: NDArray[np.integer],
    ignore: NDArray[np.bool_],
) -> Pixels:
    """Colour every pixel that Dice counts, on grey tissue: found, missed or invented; predicted nuclei are outlined.

    Shape:
        image (H, W, 3) RGB; truth and prediction (H, W), True in nuclei; nuclei (H, W), predicted label map; ignore
        (H, W), True where nothing is scored -> (H, W, 3)
    """
    # As the errors of `draw_panels`: grey of little contrast, from which every colour stands out.
    picture = np.repeat(40 + 0.6 * image.mean(axis=2, keepdims=True), 3, axis=2)
    edges = outline(nuclei)
    states = {'matched': truth & prediction, 'missed': truth & ~prediction, 'invented': prediction & ~truth}
    for state, where in states.items():
        colour = np.array(STATE_COLOURS[state], float)
        picture[where] = (1 - FILL) * picture[where] + FILL * colour
        picture[where & edges] = colour
    picture[ignore] = image[ignore] / 2
    return picture.round().astype(np.uint8)


def principal_colours(maps: Sequence[NDArray[np.floating]]) -> list[Pixels]:
    """Show the first three principal components of features as red, green and blue.

    The maps share one basis and one range of colours, so that equal colours are equal features.

    Shape:
        map i (C, h_i, w_i) -> (h_i, w_i, 3)

    Source: as Oquab et al. 2023, "DINOv2", figure 1; code: scikit-learn's PCA, the rest own.
    """
    rows = np.concatenate([features.reshape(len(features), -1).T for features in maps]).astype(np.float64)
    with np.errstate(invalid='ignore'):  # features that are all alike have no variance to explain
        components = PCA(min(3, *rows.shape), svd_solver='full').fit_transform(rows)
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, SHOWN_PERCENTILES, axis=0)
    shown = (components - low) / np.maximum(high - low, np.finfo(float).eps)
    colours = (255 * shown.clip(0, 1)).round().astype(np.uint8)
    ends = np.cumsum([features[0].size for features in maps])[:-1]
    return [part.reshape(*features.shape[1:], 3) for part, features in zip(np.split(colours, ends), maps, strict=True)]


def enlarge(picture: Pixels, stride: float, size: tuple[int, int]) -> Pixels:
    """Give every image pixel the colour of the feature that it lies in.

    Args:
        picture: colours of features.
        stride: image pixels per feature.
        size: height and width of the image.

    Shape:
        (h, w, 3) -> (*size, 3)
    """
    rows, columns = (
        np.minimum((np.arange(length) + 0.5) / stride, own - 1).astype(int)
        for length, own in zip(size, picture.shape[:2], strict=True)
    )
    return picture[rows[:, None], columns]


def draw_page(panels: Sequence[Panel], columns: int, width: int, legend: Mapping[str, tuple[int, int, int]]) -> Pixels:
    """Set panels in a grid, each below its text, and say at the foot which colour is what.

    Args:
        panels: of one height and width, row by row.
        columns: panels of a row.
        width: of a panel, to which it is scaled.
        legend: colour of each word; without any there is no foot.
    """
    font = ImageFont.load_default(TEXT)
    texts = [
        [
            (text, ink)
            for line, ink in zip(panel.lines, (INK, FAINT), strict=False)
            for text in wrap_line(line, width, font)
        ]
        for panel in panels
    ]
    rows = [range(first, min(first + columns, len(panels))) for first in range(0, len(panels), columns)]
    heads = [LINE * max(len(texts[index]) for index in row) for row in rows]
    height = round(width * panels[0].pixels.shape[0] / panels[0].pixels.shape[1])
    foot = LINE + GAP if legend else 0
    total = sum(heads) + len(rows) * (height + GAP) + GAP + foot
    page = Image.new('RGB', (min(columns, len(panels)) * (width + GAP) + GAP, total), 'white')
    draw = ImageDraw.Draw(page)
    top = GAP // 2
    for row, head in zip(rows, heads, strict=True):
        for column, index in enumerate(row):
            left = GAP + column * (width + GAP)
            for line, (text, ink) in enumerate(texts[index]):
                # From below: a short text stands directly above its panel.
                middle = top + head - (len(texts[index]) - line - 0.5) * LINE
                draw.text((left, middle), text, ink, font, anchor='lm')
            picture = Image.fromarray(panels[index].pixels).resize((width, height), Image.Resampling.NEAREST)
            page.paste(picture, (left, top + head))
        top += head + height + GAP
    _draw_legend(draw, legend, top + LINE // 2, font)
    return np.asarray(page)


def wrap_line(line: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a line after slashes and blanks so that it fits the width (pixels), where that is possible."""
    wrapped = ['']
    for word in line.replace('/', '/\0').replace(' ', ' \0').split('\0'):
        if wrapped[-1] and font.getlength((wrapped[-1] + word).rstrip()) > width:
            wrapped.append('')
        wrapped[-1] += word
    return wrapped


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    legend: Mapping[str, tuple[int, int, int]],
    middle: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left: float = GAP
    for word, colour in legend.items():
        draw.rectangle((left, middle - TEXT / 2, left + TEXT, middle + TEXT / 2), colour, 'black')
        draw.text((left + 1.5 * TEXT, middle), word, INK, font, anchor='lm')
        left += 3.5 * TEXT + font.getlength(word)


def encode_jpeg(picture: Pixels, most_bytes: int) -> bytes:
    """Encode at the best quality that stays below a size, or at the lowest one tried."""
    for quality in QUALITIES:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, 'JPEG', quality=quality, optimize=True)
        if file.tell() <= most_bytes:
            break
    return file.getvalue()

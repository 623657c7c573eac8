"""Nuclei drawn into a tissue image in the colours of their types."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmgfnuc.visualization.outline import outline

SMALLEST_TEXT = 14  # pixels
TEXT_PER_WIDTH = 1 / 60

Colours = Sequence[Sequence[int]]


def draw_typed_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    types: NDArray[np.integer],
    classes: Sequence[str],
    palette: Colours,
) -> NDArray[np.uint8]:
    """Outline each nucleus in the colour of its type, one pixel wide, and say below the image which colour is which.

    The legend also counts the nuclei of each type; those of type 0, unknown, have the colour of the background.

    Args:
        image: RGB.
        labels: the nuclei, from 1 without gaps; 0 = background.
        types: of each nucleus, indices into the classes.
        classes: names, the background first.
        palette: colour (RGB) of each class.

    Shape:
        image (H, W, 3), labels (H, W), types (nuclei,) -> (H + legend, at least W, 3) RGB
    """
    picture = image.copy()
    edge = outline(labels)
    picture[edge] = np.array(palette, np.uint8)[types[labels[edge] - 1]]
    counts = np.bincount(types, minlength=len(classes))
    entries = [f'{name}: {count}' for name, count in zip(classes[1:], counts[1:], strict=True)]
    return _with_legend(picture, entries, palette[1:])


def _with_legend(picture: NDArray[np.uint8], entries: Sequence[str], colours: Colours) -> NDArray[np.uint8]:
    """Add entries, each after a square of its colour, below a picture, in as many lines as they take."""
    height, width = picture.shape[:2]
    size = max(SMALLEST_TEXT, round(width * TEXT_PER_WIDTH))
    font = ImageFont.load_default(size)
    widths = [round(font.getlength(entry)) + 3 * size for entry in entries]
    places, total = _lines(widths, width)
    line = 2 * size
    page = Image.new('RGB', (total, height + line * (places[-1][1] + 1)), 'white')
    page.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(page)
    for entry, colour, (left, row) in zip(entries, colours, places, strict=True):
        left, middle = left + size // 2, height + row * line + size
        draw.rectangle((left, middle - size // 2, left + size, middle + size // 2), tuple(colour), 'black')
        draw.text((left + 3 * size // 2, middle), entry, 'black', font, anchor='lm')
    return np.asarray(page)


def _lines(widths: Sequence[int], width: int) -> tuple[list[tuple[int, int]], int]:
    """Left end and line of each entry, and the width that they take: `width`, or that of an entry that is wider."""
    width = max(width, *widths)
    places, left, row = [], 0, 0
    for entry in widths:
        if left + entry > width:
            left, row = 0, row + 1
        places.append((left, row))
        left += entry
    return places, width

"""Pictures side by side in one, each below its caption, with a legend at the foot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SMALLEST_TEXT, TEXT_PER_WIDTH = 14, 1 / 70  # pixels, and as a part of the width of the page
LINE = 1.5  # heights of a text

Pixels = NDArray[np.uint8]
Colour = Sequence[int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Legend = Sequence[Sequence[tuple[str, Colour | None]]]


@dataclass(frozen=True)
class Panel:
    """A picture (H, W, 3) and the lines of text above it."""

    pixels: Pixels
    caption: Sequence[str] = ()


def arrange(panels: Sequence[Panel], columns: int, legend: Legend = ()) -> Pixels:
    """Set panels in rows; one alone gets no frame.

    Args:
        panels: of one height and width.
        columns: panels of a row.
        legend: lines of texts, each with the colour of the square before it, or None. A line that is too long is
            broken; if a single text is, the page gets wider.
    """
    height, width = panels[0].pixels.shape[:2]
    columns = min(columns, len(panels))
    size = max(SMALLEST_TEXT, round(columns * width * TEXT_PER_WIDTH))
    font, line, gap = ImageFont.load_default(size), round(LINE * size), size // 2 if len(panels) > 1 else 0
    captions = [[part for text in panel.caption for part in _wrapped(text, width, font)] for panel in panels]
    head = line * max(map(len, captions))
    grid = columns * (width + gap) + gap
    lines, widest = _flow(legend, grid - gap, font, size)
    bottom = -(-len(panels) // columns) * (head + height + gap)
    page = Image.new('RGB', (max(grid, widest), bottom + line * len(lines) + gap * bool(lines)), 'white')
    draw = ImageDraw.Draw(page)
    for place, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = gap + column * (width + gap), row * (head + height + gap) + head
        page.paste(Image.fromarray(panel.pixels), (left, top))
        for number, text in enumerate(reversed(caption)):  # from below: a short one stands directly above its panel
            draw.text((left, top - (number + 0.5) * line), text, 'black', font, anchor='lm')
    for number, entries in enumerate(lines):
        for left, text, colour in entries:
            middle = bottom + (number + 0.5) * line
            if colour is not None:
                square = (left, middle - size // 2, left + size, middle + size // 2)
                draw.rectangle(square, tuple(colour), 'black')
                left += 1.5 * size
            draw.text((left, middle), text, 'black', font, anchor='lm')
    return np.asarray(page)


def _wrapped(line: str, width: int, font: Font) -> list[str]:
    """Break a line behind slashes and blanks where it is wider than `width` pixels."""
    lines = ['']
    for word in line.replace('/', '/\0').replace(' ', ' \0').split('\0'):
        if lines[-1] and font.getlength((lines[-1] + word).rstrip()) > width:
            lines.append('')
        lines[-1] += word
    return lines


def _flow(
    legend: Legend, width: int, font: Font, size: int
) -> tuple[list[list[tuple[float, str, Colour | None]]], int]:
    """Left end, text and colour of each entry in lines that fit the width, and the width that they take."""
    lines: list[list[tuple[float, str, Colour | None]]] = []
    widest = 0.0
    for entries in legend:
        lines.append([])
        left = size / 2
        for text, colour in entries:
            end = left + font.getlength(text) + (1.5 * size if colour is not None else 0)
            if lines[-1] and end > width:
                lines.append([])
                left, end = size / 2, end - left + size / 2
            lines[-1].append((left, text, colour))
            widest = max(widest, end)
            left = end + 1.5 * size
    return lines, round(widest + size / 2) if lines else 0

"""HTML pages that need no network: what they consist of, and how Jinja2 renders them.

Every text is escaped: names of arms, images and data sets may hold anything.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from .panels import Colour, Panel

QUALITY = 75  # of WebP
LOSSLESS_SIDE = 64  # pixels; smaller pictures are shown enlarged, where losses would be seen


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first of each row is its heading. Further lines of a cell are in small print."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: ClassVar = 'table'


@dataclass(frozen=True)
class Figure:
    """A drawing of `figures`, and what it shows."""

    svg: Markup
    caption: str
    kind: ClassVar = 'figure'


@dataclass(frozen=True)
class Words:
    """Sentences, and whether each is marked."""

    sentences: Sequence[tuple[str, bool]]
    kind: ClassVar = 'words'


@dataclass(frozen=True)
class Gallery:
    """Pictures in rows, and the colours of their legend; it can be kept as JSON.

    Attributes:
        pictures: for each the lines above it, and its `data_uri`.
    """

    title: str
    caption: str
    pictures: Sequence[tuple[Sequence[str], str]]
    columns: int
    legend: Sequence[tuple[str, Colour]] = ()
    kind: ClassVar = 'gallery'

    @classmethod
    def of(cls, title: str, caption: str, panels: Sequence[Panel], columns: int, legend: Mapping[str, Colour]) -> Self:
        """Encode panels."""
        pictures = [(panel.caption, data_uri(panel.pixels)) for panel in panels]
        return cls(title, caption, pictures, columns, list(legend.items()))


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading and an entry in the contents."""

    title: str
    blocks: Sequence[Table | Figure | Words | Gallery]


def render(template: str, **content: Any) -> str:
    """Render `templates/<template>.html.j2`."""
    return _environment().get_template(f'{template}.html.j2').render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader('mmgfnuc.visualization'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(breakable=breakable, slug=slug, data_uri=data_uri)
    return environment


def fixed(value: float | None, digits: int = 3) -> str:
    """Write a number with so many decimals, and a dash where there is none."""
    return '–' if value is None else f'{value:,.{digits}f}'.replace('-', '−')


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return '–' if value is None else f'{value:+.3f}'.replace('-', '−')


def breakable(text: str) -> Markup:
    """Let names of arms break behind their slashes; show all lines but the first in small print."""
    first, *rest = str(escape(text)).replace('/', '/<wbr>').split('\n')
    return Markup(first + ''.join(f' <small>{line}</small>' for line in rest))


def slug(text: str) -> str:
    """Make the id of an element."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')


def data_uri(picture: NDArray) -> str:
    """Put a picture, RGB or with an alpha channel, into an address."""
    file = io.BytesIO()
    lossless = picture.shape[2] == 4 or max(picture.shape) <= LOSSLESS_SIDE
    Image.fromarray(picture).save(file, 'WEBP', lossless=lossless, quality=QUALITY, method=4)
    return f'data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}'

"""Drawings as SVG text for the inside of an HTML page: they scale with it and take over its text colour and its font.

matplotlib draws, without a window and without its global state.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# matplotlib has no name for the colour of the surrounding text: this one stands for it until the SVG is written.
INK = '#010203'
# Okabe and Ito's pair that differs for every kind of colour vision, the blue lighter than theirs: both colours have a
# contrast of more than 3.8 with white and with nearly black.
BLUE, VERMILLION = '#1e80c1', '#d55e00'
UNITS_PER_INCH = 72
TEXT_SIZE = 12
STYLE: dict[Any, Any] = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmgfnuc',
    'text.parse_math': False,
    'axes.formatter.useoffset': False,
    'figure.dpi': UNITS_PER_INCH,
    'font.family': 'DejaVu Sans',
    'font.size': TEXT_SIZE,
    'legend.fontsize': TEXT_SIZE,
    'legend.frameon': False,
    'axes.spines.top': False,
    'axes.spines.right': False,
    **dict.fromkeys(
        ['text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color', 'grid.color'], INK
    ),
    'grid.alpha': 0.15,
}
SVG, XLINK = 'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'
_HOVER = 'hover text: '


@contextmanager
def drawing_style() -> Iterator[None]:
    """Style of all drawings, whatever the user's own settings of matplotlib are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Figure of a size in units of the SVG, which are CSS pixels at its natural size.

    Axes may fill it: the SVG grows by what lies outside, such as names of any length.
    """
    return Figure(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH))


def hover(text: str) -> str:
    """The `gid` of an artist that shows a text when the mouse rests on it."""
    return _HOVER + text


def as_svg(figure: Figure, title: str) -> str:
    """Write a figure as an `svg` element for HTML5.

    Text stays text, in the font around it; `INK` becomes `currentColor`; nothing is painted behind the drawing. The
    element is as wide as its container, at most its natural width. Equal figures give equal bytes, different ones have
    no id in common.

    Args:
        figure: drawn under the same style.
        title: read by screen readers in place of the drawing.

    """
    text = io.StringIO()
    no_metadata = dict.fromkeys(['Date', 'Creator', 'Format', 'Type'])
    figure.savefig(text, format='svg', bbox_inches='tight', pad_inches=0.1, transparent=True, metadata=no_metadata)
    root = ElementTree.fromstring(text.getvalue())
    # Its style sheet would hold for the whole page; what it says is set on the root below.
    root.remove(root[0])
    _replace_ids(root, 'figure' + sha256((title + text.getvalue()).encode()).hexdigest()[:12])
    for element in root.iter():
        _shorten(element)
    width = float(root.attrib['viewBox'].split()[2])
    attributes = {
        'viewBox': root.attrib['viewBox'],
        'role': 'img',
        'aria-label': title,
        'stroke-linejoin': 'round',
        'style': f'width: 100%; max-width: {width:.0f}px; height: auto',
    }
    root.attrib.clear()
    root.attrib.update(attributes)
    ElementTree.register_namespace('', SVG)
    ElementTree.register_namespace('xlink', XLINK)
    return ElementTree.tostring(root, encoding='unicode')


def _replace_ids(root: ElementTree.Element, prefix: str) -> None:
    """Turn hover texts into titles, rename the ids that something refers to, and drop the others."""
    href = f'{{{XLINK}}}href'
    new_ids: dict[str, str] = {}
    for element in root.iter():
        for key in (href, 'clip-path'):
            if found := re.search('#([^)]+)', element.get(key, '')):
                new_id = new_ids.setdefault(found[1], f'{prefix}-{len(new_ids)}')
                element.set(key, element.attrib[key].replace(found[1], new_id))
    for element in list(root.iter()):
        old_id = element.attrib.pop('id', '')
        if old_id in new_ids:
            element.set('id', new_ids[old_id])
        elif old_id.startswith(_HOVER):
            title = ElementTree.Element(f'{{{SVG}}}title')
            title.text = old_id.removeprefix(_HOVER)
            element.insert(0, title)


def _shorten(element: ElementTree.Element) -> None:
    """Leave font and text colour to the page; drop blanks, and digits that nobody sees and machines may differ in."""
    if 'style' in element.attrib:
        style = re.sub(r' ?font-family: [^;]*(;|$)', '', element.attrib['style'])
        element.set('style', style.replace(INK, 'currentColor'))
    for key in {'d', 'x', 'y', 'transform'} & element.attrib.keys():
        element.set(key, re.sub(r'\d+\.\d{3,}', lambda number: f'{float(number[0]):.2f}', element.attrib[key]))
    if not (element.text or '').strip():
        element.text = None
    element.tail = None

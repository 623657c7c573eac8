"""One picture of a scored image: tissue, truth, prediction and errors side by side, with counts and scores."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmgfnuc.evaluation.functional import (
    Contingency,
    NucleusStates,
    contingency_table,
    instance_counts,
    instance_scores,
    nucleus_states,
)
from mmgfnuc.visualization.outline import TRUTH_COLOUR, outline

from .overlay import PREDICTION_COLOUR

# Told apart by colour-blind readers too: Okabe & Ito, Color Universal Design, 2008.
STATE_COLOURS = {
    'matched': (0, 158, 115),
    'merged': (240, 228, 66),
    'split': (86, 180, 233),
    'missed': (213, 94, 0),
    'invented': (0, 114, 178),
}
HEADINGS = ('tissue', 'truth', 'prediction', 'errors')
FILL = 0.5
SMALLEST_PANEL = 256  # pixels; narrower images are enlarged, or no text would fit

Picture = NDArray[np.uint8]
LabelMap = NDArray[np.integer]


def draw_panels(
    image: Picture, truth: LabelMap, prediction: LabelMap, ignore: NDArray[np.bool_] | None = None
) -> Picture:
    """Draw tissue, truth, prediction and errors of one image, the counts of each kind of error, and AJI, PQ and F1.

    Truth and prediction show the outline of each nucleus. The errors, on grey tissue, show predicted nuclei, and above
    them the true ones that none of them matches, in the colours of their states (`nucleus_states`, which says what
    the words mean). Ignored areas are dimmed; what lies there is no error. F1 is that at IoU 0.5.

    Each panel is as large as the image; an image narrower than 256 pixels is enlarged by a whole factor.

    Shape:
        image (H, W, 3) RGB, truth and prediction (H, W) label maps, ignore (H, W), True where nothing is scored
        -> (H', W', 3) RGB

    Raises:
        UserError: the label maps differ in shape, or are none.
    """
    ignore = np.zeros(truth.shape, bool) if ignore is None else ignore
    table = contingency_table(prediction, truth, ignore)
    states = nucleus_states(table)
    image, truth, prediction, ignore = (_enlarged(array) for array in (image, truth, prediction, ignore))
    panels = [
        image,
        _outlined(image, truth, TRUTH_COLOUR),
        _outlined(image, prediction, PREDICTION_COLOUR),
        _errors(image, np.where(ignore, 0, truth), np.where(ignore, 0, prediction), table, states),
    ]
    for panel in panels[1:]:
        panel[ignore] //= 2
    return _framed(panels, table, states)


def _enlarged(array: NDArray) -> NDArray:
    factor = math.ceil(SMALLEST_PANEL / array.shape[1])
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _line_width(picture: NDArray) -> int:
    return max(1, round(picture.shape[1] / 300))


def _outlined(image: Picture, labels: LabelMap, colour: tuple[int, int, int]) -> Picture:
    picture = image.copy()
    picture[outline(labels, _line_width(image))] = colour
    return picture


def _errors(
    image: Picture, truth: LabelMap, prediction: LabelMap, table: Contingency, states: NucleusStates
) -> Picture:
    lost = states.truth != 'matched'
    # Grey of little contrast and middle brightness: every colour stands out from it.
    tissue = np.repeat(40 + 0.6 * image.mean(axis=2, keepdims=True), 3, axis=2)
    colours, edges = np.zeros_like(tissue), np.zeros(truth.shape, bool)
    for labels, ids, of_each in (
        (prediction, table.predicted_ids, states.predicted),
        (truth, table.truth_ids[lost], states.truth[lost]),
    ):
        labels = np.where(np.isin(labels, ids), labels, 0)
        inside = labels > 0
        palette = np.array([STATE_COLOURS[state] for state in of_each], float).reshape(-1, 3)
        colours[inside] = palette[np.searchsorted(ids, labels[inside])]
        edges |= outline(labels, _line_width(image))
    filled = np.where(colours.any(axis=2, keepdims=True), (1 - FILL) * tissue + FILL * colours, tissue)
    filled[edges] = colours[edges]
    return filled.round().astype(np.uint8)


def _framed(panels: list[Picture], table: Contingency, states: NucleusStates) -> Picture:
    """Panels in a row, a heading above each, scores and legend below."""
    height, width = panels[0].shape[:2]
    size = width / 19
    font = ImageFont.load_default(size)
    line = round(1.6 * size)
    gap = line // 2
    page = Image.new('RGB', (4 * width + 5 * gap, height + 5 * line), 'white')
    draw = ImageDraw.Draw(page)
    for number, (heading, panel) in enumerate(zip(HEADINGS, panels, strict=True)):
        left = gap + number * (width + gap)
        page.paste(Image.fromarray(panel), (left, line))
        draw.text((left, line / 2), heading, 'black', font, anchor='lm')
    draw.text((gap, height + 1.75 * line), _score_line(table), 'black', font, anchor='lm')
    for row, (kind, counts) in enumerate(zip(('true', 'predicted'), states.counts, strict=True)):
        middle = height + (3 + 1.25 * row) * line
        draw.text((gap, middle), f'{sum(counts.values())} {kind} nuclei', 'black', font, anchor='lm')
        for column, (state, count) in enumerate(counts.items()):
            left = (14 + 10 * column) * size
            draw.rectangle((left, middle - size / 2, left + size, middle + size / 2), STATE_COLOURS[state], 'black')
            draw.text((left + 1.5 * size, middle), f'{state} {count}', 'black', font, anchor='lm')
    return np.asarray(page)


def _score_line(table: Contingency) -> str:
    if not table.num_pixels:
        return 'everything is ignored: no scores'
    scores = instance_scores(instance_counts(table))
    return f'AJI {scores["aji"]:.3f}    PQ {scores["pq"]:.3f}    F1 {scores["f1_50"]:.3f}'

"""What became of each nucleus of a scored image: tissue, truth, prediction and errors side by side."""

import math

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.evaluation.functional import (
    PREDICTED_STATES,
    TRUE_STATES,
    Contingency,
    contingency_table,
    instance_counts,
    instance_scores,
    nucleus_states,
)

from .overlay import PREDICTION_COLOUR, outline
from .panels import Colour, Panel, Pixels, arrange

TRUTH_COLOUR: Colour = (0, 230, 80)
# Told apart by colour-blind readers too: Okabe & Ito, Color Universal Design, 2008.
STATE_COLOURS: dict[str, Colour] = {
    **dict(zip(TRUE_STATES, [(0, 158, 115), (240, 228, 66), (86, 180, 233), (213, 94, 0)], strict=True)),
    PREDICTED_STATES[-1]: (0, 114, 178),
}
FILL = 0.5
SMALLEST_PANEL = 256  # pixels; narrower images are enlarged, or no text would fit

LabelMap = NDArray[np.integer]


def draw_panels(
    image: Pixels, truth: LabelMap, prediction: LabelMap, ignore: NDArray[np.bool_] | None = None
) -> Pixels:
    """Draw tissue, truth, prediction and errors of one image, the counts of each kind of error, and AJI, PQ and F1.

    Truth and prediction show the outline of each nucleus, for the errors see `draw_errors`. Ignored areas are dimmed;
    what lies there is no error. F1 is that at IoU 0.5. An image narrower than 256 pixels is enlarged by a whole factor.

    Shape:
        image (H, W, 3) RGB, truth and prediction (H, W) label maps, ignore (H, W), True where nothing is scored
        -> (H', W', 3) RGB

    Raises:
        UserError: the label maps differ in shape, or are none.
    """
    ignore = np.zeros(truth.shape, bool) if ignore is None else ignore
    table = contingency_table(prediction, truth, ignore)
    image, truth, prediction, ignore = (enlarged(array) for array in (image, truth, prediction, ignore))
    panels = [
        Panel(image, ['tissue']),
        Panel(draw_outlines(image, truth, TRUTH_COLOUR, ignore), ['truth']),
        Panel(draw_outlines(image, prediction, PREDICTION_COLOUR, ignore), ['prediction']),
        Panel(draw_errors(image, truth, prediction, ignore), ['errors']),
    ]
    counted = [
        [(f'{sum(counts.values())} {kind} nuclei:', None)]
        + [(f'{state} {count}', STATE_COLOURS[state]) for state, count in counts.items()]
        for kind, counts in zip(('true', 'predicted'), nucleus_states(table).counts, strict=True)
    ]
    return arrange(panels, len(panels), [[(_scores(table), None)], *counted])


def draw_outlines(image: Pixels, labels: LabelMap, colour: Colour, ignore: NDArray[np.bool_]) -> Pixels:
    """Outline each nucleus and dim ignored areas.

    Shape:
        image (H, W, 3) RGB, labels (H, W), ignore (H, W) -> (H, W, 3)
    """
    picture = image.copy()
    picture[outline(labels, line_width(image))] = colour
    picture[ignore] //= 2
    return picture


def draw_errors(image: Pixels, truth: LabelMap, prediction: LabelMap, ignore: NDArray[np.bool_]) -> Pixels:
    """Draw predicted nuclei on grey tissue, and above them the true ones that none of them matches.

    The colours are those of their states; `nucleus_states` says what the words mean. Ignored areas are dimmed.

    Shape:
        image (H, W, 3) RGB, truth and prediction (H, W) label maps, ignore (H, W) -> (H, W, 3)
    """
    table = contingency_table(prediction, truth, ignore)
    states = nucleus_states(table)
    lost = states.truth != TRUE_STATES[0]
    # Grey of little contrast and middle brightness: every colour stands out from it.
    tissue = np.repeat(40 + 0.6 * image.mean(axis=2, keepdims=True), 3, axis=2)
    colours, edges = np.zeros_like(tissue), np.zeros(truth.shape, bool)
    for labels, ids, of_each in (
        (prediction, table.predicted_ids, states.predicted),
        (truth, table.truth_ids[lost], states.truth[lost]),
    ):
        labels = np.where(np.isin(labels, ids) & ~ignore, labels, 0)
        inside = labels > 0
        palette = np.array([STATE_COLOURS[state] for state in of_each], float).reshape(-1, 3)
        colours[inside] = palette[np.searchsorted(ids, labels[inside])]
        edges |= outline(labels, line_width(image))
    filled = np.where(colours.any(axis=2, keepdims=True), (1 - FILL) * tissue + FILL * colours, tissue)
    filled[edges] = colours[edges]
    filled[ignore] //= 2
    return filled.round().astype(np.uint8)


def enlarged(array: NDArray) -> NDArray:
    """Repeat rows and columns of an image or a map of one so that it is at least 256 pixels wide."""
    factor = math.ceil(SMALLEST_PANEL / array.shape[1])
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def line_width(image: NDArray) -> int:
    """Width of an outline in pixels: thin, and still seen where the image is shown small."""
    return max(1, round(max(image.shape[:2]) / 300))


def _scores(table: Contingency) -> str:
    if not table.num_pixels:
        return 'everything is ignored: no scores'
    scores = instance_scores(instance_counts(table))
    return f'AJI {scores["aji"]:.3f}    PQ {scores["pq"]:.3f}    F1 {scores["f1_50"]:.3f}'

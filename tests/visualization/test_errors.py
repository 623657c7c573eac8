from itertools import combinations

import numpy as np
import pytest
from PIL import ImageDraw

from mmgfnuc.evaluation.functional import PREDICTED_STATES, TRUE_STATES
from mmgfnuc.visualization.errors import STATE_COLOURS, draw_errors, draw_outlines, draw_panels

MATCHED, MERGED, SPLIT, FALSE_NEGATIVE = (STATE_COLOURS[state] for state in TRUE_STATES)
FALSE_POSITIVE = STATE_COLOURS[PREDICTED_STATES[-1]]
GREEN = (0, 230, 80)
SIZE = 300
IMAGE = np.full((SIZE, SIZE, 3), (90, 30, 60), np.uint8)
NOWHERE = np.zeros((SIZE, SIZE), bool)


def squares(*places):
    """Nuclei of 40 pixels at rows and columns of a grid of 50, with ids; (row, column, id) or (..., id, columns)."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for row, column, name, *columns in places:
        first, last = columns or (0, 40)
        labels[50 * row : 50 * row + 40, 50 * column + first : 50 * column + last] = name
    return labels


TRUTH = squares((0, 0, 3), (1, 0, 7), (1, 1, 8), (2, 0, 9), (3, 0, 20), (5, 0, 30), (5, 1, 31, 0, 15))
PREDICTION = squares((0, 0, 1), (2, 0, 4, 0, 20), (2, 0, 5, 20, 40), (4, 0, 6), (5, 0, 11), (5, 1, 11, 0, 15))
PREDICTION[50:90, 0:90] = 2
PREDICTION[250:290, 40:50] = 11


@pytest.fixture
def written(monkeypatch):
    """Every text that is written, with the box that it takes."""
    texts = []
    write = ImageDraw.ImageDraw.text

    def record(draw, place, text, fill, font, anchor):
        texts.append((text, draw.textbbox(place, text, font, anchor)))
        write(draw, place, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', record)
    return texts


def texts_of(written):
    return [text for text, _ in written]


def at(panel, row, column, inside=9):
    return tuple(panel[50 * row + inside, 50 * column + inside].tolist())


def blend(colour, grey):
    """Half of the colour, half of the paled tissue."""
    return tuple(round(0.5 * (40 + 0.6 * grey) + 0.5 * part) for part in colour)


def test_each_nucleus_has_the_colour_of_what_became_of_it():
    errors = draw_errors(IMAGE, TRUTH, PREDICTION, NOWHERE)
    expected = {
        (0, 0): MATCHED,
        (1, 0): MERGED,
        (1, 1): MERGED,
        (2, 0): SPLIT,
        (3, 0): FALSE_NEGATIVE,
        (4, 0): FALSE_POSITIVE,
        # 11 matches the larger of two that it covers: 40 x 40 of 65 x 40 pixels. The smaller lies above it.
        (5, 0): MATCHED,
        (5, 1): MERGED,
    }
    for place, colour in expected.items():
        assert at(errors, *place) == blend(colour, 60), place
        assert at(errors, *place, inside=0) == colour, place
    assert at(errors, 0, 4) == (76, 76, 76), 'tissue without nuclei is grey'
    merged = (errors[50:90, :90] == MERGED).all(2)
    assert merged[:, [0, 39, 50, 89]].all(), 'sides of the true nuclei'
    assert merged[[0, 39], 40:50].all(), 'the predicted one between them'


def test_ignored_areas_are_dim_and_hold_no_errors():
    ignore = NOWHERE.copy()
    ignore[150:250] = True
    assert (draw_errors(IMAGE, TRUTH, PREDICTION, ignore)[150:250] == 38).all()
    outlined = draw_outlines(IMAGE, TRUTH, GREEN, ignore)
    assert at(outlined, 2, 0, inside=0) == GREEN
    assert at(outlined, 3, 0, inside=0) == (0, 115, 40)
    assert at(outlined, 3, 4) == (45, 15, 30)
    # A predicted nucleus that leaves an ignored area is no error.
    ignore = NOWHERE.copy()
    ignore[:30] = True
    alone = squares((0, 0, 1))
    assert (draw_errors(IMAGE, alone * 0, alone, ignore)[30:40, :40] == 76).all()


def test_panels_show_the_image_counts_and_scores(written):
    picture = draw_panels(IMAGE, TRUTH, PREDICTION)
    assert texts_of(written) == [
        *('tissue', 'truth', 'prediction', 'errors'),
        texts_of(written)[4],
        '7 true nuclei:',
        *(f'{state} {count}' for state, count in zip(TRUE_STATES, (2, 3, 1, 1), strict=True)),
        '6 predicted nuclei:',
        *(f'{state} {count}' for state, count in zip(PREDICTED_STATES, (2, 1, 2, 1), strict=True)),
    ]
    (row, column), *_ = np.argwhere((picture == IMAGE[0, 0]).all(2))
    assert (picture[row : row + SIZE, column : column + SIZE] == IMAGE).all()
    written.clear()
    draw_panels(IMAGE, squares((0, 0, 1), (1, 0, 2)), squares((0, 0, 1, 0, 30)))
    # Intersection 1200, union 1600 and a false negative of 1600; F1 2 / 3, SQ 3 / 4.
    assert 'AJI 0.375    PQ 0.500    F1 0.667' in texts_of(written)


def test_nothing_to_score(written):
    empty = np.zeros((SIZE, SIZE), np.int32)
    draw_panels(IMAGE, TRUTH, PREDICTION, ~NOWHERE)
    assert 'everything is ignored: no scores' in texts_of(written)
    draw_panels(IMAGE, empty, empty)
    assert {'AJI 1.000    PQ 1.000    F1 1.000', '0 true nuclei:'} <= set(texts_of(written))


@pytest.mark.parametrize(('height', 'width'), [(40, 256), (512, 512), (100, 1000), (300, 31)])
def test_texts_lie_within_the_picture_and_apart(written, height, width):
    # The widest counts: 16,384 nuclei of a pixel.
    labels = np.arange(height * width).reshape(height, width)
    picture = draw_panels(np.zeros((height, width, 3), np.uint8), labels, np.where(labels % 2, labels, 0))
    boxes = [box for _, box in written]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= picture.shape[1]
        assert 0 <= top < bottom <= picture.shape[0]
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]

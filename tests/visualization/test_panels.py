from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ImageDraw

from mmgfnuc.visualization.panels import draw_panels

GREEN, YELLOW = (0, 230, 80), (255, 225, 0)
MATCHED, MERGED, SPLIT, MISSED, INVENTED = (
    (0, 158, 115),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
    (0, 114, 178),
)
SIZE = 300
INSIDE = 9


def squares(*cells):
    """Nuclei of 40 pixels at rows and columns of a grid of 50, with ids; (row, column, id) or (..., id, columns)."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for row, column, name, *columns in cells:
        first, last = columns or (0, 40)
        labels[50 * row : 50 * row + 40, 50 * column + first : 50 * column + last] = name
    return labels


@pytest.fixture
def written(monkeypatch):
    """Every text that is written, with the box that it takes."""
    texts = {}
    write = ImageDraw.ImageDraw.text

    def record(draw, place, text, fill, font, anchor):
        texts[text] = draw.textbbox(place, text, font, anchor)
        write(draw, place, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', record)
    return texts


def panels_of(picture, size=SIZE):
    """Cut the picture, found by what is not white, into its four panels."""
    top = np.flatnonzero((picture != 255).any(2).sum(1) > 3 * size)[0]
    row = (picture[top + size // 2] != 255).any(1)
    lefts = np.flatnonzero(np.diff(row.astype(int)) == 1) + 1
    assert len(lefts) == 4
    return SimpleNamespace(
        **{
            name: picture[top : top + size, left : left + size]
            for name, left in zip(('tissue', 'truth', 'prediction', 'errors'), lefts, strict=True)
        }
    )


def at(panel, row, column, inside=INSIDE):
    return tuple(panel[50 * row + inside, 50 * column + inside].tolist())


def blend(colour, grey):
    """Half of the colour, half of the paled tissue."""
    return tuple(round(0.5 * (40 + 0.6 * grey) + 0.5 * part) for part in colour)


IMAGE = np.full((SIZE, SIZE, 3), (90, 30, 60), np.uint8)
TRUTH = squares((0, 0, 3), (1, 0, 7), (1, 1, 8), (2, 0, 9), (3, 0, 20), (5, 0, 30), (5, 1, 31, 0, 15))
PREDICTION = squares((0, 0, 1), (2, 0, 4, 0, 20), (2, 0, 5, 20, 40), (4, 0, 6), (5, 0, 11), (5, 1, 11, 0, 15))
PREDICTION[50:90, 0:90] = 2
PREDICTION[250:290, 40:50] = 11


def test_each_nucleus_has_the_colour_of_what_became_of_it(written):
    errors = panels_of(draw_panels(IMAGE, TRUTH, PREDICTION)).errors
    cells = {
        (0, 0): MATCHED,
        (1, 0): MERGED,
        (1, 1): MERGED,
        (2, 0): SPLIT,
        (3, 0): MISSED,
        (4, 0): INVENTED,
        # 11 matches the larger of two that it covers: 40 x 40 of 65 x 40 pixels. The smaller lies above it.
        (5, 0): MATCHED,
        (5, 1): MERGED,
    }
    for cell, colour in cells.items():
        assert at(errors, *cell) == blend(colour, 60), cell
        assert at(errors, *cell, inside=0) == colour, cell
    assert at(errors, 0, 4) == (76, 76, 76), 'tissue without nuclei is grey'
    assert {
        '7 true nuclei',
        '6 predicted nuclei',
        'matched 2',
        'merged 3',
        'merged 1',
        'split 1',
        'split 2',
        'missed 1',
        'invented 1',
    } <= set(written)


def test_a_merge_shows_both_outlines():
    errors = panels_of(draw_panels(IMAGE, TRUTH, PREDICTION)).errors
    where = (errors[50:90, :90] == MERGED).all(2)
    assert where[:, [0, 39, 50, 89]].all(), 'sides of the true nuclei'
    assert where[[0, 39], 40:50].all(), 'the predicted one between them'


def test_truth_and_prediction_show_outlines_on_the_tissue():
    panels = panels_of(draw_panels(IMAGE, TRUTH, PREDICTION))
    assert (panels.tissue == IMAGE).all()
    for panel, colour, labels in ((panels.truth, GREEN, TRUTH), (panels.prediction, YELLOW, PREDICTION)):
        drawn = (panel == colour).all(2)
        assert (panel[~drawn] == (90, 30, 60)).all()
        assert drawn[50 * 2, :40].all()
        assert not drawn[labels == 0].any()
    assert (panels.prediction[110, 19:21] == YELLOW).all(), 'two nuclei touch here'
    assert (panels.truth[110, 19:21] == (90, 30, 60)).all()


def test_scores(written):
    draw_panels(IMAGE, squares((0, 0, 1), (1, 0, 2)), squares((0, 0, 1, 0, 30)))
    # Intersection 1200, union 1600 and a missed nucleus of 1600; F1 2 / 3, SQ 3 / 4.
    assert 'AJI 0.375    PQ 0.500    F1 0.667' in written


def test_ignored_areas_are_dim_and_hold_no_errors(written):
    ignore = np.zeros((SIZE, SIZE), bool)
    ignore[150:250] = True
    panels = panels_of(draw_panels(IMAGE, TRUTH, PREDICTION, ignore))
    assert (panels.tissue == IMAGE).all()
    assert at(panels.truth, 3, 0, inside=0) == (0, 115, 40)
    assert at(panels.truth, 3, 4) == at(panels.prediction, 3, 4) == (45, 15, 30)
    assert (panels.errors[150:250] == 38).all()
    assert {'missed 0', 'invented 0', 'matched 2'} <= set(written)


def test_nothing_to_score(written):
    everything = np.ones((SIZE, SIZE), bool)
    empty = np.zeros((SIZE, SIZE), np.int32)
    draw_panels(IMAGE, TRUTH, PREDICTION, everything)
    assert 'everything is ignored: no scores' in written
    draw_panels(IMAGE, empty, empty)
    assert 'AJI 1.000    PQ 1.000    F1 1.000' in written
    assert '0 true nuclei' in written


def test_a_predicted_nucleus_that_leaves_an_ignored_area_is_no_error():
    prediction = squares((0, 0, 1))
    ignore = np.zeros((SIZE, SIZE), bool)
    ignore[:30] = True
    errors = panels_of(draw_panels(IMAGE, prediction * 0, prediction, ignore)).errors
    assert (errors[30:40, :40] == 76).all()


def test_small_images_are_enlarged_by_a_whole_factor():
    image = np.random.default_rng(0).integers(0, 200, (96, 96, 3)).astype(np.uint8)
    empty = np.zeros((96, 96), np.int32)
    assert (panels_of(draw_panels(image, empty, empty), 288).tissue == image.repeat(3, 0).repeat(3, 1)).all()


@pytest.mark.parametrize(('height', 'width'), [(40, 256), (512, 512), (100, 1000), (300, 31)])
def test_texts_lie_within_the_picture_and_apart(written, height, width):
    # The widest counts: 16,384 nuclei of a pixel.
    labels = np.arange(height * width).reshape(height, width)
    picture = draw_panels(np.zeros((height, width, 3), np.uint8), labels, np.where(labels % 2, labels, 0))
    boxes = list(written.values())
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= picture.shape[1]
        assert 0 <= top < bottom <= picture.shape[0]
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]

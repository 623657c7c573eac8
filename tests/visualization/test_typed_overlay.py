import numpy as np

from mmgfnuc.visualization.outline import outline
from mmgfnuc.visualization.typed_overlay import draw_typed_overlay

CLASSES = ('background', 'epithelial', 'lymphocyte', 'stromal')
PALETTE = [[0, 0, 0], [0, 158, 115], [230, 159, 0], [86, 180, 233]]


def drawn(width=200, types=(2, 1, 0)):
    labels = np.zeros((40, width), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[20:30, 5:15] = 1, 2, 3
    image = np.full((40, width, 3), 100, np.uint8)
    picture = draw_typed_overlay(image, labels, np.array(types), CLASSES, PALETTE)
    assert (image == 100).all(), 'the image itself is not drawn into'
    return labels, picture


def test_each_nucleus_has_the_colour_of_its_type():
    labels, picture = drawn()
    for number, kind in ((1, 2), (2, 1), (3, 0)):
        assert (picture[:40][outline(labels) & (labels == number)] == PALETTE[kind]).all()
    assert (picture[:40][~outline(labels)] == 100).all()


def test_the_legend_shows_all_types_below_the_image():
    _, picture = drawn()
    for colour in PALETTE[1:]:
        assert (picture[40:] == colour).all(2).sum() > 50
    assert (picture[40:] == 255).all(2).mean() > 0.5


def test_a_narrow_image_gets_more_lines_and_room_for_the_longest_name():
    wide, narrow, narrowest = (drawn(width)[1] for width in (600, 200, 30))
    assert wide.shape[0] < narrow.shape[0] == narrowest.shape[0]
    assert narrow.shape[1] == 200
    assert 80 < narrowest.shape[1] < 200

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from mmgfnuc.visualization.overlay import PREDICTION_COLOUR, draw_overlay, outline

CLASSES = ('background', 'epithelial', 'lymphocyte', 'stromal')
PALETTE = [[0, 0, 0], [0, 158, 115], [230, 159, 0], [86, 180, 233]]


def test_outline_keeps_touching_nuclei_apart():
    labels = np.zeros((6, 8), int)
    labels[1:5, 1:4] = 1
    labels[1:5, 4:8] = 2
    expected = [
        '........',
        '.#######',
        '.#.##..#',
        '.#.##..#',
        '.#######',
        '........',
    ]
    assert [''.join('.#'[pixel] for pixel in row) for row in outline(labels).astype(int)] == expected
    assert np.array_equal(outline(labels, width=2), labels > 0)


def test_outline_of_a_mask_is_that_of_opencv():
    rng = np.random.default_rng(0)
    for blur in np.linspace(0, 3, 20):
        mask = gaussian_filter(rng.standard_normal((60, 70)), blur) > 0
        expected = np.zeros(mask.shape, np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(expected, contours, -1, 1, 1)
        assert np.array_equal(outline(mask), expected > 0)


def test_nuclei_have_the_colours_of_their_types_and_a_legend_below():
    for width in (200, 30):  # the legend needs more lines and columns than the narrow image has
        labels = np.zeros((40, width), np.int32)
        labels[5:15, 5:15], labels[5:15, 15:25], labels[20:30, 5:15] = 1, 2, 3
        image = np.full((40, width, 3), 100, np.uint8)
        picture = draw_overlay(image, labels, np.array([2, 1, 0]), CLASSES, PALETTE)
        assert (image == 100).all(), 'the image itself is not drawn into'
        shown, legend = picture[:40, :width], picture[40:]
        for number, kind in ((1, 2), (2, 1), (3, 0)):
            assert (shown[outline(labels) & (labels == number)] == PALETTE[kind]).all()
        assert (shown[~outline(labels)] == 100).all()
        assert all((legend == colour).all(2).sum() > 50 for colour in PALETTE[1:])
    two_classes = draw_overlay(image, labels, np.array([1, 1, 1]), CLASSES[:2], PALETTE[:2])
    assert (two_classes[outline(labels)] == PREDICTION_COLOUR).all()
    assert (two_classes[~outline(labels)] == 100).all()
    assert np.array_equal(two_classes, draw_overlay(image, labels))

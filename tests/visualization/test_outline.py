import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from mmgfnuc.visualization.outline import outline


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

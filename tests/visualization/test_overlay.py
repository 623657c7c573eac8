import numpy as np

from mmgfnuc.inference import draw_overlay

YELLOW = (255, 225, 0)


def test_touching_nuclei_have_an_outline_each():
    labels = np.zeros((9, 12), np.int32)
    labels[2:7, 1:6] = 4
    labels[2:7, 6:11] = 70_000
    expected = labels > 0
    expected[3:6, 2:5] = expected[3:6, 7:10] = False
    image = np.full((9, 12, 3), 100, np.uint8)
    picture = draw_overlay(image, labels)
    assert np.array_equal((picture == YELLOW).all(2), expected)
    assert (picture[~expected] == 100).all()
    assert (image == 100).all(), 'the image itself is not drawn into'

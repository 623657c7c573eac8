import numpy as np

from mmgfnuc.inference import draw_overlay

GREEN, YELLOW = (0, 230, 80), (255, 225, 0)


def square(first, last, size=12, value=1):
    semantic = np.zeros((size, size), np.uint8)
    semantic[first : last + 1, first : last + 1] = value
    return semantic


def ring(first, last, size=12):
    outline = square(first, last, size) > 0
    outline[first + 1 : last, first + 1 : last] = False
    return outline


def where(picture, colour):
    return (picture == colour).all(2)


def test_contours_are_the_outermost_pixels_of_a_nucleus():
    image = np.full((12, 12, 3), 100, np.uint8)
    picture = draw_overlay(image, square(3, 6), truth=square(1, 8))
    assert np.array_equal(where(picture, YELLOW), ring(3, 6))
    assert np.array_equal(where(picture, GREEN), ring(1, 8))
    untouched = ~(ring(3, 6) | ring(1, 8))
    assert (picture[untouched] == 100).all()
    assert (image == 100).all(), 'the image itself is not drawn into'


def test_prediction_lies_above_truth():
    picture = draw_overlay(np.zeros((12, 12, 3), np.uint8), square(2, 5), square(2, 5))
    assert np.array_equal(where(picture, YELLOW), ring(2, 5))
    assert not where(picture, GREEN).any()


def test_ignored_areas_are_darkened_and_have_no_contour():
    picture = draw_overlay(np.full((12, 12, 3), 100, np.uint8), square(0, 0) * 0, square(4, 6, value=255))
    assert np.array_equal((picture == 50).all(2), square(4, 6) > 0)
    assert not where(picture, GREEN).any()

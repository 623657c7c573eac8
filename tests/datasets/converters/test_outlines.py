"""Outlines become nuclei, areas to be ignored, or a notice."""

from pathlib import Path

import numpy as np
import pytest

from mmgfnuc.datasets.canonical import BadFileError
from mmgfnuc.datasets.converters.notices import read_notices, write_notices
from mmgfnuc.datasets.converters.outlines import Outline, cover, draw, mark_crossings

from .features import box

PATH, SHAPE = Path('a.json'), (12, 16)


def outlines(*rings):
    return [Outline(f'feature {number}', [[ring]]) for number, ring in enumerate(rings, start=1)]


@pytest.mark.parametrize('inside', [9, 10])
def test_more_outlines_outside_than_inside_belong_to_another_resolution(inside):
    """As where the image was exported at half the resolution: the rest lies at wrong places."""
    rings = [box(k, 0, k + 1, 1) for k in range(inside)] + [box(20 + k, 0, 21 + k, 1) for k in range(10)]
    if inside == 10:
        assert len(draw(PATH, outlines(*rings), SHAPE).notices) == 1
    else:
        with pytest.raises(BadFileError, match=r'10 of 19 outlines lie outside of an image of 12 x 16 pixels'):
            draw(PATH, outlines(*rings), SHAPE)


@pytest.mark.parametrize(
    ('ring', 'crosses'),
    [
        (box(1, 1, 9, 9), False),
        (box(1, 1, 9, 9)[::-1], False),
        (np.array([(1, 1), (9, 9), (9, 1), (1, 9)], float), True),
        (np.concatenate([box(1, 1, 9, 9)] * 2), True),
        # A slip where it closes; a hole that is reached by a cut; a bow tie of which one half lies outside.
        (np.array([(1, 1), (9, 1), (9, 9), (1, 9), (1, 0.4), (1.6, 1.6)]), False),
        (np.concatenate([box(0, 0, 10, 10), [(0, 0)], box(3, 3, 6, 6)[[0, 3, 2, 1, 0]], [(0, 0)]]), False),
        (np.array([(-20, 1), (9, 9), (9, 1), (-20, 9)], float), False),
        (np.array([(-20, 1), (-1, 6), (9, 6), (9, 9), (-20, 0)], float), False),
    ],
)
def test_outlines_that_cross_themselves(ring, crosses):
    (marked,) = mark_crossings(outlines(ring), SHAPE)
    assert bool(marked.fault) == crosses


def test_all_that_a_crossing_outline_encloses_is_unsure():
    twice = np.concatenate([box(1, 1, 9, 9)] * 2)
    drawing = draw(PATH, mark_crossings(outlines(box(12, 1, 14, 3), twice, box(7, 7, 11, 11)), SHAPE), SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[1:9, 1:9] = True
    expected[7:9, 7:9] = False
    np.testing.assert_array_equal(drawing.unsure, expected)


def test_parts_and_holes():
    outer, hole, island, apart = box(1, 1, 10, 10), box(3, 3, 8, 8), box(5, 5, 6, 6), box(11, 1, 13, 3)
    drawing = draw(PATH, [Outline('x', [[outer, hole], [island], [apart]])], SHAPE)
    assert (drawing.instances == 1).sum() == 81 - 25 + 1 + 4
    assert drawing.instances[3, 3] == 0
    assert drawing.instances[5, 5] == drawing.instances[1, 11] == 1


def test_parts_and_holes_at_the_border_of_the_image():
    area = [[box(-4, -4, 6, 6), box(-2, -2, 3, 3)], [box(14, 10, 30, 30), box(15, 11, 40, 40)], [box(50, 50, 60, 60)]]
    expected = np.zeros(SHAPE, bool)
    expected[:6, :6] = expected[10:, 14:] = True
    expected[:3, :3] = expected[11:, 15:] = False
    np.testing.assert_array_equal(cover([Outline('x', area)], SHAPE), expected)


def test_of_the_users_own_an_outline_that_others_cover_is_left_out():
    """What is left of it is unsure, and takes no pixel from those that follow; authors' sets stay as they are."""
    rings = box(0, 0, 4, 4), box(1, 0, 6, 4), box(4, 0, 10, 4)
    drawing = draw(PATH, outlines(*rings), SHAPE, own=True)
    expected = np.zeros(SHAPE, int)
    expected[:4, :4], expected[:4, 4:10] = 1, 3
    np.testing.assert_array_equal(drawing.instances, expected)
    assert not drawing.unsure.any()
    assert list(drawing.notices.values()) == [['feature 2']]
    drawing = draw(PATH, outlines(*rings[:2]), SHAPE, own=True)
    np.testing.assert_array_equal(drawing.unsure, np.pad(np.ones((4, 2), bool), ((0, 8), (4, 10))))
    drawing = draw(PATH, outlines(*rings), SHAPE)
    expected[:4, 4:6] = 2
    np.testing.assert_array_equal(drawing.instances, expected)
    assert list(drawing.notices.values()) == [['feature 2']]


def test_areas_to_be_ignored_take_no_pixel_from_nuclei():
    whole = Outline('crowd', [[box(0, 0, 16, 12)]], ignored=True)
    drawing = draw(PATH, [whole, *outlines(box(2, 2, 4, 4))], SHAPE)
    assert np.unique(drawing.instances).tolist() == [0, 2]
    np.testing.assert_array_equal(drawing.unsure, drawing.instances == 0)
    assert drawing.notices == {}
    assert draw(PATH, [whole], SHAPE).unsure.all()


def test_notices_of_many_images_are_one_line_for_each_kind(tmp_path):
    for image in 'abcde':
        write_notices(tmp_path, image, {'left out': [f'feature {k}' for k in range(5)]})
    write_notices(tmp_path, 'f', {'cut': ['one']})
    shown = 'feature 0, feature 1, feature 2 and 2 more'
    places = '; '.join(f'{image}: {shown}' for image in 'abc')
    assert read_notices(tmp_path) == [f'left out: 25 ({places}; 2 more images, all in notices/)', 'cut: 1 (f: one)']

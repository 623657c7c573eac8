"""Where the size of a pixel comes from, and what is said of it."""

from dataclasses import replace

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.inference.pixel_size import PixelSizes, scale_notices, stated_mpp
from mmgfnuc.inference.preprocessing import Preprocessing

TRAINED = Preprocessing(0.25, ('background', 'nucleus'), [[0, 0, 0], [0, 158, 115]], [], nucleus_diameter_um=6.0)
UNSIZED = replace(TRAINED, nucleus_diameter_um=None)


def never(mpp):
    raise AssertionError('nothing need be assumed')


def test_what_is_given_wins_over_the_file_and_that_over_the_nuclei():
    sizes = PixelSizes(TRAINED, nucleus_diameter=12)
    found = [sizes.find(never, *known) for known in ((0.3, 0.5), (0.5, 0.5), (None, 0.5), ())]
    assert [(size.mpp, size.source) for size in found] == [
        (0.3, 'given'),
        (0.5, 'given'),
        (0.5, 'file'),
        (0.5, 'nucleus diameter'),
    ]
    assert [bool(size.notice) for size in found] == [True, False, False, True]
    ours = PixelSizes(TRAINED, given=0.5)
    assert ours.find(never, None, 0.3).mpp == 0.5
    assert ours.find(never, 1.0, 0.3).mpp == 1.0


def test_what_is_wrong_in_a_file_matters_where_it_counts():
    wrong = stated_mpp('none.tif')
    assert isinstance(wrong, UserError)
    assert PixelSizes(TRAINED).find(never, 0.3, wrong).mpp == 0.3
    with pytest.raises(UserError, match=r'none\.tif: missing'):
        PixelSizes(TRAINED).find(never, None, wrong)


@pytest.mark.parametrize('trained', [UNSIZED, replace(TRAINED, mpp=None)])
def test_a_model_that_knows_no_sizes_assumes_none(trained):
    found = PixelSizes(trained).find(never)
    assert (found.mpp, found.source) == (None, 'unknown')
    assert 'taken as it is' in found.notice
    with pytest.raises(UserError, match='the model does not say how large'):
        PixelSizes(trained, nucleus_diameter=12)


@pytest.mark.parametrize('diameter', [0, -3, float('nan'), True, '12', 1, 200, float('inf')])
def test_diameters_that_no_microscope_shows(diameter):
    with pytest.raises(UserError, match=r'nucleus_diameter=.*: give pixels from 2 to 120, '):
        PixelSizes(TRAINED, nucleus_diameter=diameter)


@pytest.mark.parametrize('mpp', [0, 250, '0.5', True])
def test_sizes_that_no_microscope_has(mpp):
    for ask in (lambda: PixelSizes(TRAINED, mpp), lambda: PixelSizes(TRAINED).find(never, mpp)):
        with pytest.raises(UserError, match=f'mpp: {mpp!r} micrometres'):
            ask()


def test_one_of_both_is_given():
    with pytest.raises(UserError, match='give mpp alone'):
        PixelSizes(TRAINED, 0.5, 12)


def notices(stated, given=None, trained=TRAINED):
    return list(scale_notices(stated, PixelSizes(trained, given)))


def test_what_is_said_of_many_files_at_once():
    start = 'pixel size, as the files state it: '
    assert notices([]) == notices([UserError('damaged')]) == notices([0.499, 0.5, None], given=0.5) == []
    assert notices([0.25, 0.2501, 1.0]) == [f'{start}0.25 um (2), 1 um (1)']
    assert notices([0.5, None, None]) == [f'{start}0.5 um (1); 2 of 3 state none (--mpp gives it)']
    assert notices([None] * 9) == [f'{start}9 of 9 state none (--mpp gives it)']
    (line,) = notices([0.25, None, 0.5, UserError('damaged')], given=0.5)
    assert line == f'{start}0.25 um (1), and 0.5 um are used, as given'
    (line,) = notices([0.5], given=0.5, trained=replace(TRAINED, mpp=None))
    assert 'the training images stated no pixel size' in line

from pathlib import Path

import numpy as np
import tifffile

from mmgfnuc.errors import UserError
from mmgfnuc.inference.scale import scale_notices, stated_scale


def notices(sizes, given, trained):
    return list(scale_notices({Path(f'{number}.tif'): size for number, size in enumerate(sizes)}, given, trained))


def test_sizes_that_fit_need_no_word():
    assert notices([0.499, 0.5, None], given=0.5, trained=0.5) == []
    (line,) = notices([0.499, 0.5], given=None, trained=0.5)
    assert line == 'pixel size, as the files state it: 0.5 um (2)'


def test_one_warning_for_each_size_that_the_model_does_not_have():
    lines = notices([0.25, 0.2501, 1.0, 0.5], given=None, trained=0.5)
    assert 'as the files state it: 0.25 um (2), 0.5 um (1), 1 um (1)' in lines[0]
    assert [line.split(' um per pixel, ')[1].split(';')[0] for line in lines[1:]] == [
        'the images have 0.25 (2 of 4)',
        'the images have 1 (1 of 4)',
    ]
    (line,) = notices([None] * 3, given=0.25, trained=0.5)
    assert 'the images have 0.25 (3 of 3); resize them by 0.50' in line


def test_what_the_user_gives_wins_over_the_file_with_a_word():
    (line,) = notices([0.25, None, 0.5, UserError('damaged')], given=0.5, trained=0.5)
    assert 'notice: 0.5 um per pixel are used, as given; the files state otherwise: 0.25 um (1)' in line


def test_unknown_is_said_once():
    (line,) = notices([None] * 9, given=None, trained=0.5)
    assert '9 of 9 images, such as 0.tif, is unknown' in line
    (line,) = notices([0.5], given=0.5, trained=None)
    assert 'the model does not say its pixel size' in line


def test_a_fault_of_the_file_is_given_not_raised(tmp_path):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, np.zeros((20, 20, 3), np.uint8), description='Aperio |MPP = 40.0')
    assert isinstance(stated_scale(path), UserError)
    assert isinstance(stated_scale(tmp_path / 'none.tif'), UserError)

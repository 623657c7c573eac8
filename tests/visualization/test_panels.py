import numpy as np
from PIL import ImageFont

from mmgfnuc.visualization.panels import Panel, _wrapped, arrange


def test_names_are_broken_where_they_may():
    font = ImageFont.load_default(14)
    name = 'eunet3+/shuffled-context-image/vit-tiny:random/semantic'
    lines = _wrapped(name, 200, font)
    assert ''.join(lines) == name
    assert len(lines) > 1
    assert all(font.getlength(line) <= 200 for line in lines)
    assert _wrapped('Dice 0.512', 200, font) == ['Dice 0.512']


def test_panels_stand_in_a_grid_above_their_legend():
    panels = [Panel(np.full((8, 16, 3), (0, 40 * shade, 90), np.uint8)) for shade in range(1, 6)]
    page = arrange(panels, 2, [[('red', (255, 0, 0))]])
    red = np.flatnonzero((page == [255, 0, 0]).all(axis=2).any(axis=1))
    places = [np.argwhere((page == (0, 40 * shade, 90)).all(axis=2)) for shade in range(1, 6)]
    corners = [place[0].tolist() for place in places]
    assert all(tuple(place[-1] - place[0]) == (7, 15) for place in places)
    rows, columns = ([corner[axis] for corner in corners] for axis in (0, 1))
    assert rows[0] == rows[1] < rows[2] == rows[3] < rows[4] < red[0]
    assert columns[0] == columns[2] == columns[4] < columns[1] == columns[3]

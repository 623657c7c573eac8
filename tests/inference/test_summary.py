"""The numbers of an image in images.csv."""

import numpy as np
import pytest

from mmgfnuc.inference.pixel_size import PixelSize
from mmgfnuc.inference.summary import summarise, tissue_share

from .stub import Stub

GLASS, EOSIN = (243, 242, 244), (225, 170, 205)


def half_tissue(height, width):
    image = np.full((height, width, 3), GLASS, np.uint8)
    image[:, : width // 2] = EOSIN
    return image


def test_density_and_area_by_hand():
    found = summarise(Stub()(half_tissue(20, 40), PixelSize(0.5, 'file'), name='a'))
    # Nuclei of 9, 12 and 24 pixels; 800 pixels of a quarter of a square micrometre.
    expected = {'nuclei': 3, 'median_area_px': 12, 'median_area_um2': 3, 'per_mm2': 15_000}
    assert {name: found[name] for name in expected} == expected
    for unknown in (PixelSize(None, 'unknown'), PixelSize(0.5, 'first pass')):
        unscaled = summarise(Stub()(half_tissue(20, 40), unknown, name='a'))
        assert unscaled.keys() == {'nuclei', 'median_area_px', 'tissue_share'}


@pytest.mark.parametrize('size', [(64, 128), (1, 2), (37, 200)])
def test_tissue_is_where_light_is_absorbed(size):
    assert tissue_share(np.full((*size, 3), GLASS, np.uint8)) == 0
    assert tissue_share(np.full((*size, 3), EOSIN, np.uint8)) == 1
    share = tissue_share(half_tissue(*size))
    assert share == pytest.approx(0.5, abs=0.5 if size[1] < 16 else 0.05)


def test_specks_on_glass_are_not_tissue_and_gaps_within_tissue_are():
    image = half_tissue(320, 320)
    image[5::20, 5::20] = 255 - image[5::20, 5::20]
    assert tissue_share(image) == pytest.approx(0.5)

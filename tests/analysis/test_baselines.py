import numpy as np

from mmgfnuc.analysis.baselines import otsu_mask, otsu_scores
from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import write_meta, write_sample


def two_tone(nuclei):
    """Red channel 200 outside and 60 inside the nuclei; Otsu's threshold lies between the two."""
    image = np.full((*nuclei.shape, 3), 200, np.uint8)
    image[nuclei, 0] = 60
    return image


def test_otsu_calls_the_dark_pixels_of_the_red_channel_nucleus():
    nuclei = np.zeros((8, 8), bool)
    nuclei[2:5, 3:6] = True
    assert np.array_equal(otsu_mask(two_tone(nuclei)), nuclei)


def test_otsu_scores_are_those_of_the_mask(tmp_path):
    dark = np.zeros((8, 8), bool)
    dark[2:4, 2:6] = True  # 8 pixels
    truth = np.zeros((8, 8), np.int32)
    truth[2:4, 2:4] = 1  # 4 of them
    write_sample(tmp_path, 'a', two_tone(dark), truth)
    meta = dict(name='x', classes=['background', 'nucleus'], licence='', citation='', source='')
    write_meta(tmp_path, {**meta, 'images': {'a': {'group': 'g', 'mpp': None}}})
    scores = otsu_scores(NucleiDataset(tmp_path))
    assert scores['dice'] == 2 * 4 / (8 + 4)
    assert scores['num_images'] == 1

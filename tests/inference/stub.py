"""A model that finds the same in every image, and what is read of the files that are written of it."""

import csv
import json
from collections import Counter

import numpy as np
import torch
from PIL import Image

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.inference import Nuclei, Preprocessing
from mmgfnuc.inference.pixel_size import PixelSize, PixelSizes, stated_mpp
from mmgfnuc.inference.predictor import take_image
from mmgfnuc.inference.results import FILES

CLASSES = ('background', 'epithelial', 'lymphocyte')
PALETTE = [[0, 0, 0], [0, 158, 115], [230, 159, 0]]


class Stub:
    """Finds in every image three nuclei: two that touch, of types 1 and 2, and one of no type.

    Args:
        num_classes: 2, or 3 with types.
        mpp: of all images.
        shift: moves the nuclei: another model.
        errors: raised, by the number of the prediction, from 0.
        notices: of each prediction.
    """

    def __init__(self, num_classes=2, mpp=None, shift=0, errors=None, notices=()):
        classes = ('background', 'nucleus') if num_classes == 2 else CLASSES
        self.preprocessing = Preprocessing(0.5, classes, PALETTE[:num_classes], [])
        self.pixel_sizes = PixelSizes(self.preprocessing, mpp)
        self.device = torch.device('cpu')
        self.shift, self.errors, self.notices, self.scales = shift, errors or {}, notices, []

    def twin(self):
        raise NotImplementedError('one image after the other: errors have numbers')

    def describe(self):
        return {'model': 'stub', 'shift': self.shift, 'mpp': self.pixel_sizes.given}

    def __call__(self, image, mpp=None, *, name=None):
        given = take_image(image)
        image, name = given.pixels, name or given.name
        size = mpp if isinstance(mpp, PixelSize) else self.pixel_sizes.find(None, mpp, stated_mpp(given.path))
        self.scales.append(size.mpp)
        if len(self.scales) - 1 in self.errors:
            raise self.errors[len(self.scales) - 1]
        labels = np.zeros(image.shape[:2], np.int32)
        labels[1:4, 1:4], labels[1:4, 4:8], labels[6:9, 1:9] = 1, 2, 3
        labels = np.roll(labels, self.shift, axis=1)
        types = np.array([0, 1, len(self.preprocessing.classes) - 1, 0], np.uint8)
        classes, palette = self.preprocessing.classes, self.preprocessing.palette
        foreground = (labels > 0) * np.float32(0.75)
        given = image, classes, palette, size.mpp, name, self.notices, size.source
        return Nuclei(labels, types[1:].astype(int), types[labels], foreground, *given)


def table(out, name):
    with (out / name).open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def states(out):
    """State of each image, and its number of nuclei where it has one."""
    lines = table(out, 'images.csv')
    return {line['image']: (line['state'], int(line['nuclei']) if line['nuclei'] else None) for line in lines}


def outputs(out):
    """Everything but the tables and what they are made of."""
    return {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file() and path.parent.name in FILES}


def assert_consistent(out):
    """Tables agree with each other and with the files; nothing is half-written. Gives the images that are done."""
    nuclei = table(out, 'nuclei.csv')
    if (out / 'images.csv').exists():
        counts = Counter(line['image'] for line in nuclei)
        assert all(counts[name] == (number or 0) for name, (_, number) in states(out).items())
        assert counts.keys() <= states(out).keys()
    for name in {line['image'] for line in nuclei}:
        areas = [int(line['area_px']) for line in nuclei if line['image'] == name]
        places = [float(line['x_px']) for line in nuclei if line['image'] == name]
        labels = read_label_map(out / 'labels' / f'{name}.png')
        assert np.bincount(labels.ravel())[1:].tolist() == areas
        assert np.array_equal(read(out / 'masks' / f'{name}.png') > 0, np.isin(labels, (1, 2)))
        assert [np.nonzero(labels == number)[1].mean() for number in (1, 2, 3)] == places
        features = json.loads((out / 'geojson' / f'{name}.geojson').read_text())['features']
        assert [feature['properties']['measurements']['x_px'] for feature in features] == places
        assert read(out / 'overlays' / f'{name}.png').shape == (20, 40, 3)
    return {line['image'] for line in nuclei}


def read(path):
    return np.array(Image.open(path))

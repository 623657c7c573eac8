"""Tiny sources of a user, hand-made, and what becomes of them."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert, generic
from mmgfnuc.errors import UserError

CONVERTERS = {converter.name: converter for converter in generic.CONVERTERS}
SIZE = 12, 16
# Two nuclei that touch, and one apart.
LABELS = np.zeros(SIZE, np.uint16)
LABELS[1:4, 1:5], LABELS[4:8, 1:5], LABELS[9:11, 9:16] = 7, 300, 2


def instances(*nuclei):
    """Map of nuclei, each a pair of slices, numbered from 1."""
    labels = np.zeros(SIZE, int)
    for number, places in enumerate(nuclei, start=1):
        labels[places] = number
    return labels


def add_image(source, stem='a', suffix='.png', folder='images'):
    image = np.random.default_rng(list(stem.encode())).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (source / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(source / folder / f'{stem}{suffix}')
    return image


def add_map(source, labels=LABELS, stem='a', suffix='.png', folder='labels', **settings):
    path = source / folder / f'{stem}{suffix}'
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == '.npy':
        np.save(path, labels)
    elif suffix == '.png':
        Image.fromarray(labels).save(path)
    else:
        tifffile.imwrite(path, labels, **settings)
    return path


def prepare(kind, source, out, **options):
    convert(CONVERTERS[kind], source, out, {name.replace('_', '-'): value for name, value in options.items()})
    return out


def labels_of(out, stem='a'):
    return canonical.read_label_map(canonical.sample_paths(out, stem).label)


def types_of(out, stem='a'):
    """Name of the type of each pixel."""
    classes = np.array(canonical.read_meta(out)['classes'])
    return classes[canonical.read_types(canonical.sample_paths(out, stem).types)]


def groups_of(out):
    return {stem: image['group'] for stem, image in canonical.read_meta(out)['images'].items()}


def fault(kind, source, tmp_path, **options):
    """Text of the error; nothing else is left behind."""
    with pytest.raises(UserError) as caught:
        prepare(kind, source, tmp_path / 'out', **options)
    # The lock of the output stays, so that no two get in.
    assert {path.name for path in tmp_path.iterdir()} - {'.out.lock'} == {'mine'}
    return str(caught.value)

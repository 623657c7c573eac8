"""A small sound set, to plant faults in."""

import numpy as np

from mmgfnuc.datasets import canonical

GROUPS = {'a': 'liver', 'b': 'liver', 'c': 'lung', 'd': 'lung'}
SHAPE = (60, 80)
TYPED = ['background', 'round', 'flat']


def names_in(folder):
    """Sorted names of what lies in a folder, without the locks of output folders, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')


def noise(seed):
    return np.random.default_rng(seed).integers(40, 200, (*SHAPE, 3), dtype=np.uint8)


def squares(number=12, side=8):
    """So many squares that do not touch, the first at the upper left corner, none at the other edges."""
    labels = np.zeros(SHAPE, np.int32)
    for i in range(number):
        row, column = 12 * (i // 6), 12 * (i % 6)
        labels[row : row + side, column : column + side] = i + 1
    return labels


class Dataset:
    """A sound set of four images in two groups, to plant faults in."""

    def __init__(self, root):
        self.root = root
        for seed, sample_id in enumerate(GROUPS):
            self.write(sample_id, image=noise(seed))
        # Squares of 8 pixels at 1.0: 9.03 pixels wide as discs, 9.03 micrometres.
        entries = {sample_id: {'group': group, 'mpp': 1.0} for sample_id, group in GROUPS.items()}
        meta = dict(name='tiny', classes=canonical.CLASSES, licence='CC0', citation='none', source='here')
        canonical.write_meta(root, {**meta, 'images': entries})
        canonical.write_split(root, 'organs', {'train': ['a', 'b'], 'val': ['c', 'd']})

    def write(self, sample_id, image=None, labels=None, ignore=None, types=None):
        image = noise('abcd'.index(sample_id)) if image is None else image
        canonical.write_sample(self.root, sample_id, image, squares() if labels is None else labels, ignore, types)

    def change_meta(self, **changes):
        canonical.write_meta(self.root, canonical.read_meta(self.root) | changes)

    def change_mpp(self, **changes):
        images = canonical.read_meta(self.root)['images']
        self.change_meta(images={i: entry | {'mpp': changes.get(i, entry['mpp'])} for i, entry in images.items()})

    def add_types(self):
        self.change_meta(classes=TYPED)
        for sample_id in GROUPS:
            self.write(sample_id, types=np.where(squares() > 6, 2, squares() > 0))


def nuclei_of(change):
    labels = squares()
    change(labels)
    return labels

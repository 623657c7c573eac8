import numpy as np
import pytest
import tifffile
from PIL import Image


class FakeNuInsSeg:
    """A tiny tree in the authors' layout, built file by file."""

    def __init__(self, root):
        self.root = root

    def add(self, organ, number, size=(12, 16), label_size=None, ids=(1, 5, 300), rgba=False, vague=None):
        name = f'{organ.replace(" ", "_")}_{number:02d}'
        image = np.random.default_rng(number).integers(0, 256, (*size, 4 if rgba else 3), dtype=np.uint8)
        labels = np.zeros(label_size or size, np.uint16)
        for row, instance in enumerate(ids):
            labels[3 * row : 3 * row + 2, 2:6] = instance
        self._folder(organ, 'tissue images')
        self._folder(organ, 'label masks modify')
        Image.fromarray(image).save(self.image(organ, name))
        tifffile.imwrite(self.label(organ, name), labels)
        if vague:
            mask = np.zeros(size, np.uint8)
            mask[-2:] = 255
            Image.fromarray(mask).save(self._folder(organ, vague) / f'{name}.png')
        return name, image[..., :3], labels

    def image(self, organ, name):
        return self.root / organ / 'tissue images' / f'{name}.png'

    def label(self, organ, name):
        return self.root / organ / 'label masks modify' / f'{name}.tif'

    def _folder(self, organ, kind):
        folder = self.root / organ / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@pytest.fixture
def nuinsseg(tmp_path):
    return FakeNuInsSeg(tmp_path / 'NuInsSeg')

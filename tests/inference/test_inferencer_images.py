"""Images in all the forms in which they are given to a model."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mmgfnuc.errors import UserError

from .small_models import darkness, whole


class TestKindsOfImages:
    """The same picture in another form gives the same nuclei, or an error that says what to give."""

    @pytest.fixture(scope='class')
    def inferencer(self, plain):
        return whole(plain)

    @pytest.fixture(scope='class')
    def labels(self, inferencer, image):
        return inferencer.predict(image).labels

    @pytest.mark.parametrize('dtype', [np.float32, np.float64])
    def test_floats_from_0_to_1(self, inferencer, image, labels, dtype):
        assert labels.max() > 3
        np.testing.assert_array_equal(inferencer.predict(image / dtype(255)).labels, labels)

    def test_alpha_is_laid_on_white(self, inferencer, image, labels):
        opaque = np.full(image.shape[:2], 255, np.uint8)
        np.testing.assert_array_equal(inferencer.predict(np.dstack([image, opaque])).labels, labels)
        white = image.copy()
        white[:80] = 255
        opaque[:80] = 0
        found = inferencer.predict(np.dstack([image, opaque])).labels
        np.testing.assert_array_equal(found, inferencer.predict(white).labels)

    def test_grey(self, inferencer, image):
        grey = image[..., 1]
        expected = inferencer.predict(np.dstack([grey] * 3)).labels
        np.testing.assert_array_equal(inferencer.predict(grey).labels, expected)
        np.testing.assert_array_equal(inferencer.predict(grey[..., None]).labels, expected)

    def test_a_path_and_the_pixel_size_of_its_file(self, inferencer, image, labels, tmp_path, monkeypatch):
        Image.fromarray(image).save(tmp_path / 'a.png')
        np.testing.assert_array_equal(inferencer.predict(tmp_path / 'a.png').labels, labels)
        np.testing.assert_array_equal(inferencer.predict(str(tmp_path / 'a.png')).labels, labels)
        tifffile.imwrite(tmp_path / 'a.tif', image, ome=True, metadata={'PhysicalSizeX': 1.0, 'PhysicalSizeY': 1.0})
        monkeypatch.setattr(inferencer.model, 'encode_decode', darkness)
        for mpp in (None, 0.1):
            expected = inferencer.predict(image, mpp or 1.0).labels
            np.testing.assert_array_equal(inferencer.predict(tmp_path / 'a.tif', mpp).labels, expected)
        assert expected.max() < inferencer.predict(image, 1.0).labels.max()

    @pytest.mark.parametrize(
        ('change', 'what'),
        [
            (lambda image: image.astype(np.uint16) * 257, 'uint16 do not say which value is white; divide by'),
            (lambda image: image.astype(np.int64), 'int64 do not say'),
            (lambda image: image.astype(np.float32), 'leaves the range of 0 to 1; give uint8, or floats'),
            (lambda image: image / 255 - 0.5, 'leaves the range of 0 to 1'),
            (lambda image: np.where(image == image[0, 0, 0], np.nan, image / 255), 'a pixel of nan'),
            # 12 bits divided as if they were 16.
            (lambda image: image.astype(np.float32) / 255 / 16, r'brightest pixel is 0\.06.*, .* 1 is white; .* 4095'),
            (lambda image: np.dstack([image[..., 0] / 4096, np.ones(image.shape[:2])]), r'\(200, 248, 2\)'),
            (lambda image: np.dstack([image / 4096, np.ones(image.shape[:2])]), 'brightest pixel is 0'),
            (lambda image: image[..., :2], r'shape \(200, 248, 2\) does not say'),
            (lambda image: image.transpose(2, 0, 1), r'shape \(3, 200, 248\)'),
            (lambda image: image[None], r'shape \(1, 200, 248, 3\)'),
            (lambda image: image[:0], r'shape \(0, 248, 3\)'),
            (lambda image: torch.from_numpy(image.copy()), 'is a Tensor; give a NumPy array'),
            (Image.fromarray, 'is a Image; give a NumPy array'),
            (lambda image: image.tolist(), 'is a list; give a NumPy array'),
            (lambda image: 'nowhere.png', r'nowhere\.png: missing'),
        ],
    )
    def test_what_would_be_misread_is_refused(self, inferencer, image, change, what):
        with pytest.raises(UserError, match=what) as caught:
            inferencer.predict(change(image))
        assert '\n' not in str(caught.value)

    def test_a_pixel_size_of_no_microscope(self, inferencer, image):
        for value in (250, '0.5'):
            with pytest.raises(UserError, match=f'mpp: {value!r} micrometres'):
                inferencer.predict(image, value)

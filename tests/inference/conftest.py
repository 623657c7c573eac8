import numpy as np
import pytest

from mmgfnuc.inference.folder import find_images
from mmgfnuc.inference.writers import write_png


@pytest.fixture
def many(tmp_path):
    """Four images of one content."""
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in 'abcd':
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')])

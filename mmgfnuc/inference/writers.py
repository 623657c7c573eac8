"""Output files, each written whole or not at all."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmgfnuc.files import whole_file


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a grey (H, W) or RGB (H, W, 3) picture."""
    with whole_file(path) as file:
        Image.fromarray(pixels).save(file, format='PNG')


def write_mask(path: Path, semantic: NDArray[np.uint8], num_classes: int = 2) -> None:
    """Write a semantic map as grey levels: background 0, the last class 255, others evenly between.

    Shape:
        semantic (H, W), classes 0 to num_classes - 1
    """
    write_png(path, (semantic.astype(np.uint16) * 255 // (num_classes - 1)).astype(np.uint8))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table."""
    with whole_file(path) as file, file.open('w', newline='') as table:
        csv.writer(table).writerows([header, *rows])

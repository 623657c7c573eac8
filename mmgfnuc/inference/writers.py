"""Output files, each written whole or not at all."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a grey (H, W) or RGB (H, W, 3) picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.tmp')
    Image.fromarray(pixels).save(unfinished, format='PNG')
    os.replace(unfinished, path)


def write_mask(path: Path, semantic: NDArray[np.uint8], num_classes: int = 2) -> None:
    """Write a semantic map as grey levels: background 0, the last class 255, others evenly between.

    Shape:
        semantic (H, W), classes 0 to num_classes - 1
    """
    write_png(path, (semantic.astype(np.uint16) * 255 // (num_classes - 1)).astype(np.uint8))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.tmp')
    with unfinished.open('w', newline='') as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(unfinished, path)

"""Features of a network as pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .panels import Pixels

# Outliers must not take the range of colours from the rest.
SHOWN_PERCENTILES = 2, 98


def principal_colours(maps: Sequence[NDArray[np.floating]]) -> list[Pixels]:
    """Show the first three principal components of features as red, green and blue.

    The maps share one basis and one range of colours, so that equal colours are equal features.

    Shape:
        map i (C, h_i, w_i) -> (h_i, w_i, 3)

    Source: as Oquab et al. 2023, "DINOv2", figure 1.
    """
    rows = np.concatenate([features.reshape(len(features), -1).T for features in maps]).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, basis = np.linalg.eigh(rows.T @ rows)  # by growing variance
    components = rows @ basis[:, :-4:-1]
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, SHOWN_PERCENTILES, axis=0)
    shown = (components - low) / np.maximum(high - low, np.finfo(float).eps)
    colours = (255 * shown.clip(0, 1)).round().astype(np.uint8)
    ends = np.cumsum([features[0].size for features in maps])[:-1]
    return [part.reshape(*features.shape[1:], 3) for part, features in zip(np.split(colours, ends), maps, strict=True)]

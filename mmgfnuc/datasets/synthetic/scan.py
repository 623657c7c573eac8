"""From stain to image: how a slide was stained, and the light that a scanner sees through it."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .tissue import Tissue, noise, step

# Rows: hematoxylin, eosin, erythrocyte (eosin and haemoglobin), pigment (haemosiderin, formalin, carbon). Slides lie
# between the hematoxylin and eosin of Ruifrok & Johnston 2001 and the redder pair usual since Macenko et al. 2009.
_RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.21, 0.78, 0.59], [0.52, 0.58, 0.63]])
_MACENKO = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581], [0.27, 0.73, 0.63], [0.52, 0.58, 0.63]])


@dataclass(frozen=True)
class StainStyle:
    """How one slide was stained and scanned.

    `vectors` are the four unit stain vectors, `strength` the factor on each stain, `white` the colour of the empty
    glass, `defocus` the largest focus blur (standard deviation, pixels), `noise` the sensor noise (grey levels).

    Shape:
        - vectors: (4, 3), RGB; strength: (4,); white: (3,), RGB.
    """

    vectors: np.ndarray
    strength: np.ndarray
    white: np.ndarray
    defocus: float
    noise: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> 'StainStyle':
        """Draw a slide: stain hues between and around the references, weak or strong staining, a tinted lamp."""
        vectors = _RUIFROK + rng.uniform(0.2, 0.7) * (_MACENKO - _RUIFROK)
        vectors = np.clip(vectors + rng.normal(0.0, 0.025, vectors.shape), 0.02, None)
        return cls(
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            strength=rng.uniform([0.8, 0.75, 0.85, 0.9], [1.2, 1.35, 1.15, 1.1]),
            white=rng.uniform(232.0, 248.0) + rng.uniform(-5.0, 5.0, 3),
            defocus=rng.uniform(1.0, 1.9),
            noise=rng.uniform(1.5, 3.5),
        )


def scan(rng: np.random.Generator, tissue: Tissue, style: StainStyle) -> np.ndarray:
    """Light through the stained tissue: uneven staining and lighting, absorption, uneven focus, sensor noise."""
    size = tissue.size
    thickness = np.exp(rng.uniform(0.10, 0.35) * noise(rng, size, 110))
    absorption = (style.strength[:, None] * style.vectors).astype(np.float32)
    density = np.tensordot(tissue.stains * thickness, absorption, axes=(0, 0))
    lamp = np.exp(rng.uniform(0.03, 0.12) * noise(rng, size, 200))
    white = np.minimum(style.white.astype(np.float32) * lamp[..., None], 252.0)
    light = white * np.exp(-math.log(10.0) * density)

    sharp = cv2.GaussianBlur(light, (0, 0), 0.6)
    blurred = cv2.GaussianBlur(light, (0, 0), style.defocus)
    focus = step(noise(rng, size, 90), rng.uniform(-1.0, 1.0), 0.5)[..., None]
    image = focus * sharp + (1.0 - focus) * blurred
    image += style.noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)

"""Stain: bring every image to one staining, or vary the staining; RGB uint8 before and after."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmgfnuc.datasets.canonical import RGBImage, read_image
from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS

from .intensity import RandomColour

# Unit absorption of hematoxylin, eosin and DAB in R, G, B. Source: Ruifrok & Johnston 2001, as in scikit-image.
HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Optical density (natural logarithm) of the values 0 to 255; 0 counts as 1, black has no finite density.
DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255)
# Where a channel is brighter, light passed without being absorbed: density 0.15 under a lamp of 240, as in torchstain.
BRIGHTEST_TISSUE = 205
# The strongest stain is taken at the 99th percentile of all pixels, which must lie well inside the tissue.
LEAST_TISSUE = 0.05
LEAST_PIXELS = 16


class _NoStainError(Exception):
    """The image shows too little tissue to tell its stains."""


# How the methods end where stains cannot be told.
UNTOLD = (_NoStainError, FloatingPointError, np.linalg.LinAlgError)


class _Normalizer(Protocol):
    def __call__(self, image: RGBImage) -> RGBImage: ...


class _Macenko:
    """Stain vectors from the extreme angles in the plane of the two largest variances.

    Without a template, torchstain's own reference: https://github.com/mitkovetta/staining-normalization.
    """

    def __init__(self, template: RGBImage | None) -> None:
        self.library = _torchstain().MacenkoNormalizer(backend='numpy')
        if template is not None:
            _require_stain(template.max(axis=2))
            self.library.fit(template)

    def __call__(self, image: RGBImage) -> RGBImage:
        # The library looks only at pixels that absorb in all three channels.
        _require_stain(image.max(axis=2))
        return self.library.normalize(image, stains=False)[0]


class _Reinhard:
    """Mean and deviation of each channel of CIELAB become those of the template."""

    def __init__(self, template: RGBImage | None) -> None:
        self.library = _torchstain().ReinhardNormalizer(backend='numpy')
        self.library.fit(_needed('reinhard', template))

    def __call__(self, image: RGBImage) -> RGBImage:
        return self.library.normalize(image)


class _Vahadane:
    """Optical density D = C S with two unit stain vectors S, both non-negative: argmin 1/2 |D - C S|^2 + PENALTY |C|_1.

    S and C take turns, from the vectors of Ruifrok and Johnston, on some of the tissue's pixels, until S stays.
    """

    PENALTY = 0.02  # source: the authors' demonstration, which advises 0.01 to 0.1
    PIXELS, TURNS, TOLERANCE = 5000, 200, 1e-5
    STRONGEST = 99  # percentile of the concentrations; source: the paper

    def __init__(self, template: RGBImage | None) -> None:
        concentrations, self.stains = self._separate(_needed('vahadane', template))
        self.strongest = np.percentile(concentrations, self.STRONGEST, axis=0)

    def __call__(self, image: RGBImage) -> RGBImage:
        concentrations, _ = self._separate(image)
        concentrations *= self.strongest / np.percentile(concentrations, self.STRONGEST, axis=0)
        light = 255 * np.exp(-concentrations @ self.stains)
        return np.rint(light).astype(np.uint8).reshape(image.shape)

    def _separate(self, image: RGBImage) -> tuple[np.ndarray, np.ndarray]:
        """Concentrations (H W, 2) and stain vectors (2, 3), hematoxylin first."""
        density = DENSITY[image.reshape(-1, 3)]
        tissue = np.flatnonzero(_is_dark(image[..., 1]))
        chosen = tissue[np.linspace(0, len(tissue) - 1, self.PIXELS).astype(int)]
        stains = self._learn_stains(density[chosen])
        return _sparse_concentrations(density, stains, self.PENALTY), stains

    def _learn_stains(self, density: np.ndarray) -> np.ndarray:
        stains = HED[:2] / np.linalg.norm(HED[:2], axis=1, keepdims=True)
        for _ in range(self.TURNS):
            former = stains.copy()
            concentrations = _sparse_concentrations(density, stains, self.PENALTY)
            products, targets = concentrations.T @ concentrations, concentrations.T @ density
            # Block coordinate descent: Mairal et al. 2009, "Online dictionary learning", algorithm 2.
            for k in range(2):
                stains[k] = np.maximum(stains[k] + (targets[k] - products[k] @ stains) / products[k, k], 0)
                stains[k] /= np.linalg.norm(stains[k])
            if np.abs(stains - former).max() < self.TOLERANCE:
                break
        return stains[np.argsort(-stains[:, 0])]  # hematoxylin absorbs more red


def _sparse_concentrations(density: np.ndarray, stains: np.ndarray, penalty: float) -> np.ndarray:
    """For every density d, argmin over c >= 0 of 1/2 |d - c S|^2 + penalty |c|_1, in closed form for two stains.

    The problem is convex: where the unbounded solution has a negative component, that component is 0.

    Shape:
        - density: (N, 3); stains: (2, 3); returns: (N, 2)
    """
    alone = density @ stains.T - penalty
    both = alone @ np.linalg.inv(stains @ stains.T)
    return np.where(both < 0, 0, np.where(both[:, ::-1] < 0, np.maximum(alone, 0), both))


_METHODS: dict[str, Callable[[RGBImage | None], _Normalizer]] = {
    'macenko': _Macenko,
    'reinhard': _Reinhard,
    'vahadane': _Vahadane,
}


@TRANSFORMS.register_module()
class StainNormalize(BaseTransform):
    """Bring the image to the staining of a template, the same in training, test and use; nothing is drawn.

    It stands first in a pipeline, before any crop: the stains are told from the whole image. Images with less than 5 %
    tissue, of one colour, or whose stains cannot be separated pass unchanged.

    Args:
        method: 'macenko' (Macenko et al. 2009), 'reinhard' (Reinhard et al. 2001) or 'vahadane' (Vahadane et al. 2016).
        template: The image to be like, or its file, fitted once, when the transform is built; a checkpoint carries it.
            None: the reference stains of the library, which 'macenko' alone has.

    Attributes:
        method: As given.
        template: Pixels of the template, RGB, or None.

    Raises:
        UserError: An unknown method; no template, or one without tissue; torchstain is not installed.

    Source: Macenko and Reinhard: torchstain.
    """

    def __init__(self, method: str = 'macenko', template: str | Path | RGBImage | None = None) -> None:
        if method not in _METHODS:
            raise UserError(f"method='{method}': take one of {', '.join(_METHODS)}")
        self.method = method
        self.template = read_image(template) if isinstance(template, str | Path) else template
        try:
            with _finite():
                self._normalizer = _METHODS[method](self.template)
        except UNTOLD as error:
            name = template if isinstance(template, str | Path) else 'as given'
            raise UserError(f'template {name}: {error}; take an image full of stained tissue') from None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Normalise `img`."""
        results['img'] = self.normalize(results['img'])
        return results

    def normalize(self, image: RGBImage) -> RGBImage:
        """The image in the staining of the template.

        Shape:
            - image, returns: (H, W, 3), uint8 RGB
        """
        try:
            _require_stain(image[..., 1])
            with _finite():
                return self._normalizer(image)
        except UNTOLD:
            return image


@TRANSFORMS.register_module()
class RandomHED(RandomColour):
    """Stain jitter: the density c of hematoxylin, eosin and the residual each become a c + b.

    The image is unmixed with the vectors of Ruifrok and Johnston. Each a is drawn uniformly from 1 - sigma to
    1 + sigma, each b from -sigma to sigma, in units of optical density (natural logarithm).

    Args:
        sigma: Limit of both; below 1.
        prob: Share of the samples that are changed.

    Raises:
        UserError: `sigma` outside [0, 1).

    Source: Tellez et al. 2018, "H&E stain augmentation improves generalization of convolutional networks for
        histopathological mitosis detection", Proc. SPIE 10581.
    """

    def __init__(self, sigma: float = 0.05, prob: float = 0.5) -> None:
        super().__init__(prob)
        if not 0 <= sigma < 1:
            raise UserError(f'sigma={sigma}: a limit lies in [0, 1); 0 switches it off')
        self.sigma = sigma

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the six numbers and apply them."""
        factors = rng.uniform(1 - self.sigma, 1 + self.sigma, 3)
        shifts = rng.uniform(-self.sigma, self.sigma, 3)
        # Unmixing, jitter and mixing are one affine map of the densities.
        mixing = np.linalg.inv(HED) @ np.diag(factors) @ HED
        density = cv2.transform(cv2.LUT(image, DENSITY.astype(np.float32)), np.column_stack([mixing.T, shifts @ HED]))
        return cv2.convertScaleAbs(cv2.exp(-density), alpha=255)


@TRANSFORMS.register_module()
class RandStainNA(RandomColour):
    """Normalise to a virtual template that is drawn anew each time: stain normalisation and augmentation in one.

    Mean m and deviation s of each channel of CIELAB (8 bit) become m' and s', v -> (v - m) s' / s + m'. Both are drawn
    from normal distributions, those of the means and of the deviations of a training set's images. Images with less
    than 5 % tissue pass unchanged.

    Args:
        means: Mean and deviation, over the images, of the means of L, a and b; see `lab_statistics`.
        deviations: Mean and deviation, over the images, of the deviations of L, a and b.
        prob: Share of the samples that are changed.

    Raises:
        UserError: Numbers that are not twice three, or negative.

    Source: Shen et al. 2022, "RandStainNA", arXiv:2206.12694; defaults: the authors' values for MoNuSeg,
        https://github.com/yiqings/RandStainNA (segmentation/norm_jitter). A deviation drawn below 0 is 0.
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]] = ((137.552, 154.865, 114.412), (30.272, 6.521, 5.339)),
        deviations: Sequence[Sequence[float]] = ((45.823, 8.367, 7.472), (10.565, 2.155, 1.294)),
        prob: float = 0.5,
    ) -> None:
        super().__init__(prob)
        for name, pair in (('means', means), ('deviations', deviations)):
            if np.shape(pair) != (2, 3) or np.min(pair) < 0:
                raise UserError(f'{name}={pair}: give mean and deviation of L, a and b, all 0 or more; two times three')
        self.means, self.deviations = np.array(means), np.array(deviations)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the template and normalise to it."""
        means, deviations = rng.normal(*self.means), rng.normal(*self.deviations)
        if not _is_stained(image):
            return image
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        own_means, own_deviations = (statistic.ravel() for statistic in cv2.meanStdDev(lab))
        gain = np.maximum(deviations, 0) / np.maximum(own_deviations, 1e-4)
        levels = (np.arange(256)[:, None] - own_means) * gain + means
        table = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
        return cv2.cvtColor(cv2.LUT(lab, table[None]), cv2.COLOR_LAB2RGB)


def lab_statistics(images: Iterable[RGBImage]) -> dict[str, list[list[float]]]:
    """`means` and `deviations` of RandStainNA for a training set; images with less than 5 % tissue do not count.

    Raises:
        UserError: Fewer than two images show tissue.
    """
    statistics = [
        np.hstack(cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))).T for image in images if _is_stained(image)
    ]
    if len(statistics) < 2:
        raise UserError(f'{len(statistics)} images show tissue: a distribution takes 2 or more')
    means, deviations = np.stack(statistics, axis=1)
    return {
        name: [values.mean(axis=0).round(3).tolist(), values.std(axis=0).round(3).tolist()]
        for name, values in (('means', means), ('deviations', deviations))
    }


def _finite() -> np.errstate:
    """A context where a value that is not finite is an error; it would become an arbitrary colour."""
    return np.errstate(divide='raise', invalid='raise')


def _torchstain() -> Any:
    try:
        return importlib.import_module('torchstain').normalizers
    except ImportError:
        raise UserError(
            "this stain normalisation needs torchstain: pip install torchstain (or take method='vahadane')"
        ) from None


def _needed(method: str, template: RGBImage | None) -> RGBImage:
    if template is None:
        raise UserError(f"method='{method}' needs a template: give the file of a well stained training image")
    _require_stain(template[..., 1])
    return template


def _is_dark(channel: np.ndarray) -> np.ndarray:
    return channel <= BRIGHTEST_TISSUE


def _is_stained(image: RGBImage) -> bool:
    # Both stains absorb green.
    try:
        _require_stain(image[..., 1])
    except _NoStainError:
        return False
    return True


def _require_stain(channel: np.ndarray) -> None:
    tissue = np.count_nonzero(_is_dark(channel))
    if tissue < max(LEAST_TISSUE * channel.size, LEAST_PIXELS):
        raise _NoStainError(f'{tissue} of {channel.size} pixels are tissue')
    if np.ptp(channel) == 0:
        raise _NoStainError('the image is of one colour')

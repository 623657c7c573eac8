"""Changes of colour: the image alone, RGB uint8 before and after."""

import math
from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS

LEVELS = np.arange(256) / 255


class RandomColour(BaseTransform):
    """Applies `change` to the image of the share `prob` of the samples.

    Raises:
        UserError: `prob` is not a probability.
    """

    def __init__(self, prob: float) -> None:
        if not 0 <= prob <= 1:
            raise UserError(f'prob={prob}: a probability lies between 0 and 1')
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change `img`, or not."""
        rng = results['rng']
        if rng.random() < self.prob:
            results['img'] = self.change(results['img'], rng)
        return results

    @abstractmethod
    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with its colours changed by what is drawn from `rng`."""


@TRANSFORMS.register_module()
class RandomGamma(RandomColour):
    """v -> v^g on values in [0, 1], the same g for the three channels.

    Args:
        gamma: Lowest and highest g, drawn log-uniformly so that g and 1 / g are equally likely; above 1 darkens.
        prob: Share of the samples that are changed.

    Raises:
        UserError: `gamma` is not a positive, ascending pair.
    """

    def __init__(self, gamma: tuple[float, float] = (0.7, 1.43), prob: float = 0.5) -> None:
        super().__init__(prob)
        _check_range('gamma', gamma)
        self.gamma = gamma

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw g and apply it."""
        gamma = math.exp(rng.uniform(math.log(self.gamma[0]), math.log(self.gamma[1])))
        return cv2.LUT(image, _to_uint8(LEVELS**gamma))


@TRANSFORMS.register_module()
class RandomCLAHE(RandomColour):
    """Contrast-limited adaptive histogram equalisation of the lightness (L of CIELAB).

    Args:
        clip_limit: Lowest and highest limit, as a multiple of the mean of a tile's histogram; drawn uniformly.
        tiles: Tiles along each axis.
        prob: Share of the samples that are changed.

    Raises:
        UserError: `clip_limit` is not a positive, ascending pair.

    Source: Zuiderveld, Graphics Gems IV, 1994; code: OpenCV.
    """

    def __init__(self, clip_limit: tuple[float, float] = (1.0, 3.0), tiles: int = 8, prob: float = 0.2) -> None:
        super().__init__(prob)
        _check_range('clip_limit', clip_limit)
        self.clip_limit = clip_limit
        self.tiles = tiles

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the limit and equalise."""
        clahe = cv2.createCLAHE(rng.uniform(*self.clip_limit), (self.tiles, self.tiles))
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = clahe.apply(lab[..., 0])
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


@TRANSFORMS.register_module()
class RandomIntensity(RandomColour):
    """Brightness, contrast and tint: v_k -> ((v_k - 1/2) (1 + c) + 1/2 + b) (1 + t_k) on values in [0, 1], clipped.

    b, c and the t_k of the three channels are drawn uniformly from -limit to +limit; the t_k shift hue and saturation
    as stains and scanners do.

    Args:
        brightness: Limit of b.
        contrast: Limit of c.
        tint: Limit of each t_k.
        prob: Share of the samples that are changed.

    Raises:
        UserError: A limit outside [0, 1).
    """

    def __init__(self, brightness: float = 0.1, contrast: float = 0.15, tint: float = 0.05, prob: float = 0.5) -> None:
        super().__init__(prob)
        for name, limit in (('brightness', brightness), ('contrast', contrast), ('tint', tint)):
            if not 0 <= limit < 1:
                raise UserError(f'{name}={limit}: a limit lies in [0, 1); 0 switches it off')
        self.limits = np.array([brightness, contrast, tint, tint, tint])

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw b, c and t and apply them."""
        brightness, contrast, *tint = rng.uniform(-self.limits, self.limits)
        levels = (LEVELS - 0.5) * (1 + contrast) + 0.5 + brightness
        return cv2.LUT(image, _to_uint8(levels[None, :, None] * (1 + np.array(tint))))


def _to_uint8(levels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def _check_range(name: str, pair: tuple[float, float]) -> None:
    if not 0 < pair[0] <= pair[1]:
        raise UserError(f'{name}={pair}: both ends are positive, the lower one first')

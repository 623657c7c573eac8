"""Pixels of any kind to RGB of 8 bits: by their stated range, transparency laid on white; or a reason why not."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.errors import UserError

RGBImage: TypeAlias = NDArray[np.uint8]
# The values that are black and white, of all channels or of each.
Range: TypeAlias = tuple[NDArray[np.floating] | np.floating, NDArray[np.floating] | np.floating]

OPAQUE = 255
# A tissue image has bright pixels. Where the brightest is below this part of the range, the range is not the true one:
# writers of 16-bit files state 16 bits for cameras of 12, too.
BRIGHTEST = 0.25
# By how much arithmetic with floats leaves a range.
ROUNDING = 1e-5
WHITE = 'the value that is white (65535, or 4095 of a camera with 12 bits)'
DEEP_FIX = 'save it as 8-bit RGB, so that you see which value is white (Fiji: Image > Type > RGB Color)'


class PixelError(UserError):
    """Pixels that are not those of a tissue image, or whose meaning is not stated."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f'{self.what}; {self.fix}'


def to_rgb(pixels: NDArray, limits: Range | None = None, *, premultiplied: bool = False) -> RGBImage:
    """Turn pixels into RGB of 8 bits; grey is repeated, what is transparent becomes white.

    Args:
        pixels: grey, grey with alpha, RGB, or RGB with alpha.
        limits: the values of black and white; 8 bits need none.
        premultiplied: the colours are those times alpha.

    Shape:
        - pixels: (H, W), or (H, W, C) with 1 to 4 channels.
        - returns: (H, W, 3), contiguous.

    Raises:
        PixelError: They have another shape, more than 8 bits without limits, or values outside these or far darker.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise PixelError(f'shape {pixels.shape} is not that of an image', 'give (H, W), (H, W, 3) or (H, W, 4)')
    values = _eight_bits(pixels, limits)
    colours, alpha = values, None
    if values.shape[2] in (2, 4):
        colours, alpha = values[..., :-1], values[..., -1:]
    if alpha is not None and (alpha != OPAQUE).any():
        colours = _on_white(colours, alpha, premultiplied)
    return np.ascontiguousarray(colours) if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2)


def array_to_rgb(pixels: NDArray) -> RGBImage:
    """Turn an array of unknown origin into RGB of 8 bits: uint8, or floats from 0 to 1.

    Shape:
        - pixels: (H, W) or (H, W, 1) grey, or (H, W, C): 3 for RGB, 4 for RGB and alpha.
        - returns: (H, W, 3)

    Raises:
        PixelError: It has another type or shape, or its floats are outside 0 to 1 or fill less than a quarter of it.
    """
    if pixels.dtype.kind not in 'fb' and pixels.dtype != np.uint8:
        fix = f'divide by {WHITE}, and give floats from 0 to 1'
        raise PixelError(f'pixels of type {pixels.dtype} do not say which value is white', fix)
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        what = f'shape {pixels.shape} does not say whether its second channel is transparency'
        raise PixelError(what, 'give grey alone, of shape (H, W), or RGB with alpha, (H, W, 4)')
    try:
        return to_rgb(pixels, (np.float64(0), np.float64(1)) if pixels.dtype.kind == 'f' else None)
    except PixelError as error:
        fix = f'give uint8, or floats divided by {WHITE}, of shape (H, W, 3), (H, W, 4) or (H, W)'
        raise PixelError(error.what, fix) from error


def _eight_bits(pixels: NDArray, limits: Range | None) -> NDArray[np.uint8]:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if limits is not None:
        return _scaled(pixels, *limits)
    if pixels.dtype != np.uint8:
        raise PixelError(f'pixels of type {pixels.dtype} with more than 8 bits, whose range is not stated', DEEP_FIX)
    return pixels


def _scaled(pixels: NDArray, black: NDArray | np.floating, white: NDArray | np.floating) -> NDArray[np.uint8]:
    slack = (white - black) * ROUNDING if pixels.dtype.kind == 'f' else 0
    # Said so that NaN is wrong too.
    wrong = ~((pixels >= black - slack) & (pixels <= white + slack))
    if wrong.any():
        limits = f'{np.min(black):g} to {np.max(white):g}'
        raise PixelError(f'a pixel of {pixels[wrong][0]:g} leaves the range of {limits}', DEEP_FIX)
    _require_bright(pixels, black, white)
    scaled = pixels.astype(np.float32)
    scaled -= black.astype(np.float32)
    scaled *= (255 / (white - black)).astype(np.float32)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _require_bright(pixels: NDArray, black: NDArray | np.floating, white: NDArray | np.floating) -> None:
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    lowest, highest = float(np.min(black)), float(np.max(white))
    if pixels.dtype.itemsize > 1 and colours.max() - lowest < BRIGHTEST * (highest - lowest):
        what = f'the brightest pixel is {colours.max():g}, where it is said that {highest:g} is white'
        raise PixelError(what, DEEP_FIX)


def _on_white(colours: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    if not alpha.any():
        raise PixelError('every pixel is wholly transparent', 'save it without an alpha channel')
    white = np.uint16(255) - alpha
    if premultiplied:
        return np.minimum(colours + white, 255).astype(np.uint8)
    mixed = colours.astype(np.uint16)
    mixed *= alpha
    mixed += white * np.uint16(255) + np.uint16(127)
    mixed //= 255
    return mixed.astype(np.uint8)

"""The colours of channels that a TIFF file keeps as pages of their own, as OME and ImageJ metadata name them.

Metadata: OME-XML 2016-06 (Channel: Name, Fluor, Color); ImageJ (LUTs).
"""

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from .colours import PixelError
from .tiff import TiffPicture

RGB = ('red', 'green', 'blue')
# What names no colour: nothing, a number, or "Channel 1" in its forms.
NO_NAME = re.compile(r'(channel|chan|ch|c)?[\s:_=#-]*[\d:]*', re.IGNORECASE)
# Of the value of a colour the others have at most this part.
PURE = 0.25


def channel_order(picture: TiffPicture) -> list[int]:
    """Which channels are red, green and blue: by the metadata, else in their order.

    Raises:
        PixelError: They are other colours, such as those of fluorescence.
    """
    if picture.channels != len(RGB) or 'C' not in picture.axes:
        return list(range(picture.channels))
    for said in (_of_ome(picture), _of_imagej(picture)):
        if sorted(said) == sorted(RGB):
            return [said.index(colour) for colour in RGB]
        if any(said):
            shown = ', '.join(name or 'no name' for name in said)
            raise PixelError(f'channels that are not red, green and blue ({shown})', 'save the image as 8-bit RGB')
    return list(range(len(RGB)))


def _of_ome(picture: TiffPicture) -> list[str]:
    pixels = picture.ome_pixels
    channels = [] if pixels is None else pixels.findall('{*}Channel')
    return [_named(channel) for channel in channels] if len(channels) == len(RGB) else []


def _named(channel: Element) -> str:
    """What a channel is called, by its name, its stain or its colour; empty where the metadata have none."""
    names = [channel.get('Name', '').strip(), channel.get('Fluor', '').strip()]
    said = [_plain(name) for name in names if not NO_NAME.fullmatch(name)]
    colour = channel.get('Color', '')
    if re.fullmatch(r'-?\d+', colour):
        # A signed number of 32 bits: red, green, blue, alpha.
        said += [name for name in [_colour((int(colour) % 2**32).to_bytes(4, 'big')[:3])] if name]
    return ' '.join(dict.fromkeys(said))


def _plain(name: str) -> str:
    return next((colour for colour in RGB if name.lower() in (colour, colour[0])), name)


def _of_imagej(picture: TiffPicture) -> list[str]:
    tables: Sequence[NDArray] = (picture.file.imagej_metadata or {}).get('LUTs', ())
    return [_colour(table[:, -1]) for table in tables] if len(tables) == len(RGB) else []


def _colour(value: Sequence[int] | NDArray) -> str:
    """Name of a colour; empty for white, which is not the colour of a channel."""
    parts = [int(part) for part in value]
    strongest = int(np.argmax(parts))
    if min(parts) == 255:
        return ''
    pure = all(part <= PURE * parts[strongest] for index, part in enumerate(parts) if index != strongest)
    return RGB[strongest] if pure and any(parts) else '#' + bytes(parts).hex()

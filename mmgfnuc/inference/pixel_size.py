"""The size of a pixel of an image that is to be predicted: given, stated by its file, or assumed from its nuclei."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmgfnuc.datasets.pixel_size import LARGEST, SMALLEST, check_mpp, is_mpp, read_mpp
from mmgfnuc.errors import UserError

from .first_pass import Look, first_pass
from .preprocessing import Preprocessing

# Where a size comes from.
GIVEN, FILE, DIAMETER, FIRST_PASS, UNKNOWN = 'given', 'file', 'nucleus diameter', 'first pass', 'unknown'
# Nuclei may be measured by it: it is not assumed from nuclei.
KNOWN = (GIVEN, FILE)
# Sizes of pixels that differ by less are one, as scanners write them.
SAME_MPP = 0.01


@dataclass(frozen=True)
class PixelSize:
    """The size of a pixel of an image.

    Attributes:
        mpp: micrometres per pixel by which the image is scaled for the model; None leaves it as it is.
        source: where they come from: 'given', 'file', 'nucleus diameter', 'first pass' or 'unknown'.
        notice: what a reader must know of it, one line; empty where there is nothing.
    """

    mpp: float | None
    source: str
    notice: str = ''


@dataclass(frozen=True)
class PixelSizes:
    """Finds the size of a pixel of images, for a model.

    What is given wins over what the file states; where both are missing, it is assumed: by the diameter of a nucleus
    that is given, or by the nuclei of a first pass.

    Attributes:
        trained: what is known of the training images.
        given: micrometres per pixel of all images.
        nucleus_diameter: of a typical nucleus, in pixels, for images whose pixel size is not known.

    Raises:
        UserError: a number is none of a microscope; both are given; or a diameter is, to a model that does not know
            how large nuclei and pixels of its training were.
    """

    trained: Preprocessing
    given: float | None = None
    nucleus_diameter: float | None = None

    def __post_init__(self) -> None:
        if self.given is not None:
            check_mpp(self.given, 'mpp')
        if self.nucleus_diameter is None:
            return
        if self.given is not None:
            raise UserError(
                f'mpp={self.given:g} and nucleus_diameter={self.nucleus_diameter!r} are both given; give mpp alone, '
                'which says more'
            )
        if self.trained.mpp is None or self.trained.nucleus_diameter_um is None:
            raise UserError(
                'nucleus_diameter is given, and the model does not say how large the nuclei and pixels of its training '
                'images were; give the pixel size (mpp)'
            )
        check_diameter(self.nucleus_diameter, self.trained.nucleus_diameter_um)

    def find(
        self,
        look: Callable[[float], Look],
        given: float | None = None,
        stated: float | UserError | None = None,
    ) -> PixelSize:
        """Find the size of a pixel of one image.

        Args:
            look: see `first_pass`, which is made only where nothing else is known.
            given: micrometres per pixel of this image, instead of those of all.
            stated: by its file, or what is wrong there; see `stated_mpp`.

        Raises:
            UserError: a number is none of a microscope.
        """
        given = self.given if given is None else check_mpp(given, 'mpp')
        if given is not None:
            return PixelSize(given, GIVEN, _contradiction(given, stated))
        if isinstance(stated, UserError):
            raise stated
        if stated is not None:
            return PixelSize(stated, FILE)
        if self.trained.mpp is None or self.trained.nucleus_diameter_um is None:
            return PixelSize(None, UNKNOWN, 'the size of a pixel is unknown: the image is taken as it is')
        if self.nucleus_diameter is not None:
            mpp = self.trained.nucleus_diameter_um / self.nucleus_diameter
            return PixelSize(mpp, DIAMETER, _assumption(mpp, f'a nucleus diameter of {self.nucleus_diameter:g} pixels'))
        assumed = first_pass(look, self.trained.mpp, self.trained.nucleus_diameter_um)
        if assumed is None:
            what = 'a first pass found too few nuclei to tell it'
            return PixelSize(None, UNKNOWN, f'the size of a pixel is unknown, and {what}: the image is taken as it is')
        return PixelSize(assumed, FIRST_PASS, _assumption(assumed, 'a first pass at several sizes'))


def check_diameter(pixels: float, um: float) -> None:
    """Check the diameter of a nucleus in pixels, given what it measures in micrometres.

    Raises:
        UserError: no microscope shows it so.
    """
    number = isinstance(pixels, int | float) and not isinstance(pixels, bool) and pixels > 0
    if not (number and is_mpp(um / pixels)):
        raise UserError(
            f'nucleus_diameter={pixels!r}: give pixels from {math.ceil(um / LARGEST)} to {math.floor(um / SMALLEST)}, '
            f'since a nucleus of {um:.2g} micrometres at {SMALLEST} to {LARGEST:g} micrometres per pixel has these'
        )


def _contradiction(given: float, stated: float | UserError | None) -> str:
    if not isinstance(stated, float) or not _differ(stated, given):
        return ''
    return f'{given:.3g} um per pixel are used, as given; the file states {stated:.3g}'


def _differ(mpp: float, other: float) -> bool:
    return abs(mpp / other - 1) > SAME_MPP


def _assumption(mpp: float, reason: str) -> str:
    return (
        f'the size of a pixel is unknown: {mpp:.2g} um are assumed, from {reason}, and sizes are given in pixels only; '
        'give the pixel size (mpp)'
    )


def stated_mpp(path: str | Path) -> float | UserError | None:
    """Give the micrometres per pixel that an image file states, None where it states none, or what is wrong there."""
    try:
        return read_mpp(path)
    except UserError as error:
        return error


def scale_notices(stated: Sequence[float | UserError | None], sizes: PixelSizes) -> Iterator[str]:
    """Sum up the pixel sizes of files before they are predicted; what matters of each image is said in its notices.

    Args:
        stated: what each image file states, see `stated_mpp`.
        sizes: finds those of the images.
    """
    given, known = sizes.given, [mpp for mpp in stated if isinstance(mpp, float)]
    if given is None:
        unknown = stated.count(None)
        parts = [_counted(known)] if known else []
        parts += [f'{unknown} of {len(stated)} state none (--mpp gives it)'] if unknown else []
    else:
        others = [mpp for mpp in known if _differ(mpp, given)]
        parts = [f'{_counted(others)}, and {given:g} um are used, as given'] if others else []
    if parts:
        yield f'pixel size, as the files state it: {"; ".join(parts)}'
    if sizes.trained.mpp is None and (given is not None or known):
        yield 'notice: the training images stated no pixel size, so images are not scaled to it'


def _counted(sizes: list[float]) -> str:
    """Count values as they are shown: scanners write the same one with many decimals."""
    counts = sorted(Counter(f'{mpp:.2g}' for mpp in sizes).items())
    return ', '.join(f'{value} um ({count})' for value, count in counts)

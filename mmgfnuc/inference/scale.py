"""How large a pixel of each image is, and what of it the user has to know before the prediction begins."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmgfnuc.datasets.pixel_size import read_mpp
from mmgfnuc.errors import UserError

# Scanner settings may differ by a few percent without harm to a model trained with random scaling.
MPP_TOLERANCE = 0.25
SAME_MPP = 0.01


def stated_scale(path: Path) -> float | UserError | None:
    """Give the micrometres per pixel that an image file states, None where it states none, or what is wrong there."""
    try:
        return read_mpp(path)
    except UserError as error:
        return error


def scale_notices(
    stated: Mapping[Path, float | UserError | None], given: float | None, trained: float | None
) -> Iterator[str]:
    """Say what does not fit, or is not known, of the pixel sizes of files, user and model: a line for each matter.

    Args:
        stated: what each image file states, see `stated_scale`.
        given: by the user, for all images; wins over the files.
        trained: the model's, None where it does not say it.
    """
    total = len(stated)
    known = [mpp for mpp in stated.values() if isinstance(mpp, float)]
    if given is None:
        if known:
            yield f'pixel size, as the files state it: {_counted(known)}'
        unknown = [path for path, mpp in stated.items() if mpp is None]
        if unknown:
            yield (
                f'notice: the size of a pixel of {len(unknown)} of {total} images, such as {unknown[0]}, is unknown: '
                'their sizes are told in pixels alone; say it with --mpp'
            )
    else:
        others = [mpp for mpp in known if abs(mpp / given - 1) > SAME_MPP]
        if others:
            yield f'notice: {given:g} um per pixel are used, as given; the files state otherwise: {_counted(others)}'
        known = [given] * total
    if trained is None:
        yield 'notice: the model does not say its pixel size: whether it fits the images is not known'
        return
    for shown, count in _by_value(known).items():
        factor = float(shown) / trained
        if abs(factor - 1) > MPP_TOLERANCE:
            yield (
                f'warning: the model was trained at {trained:g} um per pixel, the images have {shown} ({count} of '
                f'{total}); resize them by {factor:.2f} for scores like those of the test'
            )


def _by_value(sizes: list[float]) -> dict[str, int]:
    """Count values as they are shown: scanners write the same one with many decimals."""
    return dict(sorted(Counter(f'{mpp:.2g}' for mpp in sizes).items()))


def _counted(sizes: list[float]) -> str:
    return ', '.join(f'{value} um ({count})' for value, count in _by_value(sizes).items())

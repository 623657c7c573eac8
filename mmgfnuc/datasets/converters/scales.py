"""The pixel size of each image of a source: by its dataset, by its file, or by the user where neither states it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmgfnuc.datasets.pixel_size import check_mpp, read_mpp
from mmgfnuc.errors import UserError

from .base import Sample, faulty
from .notices import shortened

# Nobody means to change an image by more than this along an axis.
LARGEST_FACTOR = 16
# Ratios of pixel sizes nearer to 1 than this are taken for 1.
SAME_MPP = 0.002


@dataclass
class _Differences:
    """Images that state another size than the user gives, and those that state an impossible one."""

    others: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)


def with_pixel_sizes(
    samples: Sequence[Sample], given: float | None, target: float | None
) -> tuple[list[Sample], list[str]]:
    """Give each sample its micrometres per pixel; and a line for each way in which `given` is not what is stated.

    Args:
        samples: with those that their dataset states, if it does.
        given: by the user, for the images that state none, or one that no microscope gives.
        target: to which images are to be resampled.

    Raises:
        UserError: no microscope has `given` or `target`, or `target` cannot be met.
    """
    for option, value in (('--source-mpp', given), ('--mpp', target)):
        if value is not None:
            check_mpp(value, option)
    found = _Differences()
    known = [_with_pixel_size(sample, given, target, found) for sample in samples]
    notices = {
        f'images that state another pixel size than --source-mpp {given or 0:g}; theirs is taken': found.others,
        f'images whose stated pixel size is impossible; --source-mpp {given or 0:g} is taken': found.impossible,
    }
    return known, [f'{what}: {len(names)} ({shortened(names)})' for what, names in notices.items() if names]


def _with_pixel_size(sample: Sample, given: float | None, target: float | None, found: _Differences) -> Sample:
    try:
        stated = _stated(sample)
    except UserError as error:
        if given is None:
            return faulty(sample.id, sample.group, str(error))
        found.impossible.append(str(error))
        stated = None
    if stated is not None and given is not None and not is_same(stated, given):
        found.others.append(f'{sample.id}: {stated:g}')
    known = given if stated is None else stated
    if target is not None and known is None:
        raise UserError(
            f'{sample.id}: its micrometres per pixel are not known, so --mpp cannot be met; add --source-mpp'
        )
    if target is not None and known is not None and not 1 / LARGEST_FACTOR <= known / target <= LARGEST_FACTOR:
        raise UserError(f'{sample.id}: from {known:g} to {target:g} micrometres per pixel; give --mpp nearer to that')
    return replace(sample, mpp=known)


def _stated(sample: Sample) -> float | None:
    if sample.mpp is not None:
        return check_mpp(sample.mpp, sample.id)
    return None if sample.image is None else read_mpp(sample.image)


def is_same(mpp: float, other: float) -> bool:
    """Whether two sizes of a pixel differ only by rounding."""
    return abs(mpp / other - 1) < SAME_MPP

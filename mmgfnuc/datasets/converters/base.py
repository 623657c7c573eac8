"""What a converter is: what is known of a dataset, and how its authors' files are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mmgfnuc.datasets.canonical import CLASSES, LabelMap, Mask, RGBImage, TypeMap
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError


@dataclass(frozen=True)
class Content:
    """One image and its truth.

    Attributes:
        image: (H, W, 3), RGB uint8.
        instances: (H, W), int32, 0 = background.
        ignore: (H, W), bool: where the truth is unknown.
        types: (H, W), uint8: index into the classes of the dataset.
        notices: what its reader did that the user should know, and the names of the outlines to which it did so.
    """

    image: RGBImage
    instances: LabelMap
    ignore: Mask | None = None
    types: TypeMap | None = None
    notices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One image of a source.

    Attributes:
        id: name in the canonical form, unique in the dataset.
        group: slide, patient or organ; images of one group never stand in two parts of a split.
        read: reads the files. It may be called in another process: a function of a module, or a partial of one.
            Raises UserError (one line) where a file cannot be used.
        mpp: micrometres per pixel; None where the authors do not state it.
        magnification: of the objective; None where unknown.
        part: of the authors' own split, such as `train`; None where they give none.
        image: the file, if its metadata may state the mpp that the dataset does not.
    """

    id: str
    group: str
    read: Callable[[], Content]
    mpp: float | None = None
    magnification: float | None = None
    part: str | None = None
    image: Path | None = None


SWITCH = ('no', 'yes')


@dataclass(frozen=True)
class Option:
    """A choice that a dataset leaves to its user, `--<name>` of `mmgfnuc prepare`.

    Attributes:
        name: with hyphens.
        choices: that there are; empty for free text. Of `SWITCH`, `--<name>` alone means yes.
        default: None makes the user choose.
        help: one line.
    """

    name: str
    choices: tuple[str, ...]
    default: str | None
    help: str


Options = Mapping[str, str]
# The option that names a source of the user's own.
NAME_OPTION = 'name'


def _no_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    return {}


@dataclass(frozen=True)
class Converter:
    """A dataset as its authors ship it. What could not be checked against them is None, not guessed.

    Attributes:
        name: of the command, and in meta.json.
        title: as the authors call it.
        layout: of the source, for `--help`: the files that are read, one per line.
        licence: of the data.
        citation: paper.
        page: where to get it.
        list_samples: lists the images of a source folder, from names and headers alone. Raises UserError where the
            folder is another one; a file without its partner is a `faulty` sample.
        classes: background first, then the nucleus types.
        read_classes: reads the classes from a source that names them itself; they take the place of `classes`.
        read_terms: reads licence and citation from a source that names them itself.
        images: as published.
        nuclei: as published.
        splits: the authors' own splits, by name, from the samples that are there; a split that needs all images and
            lacks some is left out.
        leaky: names of the authors' splits that cut groups.
        holdout: name of the split with whole groups held out, and the groups that are held out by default.
        overlaps: how nuclei that overlap are kept.
        options: that the user may choose.
    """

    name: str
    title: str
    layout: str
    licence: str | None
    citation: str
    page: str
    list_samples: Callable[[Path, Options], list[Sample]]
    classes: Sequence[str] = field(default_factory=lambda: list(CLASSES))
    images: int | None = None
    nuclei: int | None = None
    splits: Callable[[Sequence[Sample]], dict[str, Split]] = _no_splits
    leaky: tuple[str, ...] = ()
    holdout: tuple[str, tuple[str, ...]] = ('holdout', ())
    overlaps: str = ''
    options: tuple[Option, ...] = ()
    read_classes: Callable[[Path, Options], list[str]] | None = None
    read_terms: Callable[[Path, Options], tuple[str, str]] | None = None


def faulty(sample_id: str, group: str, problem: str) -> Sample:
    """Make a sample of a file that lacks its partner; the problem is reported with those of all other files."""
    return Sample(sample_id, group, partial(_raise, problem))


def _raise(problem: str) -> Content:
    raise UserError(problem)


def same_size(image: Path, content: Content, paths: Mapping[str, Path | None]) -> None:
    """Compare the sizes of an image and its maps.

    Args:
        image: its file.
        content: what was read.
        paths: file of each map, by its name in `content`.

    Raises:
        UserError: names the map that differs.
    """
    for name, path in paths.items():
        array = getattr(content, name)
        if array is not None and array.shape != content.image.shape[:2]:
            raise UserError(
                f'{path}: size {array.shape} differs from {content.image.shape[:2]} of {image.name}; '
                'export mask and image at one size'
            )


def parts_split(samples: Sequence[Sample]) -> Split:
    """The authors' own split, from the `part` of each sample; sorted, samples without part left out."""
    parts: Split = {}
    for sample in sorted(samples, key=lambda sample: sample.id):
        if sample.part is not None:
            parts.setdefault(sample.part, []).append(sample.id)
    return parts

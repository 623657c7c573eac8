"""From a source in its authors' layout to the canonical form: in parallel, restartable, whole or not at all."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from tqdm import tqdm

from mmgfnuc.datasets.bad_file import is_utf8
from mmgfnuc.datasets.canonical import (
    count_nuclei,
    image_digest,
    list_splits,
    read_image,
    read_label_map,
    sample_paths,
    write_meta,
    write_sample,
    write_split,
)
from mmgfnuc.datasets.resampling import resample_image, resample_map
from mmgfnuc.datasets.splits import Split, find_leaks
from mmgfnuc.datasets.staging import refuse_foreign, refuse_lost, staged_dataset, staging_folder, unpacked_folder
from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, output_lock

from .base import NAME_OPTION, Content, Converter, Options, Sample
from .notices import read_notices, write_notices
from .scales import is_same, with_pixel_sizes
from .sources import fingerprint, opened_source

# The shown part of a long list of faults or leaks.
SHOWN = 20
# Fewer images are converted faster than processes start.
IMAGES_PER_PROCESS = 40

SplitPlanner = Callable[[Mapping[str, str]], Mapping[str, Split]]


@dataclass(frozen=True)
class Report:
    """What was written, how it differs from what the authors published, and what was done with odd outlines."""

    images: int
    nuclei: int
    differences: list[str]
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Written:
    nuclei: int = 0
    digest: str = ''
    problem: str = ''


def no_plan(groups: Mapping[str, str]) -> dict[str, Split]:
    """Make no splits besides those of the authors."""
    return {}


def convert(
    converter: Converter,
    source: str | Path,
    out: str | Path,
    options: Options | None = None,
    *,
    mpp: float | None = None,
    source_mpp: float | None = None,
    plan: SplitPlanner = no_plan,
    allow_leaks: bool = False,
    workers: int | None = None,
) -> Report:
    """Write a dataset in the canonical form, with the splits of its authors and those of `plan`.

    A run that was interrupted goes on where it was when it is started again in the same way. No other process may write
    to `out` meanwhile.

    Args:
        converter: of the dataset.
        source: folder or archive as the authors ship it.
        out: folder to write.
        options: of the converter, by name.
        mpp: micrometres per pixel to resample all images to; None leaves them as they are.
        source_mpp: micrometres per pixel of the images for which neither the dataset nor the file states any.
        plan: makes the user's splits from the group of each id.
        allow_leaks: accept splits whose parts share groups or images.
        workers: processes; None takes one for each CPU if the images are many.

    Raises:
        UserError: one line for each fault of the source, or for each leak of a split; a pixel size that no microscope
            has; another process writes to `out`. Nothing is written then.
        DiskFullError: the disk is full; what is written is kept for the next run.
    """
    chosen = _choose(converter, options or {})
    name, out = chosen.get(NAME_OPTION) or converter.name, Path(out).resolve()
    refuse_foreign(out, name)
    _refuse_inside(Path(source).expanduser().resolve(), out)
    with output_lock(out), opened_source(source, unpacked_folder(out)) as folder:
        if converter.read_classes:
            converter = replace(converter, classes=converter.read_classes(folder, chosen))
        if converter.read_terms:
            licence, citation = converter.read_terms(folder, chosen)
            converter = replace(converter, licence=licence, citation=citation)
        samples = _checked(converter, converter.list_samples(folder, chosen))
        samples, sizes = with_pixel_sizes(samples, source_mpp, mpp)
        groups = {sample.id: sample.group for sample in samples}
        official = converter.splits(samples)
        splits = {**plan(groups), **official}
        # Here, too, before all is converted.
        refuse_lost(out, [Path('splits', f'{split}.json') for split in list_splits(out) if split not in splits])
        settings = {
            'source': [
                str(Path(source).resolve()),
                fingerprint(source, out, staging_folder(out), unpacked_folder(out)),
            ],
            'options': chosen,
            'classes': list(converter.classes),
            'mpp': mpp,
            'samples': [[sample.id, sample.mpp] for sample in samples],
        }
        with staged_dataset(out, name, settings) as root:
            written = _write_all(converter, samples, root, mpp, workers)
            # What was unpacked is gone when the user reads this.
            _raise_problems([done.problem.replace(f'{folder}/', '') for done in written if done.problem])
            digests = {sample.id: done.digest for sample, done in zip(samples, written, strict=True)}
            leaky = [*converter.leaky, *(splits if allow_leaks else ())]
            leaky = [split for split in leaky if split in splits]
            _write_splits(root, splits, groups, digests, leaky)
            _write_meta(root, name, converter, samples, mpp, leaky)
    nuclei = sum(done.nuclei for done in written)
    # Small nuclei may vanish when images are made smaller.
    differences = _differences(converter, len(samples), None if mpp else nuclei)
    return Report(len(samples), nuclei, differences, [*sizes, *read_notices(out)])


def _refuse_inside(source: Path, out: Path) -> None:
    if source.is_relative_to(out):
        raise UserError(f'the source {source} lies in {out}, which would be replaced with it; choose another --out')


def _choose(converter: Converter, options: Options) -> dict[str, str]:
    chosen = {}
    for option in converter.options:
        value = options.get(option.name) or option.default
        if value is None:
            raise UserError(f'{converter.title}: give --{option.name}: {option.help}')
        if option.choices and value not in option.choices:
            raise UserError(f"--{option.name} '{value}' is unknown; choose one of {', '.join(option.choices)}")
        chosen[option.name] = value
    return chosen


def _checked(converter: Converter, samples: list[Sample]) -> list[Sample]:
    if not samples:
        raise UserError(f'no image of {converter.title} is there; expected is\n{converter.layout}')
    places: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.id != Path(sample.id).name:
            raise UserError(f'{sample.id!r} is not a plain file name; an image is called so in {converter.title}')
        if not is_utf8(sample.id):
            raise UserError(f'{sample.id!r} is not a name in UTF-8; rename the file of {converter.title}')
        places[sample.id].append(repr(sample.group))
    doubled = [f'{name!r} in {" and ".join(groups)}' for name, groups in places.items() if len(groups) > 1]
    if doubled:
        raise UserError(f'images of one name: {", ".join(doubled[:SHOWN])}; rename all but one of each')
    return sorted(samples, key=lambda sample: sample.id)


def _write_all(
    converter: Converter, samples: Sequence[Sample], root: Path, mpp: float | None, workers: int | None
) -> list[_Written]:
    if workers is None:
        workers = max(1, min(os.cpu_count() or 1, len(samples) // IMAGES_PER_PROCESS))
    classes = len(converter.classes)
    write = partial(_write_one, root=root, mpp=mpp, types=range(classes) if classes > 2 else None)
    with _mapper(workers) as spread:
        return list(tqdm(spread(write, samples), total=len(samples), desc=converter.title, unit='image'))


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Any]]:
    if workers == 1:
        yield map
        return
    # Not fork: by now this process may have threads. The server imports the package once for all workers.
    context = get_context('forkserver')
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that has started its pool is killed: it would wait for work forever."""
    Thread(target=_outlive_parent, daemon=True).start()


def _outlive_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _write_one(sample: Sample, root: Path, mpp: float | None, types: range | None) -> _Written:
    done = sample_paths(root, sample.id)
    if done.image.is_file():  # written last, by a run that was interrupted
        return _Written(count_nuclei(read_label_map(done.label)), image_digest(read_image(done.image)))
    try:
        content = sample.read()
        if content.notices:
            write_notices(root, sample.id, content.notices)
        content = resampled(content, sample.mpp, mpp)
        _check_types(sample.id, content, types)
        write_sample(root, sample.id, content.image, content.instances, content.ignore, content.types)
    except DiskFullError:  # the same for every image to come
        raise
    except UserError as error:
        return _Written(problem=str(error))
    return _Written(count_nuclei(content.instances), image_digest(content.image))


def _check_types(sample_id: str, content: Content, types: range | None) -> None:
    if types is not None and (content.types is None or not np.isin(content.types, types).all()):
        raise UserError(f'{sample_id}: a nucleus type is missing or not one of 0 to {types[-1]}; get the original file')


def resampled(content: Content, mpp: float | None, target: float | None) -> Content:
    """Bring an image from `mpp` to `target` micrometres per pixel: smoothly; its maps by the nearest pixel.

    Shape:
        (H, W) -> (round(H mpp / target), round(W mpp / target))
    """
    if mpp is None or target is None or is_same(mpp, target):
        return content
    image, instances = resample_image(content.image, content.instances, mpp, target)
    ignore, types = (
        None if values is None else resample_map(values, *instances.shape) for values in (content.ignore, content.types)
    )
    return Content(image, instances, ignore, types)


def _raise_problems(problems: Sequence[str]) -> None:
    if problems:
        more = [f'... and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        count = '1 bad source file' if len(problems) == 1 else f'{len(problems)} bad source files'
        raise UserError('\n'.join([f'{count}, nothing was written:', *problems[:SHOWN], *more]))


def _write_splits(
    root: Path,
    splits: Mapping[str, Split],
    groups: Mapping[str, str],
    digests: Mapping[str, str],
    leaky: Sequence[str],
) -> None:
    leaks = []
    for name, parts in splits.items():
        if name not in leaky:
            leaks += [f'split {name!r}: {leak}' for leak in find_leaks(parts, groups, digests)]
        write_split(root, name, parts)
    if leaks:
        fix = 'split otherwise, remove doubled images, or accept it with --allow-leaks'
        raise UserError('\n'.join([f'a split leaks from one part to another; {fix}:', *leaks[:SHOWN]]))


def _write_meta(
    root: Path, name: str, converter: Converter, samples: Sequence[Sample], mpp: float | None, leaky: Sequence[str]
) -> None:
    images: dict[str, dict[str, Any]] = {}
    for sample in samples:
        images[sample.id] = {'group': sample.group, 'mpp': mpp if mpp is not None else sample.mpp}
        if sample.magnification is not None and mpp is None:
            images[sample.id]['magnification'] = sample.magnification
    meta = {
        'name': name,
        'classes': list(converter.classes),
        'licence': converter.licence or '',
        'citation': converter.citation,
        'source': converter.page,
        'splits_with_leaks': sorted(set(leaky)),
        'images': images,
    }
    write_meta(root, meta)


def _differences(converter: Converter, images: int, nuclei: int | None) -> list[str]:
    if converter.images is not None and images != converter.images:
        return [f'{images:,} images here, {converter.images:,} as published']
    if converter.nuclei is not None and nuclei is not None and nuclei != converter.nuclei:
        return [f'{nuclei:,} nuclei here, {converter.nuclei:,} as published ({nuclei - converter.nuclei:+,})']
    return []

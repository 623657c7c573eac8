"""Pictures of a study on one data set, made from its trained runs: what the arms predict, and what fusion changes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from torch import Tensor

from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.errors import UserError
from mmgfnuc.visualization.outline import TRUTH_COLOUR
from mmgfnuc.visualization.panels import STATE_COLOURS

from .inside import TrainedRun, load_trained
from .picture_pages import (
    Panel,
    Pixels,
    draw_errors,
    draw_page,
    draw_truth,
    encode_jpeg,
    enlarge,
    principal_colours,
)
from .runs import Run
from .storage import DONE, run_folder, run_state

REGION = 256  # pixels
ARMS_PER_PAGE = 10
PANEL_COLUMNS, FEATURE_WIDTH = 4, 208
PANEL_BYTES, FEATURE_BYTES = 150_000, 500_000
FEATURE_HEADINGS = ('the encoder sees', 'encoder features', 'local, before fusion', 'local, after fusion')
LEGEND = {
    'nucleus found': STATE_COLOURS['matched'],
    'missed': STATE_COLOURS['missed'],
    'invented': STATE_COLOURS['invented'],
    'outline of the truth': TRUTH_COLOUR,
}


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        kind: `panel`, predictions and errors of the arms on one image, or `features`, before and after fusion.
        title: a few words.
        caption: what is shown and how to read it.
        alt: for who cannot see it.
        image: the file.
        media_type: of the file.
        width: in pixels.
    """

    kind: str
    title: str
    caption: str
    alt: str
    image: bytes
    width: int
    media_type: str = 'image/jpeg'


@dataclass(frozen=True)
class Features:
    """What an encoder and a fusion make of one tile.

    Attributes:
        seen: what the encoder sees: the tile, or that of the partner image.
        encoder: its last feature, and the image pixels per pixel of it.
        before: the deepest fused level of the local pyramid, and its stride.
        after: the same level after fusion.

    Shape:
        seen (H, W, 3) RGB; encoder (D, h, w); before and after (C, h', w')
    """

    seen: Pixels
    encoder: tuple[NDArray[np.float32], float]
    before: tuple[NDArray[np.float32], float]
    after: tuple[NDArray[np.float32], float]


@dataclass(frozen=True)
class ArmView:
    """What an arm makes of an image; the features are those of the median image, None without fusion.

    Shape:
        foreground (H, W), True in nuclei; nuclei (H, W), label map
    """

    foreground: NDArray[np.bool_]
    nuclei: NDArray[np.int32]
    features: Features | None


@dataclass(frozen=True)
class ImageViews:
    """One test image, and what each arm makes of it, by its name.

    Shape:
        image (H, W, 3) RGB; truth (H, W), True in nuclei; nuclei (H, W), label map; ignore (H, W)
    """

    image: Pixels
    truth: NDArray[np.bool_]
    nuclei: NDArray[np.int32]
    ignore: NDArray[np.bool_]
    arms: dict[str, ArmView] = field(default_factory=dict)


def study_pictures(runs: Sequence[Run], root: str | Path, rows: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Make the pictures of one data set: panels of the best, the median and the worst image, features of the median.

    The models are those of the first seed, of the fold whose test part holds the image. Without the data or the
    checkpoints, which may have been deleted since, there are no pictures, and a warning.

    Args:
        runs: of the study; those that are not done are left out.
        root: folder of the runs.
        rows: scores of every image by `study_scores`.
    """
    try:
        return _pictures(runs, Path(root), rows)
    except UserError as error:
        warnings.warn(f'the report has no pictures: {error}', stacklevel=2)
        return []


def _pictures(runs: Sequence[Run], root: Path, rows: Sequence[Mapping[str, Any]]) -> list[Picture]:
    seed = runs[0].seed
    shown = [row for row in rows if row['seed'] == seed]
    chosen = choose_images(rows, {row['image'] for row in shown})
    folds = {row['image']: row['fold'] for row in reversed(shown)}
    done = [run for run in runs if run.seed == seed and run_state(root, run) == DONE]
    views = _views(done, root, {image: folds[image] for image in chosen.values()}, chosen.get('median'))
    dice = {(row['arm'], row['image'], row['fold']): row['dice'] for row in shown}
    pictures: list[Picture] = []
    for which, image in chosen.items():
        scores = {arm: dice.get((arm, image, folds[image])) for arm in views[image].arms}
        pictures += _panel_pictures(which, image, views[image], scores)
    for image, view in views.items():
        pictures += _feature_pictures(image, view)
    return pictures


def choose_images(rows: Sequence[Mapping[str, Any]], among: set[str]) -> dict[str, str]:
    """Choose the best, the median and the worst image by Dice, averaged over all rows; an image is chosen once.

    Only images that have a row of every arm are looked at. Of two images in the middle the better one is the median.
    """
    scores: dict[str, list[float]] = {}
    arms: dict[str, set[str]] = {}
    for row in rows:
        if row['dice'] is not None and row['image'] in among:
            scores.setdefault(row['image'], []).append(row['dice'])
            arms.setdefault(row['image'], set()).add(row['arm'])
    names = {row['arm'] for row in rows}
    means = {image: mean(values) for image, values in scores.items() if arms[image] == names}
    order = sorted(means, key=lambda image: (-means[image], image))
    if not order:
        return {}
    places = {'median': order[(len(order) - 1) // 2], 'best': order[0], 'worst': order[-1]}
    # With one or two images places coincide: the median stays, which the features are shown of.
    chosen = {image: which for which, image in reversed(places.items())}
    return {chosen[image]: image for image in order if image in chosen}


@torch.inference_mode()
def _views(runs: Sequence[Run], root: Path, folds: Mapping[str, str], median: str | None) -> dict[str, ImageViews]:
    """Let the models of all arms look at the images of their folds."""
    views: dict[str, ImageViews] = {}
    for run in runs:
        images = [image for image, fold in folds.items() if fold == run.split]
        if not images:
            continue
        trained = load_trained(run_folder(root, run))
        for image in images:
            inputs, sample = trained.load(trained.data.ids.index(image))
            view = views.setdefault(image, ImageViews(_rgb(inputs), *_truth(sample)))
            (predicted,) = trained.model.predict(inputs, [sample])
            view.arms[run.arm.name] = ArmView(
                predicted.pred_sem_seg.data[0].cpu().numpy() > 0,
                predicted.pred_instance_map.data[0].cpu().numpy(),
                tile_features(trained, inputs) if image == median and trained.model.neck else None,
            )
    return views


def _truth(sample: SegDataSample) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.bool_]]:
    """Where nuclei are, their label map, and what is ignored."""
    classes, nuclei = (maps.data[0].cpu().numpy() for maps in (sample.gt_sem_seg, sample.gt_instance_map))
    ignore = classes == IGNORE_LABEL
    return (classes > 0) & ~ignore, nuclei, ignore


@torch.inference_mode()
def tile_features(trained: TrainedRun, inputs: Tensor) -> Features:
    """Look at the features of the tile in the middle of an image.

    Shape:
        inputs (1, 3 or 6, H, W)
    """
    model = trained.model
    caught: dict[Any, tuple[Any, Any]] = {}

    def catch(part: Any, given: Any, made: Any) -> None:
        caught[part] = (given, made)

    level = max(int(name) for name in model.neck.blocks)
    block = model.neck.blocks[str(level)]
    hooks = [part.register_forward_hook(catch) for part in (model.foundation, block)]
    model.predict_maps(_middle_tile(inputs, model.test_cfg))
    for hook in hooks:
        hook.remove()
    (seen,), encoded = caught[model.foundation]
    (local, *_), fused = caught[block]
    stride = model.backbone.out_strides[level]
    return Features(
        _rgb(seen),
        (encoded[-1][0].cpu().numpy(), model.foundation.token_strides(*seen.shape[-2:])[-1]),
        (local[0].cpu().numpy(), stride),
        (fused[0].cpu().numpy(), stride),
    )


def _middle_tile(inputs: Tensor, test_cfg: Mapping[str, Any]) -> Tensor:
    if not test_cfg.get('tile'):
        return inputs
    side = int(test_cfg['tile'] / test_cfg.get('scale', 1))
    top, left = (max(length - side, 0) // 2 for length in inputs.shape[-2:])
    return inputs[..., top : top + side, left : left + side]


def _rgb(images: Tensor) -> Pixels:
    """(B, at least 3, H, W) in [0, 1] -> (H, W, 3), the first image."""
    return (255 * images[0, :3]).round().to('cpu', torch.uint8).permute(1, 2, 0).numpy()


def _panel_pictures(which: str, image: str, view: ImageViews, scores: Mapping[str, float | None]) -> Iterator[Picture]:
    region = disagreement_region([view.truth, *(arm.foreground for arm in view.arms.values())], view.ignore)
    tissue, truth, ignore = view.image[region], view.truth[region], view.ignore[region]
    given = [Panel(['tissue'], tissue), Panel(['truth'], draw_truth(tissue, view.nuclei[region], ignore))]
    where = 'Shown is all of it'
    if tissue.shape != view.image.shape:
        size = f'{tissue.shape[1]} x {tissue.shape[0]} pixels'
        where = f'Shown is the region of {size} where the arms and the truth differ most'
    caption = (
        f'Image {image}, the {which} by Dice averaged over all arms and seeds. {where}; the Dice above each panel is '
        'that of the whole image, of the first seed. Pixels of nuclei are green where found, orange where missed, blue '
        'where invented; ignored areas are dark.'
    )
    for title, names in _paged(f'{which.capitalize()} image', list(view.arms)):
        panels = list(given)
        for name in names:
            arm = view.arms[name]
            errors = draw_errors(tissue, truth, arm.foreground[region], arm.nuclei[region], ignore)
            panels.append(Panel([name, _dice(scores[name])], errors))
        alt = f'Tissue, truth and errors of {image}: ' + ', '.join(f'{name} {_dice(scores[name])}' for name in names)
        page = draw_page(panels, PANEL_COLUMNS, REGION, LEGEND)
        yield Picture('panel', title, caption, alt, encode_jpeg(page, PANEL_BYTES), page.shape[1])


def _paged(title: str, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Divide arms among pages, and number the pages where there are several."""
    starts = range(0, len(names), ARMS_PER_PAGE)
    for number, start in enumerate(starts, start=1):
        numbered = f'{title} ({number} of {len(starts)})' if len(starts) > 1 else title
        yield numbered, names[start : start + ARMS_PER_PAGE]


def _dice(score: float | None) -> str:
    return 'no Dice' if score is None else f'Dice {score:.3f}'


def disagreement_region(masks: Sequence[NDArray[np.bool_]], ignore: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Find the square of at most 256 pixels in which masks of nuclei differ most.

    A pixel counts p (1 - p), p being the share of the masks that have a nucleus there; ignored ones do not count.

    Shape:
        every mask (H, W), ignore (H, W)
    """
    share = np.mean(masks, axis=0)
    differs = np.where(ignore, 0, share * (1 - share))
    height, width = (min(REGION, side) for side in ignore.shape)
    sums = np.pad(differs, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(top, top + height), slice(left, left + width)


def _feature_pictures(image: str, view: ImageViews) -> Iterator[Picture]:
    features = {name: arm.features for name, arm in view.arms.items() if arm.features}
    caption = (
        f'Features of the median image, {image}, for every arm with fusion: the tile that the foundation encoder sees, '
        'the first three principal components of its features as red, green and blue, and those of the local features '
        'at the deepest fused level before and after fusion. Before and after share one basis, so equal colours are '
        'equal features; colours of different rows do not compare.'
    )
    for title, names in _paged('Features before and after fusion', list(features)):
        panels = [panel for name in names for panel in _feature_panels(name, features[name])]
        alt = f'Principal components of the features of {image} before and after fusion: {", ".join(names)}'
        page = draw_page(panels, len(FEATURE_HEADINGS), FEATURE_WIDTH, {})
        yield Picture('features', title, caption, alt, encode_jpeg(page, FEATURE_BYTES), page.shape[1])


def _feature_panels(name: str, features: Features) -> list[Panel]:
    size = features.seen.shape[:2]
    (encoder,) = principal_colours([features.encoder[0]])
    before, after = principal_colours([features.before[0], features.after[0]])
    drawn = [
        enlarge(colours, stride, size)
        for colours, (_, stride) in zip(
            (encoder, before, after), (features.encoder, features.before, features.after), strict=True
        )
    ]
    lines = [[name if column == 0 else '', heading] for column, heading in enumerate(FEATURE_HEADINGS)]
    return [Panel(text, pixels) for text, pixels in zip(lines, [features.seen, *drawn], strict=True)]

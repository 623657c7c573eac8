"""Pictures of a study on one data set, made from its trained runs: what the arms predict, and what fusion changes."""

import warnings
from collections.abc import Mapping, Sequence
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
from mmgfnuc.visualization.errors import STATE_COLOURS, TRUTH_COLOUR, draw_errors, draw_outlines
from mmgfnuc.visualization.features import principal_colours
from mmgfnuc.visualization.pages import Gallery
from mmgfnuc.visualization.panels import Panel, Pixels

from .inside import TrainedRun, load_trained
from .runs import Run
from .storage import DONE, run_folder, run_state

REGION = 256  # pixels
COLUMNS = 4
FEATURE_HEADINGS = ('the encoder sees', 'encoder features', 'local, before fusion', 'local, after fusion')


@dataclass(frozen=True)
class Features:
    """What an encoder and a fusion make of one tile.

    Attributes:
        seen: what the encoder sees: the tile, or that of the partner image.
        encoder: its last feature.
        before: the deepest fused level of the local pyramid.
        after: the same level after fusion.

    Shape:
        seen (H, W, 3) RGB; encoder (D, h, w); before and after (C, h', w')
    """

    seen: Pixels
    encoder: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class ImageViews:
    """One test image, and what each arm makes of it, by its name; the features are there for arms with fusion.

    Shape:
        image (H, W, 3) RGB; truth and nuclei (H, W), label maps; ignore (H, W)
    """

    image: Pixels
    truth: NDArray[np.int32]
    ignore: NDArray[np.bool_]
    nuclei: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


def study_pictures(runs: Sequence[Run], root: str | Path, rows: Sequence[Mapping[str, Any]]) -> list[Gallery]:
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


def _pictures(runs: Sequence[Run], root: Path, rows: Sequence[Mapping[str, Any]]) -> list[Gallery]:
    seed = runs[0].seed
    shown = [row for row in rows if row['seed'] == seed]
    chosen = choose_images(rows, {row['image'] for row in shown})
    folds = {row['image']: row['fold'] for row in reversed(shown)}
    done = [run for run in runs if run.seed == seed and run_state(root, run) == DONE]
    views = _views(done, root, {image: folds[image] for image in chosen.values()}, chosen.get('median'))
    dice = {(row['arm'], row['image'], row['fold']): row['dice'] for row in shown}
    galleries = []
    for which, image in chosen.items():
        scores = {arm: dice.get((arm, image, folds[image])) for arm in views[image].nuclei}
        galleries.append(_error_gallery(which, image, views[image], scores))
    return galleries + [_feature_gallery(image, view.features) for image, view in views.items() if view.features]


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
            view.nuclei[run.arm.name] = predicted.pred_instance_map.data[0]
            if image == median and getattr(trained.model.neck, 'blocks', None):
                view.features[run.arm.name] = tile_features(trained, inputs)
    return views


def _truth(sample: SegDataSample) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Label map of the nuclei, and what is ignored."""
    classes, nuclei = (maps.data[0].cpu().numpy() for maps in (sample.gt_sem_seg, sample.gt_instance_map))
    return nuclei, classes == IGNORE_LABEL


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
    return Features(_rgb(seen), *(maps[0].cpu().numpy() for maps in (encoded[-1], local, fused)))


def _middle_tile(inputs: Tensor, test_cfg: Mapping[str, Any]) -> Tensor:
    if not test_cfg.get('tile'):
        return inputs
    side = int(test_cfg['tile'] / test_cfg.get('scale', 1))
    top, left = (max(length - side, 0) // 2 for length in inputs.shape[-2:])
    return inputs[..., top : top + side, left : left + side]


def _rgb(images: Tensor) -> Pixels:
    """(B, at least 3, H, W) in [0, 1] -> (H, W, 3), the first image."""
    return (255 * images[0, :3]).round().to('cpu', torch.uint8).permute(1, 2, 0).numpy()


def _error_gallery(which: str, name: str, view: ImageViews, scores: Mapping[str, float | None]) -> Gallery:
    region = disagreement_region([labels > 0 for labels in (view.truth, *view.nuclei.values())], view.ignore)
    tissue = view.image[region]
    where = 'Shown is all of it'
    if tissue.shape != view.image.shape:
        size = f'{tissue.shape[1]} x {tissue.shape[0]} pixels'
        where = f'Shown is the region of {size} where the arms and the truth differ most'
    caption = (
        f'Image {name}, the {which} by Dice averaged over all arms and seeds. {where}; the Dice above each panel is '
        'that of the whole image, of the first seed. Ignored areas are dark.'
    )
    truth = draw_outlines(view.image, view.truth, TRUTH_COLOUR, view.ignore)[region]
    panels = [Panel(tissue, ['tissue']), Panel(truth, ['truth'])]
    for arm, nuclei in view.nuclei.items():
        errors = draw_errors(view.image, view.truth, nuclei, view.ignore)
        panels.append(Panel(errors[region], [arm, _dice(scores[arm])]))
    return Gallery.of(f'{which.capitalize()} image', caption, panels, COLUMNS, STATE_COLOURS)


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


def _feature_gallery(name: str, features: Mapping[str, Features]) -> Gallery:
    caption = (
        f'Features of the median image, {name}, for every arm with fusion: the tile that the foundation encoder sees, '
        'the first three principal components of its features as red, green and blue, and those of the local features '
        'at the deepest fused level before and after fusion. Before and after share one basis, so equal colours are '
        'equal features; colours of different rows do not compare.'
    )
    panels = []
    for arm, of_arm in features.items():
        drawn = [of_arm.seen, *principal_colours([of_arm.encoder]), *principal_colours([of_arm.before, of_arm.after])]
        panels += [Panel(pixels, [heading, arm]) for pixels, heading in zip(drawn, FEATURE_HEADINGS, strict=True)]
    return Gallery.of('Features before and after fusion', caption, panels, len(FEATURE_HEADINGS), {})

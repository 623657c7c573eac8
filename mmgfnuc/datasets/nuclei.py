"""The one reader of the canonical dataset form."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmgfnuc.errors import UserError
from mmgfnuc.registry import DATASETS, TRANSFORMS

from .canonical import (
    CLASSES,
    IMAGE_FORM,
    PREPARE_HINT,
    TypeMap,
    is_described,
    list_ids,
    list_splits,
    read_ignore,
    read_image,
    read_label_map,
    read_meta,
    read_split,
    read_types,
    sample_paths,
    shortened,
)

SPLIT_HINT = 'prepare the dataset again with --val-groups or --folds (mmgfnuc prepare DATASET --help): '


# Background, then colours for colour-blind readers too. Source: Okabe and Ito 2008, "Color universal design".
PALETTE = [[0, 0, 0], [0, 158, 115], [230, 159, 0], [86, 180, 233], [204, 121, 167], [240, 228, 66], [213, 94, 0]]


def derangement(length: int) -> list[int]:
    """Give every index another one as its partner, each once, always the same.

    Raises:
        UserError: There are fewer than two images.

    Source: Sattolo 1986, "An algorithm to generate a random cyclic permutation".
    """
    if length < 2:
        raise UserError(f'partner_images=True: {length} image has no partner; give at least 2')
    rng = np.random.default_rng(0)
    partners = list(range(length))
    for last in range(length - 1, 0, -1):
        other = int(rng.integers(last))
        partners[last], partners[other] = partners[other], partners[last]
    return partners


def _fit(image: Tensor, size: Sequence[int]) -> Tensor:
    """Cut, or continue by its mirror image, (C, h, w) -> (C, *size)."""
    for axis, (own, wanted) in enumerate(zip(image.shape[1:], size, strict=True), start=1):
        steps = np.arange(wanted) % (2 * own)
        image = image.index_select(axis, torch.from_numpy(np.minimum(steps, 2 * own - 1 - steps)))
    return image


@DATASETS.register_module()
class NucleiDataset(Dataset):
    """Tissue images with the instance and ignore maps of their nuclei, read from the canonical form on disk.

    Opening reads `meta.json` and one split file; an image is read when it is asked for.

    A sample is asked for by an index, or by (epoch, index) as `SeededSampler` yields them. The pipeline starts from a
    dict with

    - `img`: RGB uint8; `instance_map`: int32, 0 = background; `ignore_map`: bool, True where the truth is unknown;
      with `types` also `type_map`: uint8, index into the classes;
    - `img_id`, `group` (organ, slide or patient), `mpp` (micrometres per pixel or None), `img_path`, `ori_shape`;
    - `rng`: a NumPy generator seeded by (seed, epoch, index).

    Every random transform draws from `rng` and from nothing else. So a sample is a function of (seed, epoch,
    index): the number of workers, of processes and of samples read before it do not matter, and a resumed run sees
    the samples that the uninterrupted one would have seen.

    Shape:
        - `img`: (H, W, 3)
        - `instance_map`, `ignore_map`, `type_map`: (H, W)
        - `ori_shape`: (H, W) of the file

    Args:
        data_root: Folder in the canonical form.
        split: Name of a file in `splits/`, without `.json`; None takes every image of the folder, in the order of ids.
        part: Part of the split, such as 'train' or 'val'; ignored when `split` is None.
        pipeline: Transforms, or their configs, applied in order; None, the target of a head without one, is skipped.
        seed: First of the three numbers that seed `rng`.
        partner_images: Append to the channels of `inputs` those of another image, its partner: a control for fusion,
            see FusionSegmentor's `partner_context`. Partners are a fixed derangement of the set: every image is
            the partner of one other, in every epoch and run. A partner of another size is cut and mirrored to fit.
        types: Keep the nucleus types of the set; else all nuclei are one class.

    Raises:
        UserError: The folder, the split or the part does not exist or is empty, the split names an unknown image, or
            an image and its label map differ in size.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str | None = None,
        part: str = 'train',
        pipeline: Sequence[dict | Callable[[dict], dict]] = (),
        seed: int = 0,
        partner_images: bool = False,
        types: bool = False,
    ) -> None:
        if seed < 0:
            raise UserError(f'seed={seed}: a seed is 0 or larger')
        self.data_root = Path(data_root)
        self.seed = seed
        steps = [step for step in pipeline if step is not None]
        self.pipeline = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps]
        meta = self._read_meta(types)
        self._types = types
        self._classes = meta['classes'] if types else CLASSES
        self.ids = self._read_ids(split, part)
        self._images = self._select(meta['images'])
        self._name = meta['name']
        self._partners = derangement(len(self.ids)) if partner_images else None

    def _read_meta(self, types: bool) -> dict[str, Any]:
        meta = read_meta(self.data_root)
        if types and len(meta['classes']) <= len(CLASSES):
            raise UserError(f'types=True: {self.data_root} has no nucleus types, its classes are {meta["classes"]}')
        return meta

    def _read_ids(self, split: str | None, part: str) -> list[str]:
        if split is None:
            ids = list_ids(self.data_root)
            if not ids:
                raise UserError(f'{self.data_root / "images"}: no image; {PREPARE_HINT.format(root=self.data_root)}')
            return ids
        splits = list_splits(self.data_root)
        if split not in splits:
            raise UserError(f"split='{split}': {self._choose(splits)}")
        parts = read_split(self.data_root, split)
        if not parts.get(part):
            filled = [name for name, ids in parts.items() if ids]
            raise UserError(f"part='{part}' of split '{split}' is empty or missing: {self._choose(filled)}")
        return parts[part]

    def _choose(self, names: list[str]) -> str:
        return f'{self.data_root} has {", ".join(names) or "none"}; take one of these or {SPLIT_HINT}{self.data_root}'

    def _select(self, images: dict[str, dict]) -> dict[str, dict]:
        unknown = [sample_id for sample_id in self.ids if sample_id not in images]
        if unknown:
            raise UserError(
                f"{self.data_root / 'meta.json'}: lacks {len(unknown)} of the images asked for, first '{unknown[0]}'; "
                + PREPARE_HINT.format(root=self.data_root)
            )
        chosen = {sample_id: images[sample_id] for sample_id in self.ids}
        wrong = [sample_id for sample_id, entry in chosen.items() if not is_described(entry)]
        if wrong:
            raise UserError(
                f"{self.data_root / 'meta.json'}: the entry of '{wrong[0]}' is {shortened(chosen[wrong[0]])}; give "
                + IMAGE_FORM
            )
        return chosen

    @property
    def metainfo(self) -> dict[str, Any]:
        """Classes, palette (RGB), `dataset_name`, and the `mpp` that all images share, else None."""
        palette = [PALETTE[index % len(PALETTE)] for index in range(len(self._classes))]
        scales = {image['mpp'] for image in self._images.values()}
        mpp = scales.pop() if len(scales) == 1 else None
        named = {'classes': tuple(self._classes), 'palette': copy.deepcopy(palette)}
        return named | {'dataset_name': self._name, 'mpp': mpp}

    @property
    def group_of(self) -> list[str]:
        """Organ, slide or patient that each image comes from."""
        return [image['group'] for image in self._images.values()]

    @property
    def groups(self) -> set[str]:
        """Organs, slides or patients that the images come from."""
        return set(self.group_of)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Read the sample `index` or (epoch, index), a bare index being epoch 0, and run the pipeline over it."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        index = range(len(self))[index]
        results = self._sample(epoch, index)
        if self._partners is not None:
            if 'inputs' not in results:
                raise UserError(
                    "partner_images=True joins the 'inputs' of two images: end the pipeline in PackNucleiInputs"
                )
            partner = self._sample(epoch, self._partners[index])['inputs']
            results['inputs'] = torch.cat([results['inputs'], _fit(partner, results['inputs'].shape[-2:])])
        return results

    def _sample(self, epoch: int, index: int) -> dict[str, Any]:
        results = self._read(self.ids[index])
        results['rng'] = np.random.default_rng([self.seed, epoch, index])
        for step in self.pipeline:
            results = step(results)
        return results

    def _read(self, sample_id: str) -> dict[str, Any]:
        paths = sample_paths(self.data_root, sample_id)
        image, instances = read_image(paths.image), read_label_map(paths.label)
        ignore = np.zeros(instances.shape, bool) if paths.ignore is None else read_ignore(paths.ignore)
        maps = {'instance_map': instances, 'ignore_map': ignore}
        if self._types:
            maps['type_map'] = self._read_types(sample_id, paths.types)
        if any(array.shape != image.shape[:2] for array in maps.values()):
            sizes = ', '.join(f'{name.replace("_", " ")} {array.shape}' for name, array in maps.items())
            raise UserError(
                f'{paths.image}: image {image.shape[:2]}, {sizes} must have one size; replace the file that is wrong'
            )
        return {
            'img': image,
            **maps,
            'img_id': sample_id,
            'group': self._images[sample_id]['group'],
            'mpp': self._images[sample_id]['mpp'],
            'img_path': str(paths.image),
            'ori_shape': image.shape[:2],
        }

    def _read_types(self, sample_id: str, path: Path | None) -> TypeMap:
        if path is None:
            raise UserError(f'types=True: {self.data_root} has no types/{sample_id}.png; prepare the dataset again')
        types = read_types(path)
        if types.max(initial=0) >= len(self._classes):
            raise UserError(f'{path}: type {types.max()}, but meta.json has {len(self._classes)} classes; correct one')
        return types

"""From a checkpoint to the folder of a ready model: its nuclei are compared, and its licences looked at."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgfnuc.datasets.canonical import list_ids, read_meta, sample_paths
from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.images import LabelMap, read_image, read_label_map
from mmgfnuc.datasets.inspection.measure import equivalent_diameter, measure_nuclei
from mmgfnuc.datasets.pixel_size import check_mpp
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import contingency_table, instance_counts, instance_scores, pool
from mmgfnuc.files import UNFINISHED, file_sha256, output_lock, whole_file, write_json, write_text
from mmgfnuc.models.weights.licences import Terms, require_publishable, terms_of

from .card import make_card
from .checkpoint import read_checkpoint
from .domain import TrainingDomain
from .portable import network_settings, network_weights, pretrained_parts
from .predictor import Predictor
from .ready import CARD, FILES, METRICS, PICTURES, write_ready

# Of models that were trained on free data and weights only.
LICENCE = 'Apache-2.0'
# Images of each data set in which nuclei are compared.
COMPARED = 4
# Weights in float16 find the same nuclei where so many, by F1, agree by an IoU above 0.9.
SAME_NUCLEI, AGREEMENT = 0.99, 'f1_90'


@dataclass(frozen=True)
class DataSet:
    """A prepared data set that a model was trained on."""

    root: Path
    meta: dict[str, Any]
    ids: list[str]

    @classmethod
    def of(cls, root: str | Path) -> 'DataSet':
        """Read what is known of a data set.

        Raises:
            UserError: it is none, is empty, or its licence does not allow to publish what is trained on it.
        """
        ids, meta = list_ids(root), read_meta(root)
        if not ids:
            raise UserError(f'{root} has no images; give a data set that the model was trained on')
        fix = f'prepare it with --licence, or write what its publisher says into {Path(root) / "meta.json"}'
        require_publishable(f"data set '{meta['name']}'", meta['licence'], fix)
        return cls(Path(root), meta, ids)

    def images(self) -> Iterator[RGBImage]:
        """Read its images, one by one."""
        return (self._image(name) for name in self.ids)

    def some_images(self) -> Iterator[RGBImage]:
        """Read a few of its images, from first to last."""
        places = np.linspace(0, len(self.ids) - 1, min(COMPARED, len(self.ids)))
        return (self._image(self.ids[round(place)]) for place in places)

    def _image(self, name: str) -> RGBImage:
        return read_image(sample_paths(self.root, name).image)

    def diameters(self, mpp: float) -> list[float]:
        """Diameters of its nuclei as a first pass measures them, in micrometres; `mpp` where an image states none."""
        found: list[float] = []
        for name in self.ids:
            nuclei = measure_nuclei(read_label_map(sample_paths(self.root, name).label))
            side = self.meta['images'].get(name, {}).get('mpp') or mpp
            found += (side * equivalent_diameter(nuclei.areas[nuclei.whole])).tolist()
        return found

    def described(self) -> dict[str, Any]:
        """Say for config.json what it is, and in which groups."""
        images = [self.meta['images'].get(name, {}) for name in self.ids]
        return {
            **{key: self.meta[key] for key in ('name', 'licence', 'citation')},
            'images': len(self.ids),
            'groups': sorted({image['group'] for image in images if 'group' in image}),
            'mpp': sorted({image['mpp'] for image in images if image.get('mpp')}),
        }


def publish(
    checkpoint: str | Path,
    folder: Path,
    name: str,
    data_roots: Sequence[str | Path],
    metrics: Mapping[str, Any] | None = None,
    speed: Mapping[str, Any] | None = None,
    mpp: float | None = None,
) -> None:
    """Write a ready model, and see to it that the folder finds the nuclei that the checkpoint finds.

    Args:
        checkpoint: a .pth file.
        folder: to write to.
        name: of the model.
        data_roots: prepared data sets that it was trained on.
        metrics: its scores, see `read_metrics`.
        speed: a record of benchmarks/predict.py.
        mpp: micrometres per pixel of the training images, where the checkpoint does not know them.

    Raises:
        UserError: a licence does not allow it, the model finds no nucleus, or the folder finds others.
    """
    data = [DataSet.of(root) for root in data_roots]
    saved = read_checkpoint(checkpoint)
    pretrained = pretrained_parts(saved, checkpoint)
    before = Predictor(checkpoint, device='cpu')
    mpp = _known_mpp(before.preprocessing.mpp, mpp)
    images = [image for part in data for image in part.some_images()]
    expected = [before(image, mpp).labels for image in images]
    if not any(labels.any() for labels in expected):
        raise UserError(f"'{checkpoint}' finds no nucleus in {len(images)} images of its data; train it longer")
    weights, stains = network_weights(before, pretrained)
    config = {
        'name': name,
        'licence': _licence([part['licence'] for part in pretrained] + [part.meta['licence'] for part in data]),
        'model': network_settings(saved, checkpoint, before.model),
        'preprocessing': {
            'mpp': mpp,
            'classes': list(before.preprocessing.classes),
            'palette': before.preprocessing.palette,
            'stains': stains,
            'nucleus_diameter_um': _median([one for part in data for one in part.diameters(mpp)]) if mpp else None,
        },
        'domain': TrainingDomain.of((image for part in data for image in part.images()), mpp).to_dict(),
        'data': _together([part.described() for part in data]),
        'pretrained': pretrained,
        'parameters': sum(weights[key].numel() for key, _ in before.model.named_parameters() if key in weights),
        'checkpoint_sha256': file_sha256(Path(checkpoint)),
        'versions': saved['meta']['versions'],
    }
    write_json(folder / METRICS, metrics or {})
    for half in (True, False):
        whole = write_ready(folder, config, weights, half)
        write_text(folder / CARD, make_card(whole, metrics, speed))
        after = Predictor(folder, device='cpu')
        found = [after(image, mpp).labels for image in images]
        if _same_nuclei(expected, found, half):
            return
    raise UserError(f"{folder} finds other nuclei than '{checkpoint}', also with weights in float32; report this")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write a ready model to; it becomes `out` if the block ends without an error.

    Raises:
        UserError: `out` is something else than a ready model, which would be lost.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and _may_go(out)):
        raise UserError(f'{out} is something else than a ready model, or holds other files too; name another folder')
    with output_lock(out):
        folder, earlier = (out.with_name(f'.{out.name}{end}{UNFINISHED}') for end in ('', '.earlier'))
        _remove(folder)
        folder.mkdir(parents=True)
        try:
            yield folder
            _remove(earlier)
            if out.exists():
                out.rename(earlier)
            folder.rename(out)
        finally:
            for one in (folder, earlier):
                _remove(one)


def _may_go(folder: Path) -> bool:
    """Whether a folder is empty, or holds a ready model and nothing else."""
    held = {path.name for path in folder.iterdir()}
    return not held or {*FILES} <= held <= {*FILES, PICTURES}


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def copy_pictures(source: Path, folder: Path) -> None:
    """Copy the pictures that stand beside a metrics.json."""
    for picture in sorted((source / PICTURES).glob('*.jpg')):
        with whole_file(folder / PICTURES / picture.name) as unfinished:
            shutil.copyfile(picture, unfinished)


def _known_mpp(stated: float | None, given: float | None) -> float | None:
    if given is None:
        return stated
    if stated is not None and stated != given:
        raise UserError(f'--mpp {given:g}: the checkpoint says that its images have {stated:g}; leave it out')
    return check_mpp(given, '--mpp')


def _median(diameters: list[float]) -> float | None:
    return round(float(np.median(diameters)), 2) if diameters else None


def _licence(licences: list[str]) -> str:
    """Licence of a model: that of this package, unless what it was made of asks for its own."""
    limited = {licence for licence in licences if licence and terms_of(licence) is Terms.LIMITED}
    return ' and '.join(sorted(limited)) or LICENCE


def _together(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join parts of one data set, which may lie in several folders."""
    joined: dict[str, dict[str, Any]] = {}
    for part in parts:
        same = joined.setdefault(part['name'], part)
        if same is not part:
            same['images'] += part['images']
            for key in ('groups', 'mpp'):
                same[key] = sorted({*same[key], *part[key]})
    return list(joined.values())


def _same_nuclei(expected: list[LabelMap], found: list[LabelMap], half: bool) -> bool:
    """Say whether two models find the same; rounded weights move single pixels of borders."""
    if not half:
        return all(np.array_equal(*pair) for pair in zip(expected, found, strict=True))
    tables = [contingency_table(*pair) for pair in zip(expected, found, strict=True)]
    return instance_scores(pool([instance_counts(table) for table in tables]))[AGREEMENT] >= SAME_NUCLEI

"""NuInsSeg in its authors' layout -> canonical form.

::

    <organ>/tissue images/<id>.png             512x512 RGB, one file RGBA
    <organ>/label masks modify/<id>.tif        instance ids, overlaps given to one nucleus: the map to evaluate with
    <organ>/vague areas/mask binary/<id>.png   optional ambiguous area; also found as `mask binary_vague`

Source: Mahbod et al., Scientific Data 11, 295 (2024), doi:10.1038/s41597-024-03117-2. Code: own.
"""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mmgfnuc.datasets.canonical import CLASSES, read_ignore, read_image, read_label_map, write_meta, write_sample
from mmgfnuc.errors import UserError

NAME = 'nuinsseg'

IMAGES = 'tissue images'
LABELS = 'label masks modify'
VAGUE = ('vague areas/mask binary', 'vague areas/mask binary_vague', 'mask binary_vague')

LICENCE = 'CC BY 4.0'
CITATION = (
    'Mahbod et al.: NuInsSeg: A fully annotated dataset for nuclei instance segmentation in H&E-stained histological '
    'images. Scientific Data 11, 295 (2024), doi:10.1038/s41597-024-03117-2'
)
SOURCE = 'https://www.kaggle.com/datasets/ipateam/nuinsseg'


@dataclass(frozen=True)
class _SourceSample:
    group: str
    image: Path
    label: Path
    ignore: Path | None


def read_groups(source: str | Path) -> dict[str, str]:
    """Organ folder of each image id (its file name without suffix), from the file names alone.

    Raises:
        UserError: There are no images, or two organs hold images of one name.

    """
    groups: dict[str, str] = {}
    doubled = []
    for organ in _organ_folders(Path(source)):
        for sample_id in _by_stem(organ / IMAGES, '.png'):
            if sample_id in groups:
                doubled.append(f'{sample_id!r} in {groups[sample_id]!r} and {organ.name!r}')
            groups[sample_id] = organ.name
    if doubled:
        raise UserError(f'images of one name: {", ".join(doubled)}; rename one of each pair')
    if not groups:
        raise UserError(f'{source} holds no "<organ>/{IMAGES}/*.png"; give the folder that holds "human bladder" etc.')
    return groups


def convert_nuinsseg(source: str | Path, root: str | Path) -> None:
    """Write every sample of `source` and the meta.json to `root`; instance ids are kept as they are.

    The pixel size is left unknown (mpp null): the images carry none and no statement of the authors is known to us;
    a 40x objective alone does not fix it.

    Raises:
        UserError: One line per bad source file (missing mask, unreadable, sizes differ), all at once; `root` is
            then incomplete (see `staged_dataset`).

    """
    groups = read_groups(source)
    samples, problems = _pair_files(Path(source))
    for sample_id, sample in tqdm(samples.items(), desc='NuInsSeg', unit='image'):
        try:
            _convert_sample(Path(root), sample_id, sample)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError('\n'.join([f'{len(problems)} bad source files, nothing was written:', *problems]))
    images = {sample_id: {'group': group, 'mpp': None} for sample_id, group in groups.items()}
    meta = {'name': NAME, 'classes': CLASSES, 'licence': LICENCE, 'citation': CITATION, 'source': SOURCE}
    write_meta(root, {**meta, 'images': images})


def _convert_sample(root: Path, sample_id: str, sample: _SourceSample) -> None:
    image = read_image(sample.image)
    instances = read_label_map(sample.label)
    ignore = read_ignore(sample.ignore) if sample.ignore else None
    for path, mask in ((sample.label, instances), (sample.ignore, ignore)):
        if mask is not None and mask.shape != image.shape[:2]:
            raise UserError(
                f'{path}: size {mask.shape} differs from {image.shape[:2]} of its image; '
                'export mask and image at one size'
            )
    write_sample(root, sample_id, image, instances, ignore)


def _pair_files(source: Path) -> tuple[dict[str, _SourceSample], list[str]]:
    """Samples whose files are all there, and one line for each file whose partner is missing."""
    samples = {}
    problems = []
    for organ in _organ_folders(source):
        images = _by_stem(organ / IMAGES, '.png')
        labels = _by_stem(organ / LABELS, '.tif', '.tiff')
        vague = {stem: path for folder in VAGUE for stem, path in _by_stem(organ / folder, '.png').items()}
        for stem, image in images.items():
            if stem in labels:
                samples[stem] = _SourceSample(organ.name, image, labels[stem], vague.get(stem))
            else:
                problems.append(f'{image}: no label map; add {organ / LABELS / stem}.tif')
        orphans = [path for masks in (labels, vague) for stem, path in masks.items() if stem not in images]
        problems += [
            f'{path}: no image of that name in "{IMAGES}"; add the image or remove the mask' for path in orphans
        ]
    return samples, problems


def _organ_folders(source: Path) -> list[Path]:
    if not source.is_dir():
        raise UserError(f'{source} is no folder; give the folder of NuInsSeg that holds "human bladder" etc.')
    return sorted(path for path in source.iterdir() if (path / IMAGES).is_dir() or (path / LABELS).is_dir())


def _by_stem(folder: Path, *suffixes: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    return {path.stem: path for path in files if path.suffix.lower() in suffixes}

"""Count the warnings on images like those of the training, and on images unlike them. Prints one JSON line."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from record import report
from tqdm import tqdm

from mmgfnuc.datasets.canonical import list_ids, read_meta, sample_paths
from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.images import read_image
from mmgfnuc.datasets.pixel_size import read_mpp
from mmgfnuc.datasets.transforms.stain import HED
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.inference.domain import BLANK, BLURRED, BROWN, DARK, FOREIGN, GREY, TrainingDomain

EPILOG = """examples:
  python benchmarks/domain.py --data data/nuinsseg --mpp 0.18 --others data/nuinsseg_more data/dsb2018_stained \\
      --slide CMU-1-Small-Region.svs --out docs/results/domain.json

The line, for each kind of images: how many there are, the share that gets a warning, and, where one is right, the share
whose warning names the reason.

The domain is that of --data; its own images are judged group by group, by the domain of the other groups. The images of
--others are judged as they are, and changed: at other sizes of pixel, as JPEG files, blurred (with noise, then as
JPEG), as fluorescence (their hematoxylin, bright on black, in grey, blue or green), and as immunohistochemistry (eosin
replaced by DAB in a part of the image, none elsewhere). Glass is drawn. Photographs, and one slide with DAB, are those
in the package of scikit-image, each cut into four. The slide of --slide is cut into tiles of 512x512."""

TILE, GLASSES = 512, 50
MIXING = HED / np.linalg.norm(HED, axis=1, keepdims=True)
PHOTOGRAPHS = (
    'astronaut.png',
    'chelsea.png',
    'coffee.png',
    'motorcycle_left.png',
    'motorcycle_right.png',
    'rocket.jpg',
)
GREYS = ('brick.png', 'camera.png', 'coins.png', 'grass.png', 'gravel.png', 'moon.png', 'page.png')
PIXEL_SIZES = (0.25, 0.5, 1.0)
BLURS = (1, 2, 3, 4, 6, 8)
POSITIVE = (0.1, 0.25, 0.5)
COLOURS = ((255, 255, 255), (30, 60, 255), (40, 255, 40))

Change = Callable[[RGBImage, np.random.Generator], RGBImage]


def glass(rng: np.random.Generator) -> RGBImage:
    """A slide without tissue: nearly white, darker to the corners, a little dust, noise of the camera."""
    across = np.linspace(-1, 1, TILE)
    corners = (across[:, None] ** 2 + across**2)[..., None]
    dust = cv2.GaussianBlur((rng.random((TILE, TILE)) < 2e-5).astype(np.float32), (0, 0), 2)[..., None] * 400
    light = rng.uniform(205, 250) * rng.uniform(0.95, 1, 3) * (1 - rng.uniform(0, 0.04) * corners)
    return _noisy(light - dust, rng, rng.uniform(0.5, 3))


def fluorescent(image: RGBImage, rng: np.random.Generator) -> RGBImage:
    """The hematoxylin of an image as light of one colour."""
    stains = _stains(image)[..., 0]
    nuclei = np.clip(stains / max(np.percentile(stains, 99), 1e-6) - 0.25, 0, 1)
    light = rng.uniform(5, 40) + rng.uniform(60, 200) * nuclei
    return _noisy(light[..., None] * np.array(COLOURS[rng.integers(len(COLOURS))]) / 255, rng, 2)


def immunostained(image: RGBImage, rng: np.random.Generator, positive: float) -> RGBImage:
    """Hematoxylin as it is; brown in place of tissue in patches that cover a part of the image."""
    stains = _stains(image)
    patches = cv2.GaussianBlur(rng.standard_normal(image.shape[:2], np.float32), (0, 0), 12)
    inside = cv2.GaussianBlur((patches > np.quantile(patches, 1 - positive)).astype(float), (0, 0), 1.5)
    dab = inside * stains[..., :2].sum(axis=2)
    amounts = np.stack([stains[..., 0] * (1 - 0.7 * inside), np.zeros_like(dab), dab], axis=2)
    return _noisy(245 * np.exp(-amounts @ MIXING), rng, 1.5)


def blurred(image: RGBImage, rng: np.random.Generator, sigma: float) -> RGBImage:
    return as_jpeg(_noisy(cv2.GaussianBlur(image, (0, 0), sigma).astype(float), rng, 1.5), rng)


def as_jpeg(image: RGBImage, rng: np.random.Generator) -> RGBImage:
    return cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)


def scaled(image: RGBImage, rng: np.random.Generator, factor: float) -> RGBImage:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _stains(image: RGBImage) -> NDArray[np.float64]:
    """Amounts of hematoxylin, eosin and DAB, at least 0, against the brightest of the image."""
    light = np.percentile(image.reshape(-1, 3), 99, axis=0)
    density = np.maximum(np.log(np.maximum(light, 1) / np.maximum(image, 1)), 0)
    return np.maximum(density @ np.linalg.inv(MIXING), 0)


def _noisy(light: NDArray[np.floating], rng: np.random.Generator, sigma: float) -> RGBImage:
    return np.clip(np.rint(light + rng.normal(0, sigma, light.shape)), 0, 255).astype(np.uint8)


def tiles(image: RGBImage, size: int = TILE) -> Iterator[RGBImage]:
    height, width = image.shape[:2]
    for y in range(0, height - size + 1, size):
        for x in range(0, width - size + 1, size):
            yield image[y : y + size, x : x + size]


def quarters(names: Iterable[str]) -> Iterator[RGBImage]:
    """The four quarters of each of the pictures of scikit-image."""
    for name in names:
        image = read_image(Path(skimage.__file__).parent / 'data' / name)
        height, width = (side // 2 for side in image.shape[:2])
        yield from (image[y : y + height, x : x + width] for y in (0, height) for x in (0, width))


def images_of(root: Path, groups: set[str] | None = None, *, but: str | None = None) -> Iterator[RGBImage]:
    """The images of a data set, of some groups or of all but one."""
    meta = read_meta(root)['images']
    for sample_id in list_ids(root):
        group = meta[sample_id]['group']
        if group != but and (groups is None or group in groups):
            yield read_image(sample_paths(root, sample_id).image)


class Counter:
    """Counts warnings in rows."""

    def __init__(self, domain: TrainingDomain) -> None:
        self.domain = domain
        self.rows: list[dict[str, Any]] = []

    def count(self, name: str, images: Iterable[RGBImage], mpp: float | None, *reasons: str) -> None:
        """Add a row; images unlike those of the training have reasons that are right."""
        found = [
            self.domain.warnings(image, mpp)
            for image in tqdm(images, desc=name, unit='image', leave=False, disable=None)
        ]
        self.add(name, found, reasons)

    def add(self, name: str, found: list[list[str]], reasons: tuple[str, ...] = ()) -> None:
        """Add a row of what was said of each image."""
        named = [any(line.startswith(reasons) for line in lines) for lines in found]
        self.rows.append(
            {
                'images': name,
                'unlike': bool(reasons),
                'count': len(found),
                'warned': round(float(np.mean([bool(lines) for lines in found])), 4),
                'named': round(float(np.mean(named)), 4) if reasons else None,
            }
        )


def by_other_groups(root: Path, mpp: float) -> list[list[str]]:
    """Warnings on each image of a data set, by the domain of its other groups."""
    found = []
    for group in sorted({entry['group'] for entry in read_meta(root)['images'].values()}):
        domain = TrainingDomain.of(images_of(root, but=group), mpp)
        found += [domain.warnings(image, mpp) for image in images_of(root, {group})]
    return found


def changed(roots: list[Path], change: Change) -> Iterator[RGBImage]:
    rng = np.random.default_rng(0)
    return (change(image, rng) for root in roots for image in images_of(root))


def measure(data: Path, mpp: float, others: list[Path], slide: Path | None) -> list[dict[str, Any]]:
    counter = Counter(TrainingDomain.of(images_of(data), mpp))
    counter.add(f'{data.name}, each group by the others', by_other_groups(data, mpp))
    for root in others:
        counter.count(root.name, images_of(root), None)
    names = ' and '.join(root.name for root in others)
    counter.count(f'{names}, as JPEG', changed(others, as_jpeg), None)
    for size in PIXEL_SIZES:
        at_size = changed(others, lambda image, rng, size=size: scaled(image, rng, mpp / size))
        counter.count(f'{names}, at {size:g} um per pixel', at_size, size)
    if slide is not None:
        counter.count(slide.name, [read_image(slide)], read_mpp(slide))
        counter.count(f'{slide.name}, tiles', tiles(read_image(slide)), read_mpp(slide))
    rng = np.random.default_rng(0)
    counter.count('glass', (glass(rng) for _ in range(GLASSES)), None, BLANK)
    counter.count('fluorescence', changed(others, fluorescent), None, DARK, GREY)
    for part in POSITIVE:
        stained = changed(others, lambda image, rng, part=part: immunostained(image, rng, part))
        counter.count(f'DAB in {part:.0%} of the image', stained, None, BROWN)
    counter.count('DAB, real', quarters(['ihc.png']), None, BROWN)
    counter.count('photographs', quarters(PHOTOGRAPHS), None, FOREIGN, BROWN, DARK, GREY)
    counter.count('grey photographs', quarters(GREYS), None, GREY, DARK)
    for sigma in BLURS:
        out_of_focus = changed(others, lambda image, rng, sigma=sigma: blurred(image, rng, sigma))
        counter.count(f'blurred by {sigma} pixels', out_of_focus, None, BLURRED)
    return counter.rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', required=True, type=Path, help='training images, in the canonical form')
    parser.add_argument('--mpp', required=True, type=float, help='micrometres per pixel of these')
    parser.add_argument('--others', required=True, nargs='+', type=Path, help='further data sets of H&E')
    parser.add_argument('--slide', type=Path, help='a file of a slide that states the size of its pixels')
    parser.add_argument('--out', type=Path, help='also write a record')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rows = measure(args.data, args.mpp, args.others, args.slide)
    report('domain', rows, {'data': args.data.name, 'mpp': args.mpp}, args.out)


if __name__ == '__main__':
    sys.exit(run_cli(main))

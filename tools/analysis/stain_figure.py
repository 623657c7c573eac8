"""Draw docs/stain.png: one synthetic tissue on three slides, normalised by each method and stained anew."""

import argparse
import io
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmgfnuc.datasets import RandomHED, RandStainNA, StainNormalize
from mmgfnuc.datasets.synthetic import StainStyle, render_tile
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.files import whole_file

TARGET = Path(__file__).resolve().parents[2] / 'docs' / 'stain.png'
TISSUE, SIZE = 8, 192
SLIDES = (34, 9, 35)  # those of the first forty that differ most in colour
TILE, GAP, HEADER = 108, 4, 22


def draw() -> np.ndarray:
    """Rows are slides of one tissue, the first being the template; columns what is done to them."""
    slides = [
        render_tile(np.random.default_rng(TISSUE), SIZE, StainStyle.sample(np.random.default_rng(slide)))[0]
        for slide in SLIDES
    ]
    with tempfile.NamedTemporaryFile(suffix='.png') as template:
        Image.fromarray(slides[0]).save(template.name)
        steps = {
            'scanned': None,
            'Macenko, own ref.': StainNormalize('macenko'),
            'Macenko': StainNormalize('macenko', template.name),
            'Reinhard': StainNormalize('reinhard', template.name),
            'Vahadane': StainNormalize('vahadane', template.name),
            'RandomHED(0.2)': RandomHED(sigma=0.2, prob=1),
            'RandStainNA': RandStainNA(prob=1),
        }
    rng = np.random.default_rng(0)
    columns = []
    for title, step in steps.items():
        images = [slide if step is None else step({'img': slide, 'rng': rng})['img'] for slide in slides]
        columns.append(np.vstack([_heading(title), *(_framed(image) for image in images)]))
    return np.hstack(columns)


def _framed(image: np.ndarray) -> np.ndarray:
    tile = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _heading(title: str) -> np.ndarray:
    strip = np.full((HEADER, TILE + GAP, 3), 255, np.uint8)
    return cv2.putText(strip, title, (1, HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (30, 30, 30), 1, cv2.LINE_AA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=TARGET, help='(%(default)s)')
    out = parser.parse_args().out
    # Noise does not compress; the last two bits are not seen.
    picture, buffer = Image.fromarray(draw() & 0xFC), io.BytesIO()
    picture.save(buffer, format='PNG', optimize=True)
    with whole_file(out) as file:
        file.write_bytes(buffer.getvalue())
    print(f'{out}: {len(buffer.getvalue()) / 1e3:.0f} kB')


if __name__ == '__main__':
    sys.exit(run_cli(main))

"""Draw docs/result.jpg, the first picture of README.md: the sample image, and what the default model finds in it."""

import argparse
import sys
from pathlib import Path

import cv2

import mmgfnuc
from mmgfnuc.datasets.images import read_image
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.files import whole_file
from mmgfnuc.visualization.overlay import draw_overlay
from mmgfnuc.visualization.panels import Panel, arrange

ROOT = Path(__file__).resolve().parents[2]
QUALITY = 85


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'result.jpg', help='(%(default)s)')
    out = parser.parse_args().out
    image = read_image(mmgfnuc.sample_image())
    labels = mmgfnuc.load()(mmgfnuc.sample_image()).labels
    # Twice as large, so that a contour of one pixel is thin.
    image, labels = (array.repeat(2, axis=0).repeat(2, axis=1) for array in (image, labels))
    panels = [Panel(image, ['tissue']), Panel(draw_overlay(image, labels), [f'{labels.max()} nuclei'])]
    _, encoded = cv2.imencode('.jpg', arrange(panels, 2)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with whole_file(out) as file:
        file.write_bytes(encoded.tobytes())
    print(f'{out} written')


if __name__ == '__main__':
    sys.exit(run_cli(main))

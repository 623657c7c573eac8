"""Nuclei of a real image, by the model that comes with the package; then the whole line at small size: synthetic data,
training, test, pictures. A few minutes on two CPU cores.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from mmgfnuc.datasets.samples import sample_image
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.files import full_disk_told, read_csv

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'demo.py'
# Columns of nuclei.csv that are shown, and so many of its lines.
COLUMNS = ('nucleus', 'x_px', 'y_px', 'area_px', 'area_um2', 'eccentricity', 'optical_density', 'confidence')
LINES = 5
PROGRESS = re.compile(r'step +[\d,]+/')
BANNER = """
****************************************************************************************************
*  THE FOUNDATION ENCODER OF THIS TRAINING HAS RANDOM WEIGHTS.                                     *
*  It shows that everything runs; it says nothing about what a foundation model brings.            *
****************************************************************************************************
"""


def run(step: str, command: list[str], log: Path) -> None:
    """Run a tool, its output into a log, its training progress onto the screen."""
    print(f'\n== {step}\n   {" ".join(["python", *command])}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_told(log), log.open('w', encoding='utf-8') as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                if PROGRESS.match(line):
                    print(f'   {line}', end='', flush=True)
        except BaseException:
            process.kill()
            raise
    if process.wait():
        tail = '\n'.join(log.read_text('utf-8').splitlines()[-15:])
        raise UserError(f'"{step}" failed, the end of {log}:\n{tail}')


def found(out: Path, image: Path, seconds: float) -> str:
    """Show the beginning of the table of nuclei, and where the other files are."""
    rows = read_csv(out / 'nuclei.csv', 'call it again', *COLUMNS)
    lines = [COLUMNS, *([row[column] for column in COLUMNS] for row in rows[:LINES])]
    table = '\n'.join('  ' + ''.join(f'{cell:>16}' for cell in line) for line in lines)
    return f"""
{len(rows)} nuclei in {seconds:.0f} seconds, most of which is the start of Python. The first ones:

{table}

Look at
  {out}/overlays/{image.stem}.png      the image, an outline in each nucleus
  {out}/nuclei.csv               measures of each nucleus; images.csv: of the image
  {out}/geojson/{image.stem}.geojson   outlines for QuPath"""


def summary(out: Path, minutes: float) -> str:
    """Render the last lines: what was done, the scores, where to look."""
    scores, nuclei = (
        json.loads((out / 'test' / name).read_text('utf-8')) for name in ('metrics.json', 'instances.json')
    )
    return f"""
{BANNER}
Done in {minutes:.1f} minutes: synthetic H&E tiles generated, the paper's architecture (eU-Net3+, SAM-shaped encoder,
Gated Fusion Block) trained at small width, its last checkpoint tested on {scores['num_images']} tiles of unseen slides.

  foreground Dice   {scores['dice']:.3f}   (standard deviation over tiles {scores['dice_std']:.3f})
  foreground IoU    {scores['iou']:.3f}
  AJI, PQ of nuclei {nuclei['aji']:.3f}, {nuclei['pq']:.3f}   (touching nuclei divided by a watershed)

Look at
  {out}/pictures/             tissue, truth, prediction, and what became of each nucleus
  {out}/test/metrics.json     scores of pixels; per_image.csv: of each tile
  {out}/test/instances.json   scores of nuclei; instances.csv: of each tile
  {out}/train.log             the training log"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', help='ready model or checkpoint for the real image (default: that of the package)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='output folder (%(default)s)')
    parser.add_argument('--data', type=Path, default=Path('data/synthetic'), help='for the tiles (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmgfnuc.engine.resume import POINTER

    start = time.monotonic()
    out, data, config = args.out, str(args.data), str(CONFIG)
    image, nuclei = sample_image(), out / 'tissue'
    predict = [str(TOOLS / 'infer.py'), str(image), '--out', str(nuclei), '--overwrite']
    run(
        '1/4 Find the nuclei of a real image',
        predict + (['--model', args.model] if args.model else []),
        out / 'predict.log',
    )
    print(found(nuclei, image, time.monotonic() - start))
    print(BANNER)
    prepare = [str(TOOLS / 'datasets/prepare.py'), 'synthetic', '--out', data, '--train', '48', '--val', '16']
    train = [str(TOOLS / 'train.py'), config, '--work-dir', str(out), '--data', data]
    run('2/4 Generate synthetic H&E tiles', [*prepare, '--overwrite'], out / 'prepare.log')
    run('3/4 Train', train, out / 'train.log')
    checkpoint = (out / POINTER).read_text('utf-8')
    test = [str(TOOLS / 'test.py'), checkpoint, '--show-dir', str(out / 'pictures')]
    run('4/4 Test the last checkpoint', test, out / 'test.log')
    print(summary(out, (time.monotonic() - start) / 60))


if __name__ == '__main__':
    sys.exit(run_cli(main))

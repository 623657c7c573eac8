"""Score a model on annotated images that it was not trained on, for its card."""

import argparse
import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgfnuc.datasets.pixel_size import check_mpp
from mmgfnuc.engine.cli import ConfigOptions, positive_float
from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256, write_json

from .predict import changed_config

if TYPE_CHECKING:
    from mmgfnuc.inference import Predictor
    from mmgfnuc.inference.scoring import ImageScores, Sample

EPILOG = """examples:
  mmgfnuc score work_dirs/held_out/iter_9000.pth --data data/other --mpp 0.18 --out scores/metrics.json
  mmgfnuc score MODEL --data data/own --split grouped-5-fold-0 --out scores/metrics.json
  mmgfnuc score MODEL --data data/other --out flips/metrics.json --cfg-options model.test_cfg.flips=True

written:
  metrics.json     Dice, AJI, PQ and detection F1: means over images with 95 % intervals over groups (organs, slides or
                   patients), and those of each group; how many nuclei are matched, merged, split or lost; the same for
                   images that are resampled to 0.25, 0.5 and 1 um per pixel
  pictures/        beside it, the images of lowest AJI, one of a group: tissue, truth, prediction, errors

`mmgfnuc publish --metrics metrics.json` makes the card of a ready model of it. Scores tell something of new images
only if the model has seen no image of their slide, patient or organ: whether that is so, only you can know."""
FORMAT = 1
NUM_WORST = 4
WIDTH, QUALITY = 1024, 80  # pixels, and of JPEG
TEST_CFG = 'model.test_cfg.'


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc score', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', metavar='MODEL', help='name, folder or hub id of a ready model, or a .pth file')
    parser.add_argument('--data', nargs='+', required=True, metavar='DIR', help='prepared data sets, all their images')
    parser.add_argument(
        '--split', metavar='NAME', help='score what this split of each holds out: its test part, or val'
    )
    parser.add_argument('--out', required=True, type=Path, metavar='FILE', help='such as scores/metrics.json')
    parser.add_argument('--mpp', type=positive_float, help='um per pixel of images whose data set does not state it')
    parser.add_argument('--cfg-options', action=ConfigOptions, help='other settings of model.test_cfg')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Score as the arguments say."""
    args = parse_args(arguments)
    from mmgfnuc.inference import Predictor
    from mmgfnuc.inference.card import summary
    from mmgfnuc.inference.ready import PICTURES
    from mmgfnuc.inference.scoring import find_samples, measure, worst_images

    if args.mpp is not None:
        check_mpp(args.mpp, '--mpp')
    check_options(args.cfg_options or ())
    samples = find_samples(args.data, args.split, args.mpp)
    predictor = Predictor(args.model, changed_config(args.model, None, args.cfg_options), device=args.device)
    found, scored = measure(predictor, samples)
    worst = [
        write_picture(predictor, each, args.out.with_name(PICTURES) / f'{number}.jpg')
        for number, each in enumerate(worst_images(scored, NUM_WORST), 1)
    ]
    metrics = {'format': FORMAT, **origin(args, samples, arguments), **found, 'worst': worst}
    write_json(args.out, metrics)
    print(summary(metrics))
    if 'pixel_sizes' not in metrics:
        print('notice: no scores at other pixel sizes: that of the model or of images is unknown; give --mpp for these')
    if any(sample.mpp is None for sample in samples) and predictor.preprocessing.nucleus_diameter_um:
        print('notice: the pixel size of images is unknown, and was assumed for each from its nuclei; give --mpp')
    print(f'written to {args.out}')


def check_options(names: Iterable[str]) -> None:
    """Let only settings of `model.test_cfg` be changed: with others it is another model that is scored.

    Raises:
        UserError: a setting is of another part.
    """
    others = [name for name in names if not name.startswith(TEST_CFG)]
    if others:
        raise UserError(f'{others[0]} is not scored with another value; only settings of {TEST_CFG}* are')


def origin(args: argparse.Namespace, samples: Sequence['Sample'], arguments: Sequence[str]) -> dict[str, Any]:
    """Say which model was scored on which data, by which command, where."""
    from mmgfnuc.datasets.canonical import read_meta
    from mmgfnuc.engine.provenance import commit, hardware, versions
    from mmgfnuc.inference.loading import is_checkpoint
    from mmgfnuc.inference.ready import WEIGHTS, find_ready

    path = Path(args.model) if is_checkpoint(args.model) else find_ready(args.model)
    weights = path if is_checkpoint(path) else path / WEIGHTS
    of_root = [(root, read_meta(root)) for root in args.data]
    return {
        'model': {'name': path.name, 'sha256': file_sha256(weights)},
        'data': [
            {key: meta[key] for key in ('name', 'licence', 'citation')}
            | {'images': sum(sample.root == Path(root) for sample in samples)}
            for root, meta in of_root
        ],
        'settings': {'split': args.split, 'mpp': args.mpp, 'cfg_options': args.cfg_options or {}},
        'made': {
            'command': shlex.join(['mmgfnuc', 'score', *arguments]),
            'date': datetime.now().date().isoformat(),
            'commit': commit(),
            'hardware': hardware(),
            'versions': versions(),
        },
    }


def write_picture(predictor: 'Predictor', scored: 'ImageScores', path: Path) -> dict[str, Any]:
    """Draw an image and what became of its nuclei; return what metrics.json says of it."""
    import cv2

    from mmgfnuc.files import whole_file
    from mmgfnuc.visualization.errors import draw_panels

    sample = scored.sample
    image, truth, ignore = sample.read()
    drawn = draw_panels(image, truth, predictor(image, sample.mpp).labels, ignore)
    height, width = drawn.shape[:2]
    if width > WIDTH:
        drawn = cv2.resize(drawn, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode('.jpg', drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with whole_file(path) as file:
        file.write_bytes(encoded.tobytes())
    return {
        'image': sample.image,
        'group': sample.group,
        'scores': {name: round(score, 6) for name, score in scored.scores.items()},
        'truth': dict(scored.truth),
        'predicted': dict(scored.predicted),
        'picture': f'{path.parent.name}/{path.name}',
    }

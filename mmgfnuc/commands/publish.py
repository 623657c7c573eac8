"""Make a ready model of a checkpoint: a folder of weights, settings, card and scores."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmgfnuc.engine.cli import positive_float
from mmgfnuc.files import read_json

EPILOG = """in the output folder:
  model.safetensors  weights, in float16 where these find the same nuclei
  config.json        the network, what becomes of an image, data, licences: data, never run
  card.md            what people must know
  metrics.json       the scores

The folder is read again, and must find the nuclei that the checkpoint finds in images of its data. Data and pretrained
weights whose licence forbids to publish what is trained on them are refused. The weights of a frozen encoder are copied
where its licence allows it; else config.json has their SHA-256 and address, and whoever uses the model gets them there.

examples:
  mmgfnuc publish work_dirs/he/iter_9000.pth --domain-images data/nuinsseg --metrics metrics.json --out he-nuclei
  mmgfnuc publish CHECKPOINT --domain-images DATA --out he-nuclei --push ada/he-nuclei    also onto huggingface.co
  mmgfnuc predict slide.png --model he-nuclei --out results                               use it"""


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc publish', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='.pth file written by `mmgfnuc train`')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder of the ready model')
    parser.add_argument(
        '--domain-images',
        required=True,
        nargs='+',
        metavar='DATA_ROOT',
        help='the prepared data sets that it was trained on: their licences, the colours of their images, the size of '
        'their nuclei',
    )
    parser.add_argument('--name', help='of the model (default: that of the folder)')
    parser.add_argument(
        '--metrics', type=Path, metavar='FILE', help='of `mmgfnuc score`, with pictures/ beside it; for the card'
    )
    parser.add_argument('--speed', type=Path, metavar='FILE', help='record of benchmarks/predict.py; for the card')
    parser.add_argument(
        '--mpp', type=positive_float, help='micrometres per pixel of the training images, if their data set states none'
    )
    parser.add_argument('--push', metavar='OWNER/NAME', help='upload the folder to huggingface.co under this name')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Publish as the arguments say."""
    args = parse_args(arguments)
    from mmgfnuc.inference.card import read_metrics
    from mmgfnuc.inference.hub import check_id, push
    from mmgfnuc.inference.publishing import copy_pictures, new_folder, publish
    from mmgfnuc.inference.ready import FILES, check_name

    if args.push:
        check_id(args.push)
    name = check_name(args.name or args.out.resolve().name)
    metrics = read_metrics(args.metrics) if args.metrics else None
    speed = read_json(args.speed, 'measure it again with benchmarks/predict.py') if args.speed else None
    with new_folder(args.out) as folder:
        publish(args.checkpoint, folder, name, args.domain_images, metrics, speed, args.mpp)
        if args.metrics:
            copy_pictures(args.metrics.parent, folder)
    size = sum((args.out / file).stat().st_size for file in FILES) / 1e6
    print(f'{name}, {size:.1f} MB -> {args.out}')
    if args.push:
        print(f'pushed to {push(args.out, args.push)}')

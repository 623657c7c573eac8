"""The console command `mmgfnuc`: it finds the subcommand, and only that is imported."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import mmgfnuc
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.engine.distributed import leave

COMMANDS = {
    'prepare': 'bring a data set into the form that everything here reads',
    'check': 'measure a prepared data set and list its faults',
    'browse': 'write a page that shows a prepared data set',
    'train': 'train a model from a config',
    'test': 'score a checkpoint',
    'predict': 'find nuclei in images',
    'score': 'score a model on images that it has not seen, for its card',
    'publish': 'make a ready model of a checkpoint, for others to use',
    'benchmark': 'compare models: a study of many trainings, and its report',
    'doctor': 'check the installation',
}
EPILOG = """commands:
{commands}

examples:
  mmgfnuc doctor                                                       does everything here work?
  mmgfnuc prepare masks --source my_images --out data/own --folds 5    data: images with masks of your own
  mmgfnuc train configs/cpu/own_data.py --data data/own --split grouped-5-fold-0
  mmgfnuc test work_dirs/own_data/iter_1000.pth --show-dir pictures
  mmgfnuc predict slide.tif --out results                              nuclei with the model of the package
  mmgfnuc train --help                                                 options and examples of a command

Configs that come with the package are named as above, from any folder. docs/extending.md adds parts of your own."""


def main() -> NoReturn:
    """Run the subcommand that the command line names, and end the process with its exit code."""
    parser = argparse.ArgumentParser(
        prog='mmgfnuc',
        description=mmgfnuc.__doc__,
        epilog=EPILOG.format(commands='\n'.join(f'  {name:11}{text}' for name, text in COMMANDS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmgfnuc {mmgfnuc.__version__}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND', help='one of those below')
    # The subcommand reads the rest itself.
    run(parser.parse_args(sys.argv[1:2]).command, sys.argv[2:])


def run(command: str, arguments: Sequence[str]) -> NoReturn:
    """Run a subcommand, and end the process with its exit code."""
    module = import_module(f'mmgfnuc.commands.{command}')
    leave(run_cli(lambda: module.main(arguments)))

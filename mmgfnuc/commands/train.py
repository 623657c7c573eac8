"""Train a model from a config."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmgfnuc.engine.cli import ConfigOptions, seed
from mmgfnuc.engine.distributed import LAUNCHERS
from mmgfnuc.errors import UserError

EPILOG = """examples:
  mmgfnuc train configs/cpu/nuinsseg_vit_tiny.py
  mmgfnuc train configs/cpu/own_data.py --data data/own --split grouped-5-fold-0    your own images
  mmgfnuc train my_config.py                        in any folder; docs/training.md shows how it inherits another
  mmgfnuc train CONFIG --work-dir work_dirs/seed1 --seed 1
  mmgfnuc train CONFIG --resume                     continue the last checkpoint of the working folder
  mmgfnuc train CONFIG --resume --cfg-options train_cfg.max_iters=2000    for more steps than it had
  mmgfnuc train CONFIG --cfg-options train_dataloader.batch_size=4 optim_wrapper.optimizer.lr=3e-4
  bash tools/dist_train.sh CONFIG 4                 the same on 4 GPUs (or 4 CPU processes)
  torchrun --nproc-per-node 4 --no-python mmgfnuc train CONFIG --launcher pytorch    without a clone, too

--data and --split stand for the settings data_root and split of the training, validation and test data.
A resumed run that is given more steps, or another schedule, follows the new one from its step on, with a warning.
The working folder gets the checkpoints, the full log with every loss, and the full config. The screen shows the data,
the model and the progress; --cfg-options log_level=DEBUG shows all."""


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmgfnuc train', description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--data', metavar='DIR', help="prepared data set to read (default: the config's)")
    parser.add_argument('--split', metavar='NAME', help="split of the data set (default: the config's)")
    parser.add_argument('--work-dir', help='folder for checkpoints and logs (default: work_dirs/<config name>)')
    parser.add_argument('--seed', type=seed, help="for weights, sample order and augmentation (default: the config's)")
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT', help='continue a run')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast, on a GPU as on a CPU')
    parser.add_argument('--tensorboard', action='store_true', help='also log to TensorBoard')
    parser.add_argument('--cfg-options', action=ConfigOptions, help='override the config')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='set by the dist scripts')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Train as the arguments say."""
    args = parse_args(arguments)
    from mmgfnuc.engine import config, launch
    from mmgfnuc.engine.resume import find_resume
    from mmgfnuc.engine.screen import show
    from mmgfnuc.engine.trackers import add_tensorboard

    if Path(args.config).suffix == config.CHECKPOINT_SUFFIX:
        raise UserError(
            f"'{args.config}' is not a config; to go on from a checkpoint: mmgfnuc train CONFIG --resume CHECKPOINT"
        )
    cfg = config.load_config(args.config, args.cfg_options, args.work_dir)
    launch.use_data(cfg, args.data, args.split)
    config.set_seed(cfg, args.seed)
    if args.amp:
        config.use_bfloat16(cfg)
    if args.tensorboard:
        add_tensorboard(cfg)
    find_resume(cfg, args.resume)
    config.set_launcher(cfg, args.launcher)
    runner = launch.train(cfg)
    checkpoint = runner.message_hub.get_info('last_ckpt')
    if checkpoint and Path(checkpoint).is_file():
        files = [args.config, checkpoint] if config.needs_its_config(cfg) else [checkpoint]
        show(runner.logger, f'next: {shlex.join(["mmgfnuc", "test", *files])}')

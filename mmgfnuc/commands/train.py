"""Train a model from a config."""

import argparse
import shlex
from pathlib import Path

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import ConfigOptions, run_cli, seed
from mmgfnuc.engine.config import (
    CHECKPOINT_SUFFIX,
    add_tensorboard,
    load_config,
    set_launcher,
    set_seed,
    use_bfloat16,
)
from mmgfnuc.engine.distributed import leave
from mmgfnuc.engine.resume import find_resume
from mmgfnuc.engine.screen import show
from mmgfnuc.engine.settings import LAUNCHERS
from mmgfnuc.errors import UserError

EPILOG = """examples:
  python tools/train.py configs/cpu/nuinsseg_vit-tiny.py
  python tools/train.py configs/cpu/own_data.py --data data/own --split grouped-5-fold-0    your own images
  python tools/train.py CONFIG --work-dir work_dirs/seed1 --seed 1
  python tools/train.py CONFIG --resume                     continue the last checkpoint of the working folder
  python tools/train.py CONFIG --resume --cfg-options train_cfg.max_iters=2000    for more steps than it had
  python tools/train.py CONFIG --cfg-options train_dataloader.batch_size=4 optim_wrapper.optimizer.lr=3e-4
  bash tools/dist_train.sh CONFIG 4                         the same on 4 GPUs (or 4 CPU processes)

--data and --split stand for the settings data_root and split of the training, validation and test data.
A resumed run that is given more steps, or another schedule, follows the new one from its step on, with a warning.
The working folder gets the checkpoints, the full log with every loss, and the full config. The screen shows the data,
the model and the progress; --cfg-options log_level=DEBUG shows all."""

TEST = Path(__file__).with_name('test.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if Path(args.config).suffix == CHECKPOINT_SUFFIX:
        raise UserError(
            f"'{args.config}' is no config; to go on from a checkpoint: train.py CONFIG --resume CHECKPOINT"
        )
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    launch.use_data(cfg, args.data, args.split)
    set_seed(cfg, args.seed)
    if args.amp:
        use_bfloat16(cfg)
    if args.tensorboard:
        add_tensorboard(cfg)
    find_resume(cfg, args.resume)
    set_launcher(cfg, args.launcher)
    runner = launch.train(cfg)
    checkpoint = runner.message_hub.get_info('last_ckpt')
    if checkpoint and Path(checkpoint).is_file():
        show(runner.logger, f'next: {shlex.join(["python", str(TEST), checkpoint])}')


if __name__ == '__main__':
    leave(run_cli(main))

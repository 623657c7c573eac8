"""Train a model from a config."""

import argparse

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import ConfigOptions, run_cli, seed
from mmgfnuc.engine.config import LAUNCHERS, add_tensorboard, load_config, set_launcher, set_seed, use_bfloat16
from mmgfnuc.engine.distributed import leave
from mmgfnuc.engine.resume import find_resume

EPILOG = """examples:
  python tools/train.py configs/cpu/nuinsseg_vit-tiny.py
  python tools/train.py CONFIG --work-dir work_dirs/seed1 --seed 1
  python tools/train.py CONFIG --resume                     continue the last checkpoint of the working folder
  python tools/train.py CONFIG --cfg-options train_dataloader.batch_size=4 optim_wrapper.optimizer.lr=3e-4
  bash tools/dist_train.sh CONFIG 4                         the same on 4 GPUs (or 4 CPU processes)

The working folder gets the checkpoints, the log with losses and remaining time, and the full config."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
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
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    set_seed(cfg, args.seed)
    find_resume(cfg, args.resume)
    if args.amp:
        use_bfloat16(cfg)
    if args.tensorboard:
        add_tensorboard(cfg)
    set_launcher(cfg, args.launcher)
    launch.train(cfg)


if __name__ == '__main__':
    leave(run_cli(main))

"""Count the misspelt and mistyped settings that end in one clear line before anything runs.

Prints one JSON line: how many of how many, and what the others did.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from mmengine.config import Config

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import ConfigOptions
from mmgfnuc.engine.config import load_config, set_seed
from mmgfnuc.engine.preflight import rehearse
from mmgfnuc.engine.settings import check_settings
from mmgfnuc.errors import UserError

DEMO = Path(__file__).resolve().parents[2] / 'configs' / 'demo' / 'demo.py'
SMALL = {
    'model.backbone.widths': (4, 8, 16),
    'model.decode_head.skip_channels': 4,
    'model.foundation.arch': dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,)),
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.pipeline.0.size': 32,
}
MISSPELT = """
model.backbne.widths=(4,8)
model.backbone.widhts=(4,8)
model.decode_head.skip_chanels=4
model.decode_head.nun_classes=2
model.foundation.wieghts=random
model.foundation.arch.embed_dm=24
model.neck.blok.dropout=0.1
model.neck.block.dropot=0.1
model.neck.block.presett=paper
model.test_cfg.tle=64
model.test_cgf.tile=64
model.decode_head.loss_decode.typo=1
train_dataloader.bach_size=2
train_dataloader.num_worker=1
train_dataloader.persistant_workers=True
train_dataloader.sampler.shufle=True
train_dataloader.dataset.splitt=default
train_dataloader.dataset.data_rot=data
train_dataloader.dataset.pipeline.0.sise=32
train_dataloader.dataset.pipeline.0.elastic.alpa=3
train_dataloader.dataset.pipeline.9.size=32
val_dataloader.dropp_last=True
val_dataloader.dataset.pat=val
train_cfg.max_iter=100
train_cfg.val_intervl=10
val_cfg.fp61=True
optim_wrapper.optimiser.lr=1
optim_wrapper.optimizer.learning_rate=1
optim_wrapper.optimizer.weight_dcay=1
optim_wrapper.clip_gard.max_norm=1
optim_wrapper.clip_grad.max_nrm=1
optim_wrapper.acumulative_counts=2
optim_wrapper.paramwise_cfg.layer_decy=0.5
param_scheduler.eta_mn=0
param_scheduler.by_epochs=False
param_scheduler.T_maks=10
param_schedular.eta_min=0
default_hooks.checkpoint.intervall=50
default_hooks.checkpoint.max_keep_ckpt=1
default_hooks.chekpoint.interval=50
default_hooks.logger.intervl=5
default_hooks.timer.interval=5
custom_hooks.0.seed=5
custom_hooks.7.type=EMAHook
val_evaluator.0.out_dirr=x
val_evaluator.1.prefixx=x
env_cfg.cudnn_benchmrk=True
env_cfg.mp_cfg.mp_start_metod=fork
env_cfg.dist_cfg.backnd=gloo
randomness.sed=1
randomness.determinstic=True
log_processor.window_sise=5
visualizer.vis_backend=1
auto_scale_lr.enabled=True
resme=True
cudnn_benchmrk=True
launcher=nosuch
a.b.c=1
lr=0.1
backbone.widths=(4,8)
load_form=x.pth
work_dri=x
log_levl=INFO
size=64
""".strip().splitlines()
MISTYPED = """
model=5
model.backbone=5
model.backbone.widths=wide
model.backbone.widths=8
model.backbone.widths=(4,0,16)
model.backbone.activation=nosuch
model.backbone.type=NoSuchEncoder
model.decode_head.skip_channels=many
model.decode_head.num_classes=two
model.foundation=5
model.foundation.weights=5
model.foundation.tune=frosen
model.foundation.arch=small
model.foundation.arch.embed_dim=wide
model.foundation.lora=5
model.foundation.cache.max_gb=lots
model.decode_head.init_cfg.type=NoInit
model.neck=none
model.neck.block.dropout=lots
model.neck.block.preset=nosuch
model.test_cfg=256
model.test_cfg.tile=big
model.test_cfg.scale=half
model.decode_head.loss_decode.type=NoLoss
train_dataloader=5
train_dataloader.batch_size=0
train_dataloader.batch_size=-1
train_dataloader.batch_size=2.5
train_dataloader.batch_size=two
train_dataloader.num_workers=two
train_dataloader.num_workers=-1
train_dataloader.num_workers=1.5
train_dataloader.persistent_workers=maybe
train_dataloader.sampler=5
train_dataloader.sampler.shuffle=perhaps
train_dataloader.sampler.type=NoSampler
train_dataloader.dataset=5
train_dataloader.dataset.type=NoDataset
train_dataloader.dataset.split=5
train_dataloader.dataset.part=nosuch
train_dataloader.dataset.data_root=5
train_dataloader.dataset.types=maybe
train_dataloader.dataset.pipeline=5
train_dataloader.dataset.pipeline.0=5
train_dataloader.dataset.pipeline.0.size=big
train_dataloader.dataset.pipeline.0.size=-4
train_dataloader.dataset.pipeline.0.prob=often
train_dataloader.dataset.pipeline.0.elastic=5
train_dataloader.dataset.pipeline.0.elastic.alpha=x
train_dataloader.dataset.pipeline.2.gamma=bright
train_dataloader.dataset.pipeline.2.type=NoStep
val_dataloader.batch_size=0
train_cfg=5
train_cfg.max_iters=ten
train_cfg.max_iters=0
train_cfg.max_iters=-5
train_cfg.max_iters=1.5
train_cfg.val_interval=ten
train_cfg.val_interval=0
train_cfg.val_begin=x
train_cfg.type=NoLoop
val_cfg.fp16=5
optim_wrapper=5
optim_wrapper.type=NoWrapper
optim_wrapper.constructor=NoConstructor
optim_wrapper.accumulative_counts=x
optim_wrapper.accumulative_counts=0
optim_wrapper.clip_grad=5
optim_wrapper.clip_grad.max_norm=x
optim_wrapper.optimizer=5
optim_wrapper.optimizer.type=Adamm
optim_wrapper.optimizer.lr=fast
optim_wrapper.optimizer.lr=-1
optim_wrapper.optimizer.betas=0.9
optim_wrapper.optimizer.betas=(0.9,2)
optim_wrapper.optimizer.betas=(a,b)
optim_wrapper.optimizer.betas=(0.9,)
optim_wrapper.optimizer.eps=small
optim_wrapper.optimizer.weight_decay=x
optim_wrapper.optimizer.amsgrad=7
optim_wrapper.paramwise_cfg=5
optim_wrapper.paramwise_cfg.norm_decay_mult=x
param_scheduler=5
param_scheduler.type=NoSchedule
param_scheduler.eta_min=low
param_scheduler.by_epoch=sometimes
param_scheduler.begin=x
param_scheduler.begin=500
param_scheduler.end=x
param_scheduler.T_max=x
default_hooks=5
default_hooks.checkpoint=5
default_hooks.checkpoint.type=NoHook
default_hooks.checkpoint.interval=ten
default_hooks.checkpoint.interval=2.5
default_hooks.checkpoint.by_epoch=x
default_hooks.checkpoint.max_keep_ckpts=x
default_hooks.checkpoint.save_best=nosuch
default_hooks.checkpoint.priority=URGENT
default_hooks.logger.interval=ten
default_hooks.logger.interval=True
custom_hooks=5
custom_hooks.0=5
custom_hooks.0.type=NoHook
val_evaluator=5
val_evaluator.0=5
val_evaluator.0.type=NoMetric
val_evaluator.0.out_dir=5
val_evaluator.0.collect_device=disk
env_cfg=5
env_cfg.cudnn_benchmark=maybe
env_cfg.mp_cfg=5
env_cfg.mp_cfg.mp_start_method=5
env_cfg.mp_cfg.mp_start_method=knife
env_cfg.mp_cfg.opencv_num_threads=x
env_cfg.dist_cfg=5
env_cfg.dist_cfg.backend=5
env_cfg.resource_limit=x
randomness=5
randomness.seed=x
randomness.seed=-1
randomness.seed=1.5
randomness.deterministic=maybe
log_processor=5
log_processor.type=NoProcessor
log_processor.window_size=x
log_processor.by_epoch=x
log_level=LOUD
visualizer=5
visualizer.type=NoVisualizer
resume=perhaps
load_from=5
work_dir=5
default_scope=5
compile=5
auto_scale_lr.base_batch_size=x
launcher=5
model.backbone.widths.0=4
val_evaluator.0.collect_device.x=1
randomness.seed.x=1
""".strip().splitlines()
# Lines at the end of a config file.
LINES = """
resme = True
cudnn_benchmrk = True
load_form = 'x.pth'
default_hook = dict(logger=dict(type='LoggerHook', interval=7))
train_cgf = dict(type='IterBasedTrainLoop', max_iters=5)
optim_wraper = dict(optimizer=dict(type='SGD', lr=1))
""".strip().splitlines()


def write_config(folder: Path) -> Path:
    """A small set of tiles and a small config on it."""
    data_root = folder / 'data'
    write_dataset(data_root, num_train=4, num_val=2, size=64, seed=0)
    cfg = Config.fromfile(DEMO)
    paths = {f'{part}_dataloader.dataset.data_root': str(data_root) for part in ('train', 'val', 'test')}
    cfg.merge_from_dict(SMALL | paths)
    cfg.dump(folder / 'small.py')
    return folder / 'small.py'


def prepare(config: Path, options: list[str], work_dir: Path) -> None:
    """Do what tools/train.py does before its first step."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('--cfg-options', action=ConfigOptions)
    given = parser.parse_args(['--cfg-options', *options] if options else []).cfg_options
    cfg = load_config(str(config), given, str(work_dir))
    set_seed(cfg, None)
    check_settings(cfg, 'train', 'val')
    launch.check_data(cfg, 'train', 'val')
    rehearse(cfg, 'train', 'val')


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    failed = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, changed = write_config(folder), folder / 'changed.py'
        prepare(config, [], folder / 'run')
        for case in [*MISSPELT, *MISTYPED, *LINES]:
            changed.write_text(f'{config.read_text()}\n{case if case in LINES else ""}\n')
            try:
                prepare(changed, [] if case in LINES else [case], folder / 'run')
                failed[case] = 'no error'
            except UserError as error:
                print(f'{case}\n    {error}', file=sys.stderr)
                if '\n' in str(error) or (folder / 'run').exists():
                    failed[case] = 'several lines, or an output folder'
            except Exception as error:  # the ones that are counted
                failed[case] = f'{type(error).__name__}: {error}'
    cases = len(MISSPELT) + len(MISTYPED) + len(LINES)
    print(json.dumps({'settings': cases, 'one clear line': cases - len(failed), 'others': failed}))
    return bool(failed)


if __name__ == '__main__':
    sys.exit(main())

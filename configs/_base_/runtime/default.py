from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook, RuntimeInfoHook

from mmgfnuc.engine import BroadcastBuffersHook, CheckpointGuardHook, FiniteLossHook, StepSeedHook

default_hooks = dict(
    runtime_info=dict(type=RuntimeInfoHook),
    timer=dict(type=IterTimerHook),
    sampler_seed=dict(type=DistSamplerSeedHook),
    logger=dict(type=LoggerHook, interval=10),
    param_scheduler=dict(type=ParamSchedulerHook),
)
custom_hooks = [
    dict(type=StepSeedHook),
    dict(type=BroadcastBuffersHook),
    dict(type=CheckpointGuardHook),
    dict(type=FiniteLossHook),
]
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
log_level = 'INFO'
load_from = None
resume = False

from .broadcast_buffers import BroadcastBuffersHook
from .checkpoint_guard import CheckpointGuardHook
from .prediction import PredictionHook
from .progress import ProgressHook
from .resumed_schedule import ResumedScheduleHook
from .step_seed import StepSeedHook

__all__ = [
    'BroadcastBuffersHook',
    'CheckpointGuardHook',
    'PredictionHook',
    'ProgressHook',
    'ResumedScheduleHook',
    'StepSeedHook',
]

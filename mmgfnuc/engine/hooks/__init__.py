from .average_weights import AverageWeightsHook
from .broadcast_buffers import BroadcastBuffersHook
from .checkpoint_guard import CheckpointGuardHook
from .early_stop import EarlyStopHook
from .finite_loss import FiniteLossHook
from .prediction import PredictionHook
from .progress import ProgressHook
from .resumed_schedule import ResumedScheduleHook
from .step_seed import StepSeedHook
from .whole_checkpoint import WholeCheckpointHook

__all__ = [
    'AverageWeightsHook',
    'BroadcastBuffersHook',
    'CheckpointGuardHook',
    'EarlyStopHook',
    'FiniteLossHook',
    'PredictionHook',
    'ProgressHook',
    'ResumedScheduleHook',
    'StepSeedHook',
    'WholeCheckpointHook',
]

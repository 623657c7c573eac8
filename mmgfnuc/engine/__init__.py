from .hooks import (
    BroadcastBuffersHook,
    CheckpointGuardHook,
    FiniteLossHook,
    PredictionHook,
    ProgressHook,
    ResumedScheduleHook,
    StepSeedHook,
    WholeCheckpointHook,
)
from .loops import StepBasedTrainLoop
from .optim import BFloat16OptimWrapper, TrainableParamsConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'BroadcastBuffersHook',
    'CheckpointGuardHook',
    'FiniteLossHook',
    'PredictionHook',
    'ProgressHook',
    'ResumedScheduleHook',
    'StepBasedTrainLoop',
    'StepSeedHook',
    'TrainableParamsConstructor',
    'WholeCheckpointHook',
]

from .hooks import (
    BroadcastBuffersHook,
    CheckpointGuardHook,
    PredictionHook,
    StepSeedHook,
    WholeCheckpointHook,
)
from .loops import StepBasedTrainLoop
from .optim import BFloat16OptimWrapper, TrainableParamsConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'BroadcastBuffersHook',
    'CheckpointGuardHook',
    'PredictionHook',
    'StepBasedTrainLoop',
    'StepSeedHook',
    'TrainableParamsConstructor',
    'WholeCheckpointHook',
]

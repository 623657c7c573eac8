"""Hooks, loops and optimisers, and how a run is set up from its config."""

from mmgfnuc.lazy import lazy_exports

EXPORTS = {
    'hooks': [
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
    ],
    'loops': ['StepBasedTrainLoop'],
    'optim': ['BFloat16OptimWrapper', 'TrainableParamsConstructor'],
}
__all__ = [name for names in EXPORTS.values() for name in names]
__getattr__ = lazy_exports(__name__, EXPORTS)

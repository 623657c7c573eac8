from .broadcast_buffers import BroadcastBuffersHook
from .checkpoint_guard import CheckpointGuardHook
from .finite_loss import FiniteLossHook
from .prediction import PredictionHook
from .step_seed import StepSeedHook

__all__ = ['BroadcastBuffersHook', 'CheckpointGuardHook', 'FiniteLossHook', 'PredictionHook', 'StepSeedHook']

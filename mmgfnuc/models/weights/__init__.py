"""Finding, checking and reading of weight files, for foundation encoders, timm backbones and checkpoints alike."""

from .state_dict import describe_mismatch, first_not_finite

__all__ = ['describe_mismatch', 'first_not_finite']

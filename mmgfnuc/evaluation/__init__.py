"""The MMEngine metrics; the scores themselves live in `functional`."""

from .semantic_metric import NucleiSemanticMetric

__all__ = ['NucleiSemanticMetric']

"""The MMEngine metrics; the scores themselves live in `functional`."""

from .instance_metric import NucleiInstanceMetric
from .per_image_metric import PerImageMetric
from .semantic_metric import NucleiSemanticMetric

__all__ = ['NucleiInstanceMetric', 'NucleiSemanticMetric', 'PerImageMetric']

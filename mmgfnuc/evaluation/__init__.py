"""The MMEngine metrics; the scores themselves live in `functional`, which needs neither PyTorch nor MMEngine."""

from mmgfnuc.lazy import lazy_exports

EXPORTS = {
    'instance_metric': ['NucleiInstanceMetric'],
    'per_image_metric': ['PerImageMetric'],
    'semantic_metric': ['NucleiSemanticMetric'],
}
__all__ = [name for names in EXPORTS.values() for name in names]
__getattr__ = lazy_exports(__name__, EXPORTS)

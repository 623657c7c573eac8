"""Child registries of the MMEngine roots, scope `mmgfnuc`.

With these, a config may say `type='mmgfnuc.FusionNeck'` under any default scope, with no `custom_imports`.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='mmgfnuc', locations=[f'mmgfnuc.{module}' for module in locations])


MODELS = _child('model', MMENGINE_MODELS, 'models')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets.nuclei')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'datasets.samplers')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets.transforms')
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'postprocess')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation.instance_metric', 'evaluation.semantic_metric')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine.hooks')
LOOPS = _child('loop', MMENGINE_LOOPS, 'engine.loops')
OPTIM_WRAPPERS = _child('optimizer wrapper', MMENGINE_OPTIM_WRAPPERS, 'engine.optim')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'engine.optim'
)

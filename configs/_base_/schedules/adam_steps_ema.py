# The schedule adam_steps; the weights that are scored and used are averages over some last hundred steps.
from mmengine.config import read_base

from mmgfnuc.engine import AverageWeightsHook

with read_base():
    from .adam_steps import *

custom_hooks = [*custom_hooks, dict(type=AverageWeightsHook, decay=0.99)]

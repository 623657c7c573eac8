# The schedule of the authors' release: the paper's, with a weight decay of 1e-5 (Adam's, an L2 penalty).
from mmengine.config import read_base

with read_base():
    from .adam_50e import *

optim_wrapper.optimizer.update(weight_decay=1e-5)

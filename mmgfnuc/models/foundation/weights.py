"""Old place of `mmgfnuc.models.layers.weights`, for the test configuration."""

from mmgfnuc.models.layers.weights import WEIGHTS_ENV

__all__ = ['WEIGHTS_ENV']

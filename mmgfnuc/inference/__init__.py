from typing import TYPE_CHECKING

from mmgfnuc.lazy import lazy_exports

if TYPE_CHECKING:
    from .nuclei import Nuclei
    from .predictor import Predictor
    from .preprocessing import Preprocessing

# On first use: to list the ready models needs no PyTorch.
EXPORTS = {'nuclei': ['Nuclei'], 'predictor': ['Predictor'], 'preprocessing': ['Preprocessing']}
__all__ = ['Nuclei', 'Predictor', 'Preprocessing']
__getattr__ = lazy_exports(__name__, EXPORTS)

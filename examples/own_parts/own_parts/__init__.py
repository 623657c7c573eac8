"""Own parts for mmgfnuc: a foundation encoder, a U-Net encoder, a fusion block and a head."""

import mmgfnuc

from .encoder import PatchMixer
from .film import FilmBlock
from .inside import InsideHead
from .strided import StridedEncoder

mmgfnuc.register_encoder('patch-mixer', {'type': PatchMixer})
mmgfnuc.register_unet('strided-unet', {'type': StridedEncoder})
mmgfnuc.register_fusion('film', {'type': FilmBlock})
mmgfnuc.register_head('inside', {'type': InsideHead})

# A second decoder learns horizontal and vertical maps (HoVer-Net, Graham et al. 2019, doi:10.1016/j.media.2019.101563).
from mmgfnuc.models.decode_heads import HoverHead

head = dict(type=HoverHead)

# Background, inside and boundary in one softmax (Kumar et al. 2017, doi:10.1109/TMI.2017.2677499).
from mmgfnuc.models.decode_heads import BoundaryHead

head = dict(type=BoundaryHead)

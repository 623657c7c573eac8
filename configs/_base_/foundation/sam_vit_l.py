# SAM ViT-L: put the official file into $MMGFNUC_WEIGHTS, or give its path.
from mmgfnuc.models.foundation import SAMEncoder

foundation = dict(type=SAMEncoder, arch='vit_l', weights='sam_vit_l_0b3195.pth')

# SAM ViT-B: put the official file into $MMGFNUC_WEIGHTS, or give its path.
from mmgfnuc.models.foundation import SAMEncoder

foundation = dict(type=SAMEncoder, arch='vit_b', weights='sam_vit_b_01ec64.pth')

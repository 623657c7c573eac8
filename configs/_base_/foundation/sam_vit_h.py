# SAM ViT-H: put the official file into $MMGFNUC_WEIGHTS, or give its path.
from mmgfnuc.models.foundation import SAMEncoder

foundation = dict(type=SAMEncoder, arch='vit_h', weights='sam_vit_h_4b8939.pth')

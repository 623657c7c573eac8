# eU-Net3+, the paper's host network (Swain et al. 2024, doi:10.33851/JMIS.2024.11.4.219): a GLU encoder under the full-scale decoder of U-Net3+.
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.models.decode_heads import UNet3PlusHead

backbone = dict(type=UNetEncoder, widths=(32, 64, 128, 256, 512), activation='glu', downsampling='max_blur_pool')
decode_head = dict(type=UNet3PlusHead, skip_channels=32)

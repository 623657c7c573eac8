# Foreground alone; touching nuclei are divided by a watershed on their depth. The same as no head: a plain decode head.
from mmgfnuc.models.decode_heads import SemanticHead

head = dict(type=SemanticHead)

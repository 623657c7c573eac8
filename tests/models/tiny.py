"""Real parts at small width."""

TINY_SAM = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': (1,)}
BACKBONE = {'type': 'mmgfnuc.UNetEncoder', 'widths': (4, 8, 16)}
DECODE_HEAD = {'type': 'mmgfnuc.UNetHead'}
FOUNDATION = {
    'type': 'mmgfnuc.foundation_encoder',
    'name': 'sam-vit-b',
    'weights': 'random',
    'arch': TINY_SAM,
    'input_size': None,
}
NECK = {'type': 'mmgfnuc.FusionNeck', 'levels': 'all'}
SEGMENTOR = {
    'type': 'mmgfnuc.FusionSegmentor',
    'backbone': BACKBONE,
    'foundation': FOUNDATION,
    'neck': NECK,
    'decode_head': DECODE_HEAD,
}

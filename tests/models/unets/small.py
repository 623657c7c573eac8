"""Settings that make the preset of every U-Net small, laid over its backbone and its decode head."""

WIDTHS = {'widths': (4, 8, 12, 16)}

SMALL = {
    'attention-unet': {'backbone': WIDTHS},
    'awgunet': {
        'backbone': {'arch': {'growth_rate': 2, 'block_config': (2, 2, 2, 1)}},
        'decode_head': {'width': 4},
    },
    'ddunet': {'backbone': WIDTHS, 'decode_head': {'dcam_channels': 8}},
    'eunet3+': {'backbone': WIDTHS, 'decode_head': {'skip_channels': 4}},
    'residual-attention-unet': {'backbone': WIDTHS},
    'residual-unet': {'backbone': WIDTHS},
    'swin-unet': {
        'backbone': {
            'embed_dim': 4,
            'depths': (2, 2, 1, 1),
            'num_heads': (1, 2, 2, 4),
            'window_size': 3,
            'drop_path_rate': 0.0,
        },
        'decode_head': {'head_dim': 4, 'window_size': 3, 'drop_path_rate': 0.0},
    },
    'timm-unet': {
        'backbone': {'model_name': 'convnext_atto', 'arch': {'depths': (1, 1, 1, 1), 'dims': (4, 8, 12, 16)}},
    },
    'transunet': {
        'backbone': {
            'stem_channels': 8,
            'stage_channels': (16, 16, 32),
            'stage_depths': (1, 1, 1),
            'norm_groups': 4,
            'embed_dim': 16,
            'depth': 2,
            'num_heads': 4,
            'dropout': 0.0,
        },
        'decode_head': {'deep_channels': 32, 'channels': 4},
    },
    'u2net': {
        'backbone': WIDTHS | {'mid_widths': (2, 3, 4, 5)},
        'decode_head': {'mid_widths': (2, 2, 3)},
    },
    'uctransnet': {'backbone': WIDTHS, 'decode_head': {'num_layers': 1, 'num_heads': 2}},
    'unext': {'backbone': WIDTHS},
    'unet': {'backbone': WIDTHS},
    'unet++': {'backbone': WIDTHS},
    'unet3+': {'backbone': WIDTHS, 'decode_head': {'skip_channels': 4}},
}

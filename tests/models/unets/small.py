"""Settings that make the preset of every U-Net small, laid over its backbone and its decode head."""

SMALL = {
    'unet': {'backbone': {'widths': (4, 8, 12, 16)}},
    'unet3+': {'backbone': {'widths': (4, 8, 12, 16)}, 'decode_head': {'skip_channels': 4}},
    'eunet3+': {'backbone': {'widths': (4, 8, 12, 16)}, 'decode_head': {'skip_channels': 4}},
}

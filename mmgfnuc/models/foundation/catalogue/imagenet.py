"""A small encoder trained on the classes of ImageNet, for machines without a GPU. It is not a foundation model."""

from .entry import ANTIALIASED, HALF, Entry, quarters

ENTRIES = (
    Entry(
        name='vit-tiny',
        family='ImageNet',
        arch='vit_tiny_patch16_224',
        encoder='vit',
        width=192,
        depth=12,
        patch=16,
        layers=quarters(12),
        mean=HALF,
        std=HALF,
        native_size=224,
        resampling=ANTIALIASED,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub='timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k',
        file='model.safetensors',
        address=None,
        citation='Steiner et al. 2022, "How to train your ViT?", arXiv:2106.10270',
        sources=('timm, vision_transformer.py',),
        note='Trained on the classes of ImageNet: the small encoder of the CPU configs, not a foundation model.',
    ),
)

"""DINOv2 and DINOv3."""

from .entry import ANTIALIASED, DINOV2, IMAGENET_MEAN, IMAGENET_STD, Entry, quarters

_OQUAB = 'Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision", arXiv:2304.07193'
_DARCET = 'Darcet et al. 2023, "Vision Transformers Need Registers", arXiv:2309.16588'
_SIMEONI = 'Siméoni et al. 2025, "DINOv3", arXiv:2508.10104'
_DINOV2_FILES = 'https://dl.fbaipublicfiles.com/dinov2/'
_DINOV3_PAGE = 'https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/'


def _dinov2(size: str, name: str, width: int, depth: int, registers: bool) -> Entry:
    arch = f'vit_{name}_patch14_{"reg4_" if registers else ""}dinov2'
    return Entry(
        name=f'dinov2-vit-{size}14' + ('-reg' if registers else ''),
        family='DINOv2',
        arch=arch,
        encoder='vit',
        width=width,
        depth=depth,
        patch=14,
        # The publisher's heads for depth; (2, 5, 8, 11), (9, 19, 29, 39) are quarters, this one is not.
        layers=(4, 11, 17, 23) if size == 'l' else quarters(depth),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        native_size=518,
        resampling=ANTIALIASED if registers else DINOV2,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub=f'timm/{arch}.lvd142m',
        file='model.safetensors',
        address=f'{_DINOV2_FILES}dinov2_vit{size}14/dinov2_vit{size}14_{"reg4_" if registers else ""}pretrain.pth',
        citation=f'{_OQUAB}; {_DARCET}' if registers else _OQUAB,
        sources=(
            'https://github.com/facebookresearch/dinov2 (README.md, hub/backbones.py, hub/depthers.py, '
            'models/vision_transformer.py: resampling)',
        ),
        note=''
        if registers
        else "Positions are resampled by (n + 0.1) / 37, as in the publisher's code; transformers takes n / 37.",
    )


def _dinov3(name: str, arch: str, width: int, depth: int, layers: tuple[int, ...], pyramid: bool = False) -> Entry:
    return Entry(
        name=f'dinov3-{name}',
        family='DINOv3',
        arch=arch,
        encoder='pyramid' if pyramid else 'vit',
        # The publisher's final norm stands before the pooling, so that the last stage has it too.
        settings={'head_norm_first': True} if pyramid else {},
        width=width,
        depth=depth,
        patch=32 if pyramid else 16,
        layers=layers,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        native_size=224 if pyramid else 256,
        resampling=None,
        licence='DINOv3 License',
        non_commercial=False,
        gated=True,
        hub=f'timm/{arch}.{"dinov3_" if pyramid else ""}lvd1689m',
        file='model.safetensors',
        address=_DINOV3_PAGE,
        citation=_SIMEONI,
        sources=(
            'https://github.com/facebookresearch/dinov3 (README.md, hub/backbones.py)',
            'https://huggingface.co/facebook/dinov3-vitl16-pretrain-lvd1689m (licence, gating)',
            'timm, convnext.py' if pyramid else 'timm, eva.py',
        ),
        note='Stages of stride 4, 8, 16 and 32; the last one is normalised.'
        if pyramid
        else 'Rotary positions, computed for each grid. Files with biases of queries and values, as own training gives '
        f'them, go with `timm:{arch}_qkvb`.',
    )


ENTRIES = (
    *(
        _dinov2(size, name, width, depth, registers)
        for size, name, width, depth in (
            ('s', 'small', 384, 12),
            ('b', 'base', 768, 12),
            ('l', 'large', 1024, 24),
            ('g', 'giant', 1536, 40),
        )
        for registers in (False, True)
    ),
    _dinov3('vit-s16', 'vit_small_patch16_dinov3', 384, 12, quarters(12)),
    _dinov3('vit-s16plus', 'vit_small_plus_patch16_dinov3', 384, 12, quarters(12)),
    _dinov3('vit-b16', 'vit_base_patch16_dinov3', 768, 12, quarters(12)),
    _dinov3('vit-l16', 'vit_large_patch16_dinov3', 1024, 24, (4, 11, 17, 23)),
    *(
        _dinov3(f'convnext-{size}', f'convnext_{size}', width, 4, (0, 1, 2, 3), pyramid=True)
        for size, width in (('tiny', 768), ('small', 768), ('base', 1024), ('large', 1536))
    ),
)

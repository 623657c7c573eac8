"""SAM, MedSAM and SAM 2."""

from .entry import ANTIALIASED, IMAGENET_MEAN, IMAGENET_STD, PLAIN, Entry

_KIRILLOV = 'Kirillov et al. 2023, "Segment Anything", arXiv:2304.02643'
_RAVI = 'Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos", arXiv:2408.00714'
_SAM_FILES = 'https://dl.fbaipublicfiles.com/segment_anything/'
_SAM2_FILES = 'https://dl.fbaipublicfiles.com/segment_anything_2/'


def _sam(size: str, name: str, width: int, depth: int, file: str) -> Entry:
    return Entry(
        name=f'sam-vit-{size}',
        family='SAM',
        arch=f'vit_{size}',
        encoder='sam',
        width=width,
        depth=depth,
        patch=16,
        layers=('neck',),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        native_size=1024,
        input_size=1024,
        resampling=ANTIALIASED,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub=f'timm/samvit_{name}_patch16.sa1b',
        file='model.safetensors',
        address=_SAM_FILES + file,
        citation=_KIRILLOV,
        sources=('https://github.com/facebookresearch/segment-anything (README.md)', 'segment-anything, build_sam.py'),
    )


def _sam2(version: str, size: str, width: int, folder: str, tag: str) -> Entry:
    prefix = 'sam2' if version == '2' else 'sam2.1'
    arch = f'sam2_hiera_{size.replace("-", "_")}'
    return Entry(
        name=f'{prefix}-hiera-{size}',
        family='SAM 2',
        arch=arch,
        encoder='pyramid',
        width=width,
        depth=4,
        patch=32,
        layers=(0, 1, 2, 3),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        native_size=1024,
        input_size=1024,
        resampling=PLAIN,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub=f'timm/{arch}.{tag}',
        file='model.safetensors',
        address=f'{_SAM2_FILES}{folder}/{prefix}_hiera_{size.replace("-", "_")}.pt',
        citation=_RAVI,
        sources=('https://github.com/facebookresearch/sam2 (README.md)', 'timm, hieradet_sam2.py'),
        note="Stages of stride 4, 8, 16 and 32. The publisher's code squashes images to 1024x1024; here their aspect "
        'is kept, as with SAM.',
    )


ENTRIES = (
    _sam('b', 'base', 768, 12, 'sam_vit_b_01ec64.pth'),
    _sam('l', 'large', 1024, 24, 'sam_vit_l_0b3195.pth'),
    _sam('h', 'huge', 1280, 32, 'sam_vit_h_4b8939.pth'),
    Entry(
        name='medsam-vit-b',
        family='SAM',
        arch='vit_b',
        encoder='sam',
        width=768,
        depth=12,
        patch=16,
        layers=('neck',),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        stretch=True,
        native_size=1024,
        input_size=1024,
        resampling=ANTIALIASED,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub=None,
        file='medsam_vit_b.pth',
        address='https://drive.google.com/drive/folders/1ETWmi4AiniJeWOt6HAsYgTjYv_fkgzoN',
        citation='Ma et al. 2024, "Segment Anything in Medical Images", Nature Communications 15',
        sources=(
            'https://github.com/bowang-lab/MedSAM (README.md, MedSAM_Inference.py)',
            'https://huggingface.co/wanglab/medsam-vit-base (licence)',
        ),
        note="The publisher's script squashes images to 1024x1024 (bicubic) and rounds them to 256 levels; here their "
        'aspect is kept, as with SAM.',
    ),
    *(
        _sam2(version, size, width, folder, base + suffix)
        for version, folder, suffix in (('2', '072824', ''), ('2.1', '092824', '_2pt1'))
        for size, width, base in (
            ('tiny', 768, 'fb_r896'),
            ('small', 768, 'fb_r896'),
            ('base-plus', 896, 'fb_r896'),
            ('large', 1152, 'fb_r1024'),
        )
    ),
)

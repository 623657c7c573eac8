"""CLIP (OpenAI, OpenCLIP, EVA-02), SigLIP and SigLIP 2: the image towers."""

from .entry import ANTIALIASED, CLIP_MEAN, CLIP_STD, HALF, PLAIN, Entry, quarters

_RADFORD = (
    'Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020'
)
_CHERTI = 'Cherti et al. 2023, "Reproducible scaling laws for contrastive language-image learning", arXiv:2212.07143'
_GADRE = 'Gadre et al. 2023, "DataComp: In search of the next generation of multimodal datasets", arXiv:2304.14108'
_SUN = 'Sun et al. 2023, "EVA-CLIP: Improved Training Techniques for CLIP at Scale", arXiv:2303.15389'
_ZHAI = 'Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343'
_TSCHANNEN = 'Tschannen et al. 2025, "SigLIP 2", arXiv:2502.14786'
_SIZES = {'b': ('base', 768, 12), 'l': ('large', 1024, 24), 'h': ('huge', 1280, 32), 'so': ('so400m', 1152, 27)}
_OPEN_CLIP = 'https://github.com/mlfoundations/open_clip (pretrained.py, model.py)'


def _openai(size: str, patch: int, side: int, sha256: str, file: str) -> Entry:
    name, width, depth = _SIZES[size]
    arch = f'vit_{name}_patch{patch}_clip_quickgelu_{side}'
    return Entry(
        name=f'clip-vit-{size}{patch}{"-336" if side == 336 else ""}-openai',
        family='CLIP (OpenAI)',
        arch=arch,
        encoder='vit',
        width=width,
        depth=depth,
        patch=patch,
        layers=quarters(depth),
        mean=CLIP_MEAN,
        std=CLIP_STD,
        native_size=side,
        resampling=PLAIN,
        licence=None,
        non_commercial=None,
        gated=False,
        hub=f'timm/vit_{name}_patch{patch}_clip_{side}.openai',
        file='model.safetensors',
        address=f'https://openaipublic.azureedge.net/clip/models/{sha256}/{file}',
        sha256=sha256,
        citation=_RADFORD,
        sources=(
            'https://github.com/openai/CLIP (clip.py, model.py, LICENSE: MIT for the code, none named for the weights)',
            'transformers, modeling_clip.py (resampling)',
        ),
    )


def _openclip(
    size: str, patch: int, data: str, repository: str, licence: str | None = 'MIT', gated: bool | None = False
) -> Entry:
    name, width, depth = _SIZES[size]
    arch = f'vit_{name}_patch{patch}_clip_224'
    return Entry(
        name=f'clip-vit-{size}{patch}-{data}',
        family='CLIP (OpenCLIP)',
        arch=arch,
        encoder='vit',
        width=width,
        depth=depth,
        patch=patch,
        layers=quarters(depth),
        # This one was trained with other statistics than its siblings.
        mean=HALF if (size, data) == ('l', 'laion2b') else CLIP_MEAN,
        std=HALF if (size, data) == ('l', 'laion2b') else CLIP_STD,
        native_size=224,
        resampling=ANTIALIASED,
        licence=licence,
        non_commercial=False if licence else None,
        gated=gated,
        hub=f'timm/{arch}.{"datacompxl" if data == "datacomp" else data}',
        file='model.safetensors',
        address=f'https://huggingface.co/laion/{repository}',
        citation=_GADRE if data == 'datacomp' else _CHERTI,
        sources=(_OPEN_CLIP, 'https://github.com/mlfoundations/open_clip/issues/177 (licence of the weights)'),
    )


def _eva02(size: str, patch: int, side: int, file: str) -> Entry:
    name, width, depth = _SIZES[size]
    arch = f'eva02_{name}_patch{patch}_clip_{side}'
    return Entry(
        name=f'eva02-clip-{size}{patch}' + ('-336' if side == 336 else ''),
        family='CLIP (EVA-02)',
        arch=arch,
        encoder='vit',
        width=width,
        depth=depth,
        patch=patch,
        layers=quarters(depth),
        mean=CLIP_MEAN,
        std=CLIP_STD,
        native_size=side,
        resampling=ANTIALIASED,
        licence='MIT',
        non_commercial=False,
        gated=False,
        hub=f'timm/{arch}.merged2b',
        file='model.safetensors',
        address=f'https://huggingface.co/QuanSun/EVA-CLIP/blob/main/{file}',
        citation=_SUN,
        sources=(
            'https://github.com/baaivision/EVA (EVA-CLIP/README.md, LICENSE)',
            'timm, eva.py (the tower of open_clip)',
        ),
    )


def _siglip(version: str, size: str, patch: int, side: int, address: str, published_side: int | None = None) -> Entry:
    name, width, depth = _SIZES[size]
    label = f'vit-{size}' if size != 'so' else 'so400m'
    arch = f'vit_{name}_patch{patch}_siglip_gap_{side}'
    return Entry(
        name=f'siglip{version}-{label}{patch}-{published_side or side}',
        family=f'SigLIP{" 2" if version else ""}',
        arch=arch,
        encoder='vit',
        # timm's default is the exact GELU; the publisher's is its approximation with tanh.
        settings={'act_layer': 'gelu_tanh'},
        width=width,
        depth=depth,
        patch=patch,
        layers=quarters(depth),
        mean=HALF,
        std=HALF,
        native_size=side,
        resampling=PLAIN,
        licence='Apache-2.0',
        non_commercial=False,
        gated=False,
        hub=f'timm/vit_{name}_patch{patch}_siglip_{side}.{"v2_" if version else ""}webli',
        file='model.safetensors',
        address=f'https://huggingface.co/google/{address}',
        citation=_TSCHANNEN if version else _ZHAI,
        sources=(
            'https://github.com/google-research/big_vision (models/vit.py)',
            f'https://huggingface.co/google/{address}',
            'transformers, modeling_siglip.py (resampling)',
        ),
    )


ENTRIES = (
    _openai('b', 32, 224, '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af', 'ViT-B-32.pt'),
    _openai('b', 16, 224, '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f', 'ViT-B-16.pt'),
    _openai('l', 14, 224, 'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836', 'ViT-L-14.pt'),
    _openai('l', 14, 336, '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02', 'ViT-L-14-336px.pt'),
    _openclip('b', 32, 'laion2b', 'CLIP-ViT-B-32-laion2B-s34B-b79K', gated=None),
    _openclip('b', 16, 'laion2b', 'CLIP-ViT-B-16-laion2B-s34B-b88K'),
    _openclip('l', 14, 'laion2b', 'CLIP-ViT-L-14-laion2B-s32B-b82K'),
    _openclip('h', 14, 'laion2b', 'CLIP-ViT-H-14-laion2B-s32B-b79K'),
    _openclip('b', 32, 'datacomp', 'CLIP-ViT-B-32-DataComp.XL-s13B-b90K', licence=None, gated=None),
    _openclip('b', 16, 'datacomp', 'CLIP-ViT-B-16-DataComp.XL-s13B-b90K'),
    _openclip('l', 14, 'datacomp', 'CLIP-ViT-L-14-DataComp.XL-s13B-b90K'),
    _eva02('b', 16, 224, 'EVA02_CLIP_B_psz16_s8B.pt'),
    _eva02('l', 14, 224, 'EVA02_CLIP_L_psz14_s4B.pt'),
    _eva02('l', 14, 336, 'EVA02_CLIP_L_336_psz14_s6B.pt'),
    _siglip('', 'b', 16, 224, 'siglip-base-patch16-224'),
    _siglip('', 'b', 16, 384, 'siglip-base-patch16-384'),
    _siglip('', 'l', 16, 256, 'siglip-large-patch16-256'),
    _siglip('', 'l', 16, 384, 'siglip-large-patch16-384'),
    _siglip('', 'so', 14, 224, 'siglip-so400m-patch14-224'),
    _siglip('', 'so', 14, 384, 'siglip-so400m-patch14-384'),
    _siglip('2', 'b', 16, 224, 'siglip2-base-patch16-224'),
    _siglip('2', 'b', 16, 384, 'siglip2-base-patch16-384'),
    _siglip('2', 'l', 16, 256, 'siglip2-large-patch16-256'),
    _siglip('2', 'l', 16, 384, 'siglip2-large-patch16-384'),
    _siglip('2', 'so', 14, 224, 'siglip2-so400m-patch14-224'),
    _siglip('2', 'so', 14, 378, 'siglip2-so400m-patch14-384', published_side=384),
)

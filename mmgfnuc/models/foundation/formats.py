"""From the weight files that publishers offer to timm's parameter names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models import convnext, eva, hieradet_sam2, vision_transformer
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import classifier_prefixes
from mmgfnuc.models.weights.files import load_exactly, read_state_dict

State = dict[str, Tensor]
SHOWN = 5

# Parts of image-text models outside the image encoder, and the sizes that OpenAI's archives state.
TEXT_PARTS = (
    'text.',
    'text_model.',
    'transformer.',
    'token_embedding.',
    'positional_embedding',
    'ln_final.',
    'text_projection',
    'visual_projection.',
    'logit_scale',
    'logit_bias',
    'input_resolution',
    'context_length',
    'vocab_size',
)
# Projections, the poolers of CoCa (CONCH), and positions that are counted.
IMAGE_HEADS = (
    'visual.proj',
    'visual.head.',
    'visual.attn_pool',
    'visual.ln_contrast',
    'visual.ln_caption',
    'vision_model.head.',
    'vision_model.embeddings.position_ids',
)
SAM2_PARTS = (
    'image_encoder.neck.',
    'memory_',
    'maskmem_',
    'no_mem_',
    'no_obj_',
    'mask_downsample.',
    'obj_ptr_',
    'sam_prompt_encoder.',
    'sam_mask_decoder.',
)
DINO_HEADS = ('head.', 'dino_head.', 'ibot_head.')
# What reconstructs the pixels in MAE's pretraining.
MAE_PARTS = ('decoder_', 'mask_token')
# Of timm's own names: what stands behind the layers that features are taken from.
HEADS = ('head.', 'fc_norm.', 'attn_pool.', 'classifier.', 'pooler.')

# Where OpenAI's files and those with timm's names have the kernel of the patches, and the positions.
PATCH_KERNELS = ('patch_embed.proj.weight', 'visual.conv1.weight')
POSITIONS = ('pos_embed', 'visual.positional_embedding')

# From transformers' names, in files and in memory, to timm's; applied in order.
TRANSFORMERS_NAMES = (
    (r'^embeddings\.(cls_token|class_embedding)$', 'cls_token'),
    (r'^embeddings\.register_tokens$', 'reg_token'),
    (r'^embeddings\.position_embeddings?(\.weight)?$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings?\.(projection\.)?', 'patch_embed.proj.'),
    (r'^pre_layrnorm\.', 'norm_pre.'),
    (r'^(post_layernorm|layernorm)\.', 'norm.'),
    (r'^(encoder\.)?layers?\.', 'blocks.'),
    (r'\.(layernorm_before|layer_norm1)\.', '.norm1.'),
    (r'\.(layernorm_after|layer_norm2)\.', '.norm2.'),
    (r'\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.', '.attn.proj.'),
    (r'\.(attention\.attention|attention|self_attn)\.(q|k|v)(_proj|uery|ey|alue)\.', r'.attn.\2.'),
    (r'\.layer_scale(\d)\.lambda1$', r'.ls\1.gamma'),
    (r'\.(intermediate\.dense|mlp\.weights_in)\.', '.mlp.fc1.'),
    (r'\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.', '.mlp.fc2.'),
)
# Separate tensors of transformers' that are one of timm's, in this order.
JOINED = {'attn.qkv.': ('attn.q.', 'attn.k.', 'attn.v.'), 'mlp.fc1.': ('mlp.gate_proj.', 'mlp.up_proj.')}


def from_transformers(state: State, model: Any) -> State:
    """Rename the layers of ViTModel, Dinov2Model (with registers too), CLIPVisionModel and SiglipVisionModel."""
    renamed = {}
    for key, value in state.items():
        for pattern, name in TRANSFORMERS_NAMES:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    renamed.pop('embeddings.mask_token', None)
    for joined, (first, *others) in JOINED.items():
        for key in [key for key in renamed if first in key]:
            names = [key, *(key.replace(first, other) for other in others)]
            if all(name in renamed for name in names):
                renamed[key.replace(first, joined)] = torch.cat([renamed.pop(name) for name in names])
    if 'cls_token' in renamed:
        renamed['cls_token'] = renamed['cls_token'].reshape(1, 1, -1)
    if 'pos_embed' in renamed:
        renamed['pos_embed'] = renamed['pos_embed'].reshape(1, -1, renamed['pos_embed'].shape[-1])
    return _without_class_position(renamed, model)


def _without_class_position(state: State, model: Any) -> State:
    """Add the position of the class token to it, where timm keeps positions of patches only (with registers)."""
    position = state.get('pos_embed')
    if not getattr(model, 'no_embed_class', False) or not {'cls_token', 'pos_embed'} <= state.keys():
        return state
    position = state['pos_embed']
    if position.shape[1] != model.pos_embed.shape[1] + 1:
        return state
    return state | {'cls_token': state['cls_token'] + position[:, :1], 'pos_embed': position[:, 1:]}


def by_timm(state: State, model: Any) -> State:
    """Rename with the filter that timm has for the architecture.

    Raises:
        UserError: the file is for patches or grids of another size, to which timm's filters would bend it unasked.
    """
    _check_patches(state, model)
    if isinstance(model, eva.Eva) and 'storage_tokens' in state:
        _check_left_out(state, model)
    filters: dict[str, Callable[..., State]] = {
        'Eva': eva.checkpoint_filter_fn,
        'ConvNeXt': convnext.checkpoint_filter_fn,
        'HieraDet': hieradet_sam2.checkpoint_filter_fn,
    }
    for parent in type(model).__mro__:
        if parent.__name__ in filters:
            return _with_final_norm(filters[parent.__name__](state, model), model)
    return vision_transformer.checkpoint_filter_fn(state, model)


def _with_final_norm(state: State, model: Any) -> State:
    """Give the final norm of a ConvNeXt, part of timm's head, its name in a model that has it before the pooling."""
    if not hasattr(model, 'norm_pre') or 'norm_pre.weight' not in model.state_dict():
        return state
    return {re.sub(r'^head\.norm\.', 'norm_pre.', key): value for key, value in state.items()}


def from_dino_training(state: State, model: Any) -> State:
    """Rename the teacher's backbone, whose blocks DINOv2 keeps in chunks: `blocks.<chunk>.<block>.`."""
    return by_timm({re.sub(r'^blocks\.\d+\.(\d+)\.', r'blocks.\1.', key): value for key, value in state.items()}, model)


def _check_left_out(state: State, model: Any) -> None:
    """Refuse what timm's filter for DINOv3 leaves out although it is not what timm computes by itself.

    The publisher's files have biases of queries, keys and values, the keys' masked to zero, and the periods of the
    rotary positions.
    """
    own = model.state_dict()
    for key in [key for key in state if key.endswith('attn.qkv.bias')]:
        mask = state.get(f'{key}_mask')
        query, keys, value = (state[key] if mask is None else state[key] * mask).chunk(3)
        if key.replace('qkv.bias', 'q_bias') not in own and (query.any() or value.any()):
            raise UserError(
                f'its {key} is not zero, and the encoder has no such bias; take the encoder that has, '
                f"foundation.name='timm:{model.pretrained_cfg['architecture']}_qkvb'"
            )
        if keys.any():
            raise UserError(f'its {key} is not zero for the keys, and no encoder of timm has that bias')
    periods, expected = state.get('rope_embed.periods'), model.rope.periods.float()
    # The publisher keeps them in bfloat16.
    if periods is not None and not (
        periods.shape == expected.shape and torch.allclose(periods.float(), expected, rtol=0.01)
    ):
        raise UserError('its rotary positions have other periods than those of the encoder')


def _check_patches(state: State, model: Any) -> None:
    """Compare the patch and the grid of position embeddings in a file with those of a ViT."""
    patch = getattr(getattr(model, 'patch_embed', None), 'patch_size', None)
    for key in PATCH_KERNELS:
        kernel = state.get(key)
        if patch and kernel is not None and kernel.dim() == 4 and tuple(kernel.shape[2:]) != tuple(patch):
            raise UserError(f'it is for patches of {kernel.shape[-1]} pixels, the encoder for {patch[-1]}')
    if getattr(model, 'pos_embed', None) is None or not hasattr(model.patch_embed, 'grid_size'):
        return
    rows, columns = model.patch_embed.grid_size
    for key in POSITIONS:
        # Some keep positions of the class token and of registers as well.
        if key in state and not 0 <= state[key].shape[-2] - rows * columns <= model.num_prefix_tokens:
            raise UserError(
                f'it has {state[key].shape[-2]} position embeddings, the encoder a grid of {rows}x{columns}; where the '
                "file is right, give arch={'img_size': ...}, the pixels that it was trained at"
            )


@dataclass(frozen=True)
class Format:
    """How a publisher lays out a file.

    Attributes:
        name: for messages.
        mark: a key that only such files have.
        prefix: of the image encoder's keys.
        others: prefixes of the keys of other parts; anything else is refused.
        rename: from these keys, without the prefix where `strip` says so, to timm's.
        strip: take the prefix off before `rename`.
    """

    name: str
    mark: str
    prefix: str
    others: tuple[str, ...]
    rename: Callable[[State, Any], State]
    strip: bool = True


FORMATS = (
    Format(
        'open_clip with a tower of timm',
        'visual.trunk.patch_embed.proj.weight',
        'visual.trunk.',
        TEXT_PARTS + IMAGE_HEADS,
        by_timm,
    ),
    Format(
        'CLIP as of OpenAI and open_clip',
        'visual.class_embedding',
        'visual.',
        TEXT_PARTS + IMAGE_HEADS,
        by_timm,
        strip=False,
    ),
    Format('EVA-CLIP', 'visual.patch_embed.proj.weight', 'visual.', TEXT_PARTS + IMAGE_HEADS, by_timm),
    Format(
        'an image-text model of transformers',
        'vision_model.embeddings.patch_embedding.weight',
        'vision_model.',
        TEXT_PARTS + IMAGE_HEADS,
        from_transformers,
    ),
    Format('an image encoder of transformers', 'embeddings.patch_embedding.weight', '', HEADS, from_transformers),
    Format(
        'a ViT or DINOv2 of transformers', 'embeddings.patch_embeddings.projection.weight', '', HEADS, from_transformers
    ),
    Format('a pretraining checkpoint of MAE', 'decoder_embed.weight', '', MAE_PARTS, by_timm),
    Format(
        'a training checkpoint of DINO or iBOT',
        'backbone.patch_embed.proj.weight',
        'backbone.',
        DINO_HEADS,
        from_dino_training,
    ),
    Format(
        'SAM 2',
        'image_encoder.trunk.patch_embed.proj.weight',
        'image_encoder.trunk.',
        SAM2_PARTS,
        by_timm,
    ),
)
# DINOv2's and DINOv3's repositories, the original ConvNeXt, and timm itself.
PLAIN_FORMAT = Format('timm, DINOv2 or DINOv3', '', '', (), by_timm)


def load_published(model: Any, path: Path, config_key: str) -> None:
    """Load a file in one of the FORMATS into a model of timm.

    Raises:
        UserError: it is not readable, has parts that are not known, or does not fit the model.
    """
    state = read_state_dict(path)
    try:
        renamed = to_timm(state, model)
    except UserError as error:
        raise UserError(f'{path} does not fit the encoder ({config_key}): {error}') from error
    except (AttributeError, KeyError, RuntimeError) as error:  # a filter of timm's met what it does not expect
        reason = str(error).partition('\n')[0]
        raise UserError(f'{path} is of another architecture than the encoder ({config_key}): {reason}') from error
    load_exactly(model, renamed, path, config_key, optional=HEADS)


def to_timm(state: State, model: Any) -> State:
    """Give the parameters of an image encoder in a file timm's names; other parts of known formats are left out.

    Raises:
        UserError: the file is of a known format, but has parts that are not known.
    """
    found = next((known for known in FORMATS if known.mark in state), PLAIN_FORMAT)
    encoder = {key: value for key, value in state.items() if not key.startswith(found.others)}
    unknown = [key for key in encoder if not key.startswith(found.prefix)]
    if unknown:
        more = f' and {len(unknown) - SHOWN} more' if len(unknown) > SHOWN else ''
        names = ', '.join(unknown[:SHOWN])
        raise UserError(f"it looks like {found.name}, but also has {names}{more}; give the publisher's own file")
    if found.strip:
        encoder = {key.removeprefix(found.prefix): value for key, value in encoder.items()}
    renamed = found.rename(encoder, model)
    heads = HEADS + classifier_prefixes(model)
    own = model.state_dict()
    return {key: value for key, value in renamed.items() if key in own or not key.startswith(heads)}

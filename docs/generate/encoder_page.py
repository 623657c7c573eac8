"""docs/foundation_encoders.md, made from the catalogue and from records of benchmarks/."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from records import Record, command_block, conditions, linked, of_kind

from mmgfnuc.models.foundation import CATALOGUE, Entry, FoundationEncoder, foundation_encoder
from mmgfnuc.models.foundation.base import weights_are_meant
from mmgfnuc.visualization.markdown import table_lines

HEADING = """# Foundation encoders

Made by `make table` from [the catalogue](../mmgfnuc/models/foundation/catalogue/) and from the records in
`docs/results/`. What could not be checked against the publisher's page, repository or timm's own entry is "unknown"
here, not guessed.

An encoder is one name, in a config or in Python; `timm:<name>` takes any other ViT or pyramid of timm that runs on
images of any size:

```python
foundation = dict(type='mmgfnuc.foundation_encoder', name='dinov2-vit-b14')
model = mmgfnuc.create_model('unet', foundation='dinov2-vit-b14', fusion='context')
mmgfnuc.list_foundation('dinov2-*')
```

## How weights are found

1. `weights=` names a file, or a folder as the hub has it.
2. Else the name of the encoder, the publisher's file name and timm's name (with its tag, where timm has several) are
   looked for in the folder `$MMGFNUC_WEIGHTS`: `uni.bin`, `sam_vit_b_01ec64.pth`,
   `vit_small_patch14_dinov2.safetensors`, or a folder `uni/`.
3. Else the hub is asked (huggingface.co, kept in its own cache; `HF_HUB_OFFLINE=1` keeps it from the network).

Gated weights need an account: agree to the terms on their page, then `hf auth login`. Files load as published:
segment-anything, SAM 2, DINOv2 and DINOv3 repositories, OpenAI's CLIP (archive or state dict), OpenCLIP, EVA-CLIP,
transformers (but for its DINOv3), timm; and checkpoints of a training of your own: the teacher of DINO, iBOT, DINOv2
(with `arch={'img_size': ...}`, the pixels of its crops) or DINOv3 (`timm:..._qkvb`), and MAE's pretraining.
`weights='random'` needs no file, and warns.

## The catalogue

Parameters are those that run for the default layers. A token stride is in pixels of the encoder's input; where an
image is scaled first, a smaller image has finer tokens. Pixel size is that of the training images, where the publisher
states it. With restricted weights the log of a training says so once, and its checkpoint too."""
COLUMNS = (
    'config line',
    'parameters (M)',
    'token stride (px)',
    'channels',
    'default layers',
    'input (px)',
    'pixel size (µm)',
    'licence of the weights',
    'weights',
)
CONFIG_LINE = "dict(type='mmgfnuc.foundation_encoder', name='{}')"
UNKNOWN = 'unknown'
RATIOS = {
    'speedup_fp32': "speed over segment-anything's in float32",
    'speedup_bf16': "speed in bfloat16 over segment-anything's in float32",
    'speedup_bf16_both': "speed over segment-anything's, both in bfloat16",
    'max_abs_diff': 'largest difference in float32',
    'max_abs_diff_bf16': 'largest difference of bfloat16 from float32',
    'embedding_std': 'standard deviation of the embedding',
    'position_effect': 'standard deviation of what relative positions change in it',
    'peak_memory_ratio': "memory of a forward pass over segment-anything's",
}


def encoders_page(records: Mapping[str, Record]) -> str:
    """Render docs/foundation_encoders.md from the catalogue, and from the records of kinds that it shows."""
    families = [_family(name, list(entries)) for name, entries in groupby(CATALOGUE.values(), lambda e: e.family)]
    speed = [_sam_speed(of_kind(records, 'sam_encoder')), _cache_speed(of_kind(records, 'feature_cache'))]
    return '\n\n'.join([HEADING, *families, *speed]) + '\n'


def _family(name: str, entries: Sequence[Entry]) -> str:
    notes = [f'- `{entry.name}`: {entry.note}' for entry in entries if entry.note]
    papers = [f'- Paper: {linked(citation)}' for citation in dict.fromkeys(entry.citation for entry in entries)]
    sources = [f'- Facts: {source}' for source in dict.fromkeys(s for entry in entries for s in entry.sources)]
    table = table_lines(COLUMNS, [_cells(entry) for entry in entries])
    return '\n'.join([f'### {name}', '', table, '', *notes, *papers, *sources])


def _cells(entry: Entry) -> tuple[str, ...]:
    encoder = _on_meta(entry)
    return (
        f'`{CONFIG_LINE.format(entry.name)}`',
        f'{sum(parameter.numel() for parameter in encoder.parameters()) / 1e6:.1f}',
        ', '.join(str(stride) for stride in dict.fromkeys(encoder.out_strides)),
        ', '.join(str(channels) for channels in dict.fromkeys(encoder.out_channels)),
        ', '.join(str(layer) for layer in encoder.out_layers),
        f'longer side to {entry.input_size}' if entry.input_size else f'as given; made for {entry.native_size}',
        f'{entry.mpp:g}' if entry.mpp else UNKNOWN,
        _licence(entry),
        _weights(entry),
    )


def _on_meta(entry: Entry) -> FoundationEncoder:
    with torch.device('meta'), weights_are_meant():
        return foundation_encoder(entry.name, weights='random')


def _licence(entry: Entry) -> str:
    limits = {
        'no commercial use': entry.non_commercial,
        'commercial use not settled': entry.non_commercial is None,
        'gated': entry.gated,
    }
    return '; '.join([entry.licence or UNKNOWN, *(limit for limit, holds in limits.items() if holds)])


def _weights(entry: Entry) -> str:
    places = [f'[{entry.hub}](https://huggingface.co/{entry.hub})'] if entry.hub else []
    places += [f"[publisher's]({entry.address})"] if entry.address else []
    hint = '' if entry.hub and entry.file else '; give the file as `weights=`'
    return ' or '.join(places) + hint


def _sam_speed(records: Sequence[Record]) -> str:
    parts = ["## Speed of SAM's image encoder"]
    for record in records:
        (row,) = record['rows']
        heading = (f'`{row["arch"]}`', 'ratio or difference')
        rows = [[text, f'{row[key]:.2g}' if 'diff' in key else f'{row[key]:.2f}'] for key, text in RATIOS.items()]
        where = f'Speeds are medians of {record["settings"]["pairs"]} pairs of runs, in turn in one process: '
        parts += [table_lines(heading, rows), where + conditions(record), command_block(record)]
    return '\n\n'.join(parts)


def _cache_speed(records: Sequence[Record]) -> str:
    heading = (
        'encoder',
        'fusion',
        'width of the U-Net',
        'files',
        'MB per image',
        'epoch without cache over one with it',
        'step with it over one of the U-Net alone',
    )
    rows = []
    for record in records:
        settings, (row,) = record['settings'], record['rows']
        names = [f'`{settings["foundation"]}`', f'`{settings["fusion"]}`', str(settings['width']), settings['files']]
        ratios = [f'{row[key]:.2f}' for key in ('mb_per_image', 'epoch_speedup', 'step_vs_unet')]
        rows.append(names + ratios)
    where = '\n\n'.join(dict.fromkeys(f'All images found in the cache; {conditions(record)}' for record in records))
    commands = '\n'.join(command for record in records for command in record['commands'])
    return f'## Speed of training with a cache\n\n{table_lines(heading, rows)}\n\n{where}\n\n```\n{commands}\n```'

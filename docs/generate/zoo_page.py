"""docs/model_zoo.md, made from records of benchmarks/unets.py."""

from collections.abc import Sequence

from records import Record, command_block, conditions, linked

from mmgfnuc.visualization.markdown import table_lines

HEADING = """# Model zoo

The U-Nets that `mmgfnuc.create_model(unet=...)` takes, at the defaults of their presets. Made from the records in
`docs/results/` by `make table`."""
COLUMNS = (
    'U-Net',
    'parameters (M)',
    'MACs (G)',
    'levels',
    'training step (ms)',
    'inference (ms)',
    'peak training memory (MB)',
    'what it is, source',
)
# Key of a ratio -> what it says. The same key with `_infer` holds it for inference.
RATIOS = {
    'ratio_vs_mmseg': "images/s over those of MMSegmentation's UNet, made the same network",
    'ratio_vs_smp': "images/s x MACs over those of segmentation-models-pytorch's Unet with vgg13_bn",
    'ratio_channels_last': 'images/s as built, weights and images in channels_last, over those in the plain layout',
    'ratio_bf16': 'images/s under bfloat16 autocast over those in float32',
    'ratio_bf16_channels_last': 'images/s with both over those with neither',
}


def zoo_page(records: Sequence[Record]) -> str:
    """Render docs/model_zoo.md: the table of every record, and after it the ratios of those that hold some."""
    tables = [_table(record) for record in records if 'ratio_vs_mmseg' not in record['rows'][0]]
    ratios = [_ratios(record) for record in records if 'ratio_vs_mmseg' in record['rows'][0]]
    return '\n\n'.join([HEADING, *tables, *ratios]) + '\n'


def _table(record: Record) -> str:
    return f"""{table_lines(COLUMNS, [_cells(row) for row in record['rows']])}

MACs are the multiply-adds of one 256x256 image, of convolutions, matrix products and attention. A training step is
forward, loss, backward and Adam; its memory holds weights, gradients, Adam's state and activations. Times (medians of
{record['settings']['repeats']}) and memory are of this run only, and compare its rows: {conditions(record)}

{command_block(record)}"""


def _cells(row: Record) -> list[str]:
    return [
        f'`{row["unet"]}`',
        f'{row["parameters"] / 1e6:.1f}',
        f'{row["macs"] / 1e9:.1f}',
        str(row['levels']),
        f'{row["train_ms"]:.0f}',
        f'{row["infer_ms"]:.0f}',
        f'{row["peak_mb"]}',
        linked(row['source']),
    ]


def _ratios(record: Record) -> str:
    (row,) = record['rows']
    cells = [[text, f'{row[key]:.2f}', f'{row[f"{key}_infer"]:.2f}'] for key, text in RATIOS.items()]
    return f"""## Speed of `{row['unet']}`

{table_lines(('ratio; above 1 the first is faster', 'training step', 'inference'), cells)}

Medians of {record['settings']['pairs']} pairs of runs, in turn in one process: {conditions(record)}

{command_block(record)}"""

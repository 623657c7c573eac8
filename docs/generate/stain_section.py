"""What docs/stain.md shows of the speed of data loading."""

from collections.abc import Mapping, Sequence

from records import Record, command_block


def speed_section(records: Sequence[Record]) -> str:
    """Tables of stain transforms and presets, the comparison and the opening of a set, under their command."""
    return '\n\n'.join(_speed(record) for record in records)


def _speed(record: Record) -> str:
    (row,) = record['rows']
    settings = record['settings']
    source, size = settings['source'], settings['size']
    return '\n\n'.join(
        [
            command_block(record),
            _table(f'transform | megapixels per second, images of {source}x{source}', row['stain_mp_per_s']),
            _table(f'preset | images per second, {source}x{source} to {size}x{size}', row['images_per_s']),
            f"MMSegmentation's stock transforms take {row['speedup_vs_mmseg']} times as long as `paper` without "
            f'elastic deformation, and {row["speedup_same_files"]} times where both read the very same image files. '
            f'Reading, which is mostly the decoding of PNG files, takes {row["stages"]["read"]:.0%} of the time of '
            '`paper`.',
            f'Opening a set of {settings["patches"]:,} patches takes {row["open_s"]} s and {row["open_mb"]} MB; a pass '
            f'over all its images adds {row["pass_mb"]} MB.',
            f'One worker (one process, one thread) on {record["hardware"]}; {record["date"]}.',
        ]
    )


def _table(head: str, speeds: Mapping[str, float]) -> str:
    return '\n'.join([f'| {head} |', '| --- | --- |', *(f'| `{name}` | {speed} |' for name, speed in speeds.items())])

"""docs/datasets/README.md, made from the converters."""

from mmgfnuc.datasets.converters import CONVERTERS, Converter
from mmgfnuc.visualization.markdown import table_lines

HEADING = """# Datasets

Made by `make table` from [the converters](../../mmgfnuc/datasets/converters/). Each brings a dataset, as its authors
ship it (a folder or an archive), to the one form that everything here reads:

```bash
mmgfnuc prepare NAME --source DIR --out data/NAME    # --mpp 0.5 resamples; --help tells the rest
mmgfnuc check data/NAME                              # numbers and faults
mmgfnuc browse data/NAME --out page.html             # the same with pictures
```

An archive is unpacked only if all of its files lie within it and are not links, if they fit into the free space, and if
they are not more than 500 times as large as the archive (10 MB are always taken): unpack another one yourself, and give
the folder.

"Unknown" is what could not be checked against the authors' page, paper or files; it is not guessed."""
COLUMNS = ('name', 'images', 'nuclei', 'nucleus types', 'licence')
FORM = """## The form on disk

```
images/<id>.png      RGB, 8 bit
labels/<id>.png      a number for each nucleus, 16 bit, 0 = background; <id>.tif (32 bit) above 65,535
types/<id>.png       with nucleus types: index into the classes of meta.json
ignore/<id>.png      optional: non-zero where the truth is unknown, out of loss and scores
meta.json            name, classes, licence, citation, source; of each image its group (slide, patient or organ) and mpp
splits/<name>.json   {"train": [ids], "val": [ids], ...}
```"""
UNKNOWN = 'unknown'


def datasets_page() -> str:
    """Render docs/datasets/README.md."""
    published = [_row(made) for made in CONVERTERS.values() if not _is_own(made)]
    own = [f'- [{made.name}]({made.name}.md): {made.title}' for made in CONVERTERS.values() if _is_own(made)]
    return '\n\n'.join(
        [
            HEADING,
            table_lines(COLUMNS, published),
            '## Your own files\n\n[Train on your own images](../own_data.md) shows the way from a folder to a model.',
            '\n'.join(own),
            FORM + '\n',
        ]
    )


def _is_own(made: Converter) -> bool:
    return not made.page.startswith('http')


def _row(made: Converter) -> tuple[str, ...]:
    types = len(made.classes) - 1
    return (
        f'[{made.name}]({made.name}.md)',
        UNKNOWN if made.images is None else f'{made.images:,}',
        UNKNOWN if made.nuclei is None else f'{made.nuclei:,}',
        f'{types}: {", ".join(made.classes[1:])}' if types > 1 else 'none',
        made.licence or UNKNOWN,
    )

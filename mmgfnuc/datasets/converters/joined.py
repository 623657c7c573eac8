"""Several data sets in the canonical form, joined to one to train on."""

from functools import partial
from pathlib import Path

from mmgfnuc.datasets.canonical import (
    CLASSES,
    read_ignore,
    read_image,
    read_label_map,
    read_meta,
    read_types,
    sample_paths,
)
from mmgfnuc.errors import UserError

from .base import NAME_OPTION, Content, Converter, Option, Options, Sample

LAYOUT = """\
  SOURCE/<set>/images, labels, meta.json     data sets that mmgfnuc prepare has written; --sets names those to join
Ids begin with the name of the folder of their set. Groups keep their names: what two sets call alike is one group, and
stays in one part of a split. --mpp brings all to one pixel size."""


def list_joined(source: Path, options: Options) -> list[Sample]:
    """List the images of the named data sets.

    Raises:
        UserError: a set is missing, or they have other classes than the first.
    """
    samples = []
    classes = joined_classes(source, options)
    for name in _names(options):
        meta = read_meta(source / name)
        if meta['classes'] != classes:
            raise UserError(
                f'{source / name} has the classes {", ".join(meta["classes"])}, and the first set '
                f'{", ".join(classes)}; join sets of the same classes'
            )
        samples += [
            Sample(
                f'{name}_{sample_id}',
                entry['group'],
                partial(_read, source / name, sample_id, len(classes) > len(CLASSES)),
                mpp=entry['mpp'],
                magnification=entry.get('magnification'),
            )
            for sample_id, entry in meta['images'].items()
        ]
    return samples


def joined_classes(source: Path, options: Options) -> list[str]:
    """Classes of the first data set."""
    return read_meta(source / _names(options)[0])['classes']


def joined_terms(source: Path, options: Options) -> tuple[str, str]:
    """Licences and citations of all data sets, one after the other."""
    metas = {name: read_meta(source / name) for name in _names(options)}
    licence, citation = (
        '; '.join(f'{name}: {meta[key] or "none stated"}' for name, meta in metas.items())
        for key in ('licence', 'citation')
    )
    return licence, citation


def _names(options: Options) -> list[str]:
    names = options['sets'].split(',')
    if len(set(names)) < len(names) or len(names) < 2 or not all(names):
        raise UserError(f'--sets {options["sets"]}: give two folders of SOURCE or more, each once, with commas between')
    return names


def _read(root: Path, sample_id: str, types: bool) -> Content:
    paths = sample_paths(root, sample_id)
    return Content(
        read_image(paths.image),
        read_label_map(paths.label),
        None if paths.ignore is None else read_ignore(paths.ignore),
        read_types(paths.types) if types and paths.types is not None else None,
    )


CONVERTERS = [
    Converter(
        name='joined',
        title='prepared data sets',
        layout=LAYOUT,
        licence=None,
        citation='',
        page='sets that lie here',
        list_samples=list_joined,
        read_classes=joined_classes,
        read_terms=joined_terms,
        options=(
            Option('sets', (), None, 'folders of SOURCE, such as nuinsseg,dsb2018'),
            Option(NAME_OPTION, (), 'joined', 'of the dataset, in meta.json'),
        ),
    )
]

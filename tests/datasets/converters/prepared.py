"""What becomes of an authors' set: a dataset, or one line for each bad file."""

from typing import NamedTuple

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.errors import UserError


class Prepared(NamedTuple):
    """The maps of one image; `types` and `ignore` are None where the dataset has none of it."""

    image: np.ndarray
    instances: np.ndarray
    types: np.ndarray | None
    ignore: np.ndarray | None


def read(out, name):
    paths = canonical.sample_paths(out, name)
    types = canonical.read_types(paths.types) if paths.types else None
    ignore = canonical.read_ignore(paths.ignore) if paths.ignore else None
    return Prepared(canonical.read_image(paths.image), canonical.read_label_map(paths.label), types, ignore)


def splits_of(out):
    return {name: canonical.read_split(out, name) for name in canonical.list_splits(out)}


def truncate(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def assert_refused(converter, source, out, faults, **options):
    """Each fault, by a part of its file's name, is one line, and nothing is written."""
    with pytest.raises(UserError) as caught:
        convert(converter, source, out, options, workers=1)
    assert not out.exists()
    first, *lines = str(caught.value).splitlines()
    assert not lines or first == f'{len(lines)} bad source file{"s" * (len(lines) > 1)}, nothing was written:'
    lines = lines or [first]
    assert len(lines) == len(faults)
    for name, fault in faults.items():
        assert sum(name in line and fault in line for line in lines) == 1, (name, fault)

"""Files of a user's own source: images, their partners in another folder, their groups."""

import csv
import glob
import gzip
import json
import os
import re
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmgfnuc.datasets.bad_file import BadFileError, require_file
from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.datasets.images import IMAGE_SUFFIXES
from mmgfnuc.errors import UserError

from .base import NAME_OPTION, Content, Option, Options, Sample, faulty
from .sources import files_by_stem, find_root

LARGEST_TYPE = np.iinfo(np.uint8).max
# GeoJSON of nuclei is packed to a tenth; what unpacks to more than this times its size is a bomb.
LARGEST_JSON_RATIO = 100
# Of usual file systems.
LONGEST_NAME = 255
SHOWN_FILES = 5

OWN_OPTIONS = (
    Option(NAME_OPTION, (), 'own', 'of the dataset, in meta.json'),
    Option(
        'group-pattern',
        (),
        '(.+)',
        'regular expression with one group in (), such as "^(slide[0-9]+)_", for the names of images',
    ),
    Option('licence', (), '', 'of the data, such as "CC BY 4.0", in meta.json; mmgfnuc publish wants it'),
    Option('citation', (), '', 'of the data, in meta.json'),
)
GROUPS_LAYOUT = """\
  SOURCE/groups.json or groups.csv   (optional) slide or patient of each image: {"stem": "group"}, or lines stem,group
Without such a file --group-pattern cuts the group out of the stem; without both each image is its own group."""


def own_terms(source: Path, options: Options) -> tuple[str, str]:
    """Licence and citation as the user gives them."""
    return options['licence'], options['citation']


def folder_option(name: str, what: str) -> Option:
    """Give the option that names a folder of the source."""
    return Option(name, (), name, f'folder of the {what} in the source')


def paired_samples(
    source: Path, options: Options, partner: str, suffixes: Sequence[str], read: Callable[[Path, Path], Content]
) -> list[Sample]:
    """Pair the files of two folders by the names of the images.

    Args:
        source: of the user.
        options: names of both folders, as `images` and under the name of the partner; `group-pattern`.
        partner: option that names the other folder.
        suffixes: of the files in it, lower case.
        read: reads image and partner.

    Raises:
        UserError: A folder is missing, an image has no group, or two partners.
    """
    root = source_root(source, options['images'], options[partner])
    images = files_by_stem(root / options['images'], *IMAGE_SUFFIXES)
    partners = partners_by_stem(root / options[partner], suffixes, images.values())
    # Annotations may lie beside their images, and these beside the tables of groups.
    known = {*partners.values(), root / options[partner], *(root / name for name, _ in GROUP_FILES)}
    others = _other_files(root / options['images'], known)
    groups = read_groups(root, images.keys() & partners, options['group-pattern'])
    samples = [
        Sample(stem, group, partial(_read_pair, read, images[stem], partners[stem]), image=images[stem])
        for stem, group in groups.items()
    ]
    for stem in images.keys() - partners:
        problem = f'{images[stem]}: no {stem} ({" ".join(suffixes)}) in {options[partner]}/; add it'
        samples.append(faulty(stem, stem, problem))
    for stem in partners.keys() - images:
        there = [path.name for path in others if path.stem == stem]
        problem = f'no image of that name in {options["images"]}/' + (f', only {", ".join(there)}' if there else '')
        fix = f'save it as one of {", ".join(IMAGE_SUFFIXES)}' if there else 'add it'
        samples.append(faulty(stem, stem, f'{partners[stem]}: {problem}; {fix}'))
    return samples


def _other_files(folder: Path, known: Container[Path]) -> list[Path]:
    """Files in a folder of images that are neither read, known nor hidden; a warning counts and names them."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith('.')) if folder.is_dir() else []
    others = [path for path in entries if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file()]
    others = [path for path in others if path not in known]
    if others:
        names = ', '.join(path.name for path in others[:SHOWN_FILES])
        more = f' and {len(others) - SHOWN_FILES} more' if len(others) > SHOWN_FILES else ''
        kinds = ', '.join(IMAGE_SUFFIXES)
        warnings.warn(
            f'{len(others)} in {folder} not read, as they are not files of {kinds}: {names}{more}', stacklevel=4
        )
    return others


def _read_pair(read: Callable[[Path, Path], Content], image: Path, partner: Path) -> Content:
    require_file(partner)
    return read(image, partner)


def partners_by_stem(folder: Path, suffixes: Sequence[str], images: Iterable[Path] = ()) -> dict[str, Path]:
    """Files of a folder by the stem of their image: of `tile.png` that is `tile.geojson` or `tile.png.geojson`.

    Raises:
        UserError: An image has two.
    """
    stems = {image.name: image.stem for image in images}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = max((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), key=len, default='')
        if suffix and not path.name.startswith('.') and not path.is_dir():
            name = path.name[: -len(suffix)]
            stem = stems.get(name, name)
            if stem in found:
                raise UserError(f'{found[stem]} and {path.name} belong to one image; remove or rename one of them')
            found[stem] = path
    return found


def class_names(types: Sequence[str]) -> list[str]:
    """Classes of nucleus types, the background first; two classes where there are fewer than two types.

    Raises:
        UserError: There are more than a type map can hold.
    """
    if len(types) > LARGEST_TYPE:
        raise UserError(f'{len(types)} nucleus types; at most {LARGEST_TYPE} are possible')
    return [CLASSES[0], *types] if len(types) > 1 else CLASSES


def one_line(text: str) -> str:
    """Text of a file as it can be shown and written: blanks for line breaks, `?` for invalid characters."""
    return ' '.join(text.encode('utf-8', 'replace').decode().split())


def source_root(source: Path, *names: str) -> Path:
    """Folder, the source or one below, in which the named files and folders stand side by side.

    Raises:
        UserError: No such folder exists.
    """
    paths = [inside(name) for name in names]
    root = find_root(source, *(glob.escape(str(path)) for path in paths if path != Path()))
    if root is None:
        raise UserError(
            f'{source} holds no {" and ".join(names)} side by side; --help shows the layout and its options'
        )
    return root


def inside(name: str) -> Path:
    """Path of a name below the source.

    Raises:
        UserError: It leads outside the source, or is not a valid file name.
    """
    path = Path(name)
    if any(unicodedata.category(letter) in ('Cc', 'Cs') for letter in name) or any(
        len(os.fsencode(part)) > LONGEST_NAME for part in path.parts
    ):
        raise UserError(f'{name[:40]!r} is not a name for a file: at most {LONGEST_NAME} bytes, no control characters')
    if path.is_absolute() or '..' in path.parts:
        raise UserError(f'{name!r} leads out of the source; give a path inside of it')
    return path


def read_groups(root: Path, stems: Iterable[str], pattern: str) -> dict[str, str]:
    """Group of each stem: from groups.json, else groups.csv, else by a pattern with one group.

    Raises:
        UserError: A stem has no group, or the file or the pattern is invalid.
    """
    for name, read in GROUP_FILES:
        if (root / name).exists():
            return _group_all(stems, read(root / name).get, str(root / name))
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f'--group-pattern {pattern!r} is not a regular expression ({error}); see --help') from error
    if compiled.groups != 1:
        raise UserError(f'--group-pattern {pattern!r} has {compiled.groups} groups in (); give one')
    return _group_all(stems, lambda stem: (match := compiled.search(stem)) and match[1], f'--group-pattern {pattern!r}')


def _group_all(stems: Iterable[str], find: Callable[[str], str | None], name: str) -> dict[str, str]:
    groups = {stem: find(stem) for stem in sorted(stems)}
    missing = [stem for stem, group in groups.items() if not group]
    if missing:
        more = f' and {len(missing) - 1} more images' if len(missing) > 1 else ''
        raise UserError(f'{name} gives no group of {missing[0]}{more}; each image needs one')
    return {stem: group for stem, group in groups.items() if group}


def read_json(path: Path) -> Any:
    """Read JSON in any UTF, as it is or packed (.gz).

    Raises:
        BadFileError: The file is missing, or is not JSON.
    """
    require_file(path)
    try:
        return json.loads(_unpacked(path) if path.suffix.lower() == '.gz' else path.read_bytes())
    except BadFileError:
        raise
    except RecursionError:
        reason = 'nested too deeply'
    # zlib raises its own type, a damaged end an EOFError.
    except (OSError, ValueError, EOFError, zlib.error, MemoryError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
    raise BadFileError(path, f'no JSON ({reason})', 'export it again')


def _unpacked(path: Path) -> bytes:
    most = LARGEST_JSON_RATIO * max(path.stat().st_size, 2**18)
    with gzip.open(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BadFileError(
            path, f'unpacks to more than {most / 10**6:.0f} MB, too much for its size', 'unpack it first'
        )
    return content


def _read_group_json(path: Path) -> dict[str, str]:
    groups = read_json(path)
    if not isinstance(groups, dict) or not all(isinstance(group, str | int) for group in groups.values()):
        raise BadFileError(path, 'no table of groups', 'write it as {"stem": "group", ...}')
    return {stem: str(group) for stem, group in groups.items()}


def _read_group_csv(path: Path) -> dict[str, str]:
    require_file(path)
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = [row for row in csv.reader(file) if row]
    except (ValueError, csv.Error) as error:
        raise BadFileError(path, f'no CSV ({error})', 'write lines stem,group in UTF-8') from error
    if any(len(row) != 2 for row in rows):
        raise BadFileError(path, 'a line has not two columns', 'write lines stem,group')
    return dict(rows)


GROUP_FILES = (('groups.json', _read_group_json), ('groups.csv', _read_group_csv))

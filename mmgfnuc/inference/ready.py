"""Ready models: a folder holds trained weights, what they expect of images, a card and scores. All of it is data.

`model.safetensors` holds the weights, `config.json` says what they belong to, `card.md` is for people, with pictures in
pictures/, `metrics.json` holds the scores. Nothing of it is run, and nothing in it names another file: where the
weights of a frozen encoder may not be copied, the config says which they are, and they are found as
`mmgfnuc.models.weights.locate` finds them.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import mmgfnuc
from mmgfnuc.datasets.pixel_size import is_mpp
from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256, whole_file, write_json
from mmgfnuc.names import groups_of, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = 'he-nuclei-s'
FORMAT = 1
WEIGHTS, CONFIG, CARD, METRICS = 'model.safetensors', 'config.json', 'card.md', 'metrics.json'
FILES = (WEIGHTS, CONFIG, CARD, METRICS)
# Folder of those that the card shows; a model works without them.
PICTURES = 'pictures'
NAME = re.compile(r'[a-z0-9][a-z0-9.-]{0,63}')
HUB_ID = re.compile(r'[\w.-]+/[\w.-]+')
SHA256 = re.compile(r'[0-9a-f]{64}')
# What a config holds, and what it says of each data set, and of weights that the training began with: the SHA-256 of
# those that are not in the folder.
KEYS: dict[str, type | tuple[type, ...]] = {
    'format': int,
    'name': str,
    'licence': str,
    'model': dict,
    'preprocessing': dict,
    'domain': dict,
    'data': list,
    'pretrained': list,
    'parameters': int,
    'versions': dict,
    'checkpoint_sha256': str,
    'weights_sha256': str,
}
DATA_KEYS = {'name': str, 'licence': str, 'citation': str, 'images': int, 'groups': list, 'mpp': list}
PRETRAINED_KEYS = {'part': str, 'name': str, 'licence': str, 'address': str, 'sha256': (str, type(None))}
PREPROCESSING_KEYS = ('mpp', 'classes', 'palette', 'stains', 'nucleus_diameter_um')
# Settings of parts of models that name a file, an address, or a folder.
NAMES_FILE = (
    *('weights', 'init_cfg', 'cache', 'checkpoint', 'checkpoint_path', 'filename', 'file', 'pretrained'),
    *('pretrained_cfg', 'pretrained_cfg_overlay', 'pretrained_loc', 'cache_dir', 'bert_embed_path', 'url'),
)
# Of a config, of the header of a weight file, and of that file: the largest encoders have about a billion weights.
MOST_CONFIG, MOST_HEADER, MOST_WEIGHTS = 2**20, 2**23, 2**33
# Groups within groups of a config; those of this package have about eight.
DEEPEST = 40
HEADER_LENGTH = 8
FIX = 'get the folder again, or make it anew with mmgfnuc publish'


@dataclass(frozen=True)
class ReadyModel:
    """What a folder holds.

    Attributes:
        folder: of its files.
        config: content of `config.json`.
        weights: of the network, as float32 where they are fractions.
        pixels: templates of stain normalisations, by the names that the config gives them.
    """

    folder: Path
    config: dict[str, Any]
    weights: dict[str, 'Tensor']
    pixels: dict[str, 'Tensor']


def shipped_folder() -> Path:
    """Where the ready models lie that come with the package."""
    return Path(mmgfnuc.__file__).parent / 'models' / 'ready'


def list_ready() -> list[str]:
    """Names of the ready models that come with the package."""
    return sorted(path.parent.name for path in shipped_folder().glob(f'*/{CONFIG}'))


def find_ready(model: str | Path) -> Path:
    """Find the folder of a ready model.

    Args:
        model: a name of `list_ready()`, a folder, or `owner/name` on the Hugging Face hub, whose files are fetched.

    Raises:
        UserError: there is none, or the hub does not give it.
    """
    if str(model) in list_ready():
        return shipped_folder() / str(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"model '{model}' is a file; give the folder of a ready model, or a .pth checkpoint")
    if HUB_ID.fullmatch(str(model)):
        from .hub import fetch

        return fetch(str(model))
    otherwise = 'give a .pth checkpoint, the folder of a ready model, or owner/name of one on huggingface.co'
    listed = f'; the ready models here are {", ".join(list_ready())}' if list_ready() else ''
    raise unknown_name('model', model, list_ready(), otherwise + listed)


def read_ready(folder: str | Path) -> ReadyModel:
    """Read and check a folder; whether the weights fit the model is seen when that is built.

    Raises:
        UserError: a file is missing, damaged, too large or of another kind, or the config says what it may not.
    """
    folder = Path(folder)
    files = {name: own_file(folder, name) for name in FILES}
    config = _read_config(files[CONFIG])
    if file_sha256(files[WEIGHTS]) != config['weights_sha256']:
        raise UserError(f'{files[WEIGHTS]} does not have the SHA-256 that {CONFIG} gives; {FIX}')
    tensors = _read_tensors(files[WEIGHTS])
    stains = [stain for stain in config['preprocessing']['stains'] if isinstance(stain, dict)]
    named = {stain['template'] for stain in stains if isinstance(stain.get('template'), str)}
    pixels = {key: tensors.pop(key) for key in sorted(named & tensors.keys())}
    return ReadyModel(folder, config, tensors, pixels)


def write_ready(folder: Path, config: Mapping[str, Any], weights: Mapping[str, 'Tensor'], half: bool) -> dict[str, Any]:
    """Write the weights and the config of a ready model; return the whole config.

    Args:
        folder: to write to.
        config: content of `config.json` but for `format` and `weights_sha256`.
        weights: of the network, and the templates of its stain normalisations.
        half: store fractions as float16.

    Returns:
        All of the config.

    Raises:
        UserError: the config is not data that JSON keeps.
    """
    import torch
    from safetensors.torch import save

    kind = torch.float16 if half else torch.float32
    stored = {key: one.to(kind) if one.is_floating_point() else one for key, one in weights.items()}
    with whole_file(folder / WEIGHTS) as unfinished:
        # Not by `save_file`, whose files nobody else may read.
        unfinished.write_bytes(save({key: one.contiguous() for key, one in stored.items()}))
    whole = {'format': FORMAT, **config, 'weights_sha256': file_sha256(folder / WEIGHTS)}
    _check_config(whole, folder / CONFIG)
    write_json(folder / CONFIG, whole)
    return whole


def check_name(name: str) -> str:
    """Return the name of a model if it may be one.

    Raises:
        UserError: it may not.
    """
    if not NAME.fullmatch(name):
        raise UserError(f'name {name!r:.60} of a ready model: give small letters, digits, - and ., at most 64')
    return name


def own_file(folder: Path, name: str) -> Path:
    """Path of a file of a folder, which is no link out of it; the cache of the hub keeps files beside its folders.

    Raises:
        UserError: it is missing, or a link.
    """
    path = folder / name
    root = folder.resolve()
    root = root.parents[1] if root.parent.name == 'snapshots' else root
    if not path.is_file():
        raise UserError(f'{folder} is not a ready model: {name} is missing; {FIX}')
    if not path.resolve().is_relative_to(root):
        raise UserError(f'{path} is a link out of its folder; {FIX}')
    return path


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_CONFIG:
            raise ValueError(f'it is larger than {MOST_CONFIG:,} bytes')
        text = path.read_text(encoding='utf-8')
        config = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_once_each)
        if _depth(config) > DEEPEST:
            raise ValueError(f'it has groups within groups, more than {DEEPEST} deep')
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(f'{path} cannot be read ({reason}); {FIX}') from error
    if not isinstance(config, dict):
        raise UserError(f'{path} holds a {type(config).__name__} where an object belongs; {FIX}')
    _check_config(config, path)
    return config


def _no_number(text: str) -> Never:
    raise ValueError(f'it holds {text}')


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _depth(content: Any) -> int:
    """How deep groups and lists lie in each other."""
    depth, level = 0, [content]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [below for one in level for below in (one.values() if isinstance(one, dict) else one)]
    return depth


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError('it gives a key twice')
    return content


def _check_config(config: dict[str, Any], path: Path) -> None:
    """Check keys, types and values, but for those that a part of the package checks as it reads them."""
    stated = config.get('format')
    if isinstance(stated, int) and stated > FORMAT:
        raise UserError(f'{path} is of format {stated}, this version reads {FORMAT}; install a newer mmgfnuc')
    _check_keys(config, KEYS, 'it', path)
    if stated != FORMAT:
        raise UserError(f'{path}: format={stated!r} is not {FORMAT}; {FIX}')
    check_name(config['name'])
    if not SHA256.fullmatch(config['weights_sha256']):
        raise UserError(f'{path}: weights_sha256={config["weights_sha256"]!r:.70} is no SHA-256; {FIX}')
    for index, source in enumerate(config['data']):
        _check_keys(source, DATA_KEYS, f'data[{index}]', path)
        if not all(isinstance(group, str) for group in source['groups']) or not all(map(is_mpp, source['mpp'])):
            raise UserError(f'{path}: data[{index}] has groups or mpp of a wrong type; {FIX}')
    for index, source in enumerate(config['pretrained']):
        _check_keys(source, PRETRAINED_KEYS, f'pretrained[{index}]', path)
    unknown = sorted(config['preprocessing'].keys() - set(PREPROCESSING_KEYS))
    if unknown or not isinstance(config['preprocessing'].get('stains'), list):
        raise UserError(f'{path}: preprocessing has {unknown or "no list of stains"}; {FIX}')
    if not all(isinstance(value, str) for value in config['versions'].values()):
        raise UserError(f'{path}: versions are not texts; {FIX}')
    for group in groups_of(config['model']):
        named = next((key for key in NAMES_FILE if group.get(key) is not None), None)
        if named:
            raise UserError(f'{path}: model has {named}={group[named]!r:.60}; a ready model names no file; {FIX}')


def _check_keys(content: Any, keys: Mapping[str, Any], what: str, path: Path) -> None:
    if not isinstance(content, dict):
        raise UserError(f'{path}: {what} is a {type(content).__name__} where an object belongs; {FIX}')
    for key, kinds in keys.items():
        if key not in content:
            raise UserError(f'{path}: {what} lacks {key}; {FIX}')
        # True is an int to Python.
        if not isinstance(content[key], kinds) or isinstance(content[key], bool):
            raise UserError(f'{path}: {what} has {key}={content[key]!r:.60}, which is of a wrong type; {FIX}')
    unknown = sorted(content.keys() - keys.keys())
    if unknown:
        raise UserError(f"{path}: {what} has '{unknown[0]:.60}', which is unknown; {FIX}")


def _read_tensors(path: Path) -> dict[str, 'Tensor']:
    """Read a weight file; its header is looked at first, which a library would allocate as long as it says."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mmgfnuc.models.weights import first_not_finite

    size = path.stat().st_size
    with path.open('rb') as file:
        header = int.from_bytes(file.read(HEADER_LENGTH), 'little')
    if size > MOST_WEIGHTS:
        raise UserError(f'{path} has {size:,} bytes, more than the {MOST_WEIGHTS:,} of a ready model; {FIX}')
    if header > min(MOST_HEADER, size - HEADER_LENGTH):
        raise UserError(f'{path} is not a safetensors file: a header of {header:,} bytes in {size:,}; {FIX}')
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f'{path} is not a readable safetensors file ({str(error)[:200]}); {FIX}') from error
    wrong = first_not_finite(tensors)
    if wrong:
        raise UserError(f'{path}: {wrong} holds NaN or infinity; {FIX}')
    return {
        key: one.to(torch.float32) if one.dtype in (torch.float16, torch.bfloat16) else one
        for key, one in tensors.items()
    }

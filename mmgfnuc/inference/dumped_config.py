"""A config that comes with a checkpoint or a record is data: it is read by its literals, and never run."""

import ast
import keyword
import sys
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from mmgfnuc import registry
from mmgfnuc.errors import UserError
from mmgfnuc.extensions import GROUP, load_parts
from mmgfnuc.names import NAMES_PART, groups_of, registered

LONGEST = 2**20
# MMEngine puts variables of the environment in the place of such text when it reads a config file.
SUBSTITUTED = '{{'
FLOATS = {'inf': float('inf'), 'nan': float('nan')}
# MMEngine's registries, but for those of whole runs and of what draws or sends their logs.
MODEL_PARTS = ('MODELS', 'TASK_UTILS', 'WEIGHT_INITIALIZERS')
REGISTERED = (
    *MODEL_PARTS,
    'DATASETS',
    'DATA_SAMPLERS',
    'TRANSFORMS',
    'FUNCTIONS',
    'METRICS',
    'EVALUATOR',
    'HOOKS',
    'LOOPS',
    'LOG_PROCESSORS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'MODEL_WRAPPERS',
)
# Settings of MMEngine's, MMSegmentation's and our parts that say where to write.
OUTPUTS = (
    *('out_dir', 'output_dir', 'out_file_path', 'out_file', 'save_dir', 'save_path', 'show_dir', 'img_save_dir'),
    *('config_save_file', 'scalar_save_file', 'json_trace_path', 'log_dir', 'artifact_dir', 'collect_dir', 'tmpdir'),
)
# Settings that name a package of which MMEngine imports the `registry`.
NAMES_SCOPE = ('_scope_', 'default_scope')
# Readers of other packages take what a file says for an address, or for a pickle.
OWN_ONLY = ('DATASETS', 'TRANSFORMS')
OTHERS = ('mmengine', 'mmcv', 'mmseg')
SCOPES = ('mmgfnuc', 'mmseg', 'mmcv', 'mmengine')


def read_dumped(text: Any, source: str) -> Config:
    """Read a config as MMEngine writes it (`Config.pretty_text`).

    Args:
        text: of the config: settings that are numbers, text, lists, tuples and dictionaries of these, and names of
            classes, which are taken as text.
        source: what it belongs to, for an error.

    Raises:
        UserError: it is anything else, such as code.
    """
    try:
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError(f'it is not a text of at most {LONGEST:,} characters')
        return Config(dict(_setting(line) for line in ast.parse(text).body))
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError) as error:  # of ast.parse or of Config
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(
            f'the config in {source} is not read: {reason}; only settings may stand there, no code: name a config file '
            'of your own'
        ) from error


def _setting(line: ast.stmt) -> tuple[str, Any]:
    match line:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return _checked_key(name), _value(value)
    raise ValueError(f'line {line.lineno} is not a setting')


def _value(node: ast.expr) -> Any:
    """What a literal means; `dict(key=value)` is one, and so are the names that MMEngine writes without quotes."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            if SUBSTITUTED in str(value):
                raise ValueError(f'line {node.lineno} holds {SUBSTITUTED!r}, which a config file replaces')
            return value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=pairs) if all(pair.arg for pair in pairs):
            return {_checked_key(pair.arg): _value(pair.value) for pair in pairs}
        # Where a key is not a name.
        case ast.Call(func=ast.Name(id='dict'), args=[ast.Dict() as pairs], keywords=[]):
            return _value(pairs)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id=name)) if name in FLOATS:
            return -FLOATS[name]
        case ast.Name(id=name):
            return FLOATS.get(name, name)
        case ast.Attribute():
            return ast.unparse(_dotted(node))
    raise ValueError(f'line {node.lineno} holds code, {ast.unparse(node)[:60]!r}')


def _key(node: ast.expr | None) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() as value):
            return _checked_key(value)
    raise ValueError('a key is neither text nor a number')


def _checked_key(key: Any) -> Any:
    """MMEngine writes keys as they are, into a record that may be run: only what stays a key there may be one."""
    if keyword.iskeyword(str(key)) or SUBSTITUTED in str(key) or (isinstance(key, str) and repr(key) != f"'{key}'"):
        raise ValueError(f'the key {str(key)[:60]!r} cannot be written as text')
    return key


def _dotted(node: ast.expr) -> ast.expr:
    inner = node
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    if isinstance(inner, ast.Name):
        return node
    raise ValueError(f'line {node.lineno} holds code, {ast.unparse(node)[:60]!r}')


def check_registered(settings: Any, source: str, kinds: Collection[str] = REGISTERED) -> None:
    """See to it that every `type` of settings that are data is a registered part: what else it names would be called.

    Nothing that they name is imported for it. A part of a package of the user's own counts where that is imported: by
    its entry point (see `load_parts`), by a config file, or by the caller. Of data sets and
    transforms those of MMEngine, MMCV and MMSegmentation do not: they unpickle files that a setting names. A scope is
    one of `SCOPES`.

    Args:
        settings: of a config.
        source: what they belong to, for an error.
        kinds: of parts that there may be, by the names of MMEngine's registries.

    Raises:
        UserError: names the first that is not.
    """
    for key, value in _names(settings.to_dict() if isinstance(settings, Config) else settings):
        if key in NAMES_SCOPE:
            known = value in (*SCOPES, None)
        else:
            known = isinstance(value, str) and _is_safe(find_part(value, kinds), kinds)
        if not known:
            raise UserError(
                f'the config in {source} names {key}={value!r}, which is not a registered part that data may name; '
                'name a config file of your own that imports it (of predict: --config), or, if it is a part of your '
                f"own, install its package with an entry point '{GROUP}' that registers it"
            )


def _is_safe(part: Any, kinds: Collection[str]) -> bool:
    if part is None or getattr(part, '__module__', '').partition('.')[0] not in OTHERS:
        return part is not None
    others = set(kinds) - set(OWN_ONLY)
    return any(part is other for other in _registered(others).values())


def check_outputs(settings: Any, source: str) -> None:
    """See to it that settings that are data name no file or folder to write to: only who starts a run may.

    Raises:
        UserError: names the first setting that does.
    """
    for group in groups_of(settings.to_dict() if isinstance(settings, Config) else settings):
        for key in OUTPUTS:
            if group.get(key) is not None:
                raise UserError(
                    f'the config in {source} says {key}={group[key]!r}, where files would be written; '
                    'if you want that, name a config file of your own'
                )


def forget_caches(model: Any) -> None:
    """Take feature caches out of the settings of a model that are data: only who starts a run says where one lies."""
    for group in groups_of(model):
        if isinstance(group.get('cache'), dict):
            del group['cache']


def _names(settings: Any) -> Iterator[tuple[str, Any]]:
    for group in groups_of(settings):
        yield from ((key, group[key]) for key in (*NAMES_PART, *NAMES_SCOPE) if key in group)


def find_part(name: str, kinds: Collection[str] = REGISTERED) -> Any:
    """Find the registered class or function that a `type` means, by its name or its place; None if there is none."""
    named = _registered(kinds)
    if name in named:
        return named[name]
    module, _, attribute = name.rpartition('.')
    found = getattr(sys.modules.get(module), attribute, None)
    return found if is_registered(found, kinds) else None


def is_registered(part: Any, kinds: Collection[str] = REGISTERED) -> bool:
    """Whether a class or function is a registered part."""
    return any(part is known for known in _registered(kinds).values())


def _registered(kinds: Collection[str]) -> dict[str, Any]:
    _import_own()
    roots = [getattr(mmengine.registry, kind) for kind in kinds]
    return {name: part for root in roots for name, part in registered(root)}


@cache
def _import_own() -> None:
    load_parts()
    for own in vars(registry).values():
        if isinstance(own, Registry):
            own.import_from_location()

"""What a class or function takes: the names of its settings, followed through `**kwargs`, and their types."""

import ast
import builtins
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from torch import Tensor, nn

from mmgfnuc.models.foundation import foundation_encoder
from mmgfnuc.models.foundation.base import FoundationEncoder

# Whose annotations are kept: another author's may be narrower than what his code takes.
ANNOTATED = ('mmgfnuc', 'mmengine', 'torch')
# Annotations that are narrower than the code.
WIDER = {(AmpOptimWrapper.__init__, 'loss_scale')}
# Where `**kwargs` go that are kept for later: the names there are taken, and no other.
KEPT: dict[Any, tuple[type, ...]] = {
    nn.Module.__init__: (),
    CheckpointHook.__init__: (),
    foundation_encoder: (FoundationEncoder,),
}
SCALARS = (str, bool, int, float)


@dataclass(frozen=True)
class Accepted:
    """The settings that a class or function takes.

    Attributes:
        hints: type of each by its name; `Any` where it is not known.
        defaults: of those that have one; such a value is right whatever the hint says.
        known: False where other names may be taken, too.
    """

    hints: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)
    known: bool = True

    def __or__(self, other: 'Accepted') -> 'Accepted':
        """Take what either takes; this one's hints go first."""
        hints, defaults = other.hints | self.hints, other.defaults | self.defaults
        return Accepted(hints, defaults, self.known and other.known)

    def without(self, names: Iterable[str]) -> 'Accepted':
        """Leave out some names."""
        gone = set(names)
        return Accepted(
            {name: hint for name, hint in self.hints.items() if name not in gone}, self.defaults, self.known
        )


ANYTHING = Accepted({}, known=False)
NOTHING = Accepted({})


@functools.cache
def accepted(target: Any) -> Accepted:
    """Find the settings of a class or function."""
    if inspect.isclass(target):
        return _of_class(target.__mro__)
    if isinstance(target, functools.partial):
        return accepted(target.func)
    return _of_function(target) if inspect.isfunction(target) else ANYTHING


def _of_class(mro: tuple[type, ...]) -> Accepted:
    for place, owner in enumerate(mro):
        init = vars(owner).get('__init__')
        if owner is object:
            return NOTHING
        if inspect.isfunction(init):
            return _of_function(init, mro[place + 1 :]).without(['self'])
        if init is not None:  # compiled
            return ANYTHING
    return NOTHING


def _of_function(function: Any, bases: tuple[type, ...] = ()) -> Accepted:
    hints, defaults, keywords = {}, {}, ''
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            keywords = name
        elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            hints[name] = _hint(function, parameter)
            if parameter.default is not parameter.empty:
                defaults[name] = parameter.default
    # A wrapper may take more than what it wraps.
    own = Accepted(hints, defaults, known=not hasattr(function, '__wrapped__'))
    function = inspect.unwrap(function)
    if not keywords:
        return own
    if function in KEPT:
        return functools.reduce(Accepted.__or__, map(accepted, KEPT[function]), own)
    return own | _of_keywords(function, keywords, bases)


def _hint(function: Any, parameter: inspect.Parameter) -> Any:
    if not _is_annotated(function) or (function, parameter.name) in WIDER:
        return Any
    hint = parameter.annotation
    if hint is parameter.empty:
        kind = type(parameter.default)
        # A whole number as default does not mean that others are wrong.
        return float if kind is int else kind if kind in SCALARS else Any
    if isinstance(hint, str):
        try:
            return eval(hint, function.__globals__)
        except Exception:  # a name that is imported for type checkers only
            return Any
    return hint


def _of_keywords(function: Any, keywords: str, bases: tuple[type, ...]) -> Accepted:
    """Find by its source where a function passes its `**kwargs` on, and what it takes out of them itself."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return ANYTHING
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == keywords]
    if not uses and not _is_annotated(function):  # whoever takes what he has no use for means to take anything
        return ANYTHING
    return functools.reduce(Accepted.__or__, (_of_use(node, parents, function, bases) for node in uses), NOTHING)


def _is_annotated(function: Any) -> bool:
    return function.__module__.partition('.')[0] in ANNOTATED


def _of_use(node: ast.Name, parents: dict, function: Any, bases: tuple[type, ...]) -> Accepted:
    parent, above = parents[node], parents[parents[node]]
    if isinstance(parent, ast.keyword) and isinstance(above, ast.Call):
        target = _of_class(bases) if _is_super(above.func) else accepted(_find(above.func, function))
        positional = sum(not isinstance(argument, ast.Starred) for argument in above.args)
        given = [*list(target.hints)[:positional], *(keyword.arg for keyword in above.keywords if keyword.arg)]
        return target.without(given)
    name: Any = None
    if (
        isinstance(parent, ast.Attribute)
        and parent.attr in ('pop', 'get', 'setdefault')
        and isinstance(above, ast.Call)
    ):
        name = above.args[0]
    elif isinstance(parent, ast.Subscript):
        name = parent.slice
    elif isinstance(parent, ast.Compare):
        name = parent.left
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return Accepted({name.value: Any})
    return ANYTHING


def _is_super(node: ast.expr) -> bool:
    """`super().__init__`."""
    inner = node.value if isinstance(node, ast.Attribute) and node.attr == '__init__' else None
    return isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == 'super'


def _find(node: ast.expr, function: Any) -> Any:
    """The object that a dotted name of a function's module stands for; None where it is not one."""
    if isinstance(node, ast.Attribute):
        return getattr(_find(node.value, function), node.attr, None)
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id, getattr(builtins, node.id, None))
    return None


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value of a config can be meant by an annotation; where that is not known it can.

    A list may stand for a tuple, 0 and 1 for False and True, a whole float for an int, a dict for what is built of it.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    kind = origin or hint
    if kind is None or kind is NoneType:
        return value is None
    if not inspect.isclass(kind) or kind in (Any, object):
        return True
    if kind in SCALARS:
        return _fits_scalar(value, kind)
    if issubclass(kind, Path):
        return isinstance(value, str | Path)
    if kind in (Callable, typing.Callable):
        return not isinstance(value, bool | int | float)
    if issubclass(kind, Mapping):
        of_items = arguments[1] if arguments else Any
        return isinstance(value, Mapping) and all(fits(item, of_items) for item in value.values())
    if issubclass(kind, Sequence | AbstractSet) or kind in (Iterable, typing.Collection):
        return _fits_sequence(value, kind, arguments)
    # Text may name an object; a number may not, and no text is a tensor.
    scalar = value is None or isinstance(value, SCALARS)
    return isinstance(value, kind) or not scalar or (isinstance(value, str) and kind is not Tensor)


def _fits_scalar(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool) or (type(value) is int and value in (0, 1))
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, int | float if kind is float else str)


def _fits_sequence(value: Any, kind: Any, arguments: tuple) -> bool:
    if isinstance(value, SCALARS) or value is None:
        return False
    if not isinstance(value, list | tuple) or not arguments:
        return True
    if issubclass(kind, tuple) and arguments[-1] is not ...:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)


WORDS = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text', NoneType: 'None'}


def describe(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        # What nobody writes into a config, such as a tensor, is named only where there is nothing else.
        words = [describe(argument) for argument in arguments if not _is_object(argument)]
        return ' or '.join(dict.fromkeys(words or map(describe, arguments)))
    if origin is typing.Literal:
        return 'one of ' + ', '.join(map(repr, arguments))
    kind = origin or hint
    if kind in WORDS:
        return WORDS[kind]
    if not inspect.isclass(kind) or _is_object(kind):
        return getattr(kind, '__name__', str(hint))
    if issubclass(kind, Path):
        return 'a path'
    of_items = arguments[-1] if arguments and arguments[-1] not in (Any, ...) else None
    if issubclass(kind, Mapping):
        return 'a group of settings' + (f', each {describe(of_items)}' if of_items else '')
    if issubclass(kind, tuple) and of_items:
        return f'{len(arguments)} values, each {" or ".join(dict.fromkeys(map(describe, arguments)))}'
    of_items = arguments[0] if issubclass(kind, tuple) and arguments else of_items
    return 'a list' + (f', each item {describe(of_items)}' if of_items else '')


def _is_object(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    plain = (*SCALARS, NoneType, Path, Mapping, Sequence, AbstractSet)
    return inspect.isclass(kind) and kind is not Iterable and not issubclass(kind, plain)

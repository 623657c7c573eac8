"""The shell every command-line tool runs in: a user's mistake ends in one clear line, a bug in its traceback."""

import argparse
import io
import math
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import is_disk_full

from .distributed import is_first_process

QUOTES = ('"', "'")
BRACKETS = {'(': ')', '[': ']'}


def run_cli(main: Callable[[], int | None]) -> int:
    """Run `main` and give the exit code: 0 on success, 2 with `error: <text>` on stderr for a user's mistake.

    That is a `UserError`, a full disk, or an `OSError` about a named file, such as an output folder that cannot be
    made. Of several processes only the first prints. Every other exception passes through, because it is a bug and
    its traceback is needed. Ctrl-C ends in one line too, and 130. Warnings are shown as `warning: <text>`.
    """
    format_before, warnings.formatwarning = warnings.formatwarning, _format_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names of files may be no text
    try:
        return main() or 0
    except UserError as error:
        return _report(str(error))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except OSError as error:
        if is_disk_full(error):
            return _report(f'{error.filename or "a file"} cannot be written: the disk is full; make room')
        if error.filename is None:
            raise
        return _report(f'{error.filename}: {error.strerror}')
    finally:
        warnings.formatwarning = format_before


def notice(text: str) -> None:
    """Tell the user what a tool has decided; of several processes only the first does."""
    if is_first_process():
        print(f'notice: {text}', file=sys.stderr)


def _report(text: str) -> int:
    if is_first_process():
        print(f'error: {text}', file=sys.stderr)
    return 2


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f'warning: {message}\n' if is_first_process() else ''


class ConfigOptions(argparse.Action):
    """Option that takes settings as KEY=VALUE, the key being the dotted path of a setting.

    A value is a number, True, False, None or text, which keeps its blanks; several, separated by commas or in brackets,
    are a list or tuple. Quotes within a value make it text as it stands.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, 'nargs': '+', 'metavar': 'KEY=VALUE'})

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Add the settings to those of the same option that stand before."""
        options = dict(getattr(namespace, self.dest) or {})
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals or not all(re.fullmatch(r'\S+', name) for name in key.split('.')):
                raise argparse.ArgumentError(
                    self, f"'{pair}' is not KEY=VALUE; write for example train_dataloader.batch_size=4 \"text='a b'\""
                )
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                raise argparse.ArgumentError(self, f"'{pair}': {error}") from None
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read the value of an option; see ConfigOptions.

    Raises:
        ValueError: a bracket is not closed.
    """
    bare = text.strip()
    if ',' in bare or bare.startswith(('(', '[')):
        items = _split(bare)
        if len(items) > 1:
            return [parse_value(item.strip()) for item in items if item.strip()]
        for opening, closing, several in (('(', ')', tuple), ('[', ']', list)):
            if bare.startswith(opening) and bare.endswith(closing):
                return several(parse_value(item.strip()) for item in _split(bare[1:-1]) if item.strip())
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in QUOTES:
        return bare[1:-1]
    for kind in (int, float):
        try:
            return kind(bare)
        except ValueError:
            pass
    return {'true': True, 'false': False}.get(bare.lower(), None if bare == 'None' else text)


def _split(text: str) -> list[str]:
    """Split at the commas that are in no brackets or quotes; an apostrophe within a word is none."""
    items, closing, quote = [''], [], ''
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in QUOTES and not items[-1].strip(' (['):
            quote = letter
        elif letter in BRACKETS:
            closing.append(BRACKETS[letter])
        elif letter in BRACKETS.values() and (not closing or letter != closing.pop()):
            raise ValueError(f"'{letter}' closes nothing")
        if letter == ',' and not closing and not quote:
            items.append('')
        else:
            items[-1] += letter
    if closing or quote:
        raise ValueError(f'{quote or closing[-1]} is missing; text with commas or brackets goes in quotes')
    return items


def positive_float(text: str) -> float:
    """Type of an option that is a number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return value


def seed(text: str) -> int:
    """Type of an option that seeds random numbers: 0 to 2**32 - 1."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f'{text} is not in 0 to 2**32 - 1')
    return value

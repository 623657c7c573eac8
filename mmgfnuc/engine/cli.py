"""The shell every command-line tool runs in: a user's mistake ends in one clear line, a bug in its traceback."""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable

from mmgfnuc.errors import UserError


def run_cli(main: Callable[[], int | None]) -> int:
    """Run `main` and give the exit code: 0 on success, 2 with `error: <text>` on stderr for a user's mistake.

    That is a `UserError`, or an `OSError` about a named file, such as an output folder that cannot be made. Of several
    processes only the first prints. Every other exception passes through, because it is a bug and its traceback is
    needed. Ctrl-C ends in one line too, and 130. Warnings are shown as `warning: <text>`.
    """
    format_before, warnings.formatwarning = warnings.formatwarning, _format_warning
    try:
        return main() or 0
    except UserError as error:
        return _report(str(error))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        return _report(f'{error.filename}: {error.strerror}')
    finally:
        warnings.formatwarning = format_before


def notice(text: str) -> None:
    """Tell the user what a tool has decided; of several processes only the first does."""
    if _is_first():
        print(f'notice: {text}', file=sys.stderr)


def _report(text: str) -> int:
    if _is_first():
        print(f'error: {text}', file=sys.stderr)
    return 2


def _is_first() -> bool:
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f'warning: {message}\n' if _is_first() else ''


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

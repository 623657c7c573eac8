"""The shell every command-line tool runs in: a user's mistake ends in one clear line, a bug in its traceback."""

import sys
from collections.abc import Callable

from mmgfnuc.errors import UserError


def run_cli(main: Callable[[], int | None]) -> int:
    """Run `main` and give the exit code: 0 on success, 2 with `error: <text>` on stderr after a `UserError`.

    Every other exception passes through, because it is a bug and its traceback is needed.
    """
    try:
        return main() or 0
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2

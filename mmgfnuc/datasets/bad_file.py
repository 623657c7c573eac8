"""The error of a file that cannot be used."""

import stat
from pathlib import Path

from mmgfnuc.errors import UserError


class BadFileError(UserError):
    """A file that cannot be used: which one, what is wrong with it, how to correct it."""

    def __init__(self, path: Path, what: str, fix: str) -> None:
        super().__init__(path, what, fix)
        self.path = path
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        # A name that is not UTF-8 must not break the line that reports it.
        text = f'{self.path}: {self.what}; {self.fix}'
        return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def unreadable(path: Path, error: Exception, fix: str = 'copy or export the file again') -> BadFileError:
    """Report what a reader raised, in one line."""
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    return BadFileError(path, f'unreadable ({reason})', fix)


def require_file(path: Path) -> int:
    """Size of a regular file, in bytes.

    Raises:
        BadFileError: It is missing, or a folder, named pipe or device, from which reading may never end.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise BadFileError(path, 'missing', 'put the file there') from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadFileError(path, 'a folder, named pipe or device', 'give a file')
    return status.st_size


def is_utf8(name: str) -> bool:
    """Whether tables and JSON can hold the name of a file, which to the system is only bytes."""
    return name.isascii() or not any('\ud800' <= letter <= '\udfff' for letter in name)

"""What happens to the log when the disk is full."""

import logging
import sys
from functools import partial

from mmgfnuc.files import is_disk_full


def end_logs_at_full_disk(logger: logging.Logger) -> None:
    """Let each log file of a logger end with one line on stderr when the disk is full.

    Left alone, `logging` prints a traceback for every line that cannot be written.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = partial(_end, handler)  # type: ignore[method-assign]


def _end(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    if not is_disk_full(sys.exc_info()[1]):
        logging.Handler.handleError(handler, record)
        return
    handler.setLevel(logging.CRITICAL + 1)
    print(f'warning: {handler.baseFilename} ends here: the disk is full', file=sys.stderr)

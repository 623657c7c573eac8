"""What a run shows on the screen. The log file gets everything; the screen gets what a person needs."""

import logging
import re
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# Warnings of MMEngine about its own parts, which nobody here can heed.
NOISE = re.compile(r'^"(FileClient|HardDiskBackend)" ')
MARK = 'on_screen'


def show(logger: logging.Logger, text: str) -> None:
    """Log a line that is for the screen too."""
    logger.info(text, extra={MARK: True})


class ScreenRunner(Runner):
    """MMEngine's runner with a quiet screen: marked lines and warnings, unless `log_level` is DEBUG.

    The log file of the run holds all that MMEngine logs: environment, config, hooks, every loss.
    """

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build MMEngine's logger, its screen made quiet."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler) and handler.level > logging.DEBUG:
                handler.addFilter(_is_for_the_screen)
                handler.setFormatter(_PlainFormatter())
        return logger


class _PlainFormatter(logging.Formatter):
    """Only the text; warnings are marked."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f'{record.levelname.lower()}: {text}' if record.levelno >= logging.WARNING else text


def _is_for_the_screen(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.WARNING:
        return NOISE.search(record.getMessage()) is None
    return hasattr(record, MARK)

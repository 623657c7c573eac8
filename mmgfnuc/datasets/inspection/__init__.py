"""What a prepared dataset holds, and what is wrong with it: numbers, faults, and a page to look at."""

from .faults import ERROR, REMARK, WARNING, Fault
from .measure import ClassNumbers, Measured, Numbers
from .page import build_page
from .report import Report, inspect_dataset
from .text import report_text

__all__ = [
    'ERROR',
    'REMARK',
    'WARNING',
    'ClassNumbers',
    'Fault',
    'Measured',
    'Numbers',
    'Report',
    'build_page',
    'inspect_dataset',
    'report_text',
]

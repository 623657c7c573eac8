"""What a prepared dataset holds, and what is wrong with it: numbers and faults."""

from .faults import ERROR, REMARK, WARNING, Fault
from .measure import ClassNumbers, Measured, Numbers
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
    'inspect_dataset',
    'report_text',
]

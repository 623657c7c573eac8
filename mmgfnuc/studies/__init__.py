"""Studies: arms made from parts, trained and scored alike.

A study names its arms by the parts they are made of. Every arm, split and seed is a cell: one config, trained for the
same steps, scored with its last checkpoint. `study` reads studies, `cells` makes configs of them, `local` runs them,
`results` gathers what they gave, `reports` writes what it means.
"""

from .cells import Cell, study_cells
from .local import run_cells
from .scores import study_scores
from .study import Arm, Study, read_study

__all__ = ['Arm', 'Cell', 'Study', 'read_study', 'run_cells', 'study_cells', 'study_scores']

"""Studies: arms made from parts, trained and scored alike.

A study names its arms by the parts they are made of. Every arm, split and seed is a run: one config, trained for the
same steps, scored with its last checkpoint. `study` reads studies, `runs` makes configs of them, `local` runs them,
`results` gathers what they gave, `reports` writes what it means.
"""

from .local import run_all
from .runs import Run, study_runs
from .scores import study_scores
from .study import Arm, Study, read_study

__all__ = ['Arm', 'Run', 'Study', 'read_study', 'run_all', 'study_runs', 'study_scores']

"""Studies: arms made from parts, trained and scored alike.

A study names its arms by the parts they are made of. Every arm, split and seed on a data set is a run: one config,
trained for the same steps, scored with its last checkpoint. `study` reads studies, `runs` makes configs of them,
`scheduling` starts them, `results` works out what they gave, `report` writes it.
"""

from .arms import Arm
from .runs import Run, study_runs
from .scheduling import run_all
from .storage import study_scores
from .study import Study, read_study

__all__ = ['Arm', 'Run', 'Study', 'read_study', 'run_all', 'study_runs', 'study_scores']

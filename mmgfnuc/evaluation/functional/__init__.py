"""Scores of label maps as plain functions of NumPy arrays."""

from .bootstrap import bootstrap_interval
from .boundary import boundary_counts, boundary_f1, boundary_pixels, hausdorff95
from .contingency import Contingency, contingency_table
from .detection import (
    PAIRINGS,
    centroids,
    count_r2,
    detection_f1,
    detection_matrix,
    detection_radius,
    match_points,
    type_f1,
)
from .errors import PREDICTED_STATES, TRUE_STATES, NucleusStates, nucleus_states
from .instance import (
    INSTANCE_COUNT_NAMES,
    INSTANCE_SCORE_NAMES,
    IOU_THRESHOLDS,
    InstanceCounts,
    aji_areas,
    aji_plus_areas,
    instance_counts,
    instance_scores,
    merged_nuclei,
    pool,
    split_nuclei,
    summarise_instances,
)
from .semantic import SCORE_NAMES, confusion_matrix, foreground_counts, semantic_scores, summarise
from .typed import bpq, mean_over_tissues, mpq, mpq_plus, nucleus_types, typed_counts, typed_pq

__all__ = [
    'INSTANCE_COUNT_NAMES',
    'INSTANCE_SCORE_NAMES',
    'IOU_THRESHOLDS',
    'PAIRINGS',
    'PREDICTED_STATES',
    'SCORE_NAMES',
    'TRUE_STATES',
    'Contingency',
    'InstanceCounts',
    'NucleusStates',
    'aji_areas',
    'aji_plus_areas',
    'bootstrap_interval',
    'boundary_counts',
    'boundary_f1',
    'boundary_pixels',
    'bpq',
    'centroids',
    'confusion_matrix',
    'contingency_table',
    'count_r2',
    'detection_f1',
    'detection_matrix',
    'detection_radius',
    'foreground_counts',
    'hausdorff95',
    'instance_counts',
    'instance_scores',
    'match_points',
    'mean_over_tissues',
    'merged_nuclei',
    'mpq',
    'mpq_plus',
    'nucleus_states',
    'nucleus_types',
    'pool',
    'semantic_scores',
    'split_nuclei',
    'summarise',
    'summarise_instances',
    'type_f1',
    'typed_counts',
    'typed_pq',
]

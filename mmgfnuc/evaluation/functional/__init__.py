"""Scores of label maps as plain functions of NumPy arrays."""

from .semantic import SCORE_NAMES, confusion_matrix, foreground_counts, semantic_scores, summarise

__all__ = ['SCORE_NAMES', 'confusion_matrix', 'foreground_counts', 'semantic_scores', 'summarise']

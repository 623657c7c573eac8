from .baselines import otsu_scores
from .records import make_record, read_records
from .tables import markdown_table

__all__ = ['make_record', 'markdown_table', 'otsu_scores', 'read_records']

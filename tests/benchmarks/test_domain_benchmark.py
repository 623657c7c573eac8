"""benchmarks/domain.py at small size: a line of JSON, and a record."""

import domain
import pytest
from domain_section import domain_section

from mmgfnuc.datasets import synthetic


@pytest.mark.slow
def test_what_is_unlike_gets_more_warnings_than_what_is_like(tmp_path, measured):
    for seed, name in enumerate(('trained', 'other')):
        synthetic.write_dataset(tmp_path / name, num_train=4, num_val=2, size=192, seed=seed)
    arguments = ('--data', str(tmp_path / 'trained'), '--mpp', '0.5', '--others', str(tmp_path / 'other'))
    rows = {row['images']: row for row in measured(domain, domain_section, *arguments)}
    assert rows['trained, each group by the others']['count'] == rows['other']['count'] == 6
    assert rows['other']['warned'] == 0
    assert all(rows[name]['named'] == 1 for name in ('glass', 'fluorescence', 'DAB in 50% of the image'))
    assert rows['blurred by 8 pixels']['named'] == 1

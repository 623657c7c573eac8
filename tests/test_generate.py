"""docs/generate/: the committed pages are those of the records, and damaged records are refused."""

import json
from pathlib import Path

import encoder_page
import pytest
import record
import table
from ready_page import cards_section, copy_pictures, ready_cards, scores_table
from records import KEYS, read_records

from mmgfnuc.errors import UserError
from mmgfnuc.files import write_json
from mmgfnuc.models.foundation import CATALOGUE

from .inference.ready_files import CONFIG, METRICS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_committed_pages_are_what_make_table_writes():
    stale = [str(path.relative_to(ROOT)) for path, text in table.rendered(ROOT).items() if path.read_text() != text]
    assert not stale, f'run `make table`: {stale} differ from what the records and the code give'


@pytest.mark.parametrize('fault', ['not JSON', 'a list', *KEYS])
def test_damaged_records_are_refused(tmp_path, fault):
    content = json.loads((ROOT / 'docs/results/unets.json').read_text())
    content.pop(fault, None)
    text = {'not JSON': '{', 'a list': '[]'}.get(fault, json.dumps(content))
    (tmp_path / 'unets.json').write_text(text)
    with pytest.raises(UserError, match=r'unets\.json .*; get the file of the repository again, or delete it$'):
        read_records(tmp_path)


def test_a_page_without_its_markers_is_refused(tmp_path):
    (tmp_path / 'page.md').write_text('<!-- results -->\n')
    with pytest.raises(UserError, match=r'page\.md lacks the markers <!-- results --> and <!-- /results -->'):
        table.fill_in(tmp_path / 'page.md', {'results': 'new'})


def test_every_kind_of_record_is_known():
    assert {made['kind'] for made in read_records(ROOT / 'docs/results').values()} == set(record.TITLES)


def test_facts_of_encoders_are_those_of_their_publishers():
    """SAM ViT-B has 91 M parameters in all, its mask decoder 4.1 M."""
    sam, uni = (encoder_page._cells(CATALOGUE[name]) for name in ('sam-vit-b', 'uni'))
    assert sam[1:6] == ('89.7', '16', '256', 'neck', 'longer side to 1024')
    assert uni[2:6] == ('16', '1024', '5, 11, 17, 23', 'as given; made for 224')
    assert uni[7] == 'CC-BY-NC-ND-4.0; no commercial use; gated'


def test_ready_models_have_cards_a_section_and_a_line(tmp_path):
    folder = tmp_path / 'mmgfnuc/models/ready/small'
    write_json(folder / 'config.json', CONFIG)
    write_json(folder / 'metrics.json', METRICS)
    (folder / 'pictures').mkdir()
    (folder / 'pictures/1.jpg').write_bytes(b'picture')
    cards = ready_cards(tmp_path, [])
    assert list(cards) == [folder / 'card.md']
    (picture,) = copy_pictures(tmp_path)
    assert picture.read_bytes() == b'picture'
    section = cards_section(cards)
    assert f']({picture.relative_to(tmp_path / "docs").as_posix()})' in section
    assert not [line for line in section.splitlines() if line.startswith('# ')]
    assert '| 0.500 (0.250 to 0.750) |' in scores_table(tmp_path)

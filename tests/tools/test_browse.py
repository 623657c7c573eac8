"""`mmgfnuc browse`: one HTML file that is well formed, needs nothing else, and shows what it says."""

import base64
import errno
import os
import shutil
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.nuclei import PALETTE
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.visualization.errors import TRUTH_COLOUR


class Page(HTMLParser):
    """Collects images and text."""

    def __init__(self, path):
        super().__init__()
        self.images, self.text = [], ''
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        if tag == 'img':
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.text += data

    @property
    def pictures(self):
        """Name, tissue and RGBA outlines of each image."""
        arrays = [
            np.asarray(Image.open(BytesIO(base64.b64decode(image['src'].partition(',')[2])))) for image in self.images
        ]
        return list(zip([image['alt'] for image in self.images[::2]], arrays[::2], arrays[1::2], strict=True))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    write_dataset(root, num_train=6, num_val=2, size=96, seed=0)
    return root


@pytest.fixture
def odd_root(tmp_path):
    """One image of two nuclei with types, an untyped one, an ignored area, and names that HTML could trip over."""
    image = np.random.default_rng(0).integers(40, 200, (512, 400, 3), dtype=np.uint8)
    labels = np.zeros((512, 400), np.int32)
    labels[100:140, 100:140] = 1
    labels[100:140, 140:180] = 2
    labels[300:340, 100:140] = 3
    ignored = np.zeros(labels.shape, bool)
    ignored[400:500, 200:300] = True
    canonical.write_sample(tmp_path, 'a&b', image, labels, ignored, np.array([0, 1, 2, 0])[labels])
    entry = {'group': '<slide> "1"', 'mpp': 0.25}
    meta = dict(name='<b>odd</b>', classes=['background', 'round', 'flat & thin'], licence='', citation='A & B: <x>')
    canonical.write_meta(tmp_path, meta | {'source': 'https://example.org/data', 'images': {'a&b': entry}})
    return tmp_path


def browse(tool, root, out, *options):
    assert tool('browse', root, '--out', out, *options) == 0
    return Page(out)


def test_page_says_what_the_set_is(tool, root, tmp_path, capsys):
    page = browse(tool, root, tmp_path / 'new' / 'page.html')
    meta = canonical.read_meta(root)
    nuclei = sum(canonical.count_nuclei(canonical.read_label_map(path)) for path in (root / 'labels').iterdir())
    for words in (meta['name'], meta['citation'], f'{nuclei:,}', 'sound: no fault found', '6 train, 2 val'):
        assert words in page.text
    assert 'page.html: 0.' in capsys.readouterr().out


def test_pictures_are_the_images(tool, root, tmp_path):
    pictures = browse(tool, root, tmp_path / 'page.html', '--images', 5).pictures
    assert len({name for name, *_ in pictures}) == len(pictures) == 5
    for name, tissue, outlines in pictures:
        # Enlarged twice.
        assert tissue.shape[:2] == outlines.shape[:2] == (192, 192)
        seen = np.asarray(Image.fromarray(tissue).resize((96, 96), Image.Resampling.BOX))
        assert np.abs(seen.astype(int) - canonical.read_image(root / 'images' / f'{name}.png')).mean() < 8
        # All outlines, and nothing but outlines, lie within nuclei.
        edge = outlines[..., 3] > 0
        assert (outlines[edge][:, :3] == TRUTH_COLOUR).all()
        nuclei = canonical.read_label_map(root / 'labels' / f'{name}.png').repeat(2, axis=0).repeat(2, axis=1)
        assert set(np.unique(nuclei[edge])) == set(np.unique(nuclei)) - {0}


def test_names_types_and_ignored_areas_are_shown_as_they_are(tool, odd_root, tmp_path):
    page = browse(tool, odd_root, tmp_path / 'page.html')
    for words in ('<b>odd</b>', 'A & B: <x>', '<slide> "1"', 'a&b', 'flat & thin', 'not stated'):
        assert words in page.text
    assert page.text.count('1 × nucleus without type') == 1
    ((_, _, outlines),) = page.pictures
    assert outlines.shape == (512, 400, 4)
    # Nuclei that touch have an outline each, in the colour of their type; white without one.
    expected = {(100, 110): PALETTE[1], (120, 139): PALETTE[1], (120, 140): PALETTE[2], (300, 110): (255, 255, 255)}
    assert {place: tuple(outlines[place]) for place in expected} == {
        place: (*colour, 255) for place, colour in expected.items()
    }
    assert outlines[120, 120, 3] == 0
    assert (outlines[400:500, 200:300] == (0, 0, 0, 128)).all()
    assert not outlines[400:, :200, 3].any()


def test_many_pictures_are_smaller(tool, tmp_path, monkeypatch, root):
    monkeypatch.setattr('mmgfnuc.visualization.dataset_page.PICTURE_BYTES', 8 * 0.5 * 50**2)
    page = browse(tool, root, tmp_path / 'page.html')
    assert {tissue.shape for _, tissue, _ in page.pictures} == {(50, 50, 3)}


def test_set_of_which_nothing_can_be_shown(tool, tmp_path):
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / 'images' / 'a.png')
    page = browse(tool, tmp_path, tmp_path / 'page.html')
    assert 'No image could be measured.' in page.text
    assert 'image without label' in page.text
    assert page.images == []


def test_mistakes_end_in_one_line(tool, root, tmp_path, capsys):
    assert tool('browse', root, '--out', tmp_path / 'x.html', '--images', 0) == 2
    assert '--images 0: give a number from 1' in capsys.readouterr().err
    assert tool('browse', tmp_path / 'nowhere', '--out', tmp_path / 'x.html') == 2
    assert 'holds no dataset' in capsys.readouterr().err
    assert not (tmp_path / 'x.html').exists()


def test_only_a_plain_file_is_written_over(tool, root, tmp_path, capsys):
    page = tmp_path / 'page.html'
    page.write_text('mine')
    (tmp_path / 'link.html').symlink_to(page)
    (tmp_path / 'folder.html').mkdir()
    os.mkfifo(tmp_path / 'pipe.html')
    for out in ('link.html', 'folder.html', 'pipe.html', '/dev/null'):
        assert tool('browse', root, '--out', tmp_path / out) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f'{tmp_path / out} is a folder' in line
    assert not Path('/dev/.null.lock').exists()
    assert page.read_text() == 'mine'


def test_a_full_disk_and_a_second_writer_leave_the_old_page(tool, root, tmp_path, monkeypatch, capsys, locked):
    out = tmp_path / 'page.html'
    out.write_text('old')
    with locked(out):
        assert tool('browse', root, '--out', out) == 2
    assert 'another process is writing' in capsys.readouterr().err.splitlines()[-1]

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', full)
    assert tool('browse', root, '--out', out) == 2
    assert 'page.html cannot be written: the disk has' in capsys.readouterr().err.splitlines()[-1]
    assert out.read_text() == 'old'
    assert {path.name for path in tmp_path.iterdir()} == {'page.html', '.page.html.lock'}


def test_names_that_are_not_utf_8(tool, root, tmp_path, capsys):
    page = browse(tool, root, tmp_path / os.fsdecode(b'p\xe9.html'))
    assert page.images
    odd = tmp_path / 'odd'
    shutil.copytree(root, odd)
    for kind in ('images', 'labels'):
        first = min((odd / kind).iterdir())
        first.rename(first.with_name(os.fsdecode(b'caf\xe9.png')))
    capsys.readouterr()
    assert tool('browse', odd, '--out', tmp_path / 'odd.html') == 2
    assert r"'caf\udce9' is not a name in UTF-8; rename" in capsys.readouterr().err

"""Archives as sources: equal to the folder that was packed, and harmless where they are hostile or damaged."""

import errno
import io
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets.converters import convert, generic
from mmgfnuc.datasets.converters.sources import files_by_stem, find_root, opened_source
from mmgfnuc.errors import UserError

KINDS = ['zip', 'tar', 'tar.gz', 'tgz', 'tar.bz2', 'tar.xz']
FOLDERS = generic.CONVERTERS[0]


def tree(folder):
    """Content of all files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def pack(path, entries):
    """Write an archive of bytes by name; names are taken as they are, and so is a ready ZipInfo or TarInfo."""
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, f'w:{path.suffix[1:].replace("tgz", "gz").replace("tar", "")}') as archive:
        for name, content in entries.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path):
    """A source for `folders`: two images with label maps."""
    root = tmp_path / 'mine'
    rng = np.random.default_rng(0)
    for stem in 'ab':
        for name, array in (
            ('images', rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)),
            # Each id in one piece of 4 x 4 pixels, seven of twelve background.
            ('labels', np.maximum(rng.permutation(12) - 6, 0).astype(np.uint8).reshape(3, 4).repeat(4, 0).repeat(4, 1)),
        ):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name / f'{stem}.png')
    return root


@pytest.fixture
def outside(tmp_path):
    """A folder to unpack in, with neighbours that no archive may touch."""
    place = tmp_path / 'deep' / 'place'
    place.mkdir(parents=True)
    (tmp_path / 'deep' / 'victim.txt').write_text('mine')
    return place


def refusal(archive, place):
    """Text of the error; nothing else than before lies around, and the files there are the old ones."""
    top = place.parents[1]
    before, names = tree(top), sorted(top.rglob('*'))
    with pytest.raises(UserError) as caught, opened_source(archive, place / 'unpacked'):
        pass
    assert tree(top) == before
    assert sorted(top.rglob('*')) == names
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('prefix', ['', 'mine/', 'one/two/mine/'])
def test_an_archive_gives_what_its_folder_gives(folder, tmp_path, kind, prefix):
    archive = pack(tmp_path / f'mine.{kind}', {prefix + name: content for name, content in tree(folder).items()})
    for source, out in ((folder, 'of folder'), (archive, 'of archive')):
        convert(FOLDERS, source, tmp_path / out)
    written = tree(tmp_path / 'of folder')
    assert len(written) == 5
    assert tree(tmp_path / 'of archive') == written
    names = [path.name for path in tmp_path.iterdir() if path.suffix != '.lock']
    assert sorted(names) == sorted(['mine', archive.name, 'of archive', 'of folder'])


def test_the_metadata_of_macos_is_left_out(folder, tmp_path):
    entries = {f'mine/{name}': content for name, content in tree(folder).items()}
    for name in list(entries):
        head, _, tail = name.rpartition('/')
        entries[f'__MACOSX/{head}/._{tail}'] = b'no image'
        entries[f'{head}/._{tail}'] = b'no image'
    archive = pack(tmp_path / 'mine.zip', {'__MACOSX/images/x.png': b'', '__MACOSX/labels/x.png': b''} | entries)
    assert convert(FOLDERS, archive, tmp_path / 'out').images == 2


@pytest.mark.parametrize('kind', ['zip', 'tar.gz'])
def test_scratch_is_removed_whatever_happens(tmp_path, kind):
    archive = pack(tmp_path / f'x.{kind}', {'images/a.png': b'no image'})
    place = tmp_path / 'place'
    (place / 'left by a killed run').mkdir(parents=True)
    with opened_source(archive, place) as opened:
        assert tree(opened) == {'images/a.png': b'no image'}
        assert opened == place
    assert not place.exists()
    for failure in (ValueError, KeyboardInterrupt):
        with pytest.raises(failure), opened_source(archive, place):
            raise failure
        assert not place.exists()


@pytest.mark.parametrize('kind', ['zip', 'tar'])
@pytest.mark.parametrize(
    'name', ['../victim.txt', '../../victim.txt', 'images/../../victim.txt', '..\\victim.txt', 'C:\\victim.txt']
)
def test_paths_out_of_the_folder_are_refused(outside, tmp_path, kind, name):
    archive = pack(tmp_path / f'evil.{kind}', {'images/a.png': b'', name: b'evil'})
    assert 'would be written outside of its folder' in refusal(archive, outside)


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_absolute_paths_are_refused(outside, tmp_path, kind):
    victim = tmp_path / 'deep' / 'victim.txt'
    assert 'would be written outside' in refusal(pack(tmp_path / f'evil.{kind}', {str(victim): b'evil'}), outside)


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(outside, tmp_path, kind):
    link = tarfile.TarInfo('images')
    link.type, link.linkname = kind, '..'
    archive = pack(tmp_path / 'evil.tar', {link: b'', 'images/victim.txt': b'evil'})
    assert "'images' is a link or device" in refusal(archive, outside)


def test_links_in_a_zip_are_refused(outside, tmp_path):
    link = zipfile.ZipInfo('images')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = pack(tmp_path / 'evil.zip', {link: '..', 'images/victim.txt': 'evil'})
    assert "'images' is a link" in refusal(archive, outside)


@pytest.mark.parametrize('kind', ['zip', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_bombs_are_not_unpacked(outside, tmp_path, kind):
    archive = pack(tmp_path / f'bomb.{kind}', {'images/a.png': bytes(40_000_000)})
    assert archive.stat().st_size < 50_000
    assert 'unpacks to 0.04 GB, too much for its size' in refusal(archive, outside)


def test_a_small_archive_of_few_colours_is_no_bomb(tmp_path):
    """A label map without nuclei may shrink as much as a bomb does."""
    archive = pack(tmp_path / 'labels.zip', {'images/a.png': bytes(4_000_000)})
    with opened_source(archive, tmp_path / 'place') as opened:
        assert (opened / 'images' / 'a.png').stat().st_size == 4_000_000


@pytest.mark.parametrize('kind', ['zip', 'tar.gz'])
def test_nothing_is_unpacked_for_which_there_is_no_room(folder, outside, tmp_path, monkeypatch, kind):
    archive = pack(tmp_path / f'mine.{kind}', tree(folder))
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=1000))
    assert 'has 0.00 GB free' in refusal(archive, outside)


@pytest.mark.parametrize('module', ['zipfile.ZipFile', 'tarfile.TarFile'])
def test_a_disk_that_fills_up_is_told(folder, outside, tmp_path, monkeypatch, module):
    def extract(*arguments, **options):
        raise OSError(errno.ENOSPC, 'No space left on device')

    archive = pack(tmp_path / f'mine.{"zip" if "zip" in module else "tar"}', tree(folder))
    monkeypatch.setattr(f'{module}.extractall', extract)
    assert 'MB free; make room' in refusal(archive, outside)


def test_a_zip_that_lies_about_its_size_is_no_way_around(outside, tmp_path):
    archive = pack(tmp_path / 'bomb.zip', {'images/a.png': bytes(40_000_000)})
    content = archive.read_bytes()
    archive.write_bytes(content.replace((40_000_000).to_bytes(4, 'little'), (1000).to_bytes(4, 'little')))
    assert 'cannot be unpacked' in refusal(archive, outside)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
def test_truncated_archives_are_explained(folder, outside, tmp_path, kind, share):
    archive = pack(tmp_path / f'cut.{kind}', tree(folder))
    content = archive.read_bytes()
    if kind == 'tar':  # two blocks of zeros, and filling, end it
        content = content[: content.rindex(b'IEND')]
    archive.write_bytes(content[: int(len(content) * share)])
    text = refusal(archive, outside)
    assert f'cut.{kind} cannot be unpacked (' in text
    assert 'download it again' in text


@pytest.mark.parametrize('kind', ['zip', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_corrupt_archives_are_explained(folder, outside, tmp_path, kind):
    archive = pack(tmp_path / f'bent.{kind}', tree(folder))
    content = bytearray(archive.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 40] = bytes(255 - byte for byte in content[middle : middle + 40])
    archive.write_bytes(content)
    assert 'cannot be unpacked' in refusal(archive, outside)


def test_what_is_no_archive_is_explained(outside, tmp_path):
    assert 'is not there' in refusal(tmp_path / 'nowhere.zip', outside)
    for name, text in (('page.zip', 'cannot be unpacked'), ('page.html', 'is neither a folder nor an archive')):
        (tmp_path / name).write_text('<html>Sign in to download</html>')
        assert text in refusal(tmp_path / name, outside)


def test_a_source_is_found_some_levels_down_and_the_shallowest_wins(tmp_path):
    for place in ('a/b/c/set', 'x/set', 'x/y/set', '.hidden/set', '__MACOSX/set'):
        (tmp_path / place).mkdir(parents=True)
    assert find_root(tmp_path, 'set') == tmp_path / 'x'
    assert find_root(tmp_path / 'a', 'set') == tmp_path / 'a' / 'b' / 'c'
    assert find_root(tmp_path, 'set', 'other') is None
    (tmp_path / 'p/q/r/s/deep').mkdir(parents=True)
    assert find_root(tmp_path, 'deep') is None


def test_files_are_found_by_stem(tmp_path):
    for name in ('b.PNG', 'a.png', 'c.txt', '._a.png', 'd.png/e'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_by_stem(tmp_path, '.png') == {'a': tmp_path / 'a.png', 'b': tmp_path / 'b.PNG'}
    assert files_by_stem(tmp_path / 'nowhere', '.png') == {}


def test_two_files_of_one_name(tmp_path):
    for name in ('a.png', 'b.png', 'a.TIF', 'a.txt'):
        (tmp_path / name).touch()
    assert files_by_stem(tmp_path, '.png') == {'a': tmp_path / 'a.png', 'b': tmp_path / 'b.png'}
    with pytest.raises(UserError, match=r'a\.TIF and a\.png bear one name; remove or rename one'):
        files_by_stem(tmp_path, '.png', '.tif')


def test_several_datasets_are_not_one(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / 'all' / part / 'images').mkdir(parents=True)
    with pytest.raises(UserError, match=r'holds several such datasets: train and val; give one of them as the source'):
        find_root(tmp_path / 'all', 'images')
    assert find_root(tmp_path / 'all' / 'val', 'images') == tmp_path / 'all' / 'val'


def test_prepared_datasets_are_no_source(tmp_path):
    for folder in ('data/images', 'data/labels', 'raw/images'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'data' / 'meta.json').touch()
    assert find_root(tmp_path, 'images') == tmp_path / 'raw'

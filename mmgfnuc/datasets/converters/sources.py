"""What users give as a source: a folder, or an archive whose paths are not trusted."""

import hashlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mmgfnuc.errors import UserError
from mmgfnuc.files import full_disk_told, is_disk_full

ARCHIVES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
# An archive that says it holds more than this per byte of its own is a bomb, unless it is small: label maps of few
# nuclei come near 100, zeros above 1000.
LARGEST_ARCHIVE_RATIO, SMALL_BYTES = 500, 10**7
# In a folder that was unpacked too high, the dataset lies at most this many levels down.
DEPTH = 3


@contextmanager
def opened_source(source: str | Path, unpacked: Path) -> Iterator[Path]:
    """Give the folder of a source; an archive is unpacked into `unpacked`, which is removed afterwards.

    What a run that was killed has left there is removed first.

    Raises:
        UserError: it is missing, neither a folder nor an archive, or the archive is damaged, a bomb, larger than the
            free space, or has an entry that leaves the folder, or is a link or device.
        DiskFullError: the disk is full.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        yield source
        return
    if not source.exists():
        raise UserError(f'{source} is not there; give the folder or archive that was downloaded')
    if not source.name.lower().endswith(ARCHIVES):
        raise UserError(f'{source} is neither a folder nor an archive ({", ".join(ARCHIVES)}); give one')
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with full_disk_told(unpacked):
            unpacked.mkdir(parents=True)
            unpack(source, unpacked)
        yield unpacked
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder; nothing is written outside it.

    Raises:
        UserError: see `opened_source`.
    """
    try:
        if archive.suffix.lower() == '.zip':
            _unzip(archive, folder)
        else:
            _untar(archive, folder)
    except UserError:
        raise
    # zlib, lzma, struct and the archive modules each raise their own types.
    except Exception as error:
        if is_disk_full(error):
            raise
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'{archive} cannot be unpacked ({reason}); download it again') from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        entries = content.infolist()
        _check_size(archive, folder, sum(entry.file_size for entry in entries))
        for entry in entries:
            _check_path(archive, entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise UserError(f'{archive}: {entry.filename!r} is a link; unpack the archive yourself and check it')
        content.extractall(folder)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        entries = content.getmembers()
        _check_size(archive, folder, sum(entry.size for entry in entries))
        for entry in entries:
            _check_path(archive, entry.name)
            if not (entry.isfile() or entry.isdir()):
                raise UserError(f'{archive}: {entry.name!r} is a link or device; unpack it yourself and check it')
        content.extractall(folder, filter='data')
        _check_end(content)


def _check_end(archive: tarfile.TarFile) -> None:
    """Read on to the end, where there are zeros: tarfile takes an archive that was cut off for one that ends there."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    read = 0
    while block := archive.fileobj.read(tarfile.RECORDSIZE):  # also checks the sum of a gzip
        read += len(block)
        if block.strip(b'\0'):
            raise tarfile.ReadError('damaged')
    if not read:
        raise tarfile.ReadError('it ends early')


def _check_path(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or '..' in path.parts or ':' in (path.parts or ('',))[0]:
        raise UserError(f'{archive}: {name!r} would be written outside of its folder; do not trust this archive')


def _check_size(archive: Path, folder: Path, unpacked: int) -> None:
    says = f'{archive} says that it unpacks to {unpacked / 10**9:.2f} GB'
    if unpacked > max(LARGEST_ARCHIVE_RATIO * archive.stat().st_size, SMALL_BYTES):
        raise UserError(f'{says}, too much for its size; if you trust it, unpack it and give the folder')
    free = shutil.disk_usage(folder).free
    if unpacked > free:
        raise UserError(f'{says}, and {folder.parent} has {free / 10**9:.2f} GB free; make room')


def fingerprint(source: str | Path, *excluded: Path) -> str:
    """Hash of names, sizes and times of change of all files of a source: what an interrupted run depends on.

    Args:
        source: folder or archive.
        excluded: folders within it that do not count.
    """
    source = Path(source).expanduser()
    files = [source] if source.is_file() else sorted(path for path in source.rglob('*') if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        if not any(path.resolve().is_relative_to(folder) for folder in excluded):
            status = path.stat()
            digest.update(f'{path}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def find_root(source: Path, *patterns: str) -> Path | None:
    """Find the folder, `source` or one some levels below, under which a file or folder of each pattern lies.

    The shallowest counts; None if there is none. Prepared datasets below `source` are passed over.

    Raises:
        UserError: several exist on one level.
    """
    level = [source]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if all(any(folder.glob(pattern)) for pattern in patterns)]
        if len(found) > 1:
            names = ' and '.join(str(folder.relative_to(source)) for folder in found[:2])
            raise UserError(f'{source} holds several such datasets: {names}; give one of them as the source')
        if found:
            return found[0]
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir() and _searched(child))
    return None


def _searched(folder: Path) -> bool:
    prepared = (folder / 'meta.json').is_file() and (folder / 'labels').is_dir()
    return _visible(folder) and not prepared


def files_by_stem(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Files of a folder with one of the suffixes (lower case), by their name without it; hidden ones are left out.

    Raises:
        UserError: two files differ only in the suffix.
    """
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if _visible(path) and path.is_file() and path.suffix.lower() in suffixes:
            other = files.setdefault(path.stem, path)
            if other is not path:
                raise UserError(f'{other} and {path.name} bear one name; remove or rename one of them')
    return files


def _visible(path: Path) -> bool:
    # macOS archives carry a folder of metadata.
    return not path.name.startswith('.') and path.name != '__MACOSX'

"""Reads hostile and unlucky images, label maps, arrays and meta.json: each is read, or refused in one line.

Not part of `make test`, whose suite runs a sample. Each case has a process of its own with 3 GB and a time limit, so
that a crash, a hang and a flood of memory are seen. Prints one line of JSON; exit code 1 if a case failed.

    python tools/checks/bad_images.py
"""

import argparse
import io
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mmgfnuc.datasets.canonical import META_KEYS, read_meta
from mmgfnuc.datasets.images import check_image, read_ignore, read_image, read_label_map
from mmgfnuc.datasets.pixel_size import read_mpp
from mmgfnuc.errors import UserError

SECONDS = 20
MEMORY = 3 * 10**9
FLIPS = 12
READERS = (read_image, check_image, read_label_map, read_ignore, read_mpp)
RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
IDS = np.kron(RNG.integers(0, 900, (12, 16)), np.ones((8, 8))).astype(np.uint16)
META = {**dict.fromkeys(META_KEYS, ''), 'classes': ['background', 'nucleus'], 'images': {}}

# Writes the files of a case into an empty folder, and reads them.
Case = Callable[[Path], None]


def cases() -> Iterator[tuple[str, Case]]:
    """Give all cases by name."""
    for name, content in files().items():
        yield f'{name} whole', partial(read_bytes, name, content)
        for part in (0, 1, 3, 9, 20, 50, 80, 99):
            yield f'{name} cut at {part} %', partial(read_bytes, name, content[: len(content) * part // 100])
        # The first bytes are those of the header, where most of the harm can be done.
        for place in RNG.integers(0, min(len(content), 600), FLIPS):
            flipped = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
            yield f'{name} byte {place} flipped', partial(read_bytes, name, flipped)
    for name, content in bombs().items():
        yield f'{name} that claims too much', partial(read_bytes, name, content)
    for name, make in places().items():
        yield name, partial(read_place, make)
    for name, text in metas().items():
        yield f'meta.json: {name}', partial(read_text, text)


def files() -> dict[str, bytes]:
    """Give a sound file of each kind, by its name."""
    found = {f'a.{kind}': saved(Image.fromarray(PIXELS), kind) for kind in ('png', 'jpg', 'bmp', 'webp')}
    found['ids.png'] = saved(Image.fromarray(IDS), 'png')
    found['palette.png'] = saved(Image.fromarray(PIXELS).quantize(16), 'png')
    found['alpha.png'] = saved(Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])), 'png')
    found['cmyk.jpg'] = saved(Image.new('CMYK', (9, 6)), 'jpg')
    found['group4.tif'] = saved(Image.fromarray(IDS > 400), 'tif', compression='group4')
    settings = {
        'plain.tif': dict(photometric='rgb'),
        'lzw.tif': dict(photometric='rgb', compression='lzw', predictor=True),
        'tiles.tif': dict(photometric='rgb', compression='zlib', tile=(16, 16)),
        'jpeg.tif': dict(photometric='rgb', compression='jpeg', tile=(32, 32)),
        'big.tif': dict(photometric='rgb', bigtiff=True),
        'ome.tif': dict(photometric='rgb', ome=True, metadata={'PhysicalSizeX': 0.5, 'PhysicalSizeY': 0.5}),
        'imagej.tif': dict(photometric='rgb', imagej=True, resolution=(4, 4), metadata={'unit': 'um'}),
    }
    found |= {name: tiff(PIXELS, **options) for name, options in settings.items()}
    found['ids.tif'] = tiff(IDS, compression='lzw')
    found['deep.tif'] = tiff(PIXELS.astype(np.uint16) * 256, photometric='rgb', byteorder='>')
    found['floats.tif'] = tiff(IDS.astype(np.float32))
    for name, array in (('ids.npy', IDS), ('floats.npy', IDS / 2), ('text.npy', np.array([['a']]))):
        buffer = io.BytesIO()
        np.save(buffer, array)
        found[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.array([[print]]), allow_pickle=True)
    return found | {'objects.npy': buffer.getvalue()}


def bombs() -> dict[str, bytes]:
    """Give small files that claim large images."""
    found = {}
    for depth, kind in ((8, 2), (16, 0), (1, 0), (8, 6)):
        head = struct.pack('>IIBBBBB', 2**31 - 1, 60_000, depth, kind, 0, 0, 0)
        chunks = ((b'IHDR', head), (b'IDAT', zlib.compress(bytes(10**6))), (b'IEND', b''))
        packed = [struct.pack('>I', len(c)) + n + c + struct.pack('>I', zlib.crc32(n + c)) for n, c in chunks]
        found[f'{depth}-{kind}.png'] = b'\x89PNG\r\n\x1a\n' + b''.join(packed)
    for name, sides in (('wide.tif', (60_000, 60_000)), ('endless.tif', (2**32 - 1, 2**32 - 1))):
        content = tiff(PIXELS, photometric='rgb', metadata=None)
        for tag, old, new in zip((256, 257), PIXELS.shape[1::-1], sides, strict=True):
            content = content.replace(struct.pack('<HHII', tag, 4, 1, old), struct.pack('<HHII', tag, 4, 1, new))
        found[name] = content
    for name, shape in (('149 GiB.npy', (200_000, 200_000)), ('wrapped.npy', (2**32, 2**32)), ('-1.npy', (-1, 5))):
        found[name] = npy_header(repr({'descr': '<i4', 'fortran_order': False, 'shape': shape}))
    found['deep.npy'] = npy_header('(' * 9000)
    found['code.npy'] = npy_header('__import__("os").abort()')
    return found


def places() -> dict[str, Callable[[Path], None]]:
    """Give what may stand where a file should be, by name."""
    return {
        'a named pipe': os.mkfifo,
        'a folder': Path.mkdir,
        'a link to nowhere': lambda path: path.symlink_to('nowhere'),
        'a link to itself': lambda path: path.symlink_to(path.name),
        'a link to a device': lambda path: path.symlink_to('/dev/zero'),
        'a file that nobody may read': lambda path: path.touch(mode=0),
        'nothing': lambda path: None,
        '149 GiB of holes': _holes,
    }


def metas() -> dict[str, str]:
    """Give wrong texts of meta.json, by name."""
    wrong = {'a number': 5, 'null': None, 'a list': [1], 'a table': {'a': [1]}, 'a deep list': [[[[]]]]}
    found = {
        f'{key} is {what}': json.dumps(META | {key: value})
        for key in (*META_KEYS, 'splits_with_leaks')
        for what, value in wrong.items()
        if not (key == 'images' and isinstance(value, dict))
    }
    return found | {
        'deeply nested': '[' * 10**6,
        'many digits': '{"name": ' + '9' * 10**6 + '}',
        'not UTF-8': 'caf\udce9',
        'cut off': '{"name": ',
        'empty': '',
        'a list': '[]',
    }


def read_bytes(name: str, content: bytes, folder: Path) -> None:
    """Read a file of this content in every way."""
    path = folder / name
    path.write_bytes(content)
    for read in READERS:
        attempt(read, path)


def read_place(make: Callable[[Path], None], folder: Path) -> None:
    """Read what stands where a file should be, under names of several kinds."""
    for name in ('a.png', 'b.tif', 'c.npy', os.fsdecode(b'caf\xe9.png')):
        make(folder / name)
        for read in READERS:
            attempt(read, folder / name)


def read_text(text: str, folder: Path) -> None:
    """Read a meta.json; it must be refused."""
    (folder / 'meta.json').write_text(text, encoding='utf-8', errors='surrogateescape')
    if attempt(read_meta, folder):
        raise AssertionError('was read')


def attempt(read: Callable[[Path], object], path: Path) -> bool:
    """Read; whether it went. An error other than one line for the user gets out."""
    try:
        read(path)
    except UserError as error:
        text = str(error)
        text.encode()
        if '\n' in text or len(text) > 1000:
            raise AssertionError(f'{len(text.splitlines())} lines, {len(text)} characters') from error
        return False
    return True


def holds(case: Case) -> str:
    """Run a case in a process of its own; what went wrong, empty if nothing."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            _run_and_exit(case, Path(folder), writing)
        os.close(writing)
        with os.fdopen(reading, 'rb') as pipe:
            said = pipe.read().decode(errors='replace')
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or (f'exit {status}' if status else '')


def _run_and_exit(case: Case, folder: Path, pipe: int) -> None:
    said = ''
    try:
        signal.alarm(SECONDS)
        used = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[0]) * os.sysconf('SC_PAGE_SIZE')
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
        case(folder)
    except BaseException as error:
        said = f'{type(error).__name__}: {error}'[:500]
    os.write(pipe, said.encode(errors='replace'))
    os._exit(0)


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, {'jpg': 'jpeg', 'tif': 'tiff'}.get(kind, kind), **settings)
    return buffer.getvalue()


def tiff(array: np.ndarray, **settings: object) -> bytes:
    """Encode a TIFF."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **settings)
    return buffer.getvalue()


def npy_header(text: str) -> bytes:
    """Give a .npy with this header and few data."""
    head = text.encode() + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + bytes(64)


def _holes(path: Path) -> None:
    head = repr({'descr': '<i4', 'fortran_order': False, 'shape': (200_000, 200_000)})
    path.write_bytes(npy_header(head))
    os.truncate(path, path.stat().st_size - 64 + 200_000**2 * 4)


def main() -> int:
    """Run all cases and print the count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', help='cases whose name contains this')
    args = parser.parse_args()
    chosen = [(name, case) for name, case in cases() if args.only in name]
    failed = {}
    for name, case in chosen:
        what = holds(case)
        if what:
            failed[name] = what
    print(
        json.dumps({'check': 'bad_images', 'cases': len(chosen), 'held': len(chosen) - len(failed), 'failed': failed})
    )
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())

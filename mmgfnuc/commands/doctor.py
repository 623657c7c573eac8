"""Check the installation: PASS, WARN or FAIL for each part, and what to do about it."""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmgfnuc.extensions import load_parts

EPILOG = """It looks at Python, PyTorch with torchvision and CUDA, the OpenMMLab packages (and OpenMMLab's own old
releases beside them), optional packages, parts that other packages register, the folder of weights, write access and
disk space.
The exit code is 1 if something failed.

example:
  mmgfnuc doctor"""
PASS, WARN, FAIL = 'PASS', 'WARN', 'FAIL'
PYTHON = (3, 11)
# Distribution -> module.
MAINTAINED = {
    'onedl-mmengine': 'mmengine',
    'onedl-mmcv': 'mmcv',
    'onedl-mmsegmentation': 'mmseg',
}
# OpenMMLab's own distributions of the same modules, which no longer work with current PyTorch.
OLD = ('mmengine', 'mmengine-lite', 'mmcv', 'mmcv-full', 'mmcv-lite', 'mmsegmentation')
OTHERS = {
    'timm': 'timm',
    'segment-anything': 'segment_anything',
    'opencv-python': 'cv2',
    'scikit-image': 'skimage',
    'matplotlib': 'matplotlib',
}
EXTRAS = {
    'peft': "tune='lora'",
    'tensorboard': '--tensorboard',
    'torchstain': 'StainNormalize',
    'ray': '--engine ray',
}
WEIGHTS_ENV = 'MMGFNUC_WEIGHTS'
INSTALL = 'pip install -c requirements/constraints.txt'
MIN_FREE_GB = 5


@dataclass(frozen=True)
class Check:
    """The result of one check; `fix` says what to do where it is not PASS."""

    status: str
    what: str
    found: str
    fix: str = ''

    def __str__(self) -> str:
        line = f'{self.status}  {self.what}: {self.found}'
        return f'{line}\n      fix: {self.fix}' if self.fix else line


def installed(distribution: str) -> str | None:
    """Version of a distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def import_error(module: str) -> str | None:
    """Import a module; return in one line why that fails, None if it does not."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken installation fails in any way
        return f'{type(error).__name__}: {error}'.splitlines()[0]
    return None


def check_python() -> Check:
    """Is Python new enough?"""
    own = '.'.join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON:
        return Check(PASS, 'Python', own)
    wanted = '.'.join(map(str, PYTHON))
    return Check(FAIL, 'Python', own, f'install Python {wanted} or later: make setup PYTHON=python{wanted}')


def check_torch() -> Iterator[Check]:
    """Do PyTorch and torchvision load, and fit each other?"""
    fix = f'{INSTALL} torch torchvision'
    error = import_error('torch')
    if error:
        yield Check(FAIL, 'PyTorch', error, fix)
        return
    import torch

    yield Check(PASS, 'PyTorch', torch.__version__)
    error = import_error('torchvision')
    if not error:
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except Exception as failure:  # built for another PyTorch
            error = str(failure).splitlines()[0]
    found = installed('torchvision') or 'not installed'
    if error:
        yield Check(FAIL, 'torchvision', f'{found}, does not fit PyTorch {torch.__version__}: {error}', fix)
    else:
        yield Check(PASS, 'torchvision', found)
    if torch.cuda.is_available():
        names = ', '.join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Check(PASS, 'CUDA', f'{torch.version.cuda}: {names}')
    else:
        why = 'this PyTorch is built without it' if torch.version.cuda is None else 'no GPU, or no driver, is seen'
        fix = 'nothing, if you train on a CPU; else install the driver, or a PyTorch with CUDA (pytorch.org)'
        yield Check(WARN, 'CUDA', f'not available: {why}', fix)


def check_openmmlab() -> Iterator[Check]:
    """Are the maintained distributions there, and not OpenMMLab's own beside them?"""
    old = [f'{name} {installed(name)}' for name in OLD if installed(name)]
    if old:
        fix = f'pip uninstall -y {" ".join(name.split()[0] for name in old)}; {INSTALL} --force-reinstall --no-deps '
        found = f'{", ".join(old)}: not maintained, and of the same module names as the onedl-* ones'
        yield Check(FAIL, 'OpenMMLab', found, fix + ' '.join(MAINTAINED))
    for distribution, module in MAINTAINED.items():
        yield _package(distribution, module)


def _package(distribution: str, module: str) -> Check:
    found = installed(distribution)
    if found is None and distribution == 'opencv-python':  # without graphics
        found = installed('opencv-python-headless')
    error = import_error(module)
    if error or found is None:
        name = 'opencv-python-headless' if 'libGL' in (error or '') else distribution
        return Check(FAIL, distribution, error or 'not installed', f'{INSTALL} {name}')
    return Check(PASS, distribution, found)


def check_extras() -> Iterator[Check]:
    """Packages that some features need."""
    for distribution, feature in EXTRAS.items():
        found = installed(distribution)
        if found:
            yield Check(PASS, distribution, found)
        else:
            yield Check(WARN, distribution, f'not installed; {feature} needs it', f'{INSTALL} {distribution}')


def check_own_parts() -> Iterator[Check]:
    """Do the parts of other packages load?"""
    for own in load_parts():
        what = f'parts of {own.package}'
        if own.problem:
            yield Check(FAIL, what, own.problem, 'mend that package, or uninstall it')
        else:
            yield Check(PASS, what, f'module {own.module}: {", ".join(own.names) or "no names"}')


def check_weights() -> Check:
    """Is there a folder of weights?"""
    folder = os.environ.get(WEIGHTS_ENV)
    if not folder:
        fix = f'export {WEIGHTS_ENV}=~/weights, or let weights come from the Hugging Face hub'
        return Check(WARN, 'weights', f'${WEIGHTS_ENV} is not set', fix)
    if not Path(folder).is_dir():
        return Check(
            FAIL, 'weights', f'${WEIGHTS_ENV}={folder} is not a folder', f'mkdir -p {folder}, or correct the name'
        )
    names = sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith('.'))
    if not names:
        return Check(
            WARN, 'weights', f'{folder} is empty', 'put weight files there; docs/foundation_encoders.md lists them'
        )
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return Check(PASS, 'weights', f'{folder}: {", ".join(names[:5])}{more}')


def check_disk(folder: Path) -> Iterator[Check]:
    """Can results be written here, and is there room?"""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        yield Check(PASS, 'write access', str(folder))
    except OSError as error:
        yield Check(FAIL, 'write access', f'{folder}: {error.strerror}', 'start from a folder that you may write to')
    free = shutil.disk_usage(folder).free / 10**9
    if free < MIN_FREE_GB:
        fix = 'free some space: checkpoints, cached features and data go under the folder you start from'
        yield Check(WARN, 'disk', f'{free:.1f} GB free at {folder}', fix)
    else:
        yield Check(PASS, 'disk', f'{free:.0f} GB free at {folder}')


def checks(folder: Path) -> Iterator[Check]:
    """Run all checks, in the order in which faults are mended best."""
    yield check_python()
    yield from check_torch()
    yield from check_openmmlab()
    yield from (_package(distribution, module) for distribution, module in OTHERS.items())
    yield from check_extras()
    yield from check_own_parts()
    yield check_weights()
    yield from check_disk(folder)


def main(arguments: Sequence[str]) -> int:
    """Show every result; return 1 if something must be mended, else 0."""
    parser = argparse.ArgumentParser(
        prog='mmgfnuc doctor',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    warnings.simplefilter('ignore')  # of packages that are imported to see whether they can be
    found = []
    for check in checks(Path.cwd()):
        print(check)
        found.append(check.status)
    failures, warned = found.count(FAIL), found.count(WARN)
    print(f'{len(found)} checks: {failures} failed, {warned} warnings')
    return int(failures > 0)

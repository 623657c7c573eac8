"""Where a result comes from: versions, hardware, commit."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import mmgfnuc

# That shape a result.
LIBRARIES = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'timm', 'segment-anything')


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape a result."""
    return {name: version(name) for name in LIBRARIES}


def versions() -> dict[str, str]:
    """Return the versions of this package and of those libraries."""
    return {'mmgfnuc': mmgfnuc.__version__, **library_versions()}


def hardware() -> str:
    """Name the processor, its cores and the GPUs of this machine."""
    import torch  # not above: the versions of a study are asked for without PyTorch

    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        names = [
            line.split(':', 1)[1].strip() for line in cpuinfo.read_text('utf-8').splitlines() if 'model name' in line
        ]
        model = names[0] if names else model
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ', '.join([f'{model}, {os.cpu_count()} cores', *gpus])


def commit() -> str:
    """Return the git commit that this package runs from, `+changes` where files differ from it; empty if installed."""

    def git(*arguments: str) -> str:
        folder = str(Path(mmgfnuc.__file__).parent)
        try:
            done = subprocess.run(['git', '-C', folder, *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:  # no git on this machine
            return ''
        return done.stdout.strip()

    # An installed copy may lie in the working tree of some other project, which does not track it.
    head = git('rev-parse', 'HEAD') if git('ls-files', '__init__.py') else ''
    return head + '+changes' if head and git('status', '--porcelain', '-uno') else head

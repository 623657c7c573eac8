"""Build script of mmgfnuc; tool settings live in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# Folder of the repository -> where it lies in the package. A config inherits `mmgfnuc.configs...`, for which a clone
# has a link; OpenMMLab's loaders look for tools in `.mim`.
SHIPPED_FOLDERS = {'configs': 'configs', 'tools': '.mim/tools'}


class BuildPyWithFolders(build_py):
    """Copies configs/ and tools/ into the package of the build.

    An editable install skips the copy: there the repository itself is at hand.
    """

    def run(self) -> None:
        """Build the package, then add the two folders."""
        super().run()
        if self.editable_mode:
            return
        for name, place in SHIPPED_FOLDERS.items():
            target = Path(self.build_lib) / 'mmgfnuc' / place
            shutil.rmtree(target, ignore_errors=True)  # a reused build folder may hold files deleted since
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))


def read_version() -> str:
    """Read `__version__` as text: the package's dependencies are not installed yet when this runs."""
    source = (ROOT / 'mmgfnuc' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", source, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError("mmgfnuc/__init__.py has no line of the form __version__ = 'X.Y.Z'")
    return match[1]


def read_requirements(name: str) -> list[str]:
    """List the requirements of requirements/<name>.txt without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    stripped = (line.split('#', maxsplit=1)[0].strip() for line in lines)
    return [line for line in stripped if line]


extras = {name: read_requirements(name) for name in ('tests', 'optional', 'docs', 'ray')}
extras['all'] = sorted({requirement for group in extras.values() for requirement in group})

setup(
    name='mmgfnuc',
    version=read_version(),
    description='Modular nuclei segmentation: U-Net variants x foundation encoders x fusion blocks on MMEngine',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['nuclei segmentation', 'histopathology', 'foundation model', 'U-Net', 'MMEngine'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
    ],
    # Said, an editable install puts this root onto the path, and `import mmgfnuc` finds it also where a clone of the
    # same name lies in the working directory. Left out, it installs a finder, which is asked after such a folder.
    package_dir={'': '.'},
    packages=find_packages(include=['mmgfnuc', 'mmgfnuc.*']),
    package_data={
        'mmgfnuc.datasets.samples': ['*.md', '*.png'],
        'mmgfnuc.models': ['ready/*/*', 'ready/*/pictures/*'],
        'mmgfnuc.visualization': ['templates/*'],
    },
    python_requires='>=3.11',
    install_requires=read_requirements('runtime'),
    extras_require=extras,
    entry_points={'console_scripts': ['mmgfnuc = mmgfnuc.commands.main:main']},
    cmdclass={'build_py': BuildPyWithFolders},
)

"""Check the installation: PASS, WARN or FAIL for each part, and what to do about it."""

import argparse
import sys
import warnings
from pathlib import Path

from mmgfnuc.doctor import examine

EPILOG = """It looks at Python, PyTorch with torchvision and CUDA, the OpenMMLab packages (and OpenMMLab's own old
releases beside them), optional packages, the folder of weights, write access and disk space.
The exit code is 1 if something failed.

example:
  python tools/doctor.py"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    warnings.simplefilter('ignore')  # of packages that are imported to see whether they can be
    return examine(Path.cwd())


if __name__ == '__main__':
    sys.exit(main())

"""torchrun, without its traceback when a process ends with an error that it has already told."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    # Its agent logs every failed process; the process itself has printed why.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        sys.exit(max(failure.exitcode for failure in error.failures.values()) or 1)

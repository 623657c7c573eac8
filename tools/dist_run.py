"""torchrun, without its traceback when a process ends with an error that it has already told."""

import logging
import os
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

# mmgfnuc.engine.distributed reads it; importing that here would take seconds.
LAUNCHER_PID = 'MMGFNUC_LAUNCHER_PID'

if __name__ == '__main__':
    os.environ[LAUNCHER_PID] = str(os.getpid())
    # Its agent logs every failed process; the process itself has printed why.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        code = max(failure.exitcode for failure in error.failures.values())
        if code > 0:
            sys.exit(code)
        # Killed processes could not say it themselves.
        for rank, failure in error.failures.items():
            print(f'error: process {rank} was ended by {failure.signal_name()}', file=sys.stderr)
        sys.exit(1)

"""`mmgfnuc test` as a script."""

import sys

from mmgfnuc.commands.main import run

if __name__ == '__main__':
    run('test', sys.argv[1:])

"""`mmgfnuc score` as a script."""

import sys

from mmgfnuc.commands.main import run

if __name__ == '__main__':
    run('score', sys.argv[1:])

"""`mmgfnuc browse` as a script."""

import sys

from mmgfnuc.commands.main import run

if __name__ == '__main__':
    run('browse', sys.argv[1:])

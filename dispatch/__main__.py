"""``python -m dispatch``: the engine on standard input and output (see `dispatch.stdio`)."""

import sys

from dispatch.stdio import run_stdio

if __name__ == "__main__":
    run_stdio(sys.stdin, sys.stdout)

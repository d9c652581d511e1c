"""Arguments of `slimscan`, `predict` first: a fresh process as the command line starts it."""

import sys

from slimscan_edge.cli import main

code = main(sys.argv[1:])
if code == 0:
    sys.stdin.read()
sys.exit(code)

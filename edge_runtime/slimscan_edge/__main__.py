"""`python -m slimscan_edge`, and `slimscan`: the command line as a process of its own."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command looks after it: no traceback while this loads

from slimscan_edge.cli import main as main

if __name__ == "__main__":
    sys.exit(main())

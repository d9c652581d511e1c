"""`python -m slimscan_edge`: the same as `slimscan`."""

import sys

from slimscan_edge.cli import main

sys.exit(main())

"""Two programs for `slimscan_bench.cold_start` to start: ours, and the least that gives the same model's answer.

Each prints its answer on a line and waits for its standard input to close, so that its memory can be read meanwhile.
"""

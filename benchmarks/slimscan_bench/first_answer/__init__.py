"""Programs for `slimscan_bench.cold_start` and `slimscan_bench.instructions` to start.

`with_slimscan.py` is ours and `floor.py` the least that gives the same model's answer: each prints its answer on a line
and waits for its standard input to close, so that its memory can be read meanwhile. `many_answers.py` answers again
and again.
"""

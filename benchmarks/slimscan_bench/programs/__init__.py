"""Programs that measurements start in processes of their own.

For `slimscan_bench.cold_start`, `with_slimscan.py` is ours and `floor.py` the least that gives the same model's answer:
each prints its answer on a line and waits for its standard input to close, so that its memory can be read meanwhile.
`many_answers.py` answers again and again, for `slimscan_bench.instructions`; `on_demand.py` for one image at a time,
for `slimscan_bench.turns`; `warm_rounds.py` round after round, for `slimscan_bench.warm`.
"""

"""The least time of multiply-accumulates, against a hand's sum."""

import pytest

from slimscan_bench.paper_limit import BOARDS


def test_the_limit_is_what_a_hand_computes():
    limits = {board.name: board.least_ms(96_000_000) for board in BOARDS}
    # 96 M / (4 cores x 1.0 GHz x 8) = 3 ms, and so on.
    assert limits == pytest.approx(
        {
            "Raspberry Pi Zero 2 W": 3.0,
            "Raspberry Pi 3 B": 2.5,
            "Raspberry Pi 4 B": 2.0,
            "Raspberry Pi 5": 0.3125,
        }
    )
    assert BOARDS[0].least_ms(96_000_000, cores=1) == pytest.approx(12.0)

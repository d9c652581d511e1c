import numpy as np
import pytest
from PIL import Image

from slimscan_bench import scaling
from slimscan_bench.scaling import ThreadRun, measure_scaling, thread_figures


def test_every_number_of_threads_up_to_all_cores_takes_its_turn(golden_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "usable_cores", lambda: 2)
    paths = [tmp_path / f"{level}.png" for level in (30, 220)]
    for path, level in zip(paths, (30, 220), strict=True):
        Image.fromarray(np.full((50, 60), level, np.uint8)).save(path)
    done = []
    runs = measure_scaling(golden_bundle, paths, warmup=1, repeats=2, progress=done.append)
    assert sorted((run.round, run.threads) for run in runs) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert [run.threads for run in runs] in ([1, 2, 2, 1], [2, 1, 1, 2])
    assert done == [1, 2, 3]
    for run in runs:
        assert len(run.total_ms) == len(run.invoke_ms) == 2
        assert min(run.invoke_ms) > 0
        assert all(total > invoke for total, invoke in zip(run.total_ms, run.invoke_ms, strict=True))
        assert run.batch_seconds > 0


def test_figures_are_medians_over_the_rounds():
    def run(threads, number, total, invoke, batch):
        return ThreadRun(threads=threads, round=number, total_ms=total, invoke_ms=invoke, batch_seconds=batch)

    one, two = thread_figures(
        [
            run(2, 0, (1.0, 2.0), (0.5, 0.5), 0.1),
            run(1, 0, (3.0, 5.0), (1.0, 2.0), 0.5),
            run(1, 1, (4.0, 6.0), (3.0, 4.0), 0.25),
        ]
    )
    assert (one.threads, one.total_p50_ms, one.invoke_p50_ms) == (1, 4.5, 2.5)
    assert one.images_per_second == pytest.approx((4 + 8) / 2)
    assert one.one_by_one_per_second == pytest.approx((1e3 / 4 + 1e3 / 5) / 2)  # by the mean image, not the median one
    assert (two.threads, two.total_p50_ms, two.invoke_p50_ms, two.images_per_second) == (2, 1.5, 0.5, 20.0)

"""The published runs: small, readable, and without a trace of whose machine they were made on."""

import re

import pytest

from slimscan_bench.peers.comparison import PeerComparison
from slimscan_bench.peers.roster import FOLDER
from slimscan_bench.report.page import read_any_record

RESULTS = FOLDER.parent / "results"
MOST_BYTES = 300_000


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_a_published_run_is_small_valid_and_without_paths(path):
    assert path.stat().st_size < MOST_BYTES
    record = read_any_record(path)
    assert isinstance(record, PeerComparison)
    assert record.thinned_out
    assert record.invalid == ()
    assert not re.search(r'"[^"]*/(home|root|tmp|work|mnt|Users)/', path.read_text())


def test_the_readme_says_how_they_are_made():
    text = (RESULTS / "README.md").read_text()
    for word in ("slimscan peers", "--publish benchmarks/results/", "--onnx", "--mobile"):
        assert word in text

from pathlib import Path

import pytest

from slimscan_edge import locate
from slimscan_edge.errors import BundleError


def test_a_given_bundle_is_taken_unseen():
    located = locate.locate_bundle(Path("mine.slimscan"))
    assert (located.path, located.chosen) == (Path("mine.slimscan"), "given with --bundle")


def test_else_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "REFERENCE_FOLDER", tmp_path)
    (tmp_path / "pneumonia-1.0.0.slimscan").write_bytes(b"")
    located = locate.locate_bundle(None)
    assert located.path == tmp_path / "pneumonia-1.0.0.slimscan"
    assert "shipped" in located.chosen


@pytest.mark.parametrize("shipped", [[], ["a-1.0.0.slimscan", "b-1.0.0.slimscan"]])
def test_none_or_several_shipped_ones_ask_for_a_choice(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "REFERENCE_FOLDER", tmp_path)
    for name in shipped:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BundleError, match="say which bundle with --bundle PATH"):
        locate.locate_bundle(None)

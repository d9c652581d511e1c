"""A peer's process: what it says, and every way in which it can fail to."""

import sys
import textwrap
from pathlib import Path

import pytest

from slimscan_bench.child import ChildError
from slimscan_bench.peers.process import PeerProcess, Reply
from slimscan_bench.peers.roster import FOLDER
from slimscan_edge.errors import EXIT_MACHINE


def started(tmp_path: Path, script: str, *, seconds: float = 20.0) -> PeerProcess:
    path = tmp_path / "peer.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\n{textwrap.dedent(script)}")
    return PeerProcess((sys.executable, str(path)), seconds=seconds)


SERVES = """
from protocol import serve
import os
def answer(path, step):
    print("a library's chatter")
    os.write(1, b"and a native one's\\n")
    step("decode")
    step("invoke", 7)
    if path.endswith("bad"):
        raise ValueError("two\\nlines")
    return len(path)
serve(answer, "numpy")
"""


def test_a_peer_answers_again_and_again_whatever_its_libraries_print(tmp_path):
    with started(tmp_path, SERVES) as peer:
        replies = [peer.ask(Path("/a")), peer.ask(Path("/abc"))]
        assert [reply.value for reply in replies] == [2.0, 4.0]
        assert set(peer.versions) == {"numpy"}
        assert peer.peak_memory_mib is None or peer.peak_memory_mib > 1.0
    assert isinstance(replies[0], Reply)
    assert replies[0].stages_ns["invoke"] == 7
    assert 0 <= replies[0].stages_ns["decode"] <= replies[0].wall_ns


def test_an_error_is_one_line_and_the_next_image_is_answered(tmp_path):
    with started(tmp_path, SERVES) as peer:
        with pytest.raises(ChildError, match=r"^bad: ValueError: two lines$") as caught:
            peer.ask(Path("/x/bad"))
        assert peer.ask(Path("/ab")).value == 3.0
    assert caught.value.exit_code == EXIT_MACHINE


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import no_such_module", "exit code 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("sys.exit(3)", "exit code 3: no message"),
        ("print('hello', flush=True); sys.stdin.read()", "it wrote b'hello', expected a line of JSON"),
        ("sys.stdin.readline(); print('{}', flush=True)", "it told no versions"),
    ],
)
def test_a_peer_that_is_none_says_why(tmp_path, script, words):
    with started(tmp_path, script) as peer, pytest.raises(ChildError) as caught:
        peer.ask(Path("/a"))
    assert words in str(caught.value)


def test_a_peer_that_hangs_is_given_up(tmp_path):
    with (
        started(tmp_path, "import time; time.sleep(60)", seconds=0.3) as peer,
        pytest.raises(ChildError, match=r"no answer for 0\.3 seconds"),
    ):
        peer.ask(Path("/a"))


def test_a_program_that_is_not_there_cannot_be_started():
    with pytest.raises(ChildError, match="/no/such/python cannot be started: No such file"):
        PeerProcess(("/no/such/python",))

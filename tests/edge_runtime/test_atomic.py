import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError


def test_writes_into_a_folder_that_it_makes_and_replaces(tmp_path):
    target = tmp_path / "new" / "file.bin"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(InputError, match=r"file\.bin cannot be written \(No space left on device\)"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "taken" / "file.bin", b"")


def test_a_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    for name, before in (("old", b"old"), ("new", None)):
        target, link = tmp_path / "there" / name, tmp_path / f"link to {name}"
        if before:
            target.write_bytes(before)
        link.symlink_to(Path("there") / name)
        write_atomically(link, b"written")
        assert link.is_symlink()
        assert target.read_bytes() == b"written"
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"old", "new"}


def test_a_device_stays_one_and_is_written_to():
    before = Path("/dev/null").stat()
    write_atomically("/dev/null", b"anything")
    after = Path("/dev/null").stat()
    assert (after.st_ino, after.st_rdev, stat.S_ISCHR(after.st_mode)) == (before.st_ino, before.st_rdev, True)
    with pytest.raises(InputError, match=r"/dev/full cannot be written \(No space left on device\)"):
        write_atomically("/dev/full", b"anything")


def test_a_link_to_a_device_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    write_atomically(tmp_path / "link", b"anything")
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to_when_somebody_reads_it(tmp_path):
    pipe, content = tmp_path / "pipe", os.urandom(300_000)
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(pipe, content)
    read = bytearray()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def drain():
        while len(read) < len(content):  # empty until somebody writes
            read.extend(os.read(reader, 65536))

    thread = threading.Thread(target=drain)
    thread.start()
    write_atomically(pipe, content)
    thread.join()
    os.close(reader)
    assert read == content
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_disk_is_never_written_to(tmp_path, monkeypatch):
    real = os.stat

    def disk(path, **options):
        found = real(path, **options)
        if str(path) != str(tmp_path / "sda"):
            return found
        return os.stat_result((stat.S_IFBLK | 0o660, *found[1:]))

    (tmp_path / "sda").write_bytes(b"all that there is")
    monkeypatch.setattr(os, "stat", disk)
    with pytest.raises(InputError, match="it is a disk"):
        write_atomically(tmp_path / "sda", b"a report")
    monkeypatch.undo()
    assert (tmp_path / "sda").read_bytes() == b"all that there is"


@pytest.mark.parametrize("name", ["folder", "loop", "x" * 300])
def test_what_cannot_be_a_file_is_told(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / name, b"")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "loop"}
    assert list((tmp_path / "folder").iterdir()) == []


def test_the_longest_name_can_be_written(tmp_path):
    write_atomically(tmp_path / ("x" * 255), b"")
    assert len(list(tmp_path.iterdir())) == 1


def test_without_nameless_files_it_is_the_same(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    write_atomically(tmp_path / "file", b"one")
    write_atomically(tmp_path / "file", b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"two"]


def test_where_a_nameless_file_gets_no_name_it_is_the_same(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write_atomically(tmp_path / "file", b"one")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    program = (
        "import os, signal, sys; from slimscan_edge.atomic import write_atomically; "
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); write_atomically(sys.argv[1], bytes(10**6))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")])
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []

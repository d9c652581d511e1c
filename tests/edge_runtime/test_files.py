"""Which files in folders are images: every kind of thing that lies in folders, with the right outcome."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.errors import ImageError
from slimscan_edge.files import (
    begins_as_image,
    find_images,
    image_files,
    passed_over_lines,
    unreadable_in_words,
)

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
DICOM = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00"


def put(root: Path, *names: str, content: bytes = JPEG) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(root: Path, paths: object) -> list[str]:
    return [os.path.relpath(getattr(one, "path", one), root) for one in paths]


def test_images_come_in_the_order_of_names_folders_in_depth(tmp_path):
    put(tmp_path, "b.png", "a/z.jpeg", "a/b/c.tif", "a.png", "A.bmp", "a/b.png")
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["A.bmp", "a/b/c.tif", "a/b.png", "a/z.jpeg", "a.png", "b.png"]
    assert list(found.images) == sorted(found.images)
    assert (found.unreadable, found.passed_over) == ((), ())


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".jpe", ".jfif", ".Png", ".TIF", ".tiff", ".bmp", ".webp", ".DCM"])
def test_a_suffix_is_believed_without_a_look(tmp_path, suffix):
    put(tmp_path, f"x{suffix}", content=b"")
    assert len(find_images([tmp_path]).images) == 1


@pytest.mark.parametrize(
    "head",
    [
        JPEG,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"GIF89a\x01\0",
        b"\0\0\0\x1cftypheic\0\0\0\0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        DICOM,
        b"DICM\x02\0\0\0UL\x04\0",
        b"\x02\0\0\0UL\x04\0\x80\0\0\0\x02\0\x01\0OB",  # bare, with its file information
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100",  # bare, explicit
        b"\x08\0\0\0\x04\0\0\0\x12\x01\0\0",  # bare, implicit
        b"\0\x08\0\x05CS\0\x0aISO_IR 100",  # bare, big endian
    ],
)
def test_content_tells_where_the_suffix_does_not(tmp_path, head):
    assert begins_as_image(head)
    put(tmp_path, "IM0001", "0002.ima", "3", content=head)
    assert len(find_images([tmp_path]).images) == 3


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x08\0",
        b"Dear colleague,",
        b"BMW and Audi, 14 cars in all",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\0\0\0\x20ftypisom\0\0\0\0",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",  # Thumbs.db
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\x08\0\x05\0\xff\xff\xff\xff",
        b"\x80\x04\x95",  # a pickle
        "zwei".encode("utf-16"),
    ],
)
def test_what_is_no_picture_is_passed_over_by_name(tmp_path, head):
    assert not begins_as_image(head)
    put(tmp_path, "x.png")
    put(tmp_path, "ward/other", content=head)
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["x.png"]
    assert [(Path(one.path).name, one.kind) for one in found.passed_over] == [("other", "no image")]


def test_the_index_of_a_dicom_medium_is_no_image(tmp_path):
    put(tmp_path, "DICOMDIR", "DICOM/IM0001", content=DICOM)
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["DICOM/IM0001"]
    assert names(tmp_path, found.passed_over) == ["DICOMDIR"]


def test_hidden_files_and_what_systems_leave_are_passed_over_whole(tmp_path):
    put(tmp_path, "x.png", "._x.png", ".Trashes/old.png", "__MACOSX/chest/._x.png", "@eaDir/x.png/SYNOPHOTO_M.jpg",
        ".ipynb_checkpoints/x-checkpoint.png", "$RECYCLE.BIN/y.png", "lost+found/z.png")  # fmt: skip
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["x.png"]
    assert {one.kind for one in found.passed_over} == {"hidden"}
    assert len(found.passed_over) == 7


# --- links -----------------------------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(tmp_path):
    put(tmp_path / "archive", "1.jpeg", "2")
    put(tmp_path / "in", "own.png")
    (tmp_path / "in" / "ward").symlink_to(tmp_path / "archive")
    (tmp_path / "in" / "one.jpeg").symlink_to("../archive/1.jpeg")
    (tmp_path / "in" / "two").symlink_to("../archive/2")
    found = find_images([tmp_path / "in"])
    assert names(tmp_path / "in", found.images) == ["one.jpeg", "own.png", "two", "ward/1.jpeg", "ward/2"]
    (tmp_path / "linked").symlink_to("in")
    assert len(find_images([tmp_path / "linked"]).images) == 5


def test_one_folder_reached_by_two_links_is_searched_twice(tmp_path):
    put(tmp_path / "archive", "1.jpeg")
    for link in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / link).symlink_to(tmp_path / "archive")
    assert names(tmp_path / "in", find_images([tmp_path / "in"]).images) == ["a/1.jpeg", "b/1.jpeg"]


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "../../top/ward"])
def test_a_link_back_is_not_followed(tmp_path, target):
    put(tmp_path / "top", "ward/x.png")
    (tmp_path / "top" / "ward" / "back").symlink_to(target)
    found = find_images([tmp_path / "top"])
    assert names(tmp_path / "top", found.images) == ["ward/x.png"]
    assert [(Path(one.path).name, one.kind) for one in found.passed_over] == [("back", "link back")]


def test_two_folders_that_hold_links_to_each_other_end(tmp_path):
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "to-b").symlink_to("../b")
    (tmp_path / "b" / "to-a").symlink_to("../a")
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["a/1.png", "a/to-b/2.png", "b/2.png", "b/to-a/1.png"]
    assert len(found.passed_over) == 2


def test_links_to_nothing_are_unreadable_and_told_from_folders(tmp_path):
    put(tmp_path, "x.png")
    (tmp_path / "y.jpeg").symlink_to("/nowhere/y.jpeg")
    (tmp_path / "val").symlink_to("/nowhere/val")
    (tmp_path / "self").symlink_to("self")
    found = find_images([tmp_path])
    assert names(tmp_path, found.unreadable) == ["self", "val", "y.jpeg"]
    assert [bad.holds_many for bad in found.unreadable] == [True, True, False]
    assert found.unreadable[2].reason == f"{tmp_path / 'y.jpeg'} is a link to nothing (/nowhere/y.jpeg)"
    assert "leads to itself" in found.unreadable[0].reason


# --- what cannot be read ---------------------------------------------------------------------------------------------


def test_a_folder_that_may_not_be_entered_is_unreadable_and_the_others_are_read(tmp_path, monkeypatch):
    put(tmp_path, "a/1.png", "locked/2.png", "z/3.png")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["a/1.png", "z/3.png"]
    (bad,) = found.unreadable
    assert bad.holds_many
    assert bad.reason == f"{tmp_path / 'locked'} cannot be searched (Permission denied)"


def test_a_file_without_a_known_suffix_that_may_not_be_opened_is_unreadable(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "IM0001")

    def refusing(path, *words, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builtins.open", refusing)
    found = find_images([tmp_path])
    monkeypatch.undo()
    assert names(tmp_path, found.images) == ["a.png"]
    assert names(tmp_path, found.unreadable) == ["IM0001"]
    assert not found.unreadable[0].holds_many


def test_pipes_are_never_opened(tmp_path):
    put(tmp_path, "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    found = find_images([tmp_path])
    assert names(tmp_path, found.images) == ["x.png"]
    assert names(tmp_path, found.unreadable) == ["pipe.png"]
    assert names(tmp_path, found.passed_over) == ["pipe"]


@pytest.mark.parametrize("given", ["absent.png", "x" * 300, "x.png/inside.png", "empty"])
def test_a_given_path_without_an_image_is_unreadable(tmp_path, given):
    put(tmp_path, "x.png")
    (tmp_path / "empty").mkdir()
    found = find_images([tmp_path / given, tmp_path / "x.png"])
    assert found.images == (tmp_path / "x.png",)
    (bad,) = found.unreadable
    assert bad.reason.startswith(f"{tmp_path / given} ")


def test_a_given_file_is_taken_as_it_is(tmp_path):
    put(tmp_path, ".hidden", "letter.txt", "DICOMDIR", content=b"Dear colleague")
    given = [tmp_path / name for name in (".hidden", "letter.txt", "DICOMDIR")]
    assert list(find_images(given).images) == given


def test_a_deep_folder_is_searched_without_recursion(tmp_path):
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").write_bytes(JPEG)
    finally:
        os.chdir(here)
    os.chdir(tmp_path)
    try:
        assert len(find_images([Path("d")]).images) == 1
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


# --- in words --------------------------------------------------------------------------------------------------------


def test_where_every_path_must_be_readable_the_others_are_named(tmp_path):
    put(tmp_path, "x.png", "notes.txt", ".hidden.png")
    (tmp_path / "notes.txt").write_text("none")
    said: list[str] = []
    assert image_files([tmp_path], said.append) == [tmp_path / "x.png"]
    assert said == [
        f"passed over 1 file that is no image: {tmp_path / 'notes.txt'}",
        f"passed over 1 hidden or system file or folder: {tmp_path / '.hidden.png'}",
    ]
    for number in range(3):
        (tmp_path / f"{number}.png").symlink_to("nowhere")
    with pytest.raises(ImageError, match="3 files and folders cannot be read:\n") as stopped:
        image_files([tmp_path])
    assert all(f"{number}.png is a link to nothing (nowhere)" in str(stopped.value) for number in range(3))


def test_lines_count_and_name_the_first_and_no_terminal_obeys_them(tmp_path):
    put(tmp_path, *(f"{number}.txt" for number in range(8)), content=b"no")
    put(tmp_path, "\x1b[2J.txt", content=b"no")
    (line,) = passed_over_lines(find_images([tmp_path]).passed_over)
    assert line.startswith("passed over 9 files that are no images: ")
    assert "\\x1b[2J.txt" in line
    assert line.endswith(" and 4 more")
    assert "\x1b" not in unreadable_in_words(find_images([tmp_path / "\x1b"]).unreadable)


def test_the_module_is_light():
    code = "import sys, slimscan_edge.files; print([m for m in ('numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

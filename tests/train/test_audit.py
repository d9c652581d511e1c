import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from slimscan_edge.cli import main
from slimscan_train.audit import Association, Audit, Observation, Overlap, associations, audit, observe, overlaps
from slimscan_train.dataset import Dataset, LabelledImage, read_dataset
from slimscan_train.split import SplitConfig, make_split, write_split

Draw = Callable[..., Path]


def names(number: int) -> tuple[str, str]:
    return f"NORMAL/IM-{number:04d}-0001.png", f"PNEUMONIA/person{number}_virus_{number}.png"


@pytest.fixture
def data(tmp_path: Path, draw: Draw) -> Path:
    """Twenty children of each class, all pictures of one size and of random greys: nothing is wrong with it."""
    for number in range(20):
        for name in names(number):
            draw(tmp_path / "data" / name, seed=sum(name.encode()) * 100 + number)
    return tmp_path / "data"


def look(folder: Path) -> Audit:
    dataset = read_dataset(folder)
    return audit(dataset, *observe(dataset))


def paths(group: tuple[LabelledImage, ...]) -> list[str]:
    return [image.path for image in group]


# --- each planted defect is found ------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_wrong(data: Path) -> None:
    found = look(data)
    assert not any((found.unreadable, found.exact_copies, found.label_conflicts, found.near_duplicates))
    assert not any((found.overlaps, found.split_overlaps, found.split_changes, found.shortcuts))


def test_images_and_patients_are_counted(data: Path, draw: Draw) -> None:
    draw(data / "PNEUMONIA/person3_virus_99.png", seed=1)
    rows = [(row.split, row.label, row.series, row.images, row.patients) for row in look(data).counts]
    assert rows == [("", "NORMAL", "IM", 20, 20), ("", "PNEUMONIA", "virus", 21, 20)]


def test_unreadable_files(data: Path) -> None:
    empty, broken = (data / name for name in names(3))
    empty.write_bytes(b"")
    broken.write_bytes(broken.read_bytes()[:80])
    found = look(data).unreadable
    assert [bad.path for bad in found] == list(names(3))
    assert "is empty" in found[0].reason
    assert "damaged or incomplete" in found[1].reason


def test_exact_copies_and_two_labels_for_one_picture(data: Path) -> None:
    same = data / names(1)[0], data / names(2)[0]
    same[1].write_bytes(same[0].read_bytes())
    conflicting = data / names(5)[0], data / names(6)[1]
    conflicting[1].write_bytes(conflicting[0].read_bytes())
    found = look(data)
    assert [paths(group) for group in found.exact_copies] == [
        [names(1)[0], names(2)[0]],
        [names(5)[0], names(6)[1]],
    ]
    assert [paths(group) for group in found.label_conflicts] == [[names(5)[0], names(6)[1]]]
    assert not found.near_duplicates  # these are the same files, told already


def resaved(picture: Image.Image) -> Image.Image:
    return picture.resize((200, 180))


def brighter(picture: Image.Image) -> Image.Image:
    return picture.point([min(255, round(20 + 0.8 * level)) for level in range(256)])


@pytest.mark.parametrize(("change", "suffix"), [(resaved, ".jpeg"), (brighter, ".png"), (lambda p: p, ".bmp")])
def test_one_picture_under_two_patients_names(
    change: Callable[[Image.Image], Image.Image], suffix: str, phantoms: Path, tmp_path: Path
) -> None:
    """Phantoms, for chests are all alike: only the copy must be found."""
    dataset = read_dataset(phantoms)
    for image in dataset.images:
        (tmp_path / image.path).parent.mkdir(exist_ok=True)
        (tmp_path / image.path).write_bytes(dataset.file(image).read_bytes())
    source = dataset.images[0]
    with Image.open(dataset.file(source)) as picture:
        change(picture).save(tmp_path / f"PNEUMONIA/person900_virus_900{suffix}")
    (group,) = look(tmp_path).near_duplicates
    assert paths(group) == [source.path, f"PNEUMONIA/person900_virus_900{suffix}"]


def test_one_picture_twice_under_one_patients_name_is_no_near_duplicate(data: Path) -> None:
    with Image.open(data / names(4)[0]) as picture:
        picture.save(data / "NORMAL/IM-0004-0002.bmp")
    assert not look(data).near_duplicates


def test_flat_pictures_are_not_compared(data: Path, draw: Draw) -> None:
    for number, grey in ((1, 0), (2, 90)):
        draw(data / names(number)[0], pixels=np.full((20, 24), grey, np.uint8))
    assert not look(data).near_duplicates


def test_what_the_data_sets_own_splits_share(data: Path, tmp_path: Path, draw: Draw) -> None:
    root = tmp_path / "split"
    root.mkdir()
    data.rename(root / "train")
    for name in names(50):
        draw(root / "test" / name, seed=sum(name.encode()))
    assert not look(root).overlaps
    draw(root / "test/PNEUMONIA/person7_virus_999.png", seed=999)
    copied = root / "test/NORMAL/IM-0060-0001.png"
    copied.write_bytes((root / "train" / names(8)[0]).read_bytes())
    assert look(root).overlaps == (
        Overlap(first="test", second="train", patients=("person7_virus",), copies=(f"train/{names(8)[0]}",)),
    )


def test_what_the_splits_of_a_file_share_and_whether_it_is_of_these_images(
    data: Path, record: Callable[..., LabelledImage]
) -> None:
    dataset = read_dataset(data)
    split = make_split(dataset, SplitConfig())
    whole = audit(dataset, (), split=split.images)
    assert (whole.split_overlaps, whole.split_changes) == ((), ())
    first = next(image for image in split.images if image.split == "train")
    torn = (*split.images, replace(first, path="NORMAL/new.png", split="val"))
    found = audit(dataset, (), split=torn)
    assert [(overlap.first, overlap.second, overlap.patients) for overlap in found.split_overlaps] == [
        ("train", "val", (first.patient,))
    ]
    assert found.split_changes == ("NORMAL/new.png",)


def test_unreadable_images_and_images_without_a_split_overlap_with_nothing(
    record: Callable[..., LabelledImage],
) -> None:
    images = [record("IM", 1, image=n, split=split) for n, split in enumerate(("train", "unreadable", ""))]
    assert overlaps(images) == ()


SHORTCUTS: dict[str, Callable[[np.random.Generator, bool], Image.Image]] = {
    "width": lambda rng, sick: noise(rng, (30 + 9 * sick + int(rng.integers(-8, 9)), 40)),
    "height": lambda rng, sick: noise(rng, (40, 30 + 9 * sick + int(rng.integers(-8, 9)))),
    "aspect ratio": lambda rng, sick: noise(rng, (40, 30) if sick else (30, 40)),
    "detail across over down": lambda rng, sick: noise(rng, (60, 30) if sick else (30, 30)).resize((30, 30)),
    "mean grey": lambda rng, sick: noise(rng, (24, 20)).point([min(255, level + 30 * sick) for level in range(256)]),
    "contrast": lambda rng, sick: noise(rng, (24, 20)).point([level // 2 if sick else level for level in range(256)]),
    "1st percentile of grey": lambda rng, sick: noise(rng, (24, 20), low=25 if sick else 0),
    "99th percentile of grey": lambda rng, sick: noise(rng, (24, 20), high=230 if sick else 256),
    "colour mode RGB": lambda rng, sick: noise(rng, (24, 20)).convert("RGB" if sick and rng.random() < 0.4 else "L"),
}


def noise(rng: np.random.Generator, size: tuple[int, int], low: int = 0, high: int = 256) -> Image.Image:
    return Image.fromarray(rng.integers(low, high, size[::-1], dtype=np.uint8))


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_property_that_goes_with_the_class(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        for sick, path in enumerate(names(number)):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            SHORTCUTS[name](rng, bool(sick)).save(tmp_path / path)
    assert name in [shortcut.name for shortcut in look(tmp_path).shortcuts]


@pytest.mark.parametrize("goes_with_the_class", [True, False])
def test_a_style_that_no_single_property_tells(record: Callable[..., LabelledImage], goes_with_the_class: bool) -> None:
    """Two measures of style, each of which tells nothing by itself: their difference does."""
    rng = np.random.default_rng(3)
    observations = []
    for number in range(200):
        sick = number % 2 == 1
        style = rng.normal(size=23)
        style[1] = style[0] + (0.5 if sick and goes_with_the_class else 0.0) + 0.1 * rng.normal()
        observations.append(seen(record, "virus" if sick else "IM", number, style=style))
    row = next(row for row in associations(observations, positive="PNEUMONIA") if row.name.startswith("style"))
    assert row.is_shortcut is goes_with_the_class
    few = associations(observations[:150], positive="PNEUMONIA")
    assert not any(row.name.startswith("style") for row in few)


def test_file_size_and_format_that_go_with_the_class(data: Path) -> None:
    for number in range(20):
        sick = data / names(number)[1]
        with Image.open(sick) as picture:
            picture.save(sick.with_suffix(".jpeg"), quality=20)
        sick.unlink()
    found = {shortcut.name for shortcut in look(data).shortcuts}
    assert {"file bytes per pixel", "file format PNG"} <= found or {"file bytes per pixel", "file format JPEG"} <= found


# --- figures by hand -------------------------------------------------------------------------------------------------


def seen(record: Callable[..., LabelledImage], series: str, number: int, **changes: object) -> Observation:
    values: dict[str, object] = {"width": 10, "height": 10, "mode": "L", "file_format": "PNG", "size_bytes": 50,
                                 "mean": 9.0, "low": 0.0, "high": 99.0, "contrast": 5.0, "squeeze": 1.0,
                                 "style": np.zeros(23), "thumbnail": np.zeros(1024, np.float32)}  # fmt: skip
    return Observation(image=record(series, number), **{**values, **changes})


def test_auroc_and_medians_counted_by_hand(record: Callable[..., LabelledImage]) -> None:
    healthy = [seen(record, "IM", number, width=width) for number, width in enumerate((10, 20, 30))]
    sick = [seen(record, "virus", number, width=width) for number, width in enumerate((20, 40))]
    found = {row.name: row for row in associations(healthy + sick, positive="PNEUMONIA")}
    width = found["width"]
    assert width.auroc == pytest.approx((1 + 0.5 + 3) / 6)  # 20 beats 10 and ties 20; 40 beats all three
    assert (width.negative, width.positive) == (20.0, 30.0)
    assert not width.is_shortcut  # five images prove nothing
    assert found["height"].auroc == 0.5
    assert found["height"].p_value == 1.0
    assert set(found) == {"width", "height", "aspect ratio", "file bytes per pixel", "mean grey",
                          "1st percentile of grey", "99th percentile of grey", "contrast",
                          "detail across over down"}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "squeeze"),
    [
        ([[10, 30, 10], [12, 32, 12]], 10.0),  # by 20 to the side four times, by 2 downwards three times
        ([[7, 7], [7, 7]], 1.0),
        ([[7]], 1.0),
    ],
)
def test_squeeze_counted_by_hand(tmp_path: Path, rows: list[list[int]], squeeze: float) -> None:
    for path in names(1):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.fromarray(np.array(rows, np.uint8)).save(tmp_path / path)
    found, unreadable = observe(read_dataset(tmp_path))
    assert [one.squeeze for one in found] == pytest.approx([squeeze, squeeze])
    assert not unreadable


def test_a_category_counted_by_hand(record: Callable[..., LabelledImage]) -> None:
    observations = [seen(record, "IM", number) for number in range(4)]
    observations += [seen(record, "virus", number, mode="RGB" if number < 2 else "L") for number in range(4)]
    (row,) = (row for row in associations(observations, positive="PNEUMONIA") if row.is_category)
    assert (row.name, row.negative, row.positive, row.auroc) == ("colour mode RGB", 0.0, 0.5, 0.75)
    assert row.p_value == pytest.approx(2 * 6 / 28)  # both RGB in one class: C(4, 2) of C(8, 2) ways, for either class
    assert not row.is_shortcut


@pytest.mark.parametrize(
    ("changes", "shortcut"),
    [
        ({"auroc": 0.75}, True),
        ({"auroc": 0.25}, True),
        ({"auroc": 0.69}, False),
        ({"auroc": 0.75, "p_value": 0.06}, False),
        ({"auroc": 0.55, "is_category": True, "negative": 0.0}, True),
        ({"auroc": 0.55, "is_category": True, "negative": 0.01}, False),
        ({"auroc": 0.55, "negative": 0.0}, False),
    ],
)
def test_where_a_shortcut_begins(changes: dict[str, float], shortcut: bool) -> None:
    row = Association(name="x", is_category=False, auroc=0.5, p_value=0.01, negative=0.1, positive=0.2)
    assert replace(row, **changes).is_shortcut is shortcut


def test_one_class_alone_has_no_shortcuts(record: Callable[..., LabelledImage]) -> None:
    assert associations([seen(record, "IM", number) for number in range(3)], positive="PNEUMONIA") == ()


def test_progress_is_told(data: Path) -> None:
    told: list[tuple[int, int]] = []
    observe(read_dataset(data), lambda done, total: told.append((done, total)))
    assert told == [(done, 40) for done in range(1, 41)]


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_clean_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(data)]) == 0
    said = capsys.readouterr()
    assert "40 images (20 NORMAL, 20 PNEUMONIA) of 40 patients" in said.err
    assert said.out.splitlines()[0] == "split  class      series  images  patients"
    assert "ok    unreadable       none" in said.out
    assert said.out.endswith("\nnothing to look into\n")


def test_a_style_that_tells_the_class_comes_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ill chests are softer than healthy ones, and differ by nothing else."""
    rng = np.random.default_rng(2)
    for number in range(120):
        for sick, path in enumerate(names(number)):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            picture = noise(rng, (30, 30), low=90, high=160)
            (picture.filter(ImageFilter.GaussianBlur(0.4)) if sick else picture).save(tmp_path / path)
    assert main(["audit", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "style (sharpness, tone" in line)
    assert line.startswith("note  label shortcut")
    assert line.endswith("; draw against it (fit.balance, as the default recipe does)")


def test_notes_do_not_change_the_exit_code(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_split(tmp_path / "split.json", make_split(read_dataset(data), SplitConfig()))
    (data / names(3)[0]).write_bytes(b"")
    (data / names(6)[1]).write_bytes((data / names(5)[0]).read_bytes())
    assert main(["audit", str(data), "--split", str(tmp_path / "split.json")]) == 0
    said = capsys.readouterr().out
    assert "note  unreadable       1 files\n" in said
    assert "note  label conflicts  2 files with the same bytes and two labels, in 1 groups" in said
    assert f"{names(5)[0]} = {names(6)[1]}" in said
    assert "note  split file's age 2 images were added, removed or changed since" in said
    assert said.endswith("\n4 notes to look into\n")


def test_json_is_one_object_with_everything(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / names(6)[1]).write_bytes((data / names(5)[0]).read_bytes())
    assert main(["audit", str(data), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["label_conflicts"] == [[names(5)[0], names(6)[1]]]
    assert (found["images"], found["patients"], found["labels"]) == (40, 40, ["NORMAL", "PNEUMONIA"])
    assert {"auroc", "p_value", "is_shortcut"} <= set(found["associations"][0])
    assert {"counts", "unreadable", "exact_copies", "near_duplicates", "overlaps"} <= set(found)


@pytest.mark.parametrize("words", [["absent"], [".", "--split", "absent.json"]])
def test_unusable_input_is_exit_code_2(
    words: list[str], data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data)
    assert main(["audit", *words]) == 2
    assert capsys.readouterr().err.startswith("slimscan audit: ")


# --- real X-rays -----------------------------------------------------------------------------------------------------


def test_among_full_size_x_rays_size_and_colour_go_with_the_class(shared_data: Path) -> None:
    found = look(shared_data / "chest_xray_fullsize")
    assert {"width", "height", "aspect ratio", "colour mode RGB"} <= {shortcut.name for shortcut in found.shortcuts}
    width = next(row for row in found.associations if row.name == "width")
    assert width.negative > width.positive
    assert not found.unreadable
    assert not found.near_duplicates


def test_exact_copies_of_the_reference_data_are_of_one_patient_each(shared_data: Path) -> None:
    folder = shared_data / "chest_xray"
    if not folder.is_dir():
        pytest.skip(f"no reference training split in {folder}")
    dataset: Dataset = read_dataset(folder)
    found = audit(dataset, ())
    assert sum(len(group) - 1 for group in found.exact_copies) == 26
    assert all(len({image.patient for image in group}) == 1 for group in found.exact_copies)
    assert not found.label_conflicts


def test_copies_brought_to_a_square_still_tell_of_their_frames(shared_data: Path) -> None:
    folder = shared_data / "chest_xray"
    if not folder.is_dir():
        pytest.skip(f"no reference training split in {folder}")
    dataset = read_dataset(folder)
    found = {
        row.name: row for row in audit(dataset, observe(replace(dataset, images=dataset.images[::10]))[0]).associations
    }
    assert found["aspect ratio"].auroc == 0.5
    assert found["detail across over down"].auroc > 0.8
    style = found["style (sharpness, tone and margins together)"]
    assert style.auroc > 0.9
    assert style.is_shortcut

from pathlib import PurePosixPath

import pytest

from slimscan_train.naming import ImageName, parse, parse_generic, parse_kermany, recognise


@pytest.mark.parametrize(
    ("name", "patient", "group", "series", "number"),
    [
        ("IM-0115-0001.jpeg", "IM-0115", "normal", "IM", 115),
        ("IM-0501-0001-0002.jpeg", "IM-0501", "normal", "IM", 501),
        ("NORMAL2-IM-0503-0001.jpeg", "NORMAL2-IM-0503", "normal", "NORMAL2-IM", 503),
        ("NORMAL2-IM-1116-0001-0001.jpeg", "NORMAL2-IM-1116", "normal", "NORMAL2-IM", 1116),
        ("person17_bacteria_56.jpeg", "person17_bacteria", "bacteria", "bacteria", 17),
        ("person80_virus_150.jpeg", "person80_virus", "virus", "virus", 80),
        ("person447_virus_921_1.jpeg", "person447_virus", "virus", "virus", 447),
        ("NORMAL-1049278-0001.jpeg", "NORMAL-1049278", "normal", "normal", 1049278),
        ("BACTERIA-1135262-0002.jpeg", "BACTERIA-1135262", "bacteria", "bacteria", 1135262),
        ("VIRUS-9968655-0001.jpeg", "VIRUS-9968655", "virus", "virus", 9968655),
    ],
)
def test_each_convention_of_the_reference_data(name: str, patient: str, group: str, series: str, number: int) -> None:
    expected = ImageName(patient=patient, group=group, series=series, number=number)
    assert parse_kermany(PurePosixPath("train/ANY", name)) == expected


@pytest.mark.parametrize(
    "name", ["scan.jpeg", "person_virus_1.jpeg", "person1_fungus_2.jpeg", "IM-0115.jpeg", "xIM-0115-0001.jpeg"]
)
def test_other_names_are_not_guessed_at(name: str) -> None:
    assert parse_kermany(PurePosixPath(name)) is None
    assert parse("kermany", PurePosixPath(name)) is None


def test_bacteria_and_virus_of_one_number_are_two_children() -> None:
    first, second = (parse_kermany(PurePosixPath(f"person17_{kind}_1.jpeg")) for kind in ("bacteria", "virus"))
    assert first
    assert second
    assert first.patient != second.patient


def test_generic_takes_each_file_for_a_patient_of_its_folder() -> None:
    name = parse_generic(PurePosixPath("train/Sick/a.png"))
    assert name == ImageName(patient="train/Sick/a.png", group="sick", series="Sick", number=0)
    assert parse_generic(PurePosixPath("a.png")).series == "all"


def test_the_rule_is_the_one_that_knows_most_names() -> None:
    reference = [PurePosixPath(f"IM-{number:04d}-0001.jpeg") for number in range(5)]
    strange = [PurePosixPath(f"scan{number}.jpeg") for number in range(4)]
    assert recognise(reference) == "kermany"
    assert recognise(reference + strange) == "kermany"
    assert recognise(reference + strange + [PurePosixPath("scan4.jpeg")]) == "generic"
    assert recognise(strange) == "generic"

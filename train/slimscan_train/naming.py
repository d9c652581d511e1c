"""What the name of a file, or of its folder, says of a patient.

A naming rule turns names into the patient, the acquisition series, the number inside that series and
the subgroup. A wrong rule leaks patients between splits, so the rule in use is always said aloud.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

FileNameRule = Literal["kermany", "generic"]
NamingRule = FileNameRule | Literal["folder"]
RULES: tuple[NamingRule, ...] = (*get_args(FileNameRule), "folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """What one file name says.

    Attributes:
        patient: Identity of the patient, unique over the data set.
        group: Subgroup that results are also reported for ("bacteria", "virus", "normal").
        series: Acquisition series; validation under shift holds some of them out.
        number: Number of the patient inside the series, 0 when the name has none.
    """

    patient: str
    group: str
    series: str
    number: int = 0


# Kermany et al. 2018. The public archive: IM-0115-0001, NORMAL2-IM-0503-0001, person17_bacteria_56, where the
# numbering restarts per subtype; the publisher's newer archive: NORMAL-1049278-0001, BACTERIA-1135262-0002.
_NORMAL = re.compile(r"(?P<series>NORMAL2-IM|IM)-(?P<number>\d+)-\d+(-\d+)?")
_PERSON = re.compile(r"person(?P<number>\d+)_(?P<group>bacteria|virus)_\d+(_\d+)?")
_NEWER = re.compile(r"(?P<group>NORMAL|BACTERIA|VIRUS)-(?P<number>\d+)-\d+")


def parse_kermany(path: PurePosixPath) -> ImageName | None:
    """Read a name of the paediatric chest X-ray data set, in either of its conventions; None if it is neither."""
    stem = path.stem
    if match := _NORMAL.fullmatch(stem):
        number = match["number"]
        return ImageName(
            patient=f"{match['series']}-{number}", group="normal", series=match["series"], number=int(number)
        )
    if match := _PERSON.fullmatch(stem):
        number, group = match["number"], match["group"]
        return ImageName(patient=f"person{number}_{group}", group=group, series=group, number=int(number))
    if match := _NEWER.fullmatch(stem):
        number, group = match["number"], match["group"].lower()
        return ImageName(patient=f"{match['group']}-{number}", group=group, series=group, number=int(number))
    return None


def parse_generic(path: PurePosixPath) -> ImageName:
    """Take each file for a patient of its own, grouped by the folder it lies in."""
    return ImageName(patient=str(path), group=path.parent.name.lower() or "all", series=path.parent.name or "all")


def parse_folders(path: PurePosixPath, label: str, folders: Sequence[str] = ()) -> ImageName:
    """Take folders below a class for one patient, or without them the file; grouped by its class."""
    return ImageName(patient="/".join(folders) or str(path), group=label.lower(), series=label)


_PARSERS: dict[FileNameRule, Callable[[PurePosixPath], ImageName | None]] = {
    "kermany": parse_kermany,
    "generic": parse_generic,
}


def parse(rule: FileNameRule, path: PurePosixPath) -> ImageName | None:
    """Read one file name by a rule; None when the rule does not know it."""
    return _PARSERS[rule](path)


def recognise(paths: Iterable[PurePosixPath]) -> FileNameRule:
    """The rule for these names: `kermany` when it knows most of them, else `generic`.

    A name or two that the rule does not know are then refused by name: falling back to `generic` for their sake
    would split every patient's images between training and validation.
    """
    known = [parse_kermany(path) is not None for path in paths]
    return "kermany" if sum(known) > len(known) / 2 else "generic"

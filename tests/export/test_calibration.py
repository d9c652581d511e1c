"""Which images calibrate: made-up records are enough, no picture is read."""

from collections import Counter

import pytest

from slimscan_edge.errors import InputError
from slimscan_export.calibration import FEWEST, CalibrationConfig, draw_calibration
from slimscan_train.dataset import LabelledImage
from slimscan_train.split import Split


def image(name: str, label: str, patient: str, split: str = "train") -> LabelledImage:
    return LabelledImage(
        path=name, label=label, patient=patient, group=label.lower(), series="", number=0, split=split, sha256=name
    )


def split(normals: int = 60, sick: int = 200, images_a_patient: int = 3, home: str = "train") -> Split:
    images = [
        image(f"{label}{patient}-{shot}.png", label, f"{label}{patient}", home)
        for label, patients in (("NORMAL", normals), ("PNEUMONIA", sick))
        for patient in range(patients)
        for shot in range(images_a_patient)
    ]
    others = [image(f"{home}{n}.png", label, f"{home}-{label}{n}", home) for n, (label, home) in enumerate(_HELD_OUT)]
    return Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=tuple(images + others))


_HELD_OUT = [(label, home) for label in ("NORMAL", "PNEUMONIA") for home in ("val", "val_shift", "test")]


def test_both_classes_weigh_the_same_although_the_data_do_not():
    drawn = draw_calibration(split(), CalibrationConfig(images=100))
    assert Counter(image.label for image in drawn) == {"NORMAL": 50, "PNEUMONIA": 50}
    assert len({image.path for image in drawn}) == 100


def test_only_training_patients_calibrate():
    drawn = draw_calibration(split(normals=16, sick=16, images_a_patient=1), CalibrationConfig(images=FEWEST))
    assert {image.split for image in drawn} == {"train"}
    with pytest.raises(InputError, match="0 training images of a class"):
        draw_calibration(split(home="val"), CalibrationConfig())


def test_the_seed_alone_decides():
    everything = split()
    first, again = (draw_calibration(everything, CalibrationConfig(images=100, seed=3)) for _ in range(2))
    assert first == again
    assert set(first) != set(draw_calibration(everything, CalibrationConfig(images=100, seed=4)))


def test_every_patient_comes_once_before_any_comes_twice():
    drawn = draw_calibration(split(normals=40, sick=60), CalibrationConfig(images=100))
    times = Counter(image.patient for image in drawn)
    assert sorted(times[f"NORMAL{n}"] for n in range(40)) == [1] * 30 + [2] * 10
    assert sorted(times[f"PNEUMONIA{n}"] for n in range(60)) == [0] * 10 + [1] * 50


def test_fewer_images_than_asked_are_taken_as_they_are():
    drawn = draw_calibration(split(normals=20, sick=20, images_a_patient=1), CalibrationConfig(images=200))
    assert len(drawn) == 40


def test_too_few_are_refused():
    with pytest.raises(InputError, match=r"15 training images of a class to calibrate on, expected 16 or more"):
        draw_calibration(split(normals=15, images_a_patient=1), CalibrationConfig())
    with pytest.raises(ValueError, match="expected at least 32"):
        CalibrationConfig(images=FEWEST - 1)

"""The calibration audit: each fault is planted alone into a set that is otherwise accepted, and refused by name."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_edge.errors import InputError
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.calibration import FEWEST
from slimscan_export.calibration_audit import audit_calibration, require_unsaturated, saturation
from slimscan_train.dataset import LabelledImage
from slimscan_train.split import Split

SPEC = PreprocessSpec(height=16, width=16)
LABELS = ("NORMAL", "PNEUMONIA")


def image(label: str, patient: str, split: str) -> LabelledImage:
    name = f"{split}/{label}-{patient}.png"
    return LabelledImage(
        path=name, label=label, patient=patient, group="", series="", number=0, split=split, sha256=f"content of {name}"
    )


def training(each: int = 20) -> list[LabelledImage]:
    return [image(label, f"{label} {number}", "train") for label in LABELS for number in range(each)]


def held_out() -> list[LabelledImage]:
    return [image(LABELS[1], f"{home} child", home) for home in ("val", "val_shift", "test")]


def pictures(count: int) -> NDArray[np.uint8]:
    """Smooth gradients, no two the same."""
    ramp = np.linspace(0, 200, 16)
    return np.stack([ramp[:, None] + ramp * number / count for number in range(count)]).astype(np.uint8)[..., None]


def audit(images: list[LabelledImage], pixels: NDArray[np.uint8] | None = None, made_with: PreprocessSpec = SPEC):
    split = Split(labels=LABELS, naming="kermany", images=tuple(training() + held_out()))
    given = pictures(len(images)) if pixels is None else pixels
    audit_calibration(images, given, split, made_with=made_with, model_takes=SPEC)


def test_a_sound_set_is_accepted():
    audit(training())
    audit(training(FEWEST // 2))


def test_a_patient_who_judges_is_refused_by_name():
    """The picture is another one: only the child is the same."""
    shared = dataclasses.replace(training()[7], patient="val_shift child")
    with pytest.raises(
        InputError, match=r"is of patient val_shift child, whose val_shift/PNEUMONIA-val_shift child\.png"
    ):
        audit([*training(), shared])


@pytest.mark.parametrize("home", ["val", "val_shift", "test"])
def test_a_picture_that_judges_is_refused_by_name(home):
    """Under another file's name and another child's."""
    judging = next(one for one in held_out() if one.split == home)
    copied = dataclasses.replace(training()[3], path="train/copied.png", sha256=judging.sha256)
    with pytest.raises(
        InputError, match=rf"train/copied.png is the same file as {judging.path}, which judges \(split {home}"
    ):
        audit([*training(), copied])


def test_the_split_may_not_know_the_image_at_all():
    """A set from elsewhere is held against the split all the same."""
    foreign = [dataclasses.replace(one, path=f"elsewhere/{one.path}") for one in training()]
    audit(foreign)
    with pytest.raises(InputError, match="elsewhere/train/"):
        audit([*foreign[:-1], dataclasses.replace(foreign[-1], patient="val child")])


def test_too_few_are_refused():
    with pytest.raises(InputError, match=f"got {FEWEST - 2} different calibration images, expected {FEWEST}"):
        audit(training(FEWEST // 2 - 1))


def test_copies_of_one_picture_are_one_picture():
    one = training()[0]
    with pytest.raises(InputError, match="got 1 different calibration images"):
        audit([dataclasses.replace(one, path=f"{number}.png") for number in range(100)])


def test_one_class_alone_is_refused():
    healthy = [image(LABELS[0], str(number), "train") for number in range(100)]
    with pytest.raises(InputError, match="got 0 calibration images of class PNEUMONIA, expected 16 or more"):
        audit(healthy)
    with pytest.raises(InputError, match="got 15 calibration images of class PNEUMONIA"):
        audit([*healthy, *training(15)[15:]])


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_constant_picture_is_refused_by_name(level):
    pixels = pictures(40)
    pixels[11] = level
    pixels[11, 0, 0] = level ^ 1
    with pytest.raises(InputError, match=r"train/NORMAL-NORMAL 11.png is constant \(.* deviation of 0.0"):
        audit(training(), pixels)


def test_noise_is_refused_by_name():
    pixels = pictures(40)
    pixels[29] = np.random.default_rng(0).integers(0, 256, pixels[29].shape)
    with pytest.raises(InputError, match=r"train/PNEUMONIA-PNEUMONIA 9\.png looks like noise"):
        audit(training(), pixels)


def test_noise_on_a_picture_is_a_picture():
    grain = np.random.default_rng(0).normal(0, 20, (40, 16, 16, 1))
    audit(training(), np.clip(pictures(40) + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("change", [{"resize_filter": "box"}, {"intensity": "percentile"}, {"jpeg_oversample": 0}])
def test_another_preprocessing_than_the_models_is_refused(change):
    other = dataclasses.replace(SPEC, **change)
    with pytest.raises(InputError, match="make them with the model's preprocessing"):
        audit(training(), made_with=other)


def test_pixels_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"pixels are \[40, 8, 8, 1\], expected \[40, 16, 16, 1\]"):
        audit(training(), pictures(40)[:, ::2, ::2])


@pytest.mark.slow
def test_ranges_that_hold_what_passes_through_them_are_accepted(exported):
    """Although a tenth of the evidence lies at the very end of its range, where nothing but the bias is."""
    require_unsaturated(exported.variants["int8"], exported.calibration)
    assert saturation(exported.variants["int8"], exported.calibration)[0].share < 0.001


@pytest.mark.slow
def test_ranges_from_dull_pictures_are_refused_by_the_tensors_name(exported):
    from slimscan_export.convert import convert, saved_model

    dull = (128 + (exported.calibration.astype(int) - 128) // 64).astype(np.uint8)
    with saved_model(exported.model) as saved:
        model = convert(saved, "int8", dull)
    with pytest.raises(InputError, match="saturate on the calibration images") as caught:
        require_unsaturated(model, exported.calibration)
    assert saturation(model, exported.calibration)[0].tensor in str(caught.value)


def with_negative_logits_only(model: bytes) -> tuple[bytes, str]:
    """The model with the range of its logits cut off above zero, and the name of that tensor."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = content.subgraphs[0]
    (logits,) = (graph.tensors[index] for index in graph.outputs if len(graph.tensors[index].shape) == 2)
    logits.quantization.scale = np.array(logits.quantization.scale, np.float32) / 2
    logits.quantization.zeroPoint = np.array([127])
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output()), logits.name.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("sick", "share"), [(0, 0.0), (2, 0.0), (3, 1 / 20), (16, 14 / 20)])
def test_of_a_tensor_any_but_its_two_extremes_are_told(exported, sick, share):
    """A logit has one value an image. Its range comes from the two extremes, which int8 may put just beyond it."""
    positive = np.array([image.label == "PNEUMONIA" for image in exported.run.split.select("val")[::5]])
    pixels = np.concatenate([exported.pixels[~positive][: 20 - sick], exported.pixels[positive][:sick]])
    model, logits = with_negative_logits_only(exported.variants["int8"])
    assert {found.tensor: found.share for found in saturation(model, pixels)}[logits] == share

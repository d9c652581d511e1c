"""Guards fitted on phantoms, which share with X-rays what a guard looks at, and the pictures that they reject."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.bundle import GUARD, Bundle, GateResult, write_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.guard import REASONS, Guard, GuardRecord, guard_of
from slimscan_edge.preprocess import PreprocessSpec, decode, fit_to_input
from slimscan_export import guard_rates, guarding
from slimscan_export.bundling import make_bundle
from slimscan_export.guarding import Seen, fit_guard, guard_json
from slimscan_export.not_xrays import FAMILIES, LARGEST_SIDE, SMALLEST_SIDE, draw_pictures
from slimscan_train.dataset import LabelledImage
from slimscan_train.phantom import draw_phantom
from slimscan_train.shifts import SHIFTS

SPEC = PreprocessSpec(height=96, width=96, intensity="percentile")
EVIDENCE = np.zeros((3, 3, 1), np.float32)  # as of a model that tells nothing: the pixels alone decide
PHANTOMS = 600


def seen(pictures: list[Image.Image]) -> Seen:
    pixels = np.stack([fit_to_input(decode(picture, SPEC), SPEC) for picture in pictures])
    return Seen(pixels=pixels, evidence=np.broadcast_to(EVIDENCE, (len(pixels), *EVIDENCE.shape)))


@pytest.fixture(scope="module")
def phantoms() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    subtypes = ("normal", "bacteria", "virus")
    drawn = [draw_phantom(rng, subtype=subtypes[n % 3], height=128, width=144) for n in range(PHANTOMS)]
    return [Image.fromarray(pixels) for pixels in drawn]


def shifted(pictures: list[Image.Image]) -> list[Seen]:
    """As they are, and each under one shift."""
    parts = ([shift(one) for one in pictures[n :: len(SHIFTS)]] for n, shift in enumerate(SHIFTS.values()))
    return [seen(pictures), *map(seen, parts)]


@pytest.fixture(scope="module")
def record(phantoms) -> GuardRecord:
    """Fitted on two thirds of the phantoms."""
    first, second = phantoms[: PHANTOMS // 3], phantoms[PHANTOMS // 3 : 2 * PHANTOMS // 3]
    basis = guarding._fit_basis(np.concatenate([one.views() for one in shifted(first)]))
    return guarding._fit_limits(basis, shifted(second))


@pytest.fixture(scope="module")
def reasons(record):
    """Why a guard rejects each of some pictures, "" where it does not."""
    guard = Guard(record)

    def told(pictures: Seen) -> list[str]:
        return [guard.reject_pixels(pixels, EVIDENCE) for pixels in pictures.pixels]

    return told


def test_phantoms_of_nobody_it_was_fitted_on_are_accepted_under_every_shift(phantoms, reasons):
    for name, shift in {"": lambda picture: picture, **SHIFTS}.items():
        told = reasons(seen([shift(picture) for picture in phantoms[2 * PHANTOMS // 3 :]]))
        assert told.count("") >= 0.97 * len(told), (name, told)


@pytest.mark.parametrize("half", ["tuning", "reporting"])
def test_hardly_a_picture_that_is_no_xray_gets_through_in_grey(reasons, half):
    drawn = [(family, picture.convert("L")) for family, picture in draw_pictures(half, per_family=6)]
    told = reasons(seen([picture for _, picture in drawn]))
    through = [family for (family, _), reason in zip(drawn, told, strict=True) if not reason]
    assert len(through) <= 0.05 * len(drawn), through


def test_phantoms_laid_otherwise_and_negatives_are_named(phantoms, reasons):
    upright = seen(phantoms[2 * PHANTOMS // 3 :])
    for change, reason in (
        *((lambda pixels, n=n: np.rot90(pixels, n, axes=(1, 2)), "turned") for n in (1, 2, 3)),
        (lambda pixels: 255 - pixels, "negative"),
    ):
        told = reasons(dataclasses.replace(upright, pixels=np.ascontiguousarray(change(upright.pixels))))
        assert told.count(REASONS[reason]) >= 0.9 * len(told)
        assert told.count("") <= 0.05 * len(told)


def test_the_variances_are_those_of_the_views():
    """Two correlated pairs among independent numbers: eigenvalues 1 +- r, the first two kept as components."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(20_000, guarding.COMPONENTS + 20))
    views[:, 1] = 0.9 * views[:, 0] + np.sqrt(1 - 0.81) * views[:, 1]
    views[:, 3] = 0.6 * views[:, 2] + 0.8 * views[:, 3]
    record = guarding._fit_basis(3.0 + 5.0 * views)
    assert len(record.variances) == guarding.COMPONENTS
    assert record.variances[:2] == pytest.approx((1.9, 1.6), abs=0.05)
    assert record.rest_variance == pytest.approx(1.0 - (0.9 + 0.6) / 20, abs=0.05)


def test_limits_lie_beyond_the_most_extreme_xray_or_at_a_quantile_of_the_worst_shift():
    dull, extreme = np.arange(100.0), np.arange(100.0) + 50
    assert guarding._limit("grainy", [dull, extreme]) == pytest.approx(149 * 1.1)
    assert guarding._limit("blank", [-dull - 80, -extreme - 80]) == pytest.approx(-80 * 0.9)
    assert guarding._limit("unlike", [dull, extreme]) == pytest.approx(99 * 0.99 + 50)
    assert guarding._limit("turned", [dull / 1000]) == 1.0


def test_the_halves_share_no_patient():
    images = [
        LabelledImage(path=f"{n}", label="A", patient=f"p{n // 3}", group="", series="", number=n, split="", sha256="")
        for n in range(99)
    ]
    first, second = guarding._halves(images, np.random.default_rng(0))
    assert len(first) + len(second) == 99
    assert not {image.patient for image in first} & {image.patient for image in second}
    assert 45 <= len(first) <= 54


def test_the_member_is_small_and_reads_back(record):
    member = guard_json(record)
    assert len(member) < 5000
    assert GuardRecord(**json.loads(member)).limits == record.limits


# --- on a run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def squares_bundle(exported, monkeypatch) -> Bundle:
    """The squares' bundle with a guard, though there are fewer squares than a guard asks for."""
    monkeypatch.setattr(guarding, "LEAST_IMAGES", 100)
    run = exported.run
    names = {"name": "squares", "model_version": "0.1.0"}
    gate = GateResult(name="new misses", verdict="PASS", measured="0 of 189", allowed="at most 2 %")
    return make_bundle(run, exported.variants["int8"], run.operating_point, (gate,), "PASS", **names)


@pytest.fixture
def squares_path(squares_bundle, tmp_path) -> Path:
    path = tmp_path / "squares-0.1.0.slimscan"
    write_bundle(path, squares_bundle.manifest, squares_bundle.members)
    return path


@pytest.mark.slow
def test_a_run_with_few_images_gets_no_guard(exported):
    assert len(exported.run.split.select("train")) < guarding.LEAST_IMAGES
    bundle = make_bundle(
        exported.run,
        exported.variants["int8"],
        exported.run.operating_point,
        (),
        "PASS",
        name="squares",
        model_version="0.1.0",
    )
    assert guard_of(bundle) is None


@pytest.mark.slow
def test_a_bundles_guard_says_what_it_was_fitted_on_and_what_it_rejects(exported, squares_bundle):
    guard = guard_of(squares_bundle)
    assert guard is not None
    train = exported.run.split.select("train")
    assert guard.record.fitted_on.startswith(f"{len(train)} training images of ")
    assert set(guard.record.rejected) == {"val", "val_shift"}
    assert max(guard.record.rejected.values()) < 0.1
    recorded = guard.record.rejected["val"]
    pixels = exported.run.pixels(exported.run.split.select("val"))
    classifier = Classifier(squares_bundle)
    decisions = [classifier.predict(one).decision for one in pixels]
    assert decisions.count("rejected") / len(decisions) == pytest.approx(recorded, abs=0.01)


@pytest.mark.slow
def test_the_same_run_gives_the_same_guard(exported, squares_bundle, monkeypatch):
    monkeypatch.setattr(guarding, "LEAST_IMAGES", 100)
    again = fit_guard(exported.run, Classifier(squares_bundle))
    assert again is not None
    assert guard_json(again) == squares_bundle.members[GUARD]


@pytest.mark.slow
def test_the_rates_are_printed_for_each_kind_of_picture(exported, squares_path, monkeypatch, capsys, tmp_path):
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(tmp_path / "blank.png")
    folder = str(exported.run.folder)
    words = ["guard_rates", folder, str(squares_path), "--per-family", "2", "--xrays", str(tmp_path / "blank.png")]
    monkeypatch.setattr("sys.argv", words)
    assert guard_rates.main() == 0
    rates = {line[:20].strip(): line[20:].split() for line in capsys.readouterr().out.splitlines()}
    for kind in ("val", "val_shift", *(f"val {shift}" for shift in SHIFTS), *guard_rates.LAID_OTHERWISE, *FAMILIES):
        assert kind in rates
    assert rates["files"][:4] == ["1", "of", "1", "100.0%"]
    assert rates["all of these"][2] == str(2 * (1 + len(FAMILIES)))
    assert int(rates["val"][2]) == len(exported.run.split.select("val"))


@pytest.mark.slow
def test_a_bundle_without_a_guard_has_no_rates(exported, golden_bundle_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["guard_rates", str(exported.run.folder), str(golden_bundle_path)])
    assert guard_rates.main() == 2
    assert "carries no guard" in capsys.readouterr().err


# --- pictures that are no X-rays --------------------------------------------------------------------------------


def test_pictures_are_the_same_every_time_and_others_in_the_other_half():
    first, again, other = (
        [picture.tobytes() for _, picture in draw_pictures(half, per_family=1)]
        for half in ("reporting", "reporting", "tuning")
    )
    assert first == again
    assert not set(first) & set(other)


def test_every_family_is_drawn_in_colour_and_in_grey_and_of_useful_size():
    drawn = list(draw_pictures("reporting", per_family=2))
    assert [family for family, _ in drawn[::2]] == ["photograph", *FAMILIES]
    assert all(picture.mode == "L" for _, picture in drawn[1::2])
    assert drawn[0][1].mode == "RGB"
    assert all(SMALLEST_SIDE <= side <= LARGEST_SIDE + 80 for _, picture in drawn for side in picture.size)

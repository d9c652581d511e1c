"""The guard on a bundle whose training X-rays all looked like one picture, so that every rule can be met by hand."""

import binascii
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from slimscan_edge.bundle import GUARD, pack_bundle, parse_bundle
from slimscan_edge.checkup import check_up
from slimscan_edge.classifier import Classifier
from slimscan_edge.cli import main
from slimscan_edge.colour import IN_COLOUR, shows_colours
from slimscan_edge.errors import BundleError
from slimscan_edge.golden import require_self_test
from slimscan_edge.guard import FITTED, GRID, REASONS, Guard, GuardRecord, coarse_view, guard_of

SIDE = 32
SPREAD = 0.25
FLAT_EVIDENCE = np.zeros((8, 8, 1), np.float32)


def usual() -> np.ndarray:
    """What all training X-rays look like: a bright spot at the upper left, grained."""
    down, across = np.mgrid[:SIDE, :SIDE] / SIDE
    grain = np.random.default_rng(0).normal(0, 8, (SIDE, SIDE))
    spot = np.exp(-(np.square(down - 0.3) + np.square(across - 0.4)) / 0.1)
    return np.clip(70 + 110 * spot + grain, 1, 254).astype(np.uint8)[:, :, None]


def record_of(table: np.ndarray, variances: tuple[float, ...], **limits: float) -> GuardRecord:
    """A guard with a given table and loose limits, but for those that are given."""
    loose = {"turned": 1.0, "negative": 1.0, "unlike": 200.0, "blank": -20, "flat": 0.5, "smooth": -6, "grainy": 40}
    scales = np.maximum(np.abs(table).max(axis=1), 1e-9) / 127
    return GuardRecord(
        limits={**loose, "dark": -60, "bright": 175, **limits},
        variances=variances,
        rest_variance=1.0,
        scales=tuple(map(float, scales)),
        table=binascii.b2a_base64(np.rint(table / scales[:, None]).astype(np.int8).tobytes()).decode(),
        fitted_on="one picture",
        rejected={"val": 0.0},
    )


@pytest.fixture
def record() -> GuardRecord:
    view = coarse_view(usual(), FLAT_EVIDENCE)
    return record_of(np.stack([view, np.full_like(view, 1 / SPREAD), np.eye(len(view))[0]]), (1.0,))


@pytest.fixture
def guard(record) -> Guard:
    return Guard(record)


def checkerboard() -> np.ndarray:
    down, across = np.mgrid[:SIDE, :SIDE]
    pixels = usual()[:, :, 0] // 2 + ((down + across) % 2 * 110).astype(np.uint8)
    return pixels[:, :, None]


def framed() -> np.ndarray:
    pixels = np.full((SIDE, SIDE, 1), 255, np.uint8)
    pixels[4:28, 4:28] = usual()[4:28, 4:28]
    pixels[12:20] = 255
    return pixels


def soft() -> np.ndarray:
    enlarged = Image.fromarray(usual()[:, :, 0]).resize((6, 6), Image.Resampling.BOX).resize((SIDE, SIDE))
    return np.asarray(enlarged.filter(ImageFilter.GaussianBlur(1)))[:, :, None]


def another() -> np.ndarray:
    pixels = usual()
    pixels[:, 12:20] = 255 - pixels[:, 12:20]
    return pixels


WRONG = {
    "blank": np.full((SIDE, SIDE, 1), 90, np.uint8),
    "turned": np.rot90(usual(), 2),
    "negative": 255 - usual(),
    "flat": framed(),
    "smooth": soft(),
    "grainy": checkerboard(),
    "unlike": another(),
    "dark": np.clip(usual().astype(int) - 65, 0, 255).astype(np.uint8),
    "bright": np.clip(usual().astype(int) + 85, 0, 255).astype(np.uint8),
}


def test_what_it_was_fitted_on_is_accepted(guard):
    assert guard.reject(Image.new("L", (SIDE, SIDE)), usual(), FLAT_EVIDENCE) == ""


@pytest.mark.parametrize("rule", FITTED)
def test_each_rule_rejects_with_its_own_reason(guard, rule):
    assert guard.reject_pixels(WRONG[rule], FLAT_EVIDENCE) == REASONS[rule]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_on_any_other_side_is_told_to_be_turned(guard, turns):
    turned = np.rot90(usual(), turns)
    assert guard.reject_pixels(turned, FLAT_EVIDENCE) == REASONS["turned"]
    assert guard.measure(turned, FLAT_EVIDENCE)["turned"] > 1 > guard.measure(usual(), FLAT_EVIDENCE)["turned"]


def test_no_picture_is_told_to_be_turned_that_would_be_unlike_however_it_lay(record):
    strict = Guard(dataclasses.replace(record, limits={**record.limits, "unlike": 1e-3}))
    assert strict.reject_pixels(WRONG["turned"], FLAT_EVIDENCE) == REASONS["unlike"]
    assert strict.reject_pixels(WRONG["negative"], FLAT_EVIDENCE) == REASONS["unlike"]


def test_evidence_such_as_the_model_never_gave_is_unlike(guard):
    assert guard.reject_pixels(usual(), FLAT_EVIDENCE + 10) == REASONS["unlike"]


def test_the_second_output_counts_for_nothing(guard):
    evidence = np.concatenate([FLAT_EVIDENCE, FLAT_EVIDENCE + 50], axis=2)
    assert guard.reject_pixels(usual(), evidence) == ""


def test_strips_and_colours_are_rejected_whatever_they_show(guard):
    for size in ((401, 100), (100, 401)):
        assert guard.reject(Image.new("L", size), usual(), FLAT_EVIDENCE) == REASONS["strip"]
    assert guard.reject(Image.new("L", (400, 100)), usual(), FLAT_EVIDENCE) == ""
    coloured = Image.new("L", (100, 100))
    coloured.info[IN_COLOUR] = True
    assert guard.reject(coloured, usual(), FLAT_EVIDENCE) == REASONS["colour"]


def test_rgb_pixels_are_judged_by_their_luma(guard):
    assert guard.reject_pixels(np.repeat(usual(), 3, axis=2), FLAT_EVIDENCE) == ""
    assert guard.reject_pixels(np.repeat(WRONG["negative"], 3, axis=2), FLAT_EVIDENCE) == REASONS["negative"]


def test_the_distance_is_that_of_probabilistic_pca():
    size = 2 * GRID**2 + 64
    mean, one_over_spread, component = np.full(size, 0.5), np.full(size, 2.0), np.eye(size)[3]
    guard = Guard(record_of(np.stack([mean, one_over_spread, component]), (4.0,)))
    view = np.full(size, 0.5, np.float32)
    view[3], view[7] = 3.5, 1.5
    # z is 6 along the component, whose variance is 4, and 2 along another direction, whose variance is 1
    assert guard._distance(view)[0] == pytest.approx(36 / 4 + 4 / 1, rel=1e-5)


def test_a_view_does_not_change_with_exposure():
    views = [coarse_view(pixels, FLAT_EVIDENCE) for pixels in (usual(), usual() + 40)]
    np.testing.assert_allclose(views[0], views[1], atol=1e-4)


# --- in a bundle ------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(golden_bundle, record):
    """The golden bundle with a guard, some of its fields changed: `guarded(limits={})`."""

    def made(**changes):
        member = json.dumps({**dataclasses.asdict(record), **changes}).encode()
        raw = pack_bundle(golden_bundle.manifest, {**golden_bundle.members, GUARD: member})
        return parse_bundle(raw, name="guarded")

    return made


def test_a_bundle_without_a_guard_answers_for_anything(golden_bundle, classifier):
    assert guard_of(golden_bundle) is None
    assert classifier.predict(np.full((900, 40), 90, np.uint8)).decision == "negative"


def test_a_guard_survives_the_bundle(guarded, record):
    guard = guard_of(guarded())
    assert guard is not None
    assert guard.record == record


def test_a_rejected_picture_has_a_reason_and_no_score(guarded):
    finding = Classifier(guarded(), threads=1).predict(np.full((40, 40), 90, np.uint8))
    assert (finding.decision, finding.label) == ("rejected", "")
    assert finding.reason == "the image has hardly any shades of grey: it is blank, or a document or a drawing"
    assert np.isnan([finding.probability, finding.logit]).all()
    assert finding.evidence.shape == (0, 0)
    assert finding.timings.invoke_ms > 0


def test_golden_images_are_not_guarded(guarded, record):
    nothing_passes = dict.fromkeys(record.limits, -1e9)
    classifier = Classifier(guarded(limits=nothing_passes), threads=1)
    assert classifier.predict(classifier.bundle.members["golden/ramp.png"]).decision == "rejected"
    assert require_self_test(classifier).largest_difference == 0


def test_predict_tells_the_reason(guarded, record, tmp_path, xrays, capsys):
    path = tmp_path / "guarded-1.0.0.slimscan"
    bundle = guarded()
    path.write_bytes(pack_bundle(bundle.manifest, bundle.members))
    assert main(["predict", str(xrays / "bright.png"), "--bundle", str(path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["decision"], answer["probability"]) == ("rejected", None)
    assert "hardly any shades of grey" in answer["reason"]


def test_doctor_says_whether_there_is_a_guard(guarded, golden_bundle_path, tmp_path):
    path = tmp_path / "guarded-1.0.0.slimscan"
    bundle = guarded()
    path.write_bytes(pack_bundle(bundle.manifest, bundle.members))
    with_guard, without = ({c.name: c for c in check_up(bundle)}["guard"] for bundle in (path, golden_bundle_path))
    assert (with_guard.status, without.status) == ("ok", "absent")
    assert "fitted on one picture" in with_guard.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"blank": 1.0}}, "limits are blank, expected"),
        ({"limits": [1.0]}, "values"),
        ({"variances": [1.0, 1.0]}, "3 scales do not fit 2 components"),
        ({"variances": [0.0]}, "a variance is not above 0"),
        ({"variances": []}, "guard.json"),
        ({"rest_variance": float("nan")}, "not a finite number"),
        ({"rest_variance": float("inf")}, "not a finite number"),
        ({"rest_variance": 10**400}, "no integer of 64 bits"),
        ({"rest_variance": True}, "rest_variance is True, expected a number"),
        ({"variances": [None]}, "variances is None, expected a number"),
        ({"scales": [1e300, 1.0, 1.0]}, "numbers overflow"),
        ({"scales": [1.0, 1e39, 1.0]}, "numbers overflow"),
        ({"scales": [1e30, 1e30, 1.0]}, "numbers overflow"),
        ({"variances": [1e-300]}, "numbers overflow"),
        ({"rest_variance": 5e-324}, "numbers overflow"),
        ({"rejected": {"val": "none"}}, "expected a number"),
        ({"fitted_on": None}, "fitted_on is None, expected a text"),
        ({"scales": [1.0, 1.0, "x"]}, "scales is 'x', expected a number"),
        ({"table": "AAAA"}, "view of 1 numbers is too short"),
        ({"table": binascii.b2a_base64(bytes(3 * 129)).decode()}, "view of 129 numbers does not fit the evidence map"),
        ({"table": "AAAAA"}, "base64"),
        ({"table": 3}, "table is 3, expected a text"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused(guarded, changes, message):
    with pytest.raises(BundleError, match=rf"brightness-1.0.0: guard.json does not hold what it should.*{message}"):
        guard_of(guarded(**changes))


@pytest.mark.parametrize("member", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_a_guard_that_is_no_table_is_refused(golden_bundle, member):
    bundle = dataclasses.replace(golden_bundle, members={**golden_bundle.members, GUARD: member})
    with pytest.raises(BundleError, match="does not hold what it should"):
        Classifier(bundle)


# --- colours ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK", "P", "LA", "I;16", "1"])
def test_grey_pictures_show_no_colours_however_they_are_stored(mode):
    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    if mode == "CMYK":
        grey = grey.convert("RGB")
    assert not shows_colours(Image.new("I;16", (64, 64), 700) if mode == "I;16" else grey.convert(mode))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "YCbCr", "CMYK", "P"])
def test_coloured_pictures_show_colours(mode):
    down, across = np.mgrid[:64, :64] * 4
    coloured = Image.fromarray(np.stack([down, across, 255 - down], axis=2).astype(np.uint8))
    assert shows_colours(coloured.convert(mode))


def test_a_tint_over_all_is_no_colour():
    tint = np.array([0.8, 0.92, 1.0])
    film = np.random.default_rng(0).integers(40, 200, (64, 64, 1)) * tint
    assert not shows_colours(Image.fromarray(film.astype(np.uint8)))

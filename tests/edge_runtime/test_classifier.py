import dataclasses
import io
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.errors import BundleError, ImageError
from slimscan_edge.interpreter import TensorSpec


@pytest.mark.parametrize(
    ("level", "decision", "label"),
    [(0, "negative", "DARK"), (64, "negative", "DARK"), (128, "refer", "BRIGHT"), (255, "positive", "BRIGHT")],
)
def test_brightness_decides(classifier, level, decision, label):
    finding = classifier.predict(np.full((40, 40), level, np.uint8))
    logit = 8 * (level - 128) / 127.5  # as the golden model's weights are set
    assert (finding.decision, finding.label, finding.reason) == (decision, label, "")
    assert finding.logit == pytest.approx(logit, abs=0.07)  # one integer step is 0.063
    assert finding.probability == pytest.approx(1 / (1 + math.exp(-finding.logit)))
    assert finding.bundle_id == "brightness-1.0.0"


def test_the_logit_is_the_mean_of_the_evidence_and_the_evidence_is_where_it_is_bright(classifier):
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:16, 16:] = 255
    finding = classifier.predict(pixels)
    assert finding.evidence.shape == (8, 8)
    assert finding.evidence.dtype == np.float32
    assert finding.logit == pytest.approx(float(finding.evidence.mean()), abs=0.07)
    assert (finding.evidence[:4, 4:] > 7.5).all()
    assert (finding.evidence[4:] < -7.5).all()
    assert (finding.evidence[:, :4] < -7.5).all()


def test_path_bytes_image_and_array_get_the_same_answer(classifier, tmp_path, encode):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60), np.uint8)
    raw = encode(pixels, "PNG")
    (tmp_path / "x.png").write_bytes(raw)
    sources = (tmp_path / "x.png", str(tmp_path / "x.png"), raw, Image.open(io.BytesIO(raw)), pixels)
    findings = [classifier.predict(source) for source in sources]
    assert len({finding.logit for finding in findings}) == 1
    assert all((finding.evidence == findings[0].evidence).all() for finding in findings)


def test_timings_add_up(classifier):
    timings = classifier.predict(np.zeros((40, 40), np.uint8)).timings
    parts = (timings.decode_ms, timings.resize_ms, timings.invoke_ms, timings.decide_ms)
    assert min(parts) > 0
    assert timings.total_ms == pytest.approx(sum(parts))


def test_threads_share_a_classifier(classifier):
    pictures = [np.full((40, 40), level, np.uint8) for level in range(0, 256, 5)] * 4
    alone = [classifier.predict(picture).logit for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = [finding.logit for finding in pool.map(classifier.predict, pictures)]
    assert together == alone


def test_the_temperature_and_threshold_of_the_bundle_are_used(golden_bundle):
    point = dataclasses.replace(
        golden_bundle.manifest.operating_point, temperature=4.0, threshold=0.9, refer_low=0.9, refer_high=0.9
    )
    bundle = dataclasses.replace(
        golden_bundle, manifest=dataclasses.replace(golden_bundle.manifest, operating_point=point)
    )
    finding = Classifier(bundle).predict(np.full((40, 40), 255, np.uint8))
    assert finding.probability == pytest.approx(1 / (1 + math.exp(-finding.logit / 4.0)))
    assert (finding.decision, finding.label) == ("negative", "DARK")


def test_a_bad_image_is_an_error_for_a_caller_of_one(classifier):
    with pytest.raises(ImageError):
        classifier.predict(b"no picture")


def test_a_rejected_finding_holds_nothing_that_could_be_taken_for_an_answer():
    finding = Finding.rejected("it is torn", bundle_id="b-1.0.0")
    assert (finding.decision, finding.label, finding.reason) == ("rejected", "", "it is torn")
    assert math.isnan(finding.probability)
    assert math.isnan(finding.logit)
    assert finding.evidence.size == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, evidence: (dataclasses.replace(logits, scale=0.5), evidence),
        lambda logits, evidence: (logits, dataclasses.replace(evidence, zero_point=3)),
        lambda logits, evidence: (logits, TensorSpec(shape=(1, 4, 4, 1), dtype="int8", scale=evidence.scale)),
        lambda logits, evidence: (logits, dataclasses.replace(evidence, dtype="uint8")),
    ],
)
def test_outputs_that_are_not_the_models_are_refused(golden_bundle, write_variant, change):
    path = write_variant(outputs=change(*golden_bundle.manifest.outputs))
    with pytest.raises(BundleError, match=r"outputs .* are not the manifest's"):
        Classifier.load(path)


def test_an_input_that_is_not_the_models_is_refused(golden_bundle, write_variant):
    manifest = golden_bundle.manifest
    other = dataclasses.replace(manifest.preprocess, height=64)
    path = write_variant(preprocess=other, input=dataclasses.replace(manifest.input, shape=(1, 64, 32, 1)))
    with pytest.raises(BundleError, match=r"input .* are not the manifest's"):
        Classifier.load(path)


def test_loading_refuses_failed_gates(write_variant):
    path = write_variant(verdict="INCONCLUSIVE")
    with pytest.raises(BundleError, match="INCONCLUSIVE"):
        Classifier.load(path)
    assert Classifier.load(path, allow_failed=True).manifest.verdict == "INCONCLUSIVE"


def test_subtypes_need_a_second_logit(golden_bundle):
    with pytest.raises(ValueError, match="expected one logit and no subtypes, or two of both"):
        dataclasses.replace(golden_bundle.manifest, subtypes=("bacteria", "virus"))


@pytest.mark.parametrize(("second", "subtype", "probability"), [(2.0, "bacteria", 0.8808), (-1.0, "virus", 0.7311)])
def test_the_second_logit_names_the_likelier_subtype_of_a_positive_case_only(
    classifier, monkeypatch, second, subtype, probability
):
    table = dataclasses.asdict(classifier.manifest) | {"subtypes": ("bacteria", "virus")}
    told_apart = SimpleNamespace(**(table | {"preprocess": classifier.manifest.preprocess}))
    told_apart.operating_point, told_apart.bundle_id = classifier.manifest.operating_point, "two-1.0.0"
    monkeypatch.setattr(Classifier, "manifest", told_apart)
    none = pytest.approx(math.nan, nan_ok=True)
    for first, expected in ((5.0, (subtype, pytest.approx(probability, abs=1e-4))), (-5.0, ("", none))):
        answer = np.array([first, second], np.float32), np.zeros((2, 2, 2), np.float32)
        monkeypatch.setattr(Classifier, "scores", lambda self, pixels, answer=answer: answer)
        finding = classifier.predict(np.zeros((32, 32), np.uint8))
        assert (finding.subtype, finding.subtype_probability) == expected

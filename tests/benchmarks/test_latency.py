import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.benchmark import describe_image
from slimscan_bench.cold_start import measure_cold_starts
from slimscan_bench.environment import read_environment
from slimscan_bench.latency import Distribution, distribution, rounds_of_answers
from slimscan_bench.typical_images import TYPICAL, write_typical_images
from slimscan_edge.bundle import read_bundle
from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.cli import BLAS_THREADS, main
from slimscan_edge.errors import ImageError, InputError, InterpreterError

BUNDLE = Path(__file__).parents[1] / "golden" / "brightness-1.0.0.slimscan"


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load(BUNDLE, threads=1)


def test_rounds_go_over_all_images_in_turn_and_the_warmup_is_dropped(classifier, pictures):
    rounds = list(rounds_of_answers(classifier, pictures, warmup=2, repeats=3))
    assert [len(samples) for samples in rounds] == [0, 0, 2, 2, 2]
    samples = [sample for samples in rounds for sample in samples]
    assert [(s.round, s.image) for s in samples] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    total = distribution(samples, "total")
    parts = [distribution(samples, stage).values for stage in ("decode", "resize", "invoke", "decide")]
    assert total.values == pytest.approx(np.sum(parts, axis=0))
    assert distribution(samples, "total", image=1).values == total.values[1::2]


def test_other_ways_take_their_turn_on_every_image_in_changing_order(classifier, pictures):
    asked = []
    ways = {name: (lambda path, name=name: asked.append((name, path.name)) or 0.5) for name in ("a", "b")}
    rounds = rounds_of_answers(classifier, pictures, warmup=1, repeats=6, ways=ways)
    samples = [sample for samples in rounds for sample in samples]
    assert len(asked) == 2 * 7 * len(pictures)
    assert {name for _, name in asked} == {path.name for path in pictures}
    assert {tuple(sample.others) for sample in samples} == {("a", "b")}
    assert all(taken.wall_ms > 0 for sample in samples for taken in sample.others.values())
    pairs = [(asked[k][0], asked[k + 1][0]) for k in range(0, len(asked), 2)]
    assert pairs.count(("a", "b")) == pairs.count(("b", "a")) == 7


def test_the_clock_of_the_other_ways_covers_all_stages_of_ours(classifier, pictures):
    first, _ = rounds_of_answers(classifier, pictures, warmup=0, repeats=2)
    for sample in first:
        assert sample.taken.wall_ms >= sample.timings.total_ms
        assert sample.taken.cpu_ms > 0
        assert sample.others == {}


def test_percentiles_of_known_values():
    values = Distribution(values=tuple(map(float, range(1, 102))), rounds=tuple(range(101)))
    assert (values.p50, values.p90, values.p99) == (51.0, 91.0, 100.0)
    low, high = values.p50_interval
    assert 30 < low < 51 < high < 72
    assert values.p50_interval == values.p50_interval
    few = Distribution(values=(1.0, 2.0, 9.0), rounds=(0, 0, 0))
    assert few.p50 == 2.0
    assert few.p99 is None
    assert few.p50_interval is None


@pytest.mark.parametrize("counts", [{"warmup": 0, "repeats": 0}, {"warmup": -1, "repeats": 1}])
def test_refuses_to_measure_nothing(classifier, pictures, counts):
    with pytest.raises(InputError, match="expected at least"):
        list(rounds_of_answers(classifier, pictures, **counts))
    with pytest.raises(InputError, match="got 0 images"):
        list(rounds_of_answers(classifier, [], warmup=0, repeats=1))
    with pytest.raises(InputError):
        Distribution(values=(), rounds=())


def test_an_unreadable_image_is_refused(classifier, tmp_path):
    broken = tmp_path / "broken.jpeg"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError):
        list(rounds_of_answers(classifier, [broken], warmup=0, repeats=1))
    with pytest.raises(ImageError):
        describe_image(broken)


def test_cold_starts_are_kept_in_pairs(pictures):
    done = []
    pairs = measure_cold_starts(
        read_bundle(BUNDLE), pictures[0], bundle_path=BUNDLE, threads=1, runs=1, progress=done.append
    )
    assert len(pairs) == 1
    assert done == [1, 2]
    assert pairs[0].image == "grey60.jpeg"
    (pair,) = pairs
    assert pair.ratio == pair.slimscan.first_answer_ms / pair.floor.first_answer_ms > 0
    if sys.platform == "linux":
        assert 5 < pair.slimscan.peak_memory_mib < 500
        assert 5 < pair.floor.peak_memory_mib < 500


def test_starts_with_dicom_are_timed_against_a_picture_of_its_pixels(tmp_path):
    dicom = pytest.importorskip("pydicom")
    dataset = dicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = (
        dicom.uid.ComputedRadiographyImageStorage,
        "1.2",
        "CR",
    )
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
        90,
        120,
        1,
        "MONOCHROME2",
    )
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.tile(np.arange(120, dtype=np.uint8), (90, 1)).tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = dicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = dicom.uid.ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "xray.dcm", enforce_file_format=True)
    (pair,) = measure_cold_starts(read_bundle(BUNDLE), tmp_path / "xray.dcm", bundle_path=BUNDLE, threads=1, runs=1)
    assert pair.image == "xray.dcm"
    assert pair.ratio > 0


def test_peak_memory_is_the_new_process_own(pictures):
    ballast = np.ones(80_000_000)  # 610 MiB that a started process would report as its peak, were ru_maxrss believed
    (pair,) = measure_cold_starts(read_bundle(BUNDLE), pictures[0], bundle_path=BUNDLE, threads=1, runs=1)
    assert ballast.sum() > 0
    if sys.platform == "linux":
        assert pair.floor.peak_memory_mib < 400


def test_fresh_processes_start_as_from_a_shell(pictures, monkeypatch):
    environments = []
    start = subprocess.Popen

    def noting(*words, env, **options):
        environments.append(env)
        return start(*words, env=env, **options)

    monkeypatch.setenv(BLAS_THREADS, "1")  # as the command line sets it for the measuring process itself
    monkeypatch.setattr(subprocess, "Popen", noting)
    measure_cold_starts(read_bundle(BUNDLE), pictures[0], bundle_path=BUNDLE, threads=1, runs=1)
    assert len(environments) == 4
    assert all(BLAS_THREADS not in environment and "PATH" in environment for environment in environments)


def test_a_process_that_does_not_answer_is_an_error(tmp_path):
    missing = tmp_path / "missing.jpeg"
    with pytest.raises(InterpreterError, match="before its answer"):
        measure_cold_starts(read_bundle(BUNDLE), missing, bundle_path=BUNDLE, threads=1, runs=1)


def test_typical_images_are_the_same_grey_jpegs_every_time(tmp_path):
    (tmp_path / "again").mkdir()
    first, again = write_typical_images(tmp_path), write_typical_images(tmp_path / "again")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    described = [describe_image(path) for path in first]
    assert [(image.width, image.height) for image in described] == [size[:2] for size in TYPICAL]
    assert {image.mode for image in described} == {"L"}


def test_command_writes_every_raw_value(pictures, tmp_path, capsys):
    out = tmp_path / "results" / "benchmark.json"
    counts = ["--threads", "1", "--processes", "2", "--repeats", "2", "--warmup", "1", "--cold-starts", "1"]
    code = main(["bench", *map(str, pictures), "--bundle", str(BUNDLE), *counts, "--json", "--out", str(out)])
    printed = capsys.readouterr().out
    assert code == 0
    assert printed.count("\n") == 1
    record = json.loads(printed)
    assert record == json.loads(out.read_text())
    assert record["schema_version"] == 4
    assert record["bundle_id"] == "brightness-1.0.0"
    assert record["bundle_sha256"] == read_bundle(BUNDLE).sha256
    assert record["bundle_size_bytes"] == BUNDLE.stat().st_size
    assert not record["synthetic"]
    assert [image["name"] for image in record["images"]] == ["grey60.jpeg", "grey200.jpeg"]
    assert len(record["samples"]) == 8
    assert record["summary"]["stages_ms"]["total"]["count"] == 8
    assert len(record["cold_starts"]) == len(record["largest_starts"]) == 1
    assert "--processes 2 --repeats 2 --warmup 1 --cold-starts 1" in record["command"]
    assert record["environment"]["python"] == read_environment(interpreter="").python


def test_an_image_whose_name_is_not_utf8_is_measured_and_named_escaped(tmp_path, capsys):
    out, image = tmp_path / "benchmark.json", tmp_path / "r\udcf6ntgen.png"
    with image.open("wb") as file:
        Image.new("L", (40, 40), 30).save(file, "PNG")
    options = ["--processes", "1", "--repeats", "1", "--warmup", "0", "--cold-starts", "0", "--out", str(out)]
    assert main(["bench", str(image), "--bundle", str(BUNDLE), *options]) == 0
    assert r"r\udcf6ntgen.png, 40x40 L" in capsys.readouterr().out
    assert json.loads(out.read_text())["images"][0]["name"] == r"r\udcf6ntgen.png"


def test_of_many_images_the_slowest_are_named_and_the_rest_counted(tmp_path, capsys):
    for index in range(7):
        Image.new("L", (40, 40), 30 * index).save(tmp_path / f"x{index}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8)).save(tmp_path / "large.png")
    code = main(
        [
            *["bench", str(tmp_path), "--bundle", str(BUNDLE), "--processes", "1", "--repeats", "2", "--warmup", "1"],
            *["--cold-starts", "0"],
        ]
    )
    named = [line for line in capsys.readouterr().out.splitlines() if "total p50" in line or "take less" in line]
    assert code == 0
    assert "large.png, 1500x1500 L" in named[0]
    assert named[5:] == ["  and 3 images that take less"]


def test_command_without_images_says_that_it_drew_them(capsys):
    options = ["--bundle", str(BUNDLE), "--processes", "1", "--repeats", "1", "--warmup", "0", "--cold-starts", "0"]
    assert main(["bench", *options]) == 0
    table = capsys.readouterr().out
    assert "drawn for this measurement: no X-ray was read" in table
    assert "drawn-1400x1000.jpeg, 1400x1000 L" in table
    for stage in ("decode", "resize", "invoke", "decide", "total"):
        assert f"\n{stage}" in table
    assert "first answer" not in table


def test_command_measures_against_other_ways_and_by_threads(pictures, tmp_path, capsys):
    out = tmp_path / "benchmark.json"
    options = ["--bundle", str(BUNDLE), "--processes", "2", "--repeats", "2", "--warmup", "0", "--cold-starts", "0"]
    options += ["--out", str(out)]
    code = main(["bench", *map(str, pictures), *options, "--against", "plain", "--against", "floor", "--scaling"])
    table, record = capsys.readouterr().out, json.loads(out.read_text())
    assert code == 0
    assert set(record["summary"]["ratios"]) == {"plain", "floor"}
    assert set(record["summary"]["ratios"]["plain"]) == {"all", "small"}
    assert set(record["samples"][0]["others"]) == {"plain", "floor"}
    assert [answer["decision"] for answer in record["answers"]] == ["negative", "positive"]
    assert record["summary"]["decided_otherwise"]["plain"] == 0.0
    assert "against plain" in table
    assert "the same decision on 2 of 2 images" in table
    assert "p50 over the floor's" in table
    assert {run["threads"] for run in record["thread_runs"]} >= {1}
    assert "--against plain --against floor --scaling" in record["command"]


def test_a_check_is_not_made_without_what_it_checks():
    assert main(["bench", "--bundle", str(BUNDLE), "--check", "--cold-starts", "0"]) == 2


def test_images_that_the_bundle_rejects_are_left_out_and_named(pictures, monkeypatch, capsys):
    answered = Classifier.predict

    def picky(self, source):
        if "grey60" in str(source):
            return Finding.rejected("too dark", bundle_id="brightness-1.0.0")
        return answered(self, source)

    monkeypatch.setattr(Classifier, "predict", picky)
    options = ["--bundle", str(BUNDLE), "--processes", "1", "--repeats", "1", "--warmup", "0", "--cold-starts", "0"]
    options += ["--json"]
    assert main(["bench", *map(str, pictures), *options]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["left_out"] == ["grey60.jpeg"]
    assert [image["name"] for image in record["images"]] == ["grey200.jpeg"]
    assert len(record["answers"]) == 1
    assert main(["bench", str(pictures[0]), *options]) == 2
    assert "rejects all 1 images" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--repeats", "0"], ["--cold-starts", "-1"], ["--warmup", "two"]])
def test_command_refuses_counts_that_are_none(words):
    with pytest.raises(SystemExit) as refusal:
        main(["bench", "--bundle", str(BUNDLE), *words])
    assert refusal.value.code == 2


def test_command_needs_base_dependencies_only():
    script = f"""
import sys
for name in ("scipy", "sklearn", "matplotlib", "tensorflow", "tf_keras", "jinja2", "rich"):
    sys.modules[name] = None  # an import of it fails
from slimscan_edge.cli import BLAS_THREADS, main
counts = ["--processes", "1", "--repeats", "2", "--warmup", "0", "--cold-starts", "1"]
sys.exit(main(["bench", "--bundle", {str(BUNDLE)!r}, *counts]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

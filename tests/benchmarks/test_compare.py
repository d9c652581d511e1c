import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.compare import choose_images, compare, summarise, to_lines
from slimscan_bench.figures import figures
from slimscan_bench.models import Model, read_models, tflite_score
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import read_bundle, write_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.dataset import read_dataset
from slimscan_train.shifts import SHIFTS
from slimscan_train.split import Split

BUNDLE = Path(__file__).parents[1] / "golden" / "brightness-1.0.0.slimscan"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    """Twelve grey pictures around mid-grey; those called BRIGHT are, but for one of each that is not."""
    levels = {"DARK": (60, 80, 100, 110, 120, 140), "BRIGHT": (124, 132, 150, 180, 200, 220)}
    for label, greys in levels.items():
        (tmp_path / "data" / label).mkdir(parents=True)
        for number, grey in enumerate(greys):
            pixels = np.full((40, 40), grey, np.uint8)
            pixels[0, 0] = number  # no two files alike
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{label.lower()}{number}.png")
    return tmp_path / "data"


def bundle(path, **changes):
    """The golden bundle with another manifest."""
    known = read_bundle(BUNDLE)
    write_bundle(path, dataclasses.replace(known.manifest, **changes), known.members)
    return path


def stricter(path):
    point = OperatingPoint(threshold=0.6, target_sensitivity=0.9, refer_low=0.6, refer_high=0.6, chosen_on="nothing")
    return bundle(path, version="1.1.0", operating_point=point, verdict="FAIL")


def model(name, splits=None, labels=("DARK", "BRIGHT"), dataset=None):
    """A model whose logit is the mean grey level, less 128; a run when splits by path are given."""
    images = () if splits is None else tuple(dataclasses.replace(i, split=splits[i.path]) for i in dataset.images)
    return Model(
        name=name,
        kind="run",
        sha256="",
        size_bytes=1,
        preprocess=PreprocessSpec(height=16, width=16),
        operating_point=OperatingPoint(target_sensitivity=0.9, refer_low=0.5, refer_high=0.5, chosen_on="nothing"),
        labels=labels,
        note="",
        split=None if splits is None else Split(labels=labels, naming="generic", images=images),
        score=lambda pixels: pixels.reshape(len(pixels), -1).mean(axis=1) - 128.0,
    )


def test_command_reports_both_models_and_every_changed_decision(data, tmp_path, capsys):
    candidate, out = stricter(tmp_path / "candidate.slimscan"), tmp_path / "out"
    assert main(["compare", str(BUNDLE), str(candidate), str(data), "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    record = json.loads(printed)
    assert printed.count("\n") == 1
    assert record == json.loads((out / "compare.json").read_text())
    assert record["schema_version"] == 2
    assert len(record["scores"]) == 12
    assert record["candidate"]["note"] == "its gates say FAIL"
    assert "neither model tells whether it was trained on them" in record["data"]
    # By hand: the logit is 8 * (grey - 128) / 127.5; threshold 0.6 is the logit 0.405, the grey level 134.5.
    assert [flip["image"] for flip in record["flips"]] == ["BRIGHT/bright1.png"]
    metrics = {metric["metric"]: metric for metric in record["overall"]["metrics"]}
    assert metrics["sensitivity"]["reference"]["value"] == pytest.approx(5 / 6)
    assert metrics["sensitivity"]["candidate"]["value"] == pytest.approx(4 / 6)
    assert metrics["sensitivity"]["difference"]["value"] == pytest.approx(-1 / 6)
    assert metrics["sensitivity"]["p_value"] == 1.0
    assert metrics["specificity"]["difference"]["value"] == 0.0
    assert metrics["auroc"]["reference"]["value"] == pytest.approx(34 / 36)
    assert metrics["auroc"]["difference"]["value"] == 0.0
    assert (record["overall"]["new_misses"], record["overall"]["new_false_alarms"]) == (1, 0)
    assert list(record["groups"]) == ["bright", "dark"]
    assert [metric["metric"] for metric in record["groups"]["bright"]["metrics"]] == ["sensitivity"]
    table = (out / "compare.txt").read_text()
    assert "new miss            BRIGHT/bright1.png" in table
    assert "group dark: 6 images of 6 patients, 0 positive" in table


def test_table_goes_to_stdout_and_is_the_same_for_the_same_seed(data, tmp_path, capsys):
    words = ["compare", str(BUNDLE), str(stricter(tmp_path / "candidate.slimscan")), str(data), "--seed", "3"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert "bootstrap of\npatients (seed 3)" in first


def test_the_record_is_kept_where_nothing_can_be_printed(data, tmp_path, fill_stdout):
    out = tmp_path / "out"
    fill_stdout()
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(data), "--out", str(out)]) == 4
    assert json.loads((out / "compare.json").read_text())["flips"] == []
    assert "changed" in (out / "compare.txt").read_text()


def test_a_model_whose_name_is_not_utf8_is_reported_escaped(data, tmp_path, capsys):
    candidate, out = stricter(tmp_path / "m\udcf6.slimscan"), tmp_path / "out"
    assert main(["compare", str(BUNDLE), str(candidate), str(data), "--out", str(out)]) == 0
    assert r"m\udcf6.slimscan" in capsys.readouterr().out
    assert r"m\udcf6.slimscan" in (out / "compare.txt").read_text()
    assert json.loads((out / "compare.json").read_text())["candidate"]["name"].endswith(r"m\udcf6.slimscan")


def test_a_bare_tflite_borrows_and_says_so(data, tmp_path, capsys):
    bare = tmp_path / "model.tflite"
    bare.write_bytes(read_bundle(BUNDLE).model)
    for words in ([str(BUNDLE), str(bare)], [str(bare), str(BUNDLE)]):
        assert main(["compare", *words, str(data), "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["flips"] == []
        notes = record["reference"]["note"] + record["candidate"]["note"]
        assert notes == f"preprocessing and threshold are those of {BUNDLE}"


def brightness_onnx(path, *, side=32, dtype="UINT8", properties=None, logits=("N", 1)):
    """The golden bundle's model as ONNX: the logit is 8 * (mean grey level - 128) / 127.5."""
    import onnx
    from onnx import helper, numpy_helper

    grey = dtype == "UINT8"
    constants = {
        "centre": np.array(128.0 if grey else 0.0, np.float32),
        "scale": np.array(8 / 127.5 if grey else 8.0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["levels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels"], ["mean"], axes=[1, 2], keepdims=int(len(logits) > 2)),
        helper.make_node("Sub", ["mean", "centre"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", getattr(onnx.TensorProto, dtype), ["N", side, side, 1])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, logits)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, properties or {})
    path.write_bytes(model.SerializeToString())
    return path


def damaged_onnx(path):
    path.write_bytes(brightness_onnx(path).read_bytes()[:-40])
    return path


@pytest.mark.parametrize("dtype", ["UINT8", "FLOAT"])
def test_an_onnx_file_is_compared_with_a_bundle(data, tmp_path, capsys, dtype):
    twin = brightness_onnx(tmp_path / "twin.onnx", dtype=dtype)
    assert main(["compare", str(BUNDLE), str(twin), str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["candidate"]["kind"], record["flips"]) == ("onnx", [])
    assert record["candidate"]["note"] == f"preprocessing and threshold are those of {BUNDLE}"
    assert record["candidate"]["size_bytes"] == twin.stat().st_size
    for row in record["scores"]:  # int8 outputs come in steps
        assert row["candidate_logit"] == pytest.approx(row["reference_logit"], abs=0.1)


def test_an_onnx_twin_says_itself_what_it_is_and_may_be_the_reference(data, tmp_path, capsys):
    manifest = read_bundle(BUNDLE).manifest
    point = dataclasses.replace(manifest.operating_point, threshold=0.6, refer_low=0.6, refer_high=0.6)
    properties = {
        "labels": json.dumps(manifest.labels),
        "preprocess": json.dumps(dataclasses.asdict(manifest.preprocess)),
        "operating_point": json.dumps(dataclasses.asdict(point)),
    }
    twin = brightness_onnx(tmp_path / "twin.onnx", properties=properties)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(read_bundle(BUNDLE).model)
    assert main(["compare", str(twin), str(bare), str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["reference"]["threshold"], record["reference"]["note"]) == (0.6, "")
    assert record["candidate"]["threshold"] == 0.6  # borrowed


def test_without_onnx_runtime_it_says_what_to_install(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["compare", str(BUNDLE), str(brightness_onnx(tmp_path / "twin.onnx")), str(data)]) == 4
    assert "pip install 'slimscan[onnx]'" in capsys.readouterr().err


def test_probabilities_thresholds_and_shifts_are_reported(data, tmp_path, capsys):
    candidate, out = stricter(tmp_path / "candidate.slimscan"), tmp_path / "out"
    words = ["compare", str(BUNDLE), str(candidate), str(data), "--prevalence", "0.25", "--shifts"]
    assert main([*words, "--out", str(out)]) == 0
    record, table = json.loads((out / "compare.json").read_text()), (out / "compare.txt").read_text()
    metrics = {metric["metric"]: metric for metric in record["probabilities"]}
    assert list(metrics) == ["ppv", "npv", "brier", "calibration error"]
    # By hand: 5 of 6 found and 5 of 6 cleared by the reference; a quarter is positive.
    assert metrics["ppv"]["reference"]["value"] == pytest.approx(5 / 6 * 0.25 / (5 / 6 * 0.25 + 1 / 6 * 0.75))
    assert [metric["metric"] for metric in record["group_probabilities"]["bright"]] == ["brier", "calibration error"]
    row = next(row for row in record["sweep"] if row["threshold"] == 0.6)
    assert row["candidate"] == [pytest.approx(4 / 6), pytest.approx(5 / 6)]
    assert row["flips"] == 0  # both calibrations are alike
    assert set(record["shifts"]) == set(record["shift_flips"]) == set(SHIFTS)
    darker = {metric["metric"]: metric for metric in record["shifts"]["darker"]["metrics"]}
    # 0.15 * 255 = 38 levels darker: of 124, 132, 150, 180, 200 and 220 the last three are still bright.
    assert darker["sensitivity"]["reference"]["value"] == pytest.approx(3 / 6)
    assert table.count("probabilities (predictive values at a prevalence of 0.25)") == 1  # a group has one class
    assert "shift darker: 12 images" in table
    assert "decisions changed" in table


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-0.1", "nan"])
def test_a_prevalence_that_is_none_is_refused(data, share, capsys):
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(data), f"--prevalence={share}"]) == 2
    assert "expected a share between 0 and 1" in capsys.readouterr().err


def test_scores_are_the_device_own(data):
    classifier = Classifier.load(BUNDLE)
    (reference, _), dataset = read_models(BUNDLE, BUNDLE), read_dataset(data, positive="BRIGHT")
    result = compare((reference, reference), dataset, dataset.images, data="", seed=0)
    expected = [classifier.predict(dataset.file(image)).logit for image in dataset.images]
    assert result.scores.reference.logits.tolist() == expected


def test_an_unreadable_image_is_left_out_and_named(data):
    (data / "DARK" / "broken.png").write_bytes(b"no picture")
    dataset = read_dataset(data, positive="BRIGHT")
    result = compare((model("one"), model("other")), dataset, dataset.images, data="", seed=0)
    assert len(result.scores) == 12
    assert len(result.unreadable) == 1
    assert "broken.png" in "\n".join(to_lines(result, summarise(result)))


def test_images_are_those_that_the_run_held_out(data):
    dataset = read_dataset(data, positive="BRIGHT")
    home = {image.path: "val" if "3" in image.path or "4" in image.path else "train" for image in dataset.images}
    run = model("run", home, dataset=dataset)
    for pair in ((run, model("bundle")), (model("bundle"), run)):
        chosen, words = choose_images(dataset, pair, None)
        assert [image.path for image in chosen] == [path for path in home if home[path] == "val"]
        assert "split val: 4 images of 4 patients" in words


def test_images_that_trained_a_run_are_refused(data):
    dataset = read_dataset(data, positive="BRIGHT")
    held_out = {image.path: "val" for image in dataset.images}
    trained = {**held_out, "DARK/dark2.png": "train"}
    pair = (model("one", held_out, dataset=dataset), model("other", trained, dataset=dataset))
    with pytest.raises(InputError, match=r"1 of the 12 images of 'val' trained one of the runs \(DARK/dark2.png"):
        choose_images(dataset, pair, None)
    with pytest.raises(InputError, match="trained one of the runs"):
        choose_images(dataset, (pair[1], pair[1]), "all")
    with pytest.raises(InputError, match="no image of the split 'test'; it holds train, val"):
        choose_images(dataset, (pair[1], pair[1]), "test")


def test_images_of_one_class_are_refused(data):
    dataset = read_dataset(data, positive="BRIGHT")
    bright = [image for image in dataset.images if dataset.is_positive(image)]
    with pytest.raises(InputError, match="6 positive and 0 negative"):
        compare((model("one"), model("other")), dataset, bright, data="", seed=0)
    with pytest.raises(InputError, match="0 positive and 0 negative"):
        compare((model("one"), model("other")), dataset, [], data="", seed=0)


def test_models_that_do_not_go_together_are_refused(data, tmp_path):
    bare, other = tmp_path / "a.tflite", tmp_path / "b.tflite"
    for path in (bare, other):
        path.write_bytes(read_bundle(BUNDLE).model)
    swapped = bundle(tmp_path / "swapped.slimscan", labels=("BRIGHT", "DARK"))
    (tmp_path / "notes.txt").write_text("no model")
    for reference, candidate, message in (
        (bare, other, "give the run or the bundle"),
        (brightness_onnx(tmp_path / "a.onnx"), bare, "give the run or the bundle"),
        (BUNDLE, brightness_onnx(tmp_path / "b.onnx", side=24), r"takes pixels \[24, 24, 1\]"),
        (BUNDLE, brightness_onnx(tmp_path / "c.onnx", logits=("N", 1, 1, 1)), "expected uint8 or float32 pixels"),
        (BUNDLE, damaged_onnx(tmp_path / "d.onnx"), "is no"),
        (BUNDLE, tmp_path / "absent.onnx", "cannot be read"),
        (BUNDLE, brightness_onnx(tmp_path / "e.onnx", properties={"operating_point": "{}"}), "export it again"),
        (BUNDLE, swapped, "compare models of one task"),
        (BUNDLE, tmp_path / "notes.txt", "expected a run folder, a bundle"),
        (BUNDLE, tmp_path / "absent.tflite", "cannot be read"),
        (data, BUNDLE, "is not a run"),
    ):
        with pytest.raises(InputError, match=message):
            read_models(reference, candidate)
    assert main(["compare", str(bare), str(other), str(data)]) == 2


def test_data_of_other_classes_is_refused(data, tmp_path, capsys):
    (data / "DARK").rename(data / "GLOOMY")
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(data)]) == 2
    assert "GLOOMY" in capsys.readouterr().err


def test_figures_of_a_sample_too_small_for_an_interval_are_still_figures():
    one = Scores(
        images=("a", "b"),
        patients=("a", "b"),
        positive=np.array([True, False]),
        groups=("x", "x"),
        logits=np.array([1.0, -1.0]),
    )
    pair = PairedScores(reference=one, candidate=one, reference_threshold=0.0, candidate_threshold=0.0)
    area, sensitivity, _ = figures(pair, seed=0, resamples=20).metrics
    assert (area.reference.value, area.reference.interval, area.p_value) == (1.0, None, None)
    assert sensitivity.reference.interval == pytest.approx((0.025, 1.0))


@pytest.mark.slow
def test_a_run_is_scored_by_its_float_model_and_its_float_tflite_agrees(data, tmp_path, capsys):
    from slimscan_train.config import TrainConfig, write_config
    from slimscan_train.model import ModelConfig, build_model
    from slimscan_train.run import write_operating_point
    from slimscan_train.split import write_split

    network = build_model(ModelConfig(width=0.05), 32, 32, seed=1)
    dataset = read_dataset(data, positive="BRIGHT")
    folder = tmp_path / "run"
    folder.mkdir()
    network.save(folder / "model.keras")
    write_config(folder / "config.toml", TrainConfig(preprocess=PreprocessSpec(height=32, width=32)))
    held_out = tuple(dataclasses.replace(image, split="val") for image in dataset.images)
    write_split(folder / "split.json", Split(labels=dataset.labels, naming=dataset.naming, images=held_out))
    (folder / "data.json").write_text(json.dumps({"root": str(data)}))
    write_operating_point(folder / "operating_point.json", model("").operating_point)

    import tensorflow as tf

    bare = tmp_path / "float.tflite"
    bare.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    assert main(["compare", str(folder), str(bare), str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "split val: 12 images" in record["data"]
    for row in record["scores"]:
        assert row["candidate_logit"] == pytest.approx(row["reference_logit"], abs=1e-4)


def test_a_model_of_another_contract_is_refused(monkeypatch):
    class Two:
        input = dataclasses.replace(read_bundle(BUNDLE).manifest.input, dtype="int16")
        outputs = read_bundle(BUNDLE).manifest.outputs

    monkeypatch.setattr("slimscan_bench.models.Interpreter", lambda content: Two)
    with pytest.raises(InputError, match="takes int16"):
        tflite_score(b"")


def test_a_table_with_other_columns_and_root_is_compared_like_its_folder(data, tmp_path, capsys):
    table = tmp_path / "lists" / "table.csv"
    table.parent.mkdir()
    rows = [f"{path.relative_to(data)};{path.parent.name.lower()}" for path in sorted(data.rglob("*.png"))]
    table.write_text("\n".join(["file;class", *rows]) + "\n")
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(data), "--json"]) == 0
    of_folder = json.loads(capsys.readouterr().out)
    words = ["--columns", "path=file,label=class", "--root", str(data), "--json"]
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(table), *words]) == 0
    said = capsys.readouterr()
    of_table = json.loads(said.out)
    assert of_table["overall"] == of_folder["overall"]
    assert [row["image"] for row in of_table["scores"]] == [row["image"] for row in of_folder["scores"]]
    assert "bright is the positive class" in said.err.splitlines()[0]


def test_a_run_says_how_its_table_is_read(data, tmp_path, monkeypatch):
    from slimscan_bench.commands import compare as command

    table = tmp_path / "table.csv"
    rows = [f"{path.relative_to(data)};{path.parent.name}" for path in sorted(data.rglob("*.png"))]
    table.write_text("\n".join(["file;class", *rows]) + "\n")
    columns = {"path": "file", "label": "class"}
    dataset = read_dataset(table, positive="BRIGHT", columns=columns, root=data)
    (tmp_path / "run").mkdir()
    reading = {"naming": None, "positive": None, "columns": columns, "root": str(data)}
    (tmp_path / "run" / "data.json").write_text(json.dumps({"root": str(data), "reading": reading}))
    splits = {image.path: "val" for image in dataset.images}
    monkeypatch.setattr(
        command, "read_models", lambda *_: (model(str(tmp_path / "run"), splits, dataset=dataset), model("other"))
    )
    assert main(["compare", "run", "other", str(table), "--json"]) == 0


def test_what_cannot_be_opened_is_refused_by_name(data, capsys):
    (data / "DARK" / "gone.png").symlink_to("nowhere")
    assert main(["compare", str(BUNDLE), str(BUNDLE), str(data)]) == 2
    assert "gone.png is a link to nothing (nowhere); repair or remove them" in capsys.readouterr().err

"""`slimscan export --ladder` on the squares: made once, then asked for again, stopped, damaged and judged anew."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from slimscan_edge.bundle import read_bundle
from slimscan_edge.cli import main
from slimscan_edge.interpreter import Interpreter
from slimscan_export import ladder_networks, ladder_rows
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.exporting import ExportConfig
from slimscan_export.fine_tuning import FineTuneConfig
from slimscan_export.ladder import Ladder
from slimscan_export.ladder_measuring import LadderConfig, climb, time_in_turn
from slimscan_export.policy import STRICT, GatePolicy, Limit, read_policy
from slimscan_train.run import Run

pytestmark = pytest.mark.slow

BUNDLE, EVIDENCE = "squares-0.1.0.slimscan", "squares-0.1.0.export"
ROWS = ("float32", "int8-ptq", "channels-25")
WORDS = ["--ladder", "--rows", "channels-25", "--recovery-epochs", "3", "--calibration-images", "64"]
ASKED = LadderConfig(rows=("channels-25",), recovery=FineTuneConfig(epochs=3, learning_rate=1e-3))


def _lenient() -> GatePolicy:
    """The strict policy with every limit far off: what is tested here is the ladder, not the squares."""
    strict = read_policy(STRICT)
    far = Limit(observed=0.49, margin=0.499)
    return replace(
        strict,
        name="lenient",
        whole=replace(strict.whole, **{field.name: far for field in fields(strict.whole)}),
        subgroups=replace(strict.subgroups, **{field.name: far for field in fields(strict.subgroups)}),
        shifts=replace(strict.shifts, **{field.name: far for field in fields(strict.shifts)}),
        error_ratio=replace(strict.error_ratio, most=1000.0),
        model=replace(strict.model, near_threshold=1.0),
    )


CONFIG = ExportConfig(name="squares", version="0.1.0", calibration=CalibrationConfig(images=64), policy=_lenient())


@dataclass(frozen=True, kw_only=True)
class Climbed:
    run: Run
    folder: Path
    code: int
    printed: str

    @property
    def table(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / EVIDENCE / "ladder.json").read_text())
        return found


@pytest.fixture(scope="module")
def climbed(squares_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    """The command as it is typed."""
    folder = tmp_path_factory.mktemp("ladder")
    policy = folder / "lenient.toml"
    policy.write_text(tomli_w.dumps(asdict(CONFIG.policy)))
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        code = main(["export", str(squares_run.folder), "--out", str(folder / BUNDLE), "--policy", str(policy), *WORDS])
    return Climbed(run=squares_run, folder=folder, code=code, printed="\n".join(lines))


@pytest.fixture
def again(climbed: Climbed, tmp_path: Path) -> Callable[..., tuple[Ladder, list[str], Path]]:
    """Climb once more beside a copy of what the first time left; the ladder, what was said, the rows' folder."""
    shutil.copytree(climbed.folder / EVIDENCE, tmp_path / EVIDENCE)

    def climb_again(config: ExportConfig = CONFIG) -> tuple[Ladder, list[str]]:
        said: list[str] = []
        ladder, _ = climb(climbed.run, config, ASKED, tmp_path / BUNDLE, said.append)
        return ladder, said

    climb_again.rows = tmp_path / EVIDENCE / "ladder"  # type: ignore[attr-defined]
    return climb_again


@pytest.fixture
def no_work(monkeypatch):
    """Neither trains nor converts."""
    for module, name in ((ladder_rows, "convert"), (ladder_networks, "recover"), (ladder_networks, "prune_channels")):
        monkeypatch.setattr(module, name, None)


def test_the_command_picks_a_row_and_bundles_it(climbed):
    table = climbed.table
    assert [row["name"] for row in table["rows"]] == list(ROWS)
    assert climbed.code == 0
    assert f"picked: {table['pick']}" in climbed.printed
    picked = next(row for row in table["rows"] if row["name"] == table["pick"])
    bundle = read_bundle(climbed.folder / BUNDLE)
    assert bundle.manifest.verdict == picked["verdict"] == "PASS"
    assert bundle.model == (climbed.folder / EVIDENCE / "ladder" / f"{table['pick']}.tflite").read_bytes()
    assert len(bundle.model) == picked["size_bytes"]


def test_every_row_is_measured(climbed):
    rows = {row["name"]: row for row in climbed.table["rows"]}
    wide, narrow = rows["int8-ptq"], rows["channels-25"]
    assert narrow["macs"] <= 0.75 * wide["macs"] == 0.75 * rows["float32"]["macs"]
    assert narrow["size_bytes"] < wide["size_bytes"] < rows["float32"]["size_bytes"]
    assert narrow["rent"]["against"] == "int8-ptq"
    assert narrow["training_s"] > 0 == wide["training_s"]
    for row in rows.values():
        assert row["deflated_bytes"] < row["size_bytes"]
        assert len(row["latencies_ms"]) == len(rows["float32"]["latencies_ms"])
        assert [found["split"] for found in row["answers"]] == ["val", "val_shift"]
        assert row["gates"]
        assert (row["why_not"] == "") == (row["name"] in ("int8-ptq", "channels-25") and row["verdict"] == "PASS")
    assert wide["arena_bytes"] > narrow["arena_bytes"] - 2048 > 0


def test_the_report_shows_the_ladder(climbed):
    page = (climbed.folder / EVIDENCE / "report.html").read_text()
    assert "The ladder" in page
    for name in ROWS:
        assert name in page
    assert "File size against latency." in page
    assert "http" not in page


def test_a_ladder_that_is_asked_for_again_measures_only_latencies_anew(climbed, again, no_work):
    ladder, said = again()
    assert [line for line in said if "kept from before" in line] == [
        f"{name}: {row['size_bytes']:,} bytes, kept from before"
        for name, row in zip(ROWS, climbed.table["rows"], strict=True)
    ]
    for row, before in zip(ladder.rows, climbed.table["rows"], strict=True):
        assert [gate.verdict for gate in row.gates] == [gate["verdict"] for gate in before["gates"]]
        assert (row.macs, row.training_s, row.judging_s) == (before["macs"], before["training_s"], before["judging_s"])
        assert row.latencies_ms != tuple(before["latencies_ms"])


def test_a_ladder_that_was_stopped_after_a_training_does_not_train_again(climbed, again, monkeypatch):
    for name in ("recover", "prune_channels"):
        monkeypatch.setattr(ladder_networks, name, None)
    for suffix in ("json", "tflite", "judged.json"):
        (again.rows / f"channels-25.{suffix}").unlink()
    ladder, said = again()
    assert [line.split(":")[0] for line in said if "converted in" in line] == ["channels-25"]
    assert ladder.rows[-1].macs == climbed.table["rows"][-1]["macs"]
    assert ladder.rows[-1].size_bytes == climbed.table["rows"][-1]["size_bytes"]


@pytest.fixture
def converted(climbed: Climbed, monkeypatch) -> list[str]:
    """Precisions that were converted, by handing out what was converted the first time."""
    asked: list[str] = []

    def convert(saved: Any, precision: str, calibration: Any) -> bytes:
        asked.append(precision)
        name = {"float32": "float32", "int8": "int8-ptq"}[precision]
        return (climbed.folder / EVIDENCE / "ladder" / f"{name}.tflite").read_bytes()

    monkeypatch.setattr(ladder_rows, "convert", convert)
    return asked


def test_a_damaged_file_is_made_again(climbed, again, converted):
    path = again.rows / "int8-ptq.tflite"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again()
    assert converted == ["int8"]
    assert path.read_bytes() == whole


def test_a_file_that_was_made_from_something_else_is_made_again(climbed, again, converted):
    path = again.rows / "int8-ptq.json"
    table = json.loads(path.read_text())
    assert table["made_from"]["calibration"] == {"images": 64, "seed": 0}
    table["made_from"]["calibration"]["seed"] = 1
    path.write_text(json.dumps(table))
    again()
    assert converted == ["int8"]


def test_another_policy_judges_anew_and_makes_nothing(climbed, again, no_work):
    tiny = replace(CONFIG.policy, model=replace(CONFIG.policy.model, size_bytes=1))
    ladder, said = again(replace(CONFIG, policy=tiny))
    assert [line for line in said if line.endswith(": judging")] == [f"{name}: judging" for name in ROWS]
    assert ladder.pick is None
    assert {row.verdict for row in ladder.rows} == {"FAIL"}


def test_rows_are_timed_in_the_same_rounds(golden_bundle):
    found = time_in_turn({"a": golden_bundle.model, "b": golden_bundle.model}, rounds=3, invokes=2)
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in found.values() for value in values)


def test_a_turn_is_one_unmeasured_invoke_and_the_measured_ones(golden_bundle, monkeypatch):
    asked: list[np.ndarray] = []
    invoke = Interpreter.invoke
    monkeypatch.setattr(Interpreter, "invoke", lambda self, pixels: (asked.append(pixels), invoke(self, pixels))[1])
    time_in_turn({"a": golden_bundle.model, "b": golden_bundle.model}, rounds=3, invokes=2)
    assert len(asked) == 2 * 3 * (1 + 2)
    assert all(np.array_equal(pixels, asked[0]) for pixels in asked)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "int8-ptq"], "--rows and --recovery-epochs are of the ladder"),
        (["--recovery-epochs", "3"], "--rows and --recovery-epochs are of the ladder"),
        (["--ladder", "--prune", "0.5"], "--ladder tries every recipe"),
        (["--ladder", "--quantisation", "qat"], "--ladder tries every recipe"),
        (["--ladder", "--rows", "int9"], "there is no row 'int9'; known are float32"),
        (["--ladder", "--rows", "dynamic"], "none is int8, and a bundle takes no other"),
        (["--ladder", "--recovery-epochs", "0"], "epochs 0 must be 1 or more"),
    ],
)
def test_what_cannot_be_asked_of_a_ladder_is_refused_before_anything_is_read(words, message, capsys):
    assert main(["export", "no-run", "--out", BUNDLE, *words]) == 2
    assert message in capsys.readouterr().err

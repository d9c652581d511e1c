"""The whole chain by the real commands, each in a process of its own: what a user types, and the damages he may do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w

pytestmark = pytest.mark.slow

EPOCHS = 12  # of `squares_recipe`
WITHOUT_TENSORFLOW = (
    "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'tf_keras', 'tensorflow_model_optimization'])); "
    "from slimscan_edge.cli import main; sys.exit(main(sys.argv[1:]))"
)
"""A process in which these cannot be imported."""


@pytest.fixture(scope="module")
def workshop(
    tmp_path_factory: pytest.TempPathFactory, squares: Path, squares_recipe: dict[str, Any], squares_policy: Path
) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    shutil.copy(squares_policy, folder / "policy.toml")
    (folder / "data").symlink_to(squares)
    (folder / "recipe.toml").write_text(tomli_w.dumps(squares_recipe))
    return folder


def start(*words: str, folder: Path, program: tuple[str, ...] = ("-m", "slimscan_edge")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, *words],
        cwd=folder,
        env={**os.environ, "SLIMSCAN_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def slimscan(*words: str, folder: Path, code: int = 0, program: tuple[str, ...] = ("-m", "slimscan_edge")) -> str:
    """Run a command to its end, check its exit code and that nobody sees a traceback; its stdout."""
    process = start(*words, folder=folder, program=program)
    printed, said = process.communicate(timeout=1200)
    assert process.returncode == code, f"slimscan {' '.join(words)} ended with {process.returncode}\n{printed}\n{said}"
    assert "Traceback" not in said
    return printed


def epochs_done(run: Path) -> int:
    history = run / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


@pytest.fixture(scope="module")
def trained(workshop: Path) -> Path:
    """A run that was stopped half-way, and resumed."""
    process = start("train", "data", "--out", "run", "--recipe", "recipe.toml", folder=workshop)
    while epochs_done(workshop / "run") < EPOCHS // 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGINT, said
    assert "go on with: slimscan train data --out run --resume" in said
    assert EPOCHS // 2 <= epochs_done(workshop / "run") < EPOCHS
    assert not (workshop / "run" / "operating_point.json").exists()
    slimscan("export", "run", "--out", "early-0.1.0.slimscan", folder=workshop, code=2)
    slimscan("train", "data", "--out", "run", "--resume", folder=workshop)
    assert epochs_done(workshop / "run") == EPOCHS
    return workshop / "run"


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Path:
    words = ["export", "run", "--out", "squares-0.1.0.slimscan", "--policy", "policy.toml"]
    printed = slimscan(*words, folder=trained.parent)
    assert "verdict: PASS" in printed
    return trained.parent / "squares-0.1.0.slimscan"


def test_the_bundle_answers_where_there_is_no_tensorflow(bundle, workshop):
    words = ("predict", "data", "--bundle", bundle.name, "--json")
    printed = slimscan(*words, folder=workshop, program=("-c", WITHOUT_TENSORFLOW))
    findings = [json.loads(line) for line in printed.splitlines()]
    assert len(findings) == 840
    right = [finding["label"] == Path(finding["file"]).parent.name for finding in findings]
    assert sum(right) / len(right) > 0.9  # the threshold lies where the worst shift puts it, not where they part


def test_the_evidence_is_drawn_where_there_is_no_tensorflow(bundle, workshop):
    words = ("predict", "data/NORMAL/IM-0001-0001.png", "--bundle", bundle.name, "--overlay", "overlays")
    slimscan(*words, folder=workshop, program=("-c", WITHOUT_TENSORFLOW))
    assert len(list((workshop / "overlays").iterdir())) == 1


def test_float_and_int8_are_compared(bundle, trained, workshop):
    slimscan("compare", trained.name, bundle.name, "data", "--split", "val", "--out", "comparison", folder=workshop)
    record = json.loads((workshop / "comparison" / "compare.json").read_text())
    assert record["overall"]["new_misses"] == 0


def test_the_bundle_is_measured(bundle, workshop):
    counts = ("--processes", "1", "--repeats", "3", "--cold-starts", "1")
    words = ("bench", "--bundle", bundle.name, *counts, "--out", "benchmark.json")
    slimscan(*words, folder=workshop)
    assert json.loads((workshop / "benchmark.json").read_text())["bundle_id"] == "squares-0.1.0"


def shuffle_weights(run: Path) -> None:
    program = (
        "import sys, numpy, slimscan_train.model, tf_keras; path = sys.argv[1]; rng = numpy.random.default_rng(0); "
        "model = tf_keras.models.load_model(path, compile=False); "
        "model.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in model.get_weights()]); "
        "model.save(path)"
    )
    subprocess.run([sys.executable, "-c", program, str(run / "model.keras")], check=True, capture_output=True)


def swap_labels(run: Path) -> None:
    table = json.loads((run / "split.json").read_text())
    table["labels"].reverse()
    (run / "split.json").write_text(json.dumps(table))


def change_the_resize_filter(run: Path) -> None:
    config = (run / "config.toml").read_text()
    assert '"bilinear"' in config
    (run / "config.toml").write_text(config.replace('"bilinear"', '"lanczos"'))


@pytest.mark.parametrize("damage", [shuffle_weights, swap_labels, change_the_resize_filter])
def test_a_damaged_run_gives_no_bundle(trained, workshop, damage):
    run = Path(shutil.copytree(trained, workshop / damage.__name__))
    damage(run)
    words = ["export", run.name, "--out", f"{damage.__name__}-0.1.0.slimscan", "--policy", "policy.toml"]
    printed = slimscan(*words, folder=workshop, code=1)
    assert "verdict: FAIL" in printed
    assert not list(workshop.glob(f"{damage.__name__}-*.slimscan"))

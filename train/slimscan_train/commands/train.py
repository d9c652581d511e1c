"""`slimscan train DATA --out RUN`: split by patient, train, choose the operating point, write the run."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from slimscan_edge.errors import EXIT_DONE, InputError
from slimscan_edge.program.streams import for_drawing
from slimscan_train.commands.data_options import DATA_HELP, add_reading_options, read_and_tell, reading_asked
from slimscan_train.config import DEFAULT_RECIPE, read_recipe, recipes
from slimscan_train.dataset import Dataset, Reading
from slimscan_train.evaluation import evaluate, mean_and_spread
from slimscan_train.fit import EpochRow
from slimscan_train.quiet import load_tensorflow, require_avx
from slimscan_train.report import write_report
from slimscan_train.run import Run, read_config, read_run, recorded_reading
from slimscan_train.sources.classes import class_key
from slimscan_train.split import read_split, reuse_split
from slimscan_train.training import Progress, start_run, train_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("data", type=Path, help=DATA_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run, new or empty")
    parser.add_argument("--resume", action="store_true", help="go on with a stopped run, as it was asked then")
    parser.add_argument("--recipe", help=f"{', '.join(recipes())}, or a TOML file (default: {DEFAULT_RECIPE})")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change the recipe")
    parser.add_argument("--epochs", type=int, help="short for --set fit.epochs=N")
    parser.add_argument("--seed", type=int, help="short for --set fit.seed=N (the split has its own: split.seed)")
    parser.add_argument(
        "--folds", type=int, metavar="N", help="N runs, RUN/fold-0 and so on: who is not in val_shift is in val once"
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs to learn from, on their split",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="ImageNet weights of the recipe's network (default: its package, or a download)",
    )
    parser.add_argument(
        "--lungs",
        type=Path,
        metavar="DIR",
        help="outlines of the lungs, CLASS/NAME.png for CLASS/NAME.jpeg: surroundings are swapped between patients",
    )
    parser.add_argument("--split", type=Path, metavar="FILE", help="reuse a split.json")
    add_reading_options(parser)
    parser.add_argument(
        "--max-unreadable", type=float, default=0.01, metavar="SHARE", help="of images that may be unreadable (0.01)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train and report, once or fold by fold."""
    require_avx()
    folders = _folders(arguments.out, arguments.folds)
    _refuse_two_splits(arguments)
    if arguments.resume:
        _refuse_changes(arguments, folders)
    dataset = read_and_tell(arguments.data, _reading(arguments, folders))
    if not arguments.resume:
        for folder, changes in folders.items():
            _start(arguments, dataset, folder, changes)
    load_tensorflow()
    try:
        runs = [_finish(dataset, folder) for folder in folders]
    except KeyboardInterrupt:
        _note(f"stopped; go on with: {shlex.join(_resuming(arguments, dataset.reading))}")
        raise
    if arguments.folds:
        print("\n".join(mean_and_spread(runs)))
    return EXIT_DONE


def _refuse_two_splits(arguments: argparse.Namespace) -> None:
    splits = {"--teacher": arguments.teacher, "--split": arguments.split, "--folds": arguments.folds is not None}
    given = [name for name, asked in splits.items() if asked]
    if given[1:]:
        raise InputError(f"{given[0]} brings its own split; leave out {' and '.join(given[1:])}")


def _folders(out: Path, folds: int | None) -> dict[Path, tuple[str, ...]]:
    """Each run's folder and the changes that it makes to the recipe."""
    if folds is None:
        return {out: ()}
    if folds < 2:
        raise InputError(f"--folds is {folds}, expected 2 or more")
    return {out / f"fold-{fold}": (f"split.folds={folds}", f"split.fold={fold}") for fold in range(folds)}


def _start(arguments: argparse.Namespace, dataset: Dataset, folder: Path, changes: tuple[str, ...]) -> None:
    asked = [*arguments.set, *changes]
    for name in ("epochs", "seed"):
        if (value := getattr(arguments, name)) is not None:
            asked.append(f"fit.{name}={value}")
    config = read_recipe(arguments.recipe or DEFAULT_RECIPE, tuple(asked))
    start_run(
        dataset,
        config,
        folder,
        given_split=arguments.split,
        max_unreadable=arguments.max_unreadable,
        teachers=arguments.teacher,
        weights=arguments.weights,
        lungs=arguments.lungs,
    )


def _refuse_changes(arguments: argparse.Namespace, folders: dict[Path, tuple[str, ...]]) -> None:
    given = [
        name
        for name in ("recipe", "epochs", "seed", "split", "weights", "lungs")
        if getattr(arguments, name) is not None
    ]
    given += ["teacher"] if arguments.teacher else []
    if given or arguments.set:
        raise InputError(f"--resume goes on as the run was asked; leave out --{(given or ['set'])[0]}")
    absent = [folder for folder in folders if not (folder / "config.toml").exists()]
    if absent:
        raise InputError(f"{absent[0]} holds no run to resume; to start one, give a new folder and leave out --resume")
    if all(_is_reported(folder) for folder in folders):
        raise InputError(f"the run in {arguments.out} is finished; see {next(iter(folders)) / 'report.html'}")


def _reading(arguments: argparse.Namespace, folders: Iterable[Path]) -> Reading:
    """How the data set is read: as asked, and when a run is resumed as it was.

    Raises:
        InputError: A run is to be resumed on a data set that is read otherwise.
    """
    asked = reading_asked(arguments)
    if not arguments.resume:
        return asked
    first = next(iter(folders))
    split = read_split(first / "split.json")
    recorded = recorded_reading(first) or asked
    as_before = {
        "naming": asked.naming in (None, recorded.naming, split.naming),
        "columns": asked.columns in ((), recorded.columns),
        "positive": asked.positive is None or class_key(asked.positive) == class_key(split.labels[1]),
    }
    if changed := [name for name, same in as_before.items() if not same]:
        raise InputError(f"--resume goes on as the run was asked; leave out --{changed[0]}")
    return replace(recorded, positive=split.labels[1], root=asked.root or recorded.root)


def _finish(dataset: Dataset, folder: Path) -> Run:
    """Train what is not trained yet in a started run, and report what is not reported yet."""
    if _is_reported(folder):
        return read_run(folder)
    finished = read_run(folder) if _is_trained(folder) else _train(dataset, folder)
    report = write_report(finished)
    print(_summary(finished))
    print(f"report: {report}")
    return finished


def _train(dataset: Dataset, folder: Path) -> Run:
    config = read_config(folder)
    split = reuse_split(read_split(folder / "split.json"), dataset)
    _note(f"{folder}: {split.describe()}")
    with _progress(config.fit.epochs) as progress:
        return train_run(folder, config, split, dataset.root, progress)


def _is_trained(folder: Path) -> bool:
    return (folder / "operating_point.json").exists()


def _is_reported(folder: Path) -> bool:
    return _is_trained(folder) and (folder / "report.html").exists()


def _resuming(arguments: argparse.Namespace, reading: Reading) -> list[str]:
    folds = ["--folds", str(arguments.folds)] if arguments.folds else []
    out = ["--out", str(arguments.out), *folds]
    return ["slimscan", "train", str(arguments.data), *out, *reading.to_words(), "--resume"]


@contextmanager
def _progress(epochs: int) -> Iterator[Progress]:
    """A bar on a terminal, one plain line an epoch elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    if not sys.stderr.isatty():
        yield Progress(note=_note, epoch=lambda row: _note(_line(row, epochs)))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(file=for_drawing(sys.stderr)), transient=True) as bar:
        task = bar.add_task("training", total=None)

        def step(epoch: int, done: int, steps: int) -> None:
            bar.update(
                task, description=f"epoch {epoch + 1}/{epochs}", total=epochs * steps, completed=epoch * steps + done
            )

        yield Progress(note=bar.console.print, epoch=lambda row: bar.console.print(_line(row, epochs)), step=step)


def _line(row: EpochRow, epochs: int) -> str:
    return (
        f"epoch {row.epoch + 1}/{epochs}: loss {row.train_plain_loss:.3f} train, {row.val_loss:.3f} val; "
        f"val AUROC {row.val_auroc:.4f}, sensitivity {row.val_sensitivity:.3f}, "
        f"specificity {row.val_specificity:.3f}; {row.seconds:.0f} s"
    )


def _summary(finished: Run) -> str:
    return "\n".join(line.text for line in evaluate(finished) if not line.shift)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

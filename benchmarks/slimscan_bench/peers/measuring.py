"""One run of all peers: who is made ready how, and in which order they take turns."""

import dataclasses
import json
import random
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from slimscan_bench.benchmark import describe_image
from slimscan_bench.child import ChildError, held_to_cores
from slimscan_bench.environment import read_environment
from slimscan_bench.macs import tflite_macs
from slimscan_bench.measuring import Progress
from slimscan_bench.peers.comparison import FreshStart, PeerComparison, PeerFailure, PeerRun
from slimscan_bench.peers.onnx_properties import onnx_properties
from slimscan_bench.peers.process import PeerProcess, Reply
from slimscan_bench.peers.roster import FOLDER, OURS, ROSTER, ModelKind, Peer
from slimscan_bench.peers.scores import logit_of_score
from slimscan_bench.scaling import measure_scaling
from slimscan_edge import __version__
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import InputError, MachineError, SlimscanError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.records import from_mapping

SEED = 0
MOST_CALIBRATION_IMAGES = 100
QUANTISE_SECONDS = 1800
_STAGES = ("decode", "prepare", "invoke")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersPlan:
    """What to measure.

    Attributes:
        command: The command line that asks for it, for the record.
        bundle_path: The bundle's file.
        onnx: The ONNX twin; None: peers that need it are listed as failed.
        mobile: The twin for MediaPipe; the same.
        names: Of the roster, in the order of the report.
        processes: Processes of each peer, one after the other, at least one.
        warmup: Rounds over all images in each that are not kept.
        repeats: Rounds in each that are kept, at least one.
        cold_starts: Fresh processes of each; 0 for none.
        scaling: Whether ours is measured with each number of threads too.
    """

    command: str
    bundle_path: Path
    onnx: Path | None
    mobile: Path | None
    names: tuple[str, ...]
    processes: int
    warmup: int
    repeats: int
    cold_starts: int
    scaling: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A peer that can be started."""

    name: str
    peer: Peer
    command: tuple[str, ...]
    model: Path
    point: OperatingPoint

    def logit(self, value: float) -> float:
        return logit_of_score(value, self.point) if self.peer.model == "mobile" else value


def measure_peers(
    classifier: Classifier,
    images: Sequence[Path],
    plan: PeersPlan,
    *,
    python_of: Callable[[Peer], Path],
    progress: Progress,
    note: Callable[[str], None] = lambda _: None,
) -> PeerComparison:
    """Let every peer answer for every image in turn; images that the bundle rejects are left out.

    In each round the peers answer for one image after the other in an order that is drawn anew for each image, so that
    what disturbs the machine disturbs all alike. A peer that fails is set aside with its reason, and the others go on.

    Args:
        classifier: Of the bundle in the plan.
        images: Readable image files.
        plan: What to measure.
        python_of: The interpreter with a peer's packages; see `slimscan_bench.peers.environments`.
        progress: Shows how far it is.
        note: Told of other long work.

    Raises:
        InputError: The bundle rejects all images, or ours failed.
        ImageError: An image is unreadable.
    """
    bundle = classifier.bundle
    started = datetime.now(UTC).isoformat(timespec="seconds")
    before = read_environment(interpreter=classifier.interpreter.backend)
    answered = [(path, classifier.predict(path).decision != "rejected") for path in images]
    paths = [path for path, accepted in answered if accepted]
    if not paths:
        raise InputError(f"{bundle.manifest.bundle_id} rejects all {len(images)} images; give X-rays")
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="slimscan-peers-") as folder:
        ready = _make_ready(classifier, paths, plan, Path(folder), python_of, failures, note)
        warm = _take_turns(ready, paths, plan, classifier.interpreter.threads, failures, progress)
        starts = _start_afresh(ready, _median_sized(paths), plan, failures, progress)
        sizes = {one.name: one.model.stat().st_size for one in ready}
    if OURS in failures:
        raise InputError(f"ours failed, so that there is nothing to compare with: {failures[OURS]}")
    rounds = plan.warmup + plan.repeats
    return PeerComparison(
        command=plan.command,
        started=started,
        slimscan=__version__,
        bundle_id=bundle.manifest.bundle_id,
        bundle_sha256=bundle.sha256,
        macs=sum(tflite_macs(bundle.model).values()),
        threads=classifier.interpreter.threads,
        processes=plan.processes,
        warmup=plan.warmup,
        seed=SEED,
        labels=bundle.manifest.labels,
        calibration=f"{len(_calibration_images(paths))} of the images that are measured on, which favours it"
        if any(one.peer.model == "onnx_int8" for one in ready)
        else "",
        images=tuple(describe_image(path) for path in paths),
        truths=tuple(truth_by_folder(path, bundle.manifest.labels) for path in paths),
        left_out=tuple(path.name for path, accepted in answered if not accepted),
        runs=tuple(
            _run(one, warm[one.name], starts.get(one.name, ()), sizes[one.name])
            for one in ready
            if one.name not in failures
        ),
        failures=tuple(
            PeerFailure(name=name, title=ROSTER[name].title, reason=failures[name])
            for name in plan.names
            if name in failures
        ),
        thread_runs=measure_scaling(
            bundle,
            paths,
            warmup=plan.warmup,
            repeats=plan.repeats,
            progress=progress(f"rounds over {len(paths)} images by threads", rounds),
        )
        if plan.scaling
        else (),
        environment=before,
        environment_after=read_environment(interpreter=classifier.interpreter.backend),
    )


def truth_by_folder(path: Path, labels: Sequence[str]) -> bool | None:
    """Whether an image is positive by the name of the folder it lies in; None where that is neither label."""
    names = [label.lower() for label in labels]
    folder = path.absolute().parent.name.lower()
    return bool(names.index(folder)) if folder in names else None


def _median_sized(paths: Sequence[Path]) -> Path:
    return sorted(paths, key=lambda path: (path.stat().st_size, path.name))[len(paths) // 2]


def _calibration_images(paths: Sequence[Path]) -> Sequence[Path]:
    """Evenly spread over all, so that both classes are among them."""
    step = -(-len(paths) // MOST_CALIBRATION_IMAGES)
    return paths[::step]


def _make_ready(
    classifier: Classifier,
    paths: Sequence[Path],
    plan: PeersPlan,
    folder: Path,
    python_of: Callable[[Peer], Path],
    failures: dict[str, str],
    note: Callable[[str], None],
) -> list[_Ready]:
    """Environments and models of all that can be started; the others' reasons go to `failures`."""
    ready = []
    for name in plan.names:
        peer = ROSTER[name]
        try:
            python = python_of(peer)
            job = job_of(classifier)
            model, point = _model(peer.model, classifier, plan, folder)
            if peer.model == "onnx_int8":
                note("ONNX Runtime quantises the twin")
                model = _quantised(python, model, job, folder, _calibration_images(paths))
            words = (str(python), str(FOLDER / peer.script), json.dumps({**job, "model": str(model)}))
            ready.append(_Ready(name=name, peer=peer, command=words, model=model, point=point))
        except SlimscanError as exc:
            failures[name] = str(exc)
    return ready


def job_of(classifier: Classifier) -> dict[str, Any]:
    """What every peer is told, but for the model's file."""
    manifest = classifier.manifest
    return {
        **dataclasses.asdict(manifest.preprocess),
        "threads": classifier.interpreter.threads,
        "logits_at": manifest.output_roles.index("logits"),
        "positive": manifest.labels[1],
    }


def _model(kind: ModelKind, classifier: Classifier, plan: PeersPlan, folder: Path) -> tuple[Path, OperatingPoint]:
    """The file that a peer loads, and the operating point that its answers are read by."""
    manifest = classifier.manifest
    match kind:
        case "bundle":
            return plan.bundle_path, manifest.operating_point
        case "tflite":
            path = folder / "model.tflite"
            path.write_bytes(classifier.bundle.model)
            return path, manifest.operating_point
        case "mobile":
            path = _given(plan.mobile, "--mobile")
            _require_twin_of(path, classifier.bundle.sha256)
            return path, manifest.operating_point
        case "onnx" | "onnx_int8":
            path = _given(plan.onnx, "--onnx")
            return path, _point_of_twin(path, dataclasses.asdict(manifest.preprocess))


def _given(path: Path | None, flag: str) -> Path:
    if path is None:
        raise InputError(
            f"it needs a twin of the model: slimscan export RUN --out BUNDLE {flag} FILE; give {flag} FILE"
        )
    if not path.is_file():
        raise InputError(f"{flag} {path.name} does not exist")
    return path


def _require_twin_of(path: Path, bundle_sha256: str) -> None:
    """Refuse a mobile twin that was made from another bundle; it carries that one's digest in a file behind it."""
    try:
        with zipfile.ZipFile(path) as behind:
            said = json.loads(behind.read("slimscan.json"))
        other = said["bundle_sha256"]
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as exc:
        raise InputError(f"{path.name} is no mobile twin; make it with: slimscan export --mobile FILE") from exc
    if other != bundle_sha256:
        raise InputError(
            f"{path.name} is the twin of {said.get('bundle')}, another bundle than the one that is measured"
        )


def _point_of_twin(path: Path, preprocess: Mapping[str, Any]) -> OperatingPoint:
    """The float model's own operating point; a twin of another preprocessing is refused."""
    said = onnx_properties(path.read_bytes(), name=path.name)
    try:
        other, point = json.loads(said["preprocess"]), json.loads(said["operating_point"])
    except (KeyError, ValueError) as exc:
        raise InputError(f"{path.name} does not say how it decides; make it with: slimscan export --onnx FILE") from exc
    if other != json.loads(json.dumps(dict(preprocess))):
        raise InputError(f"{path.name} is of a model with another preprocessing than the bundle's")
    return from_mapping(OperatingPoint, point, where=path.name)


def _quantised(python: Path, model: Path, job: Mapping[str, Any], folder: Path, images: Sequence[Path]) -> Path:
    """What ONNX Runtime's own static quantiser makes of a model."""
    path = folder / "int8.onnx"
    words = [str(python), str(FOLDER / "onnxruntime_quantise.py"), str(model), str(path), json.dumps(job)]
    try:
        subprocess.run(
            words,
            input=json.dumps([str(image.absolute()) for image in images]),
            check=True,
            capture_output=True,
            text=True,
            timeout=QUANTISE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        said = (getattr(exc, "stderr", "") or str(exc)).strip().splitlines()
        raise MachineError(f"its quantiser failed: {said[-1][:300]}") from exc
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Warm:
    """What processes that answered for all images said: replies `[rounds][images]`."""

    replies: list[list[Reply]]
    versions: Mapping[str, str]
    peak_memory_mib: float | None

    def followed_by(self, later: "_Warm") -> "_Warm":
        peaks = [warm.peak_memory_mib for warm in (self, later) if warm.peak_memory_mib is not None]
        return _Warm(
            replies=self.replies + later.replies, versions=self.versions, peak_memory_mib=max(peaks, default=None)
        )


def _take_turns(
    ready: Sequence[_Ready],
    paths: Sequence[Path],
    plan: PeersPlan,
    threads: int,
    failures: dict[str, str],
    progress: Progress,
) -> dict[str, _Warm]:
    """What the peers say, by name; those that fail in a process are not started again.

    All processes of a time are held to the same cores, as many as an inference has threads.
    """
    drawn = random.Random(SEED)  # noqa: S311 - an order, not a secret
    rounds = plan.warmup + plan.repeats
    show = progress(f"rounds of {len(ready)} ways over {len(paths)} images", plan.processes * rounds)
    found: dict[str, _Warm] = {}
    for process in range(plan.processes):
        working = [one for one in ready if one.name not in failures]
        with held_to_cores(process, threads):
            said = _take_turns_once(working, paths, plan, failures, drawn, partial(_show_from, show, process * rounds))
        found = {name: found[name].followed_by(warm) if name in found else warm for name, warm in said.items()}
    return found


def _show_from(show: Callable[[int], None], before: int, done: int) -> None:
    show(before + done)


def _take_turns_once(
    ready: Sequence[_Ready],
    paths: Sequence[Path],
    plan: PeersPlan,
    failures: dict[str, str],
    drawn: random.Random,
    show: Callable[[int], None],
) -> dict[str, _Warm]:
    """One process of each peer."""
    replies: dict[str, list[list[Reply]]] = {one.name: [] for one in ready}
    with ExitStack() as stack:
        processes: dict[str, PeerProcess] = {}
        for one in ready:
            try:
                processes[one.name] = stack.enter_context(PeerProcess(one.command))
            except ChildError as exc:
                failures[one.name] = str(exc)
        for count in range(plan.warmup + plan.repeats):
            for name in processes:
                replies[name].append([])
            for path in paths:
                for name in drawn.sample(sorted(processes), len(processes)):
                    try:
                        replies[name][-1].append(processes[name].ask(path.absolute()))
                    except ChildError as exc:
                        failures[name] = str(exc)
                        processes.pop(name).close()
            show(count + 1)
        return {
            name: _Warm(
                replies=replies[name][plan.warmup :], versions=process.versions, peak_memory_mib=process.peak_memory_mib
            )
            for name, process in processes.items()
        }


def _start_afresh(
    ready: Sequence[_Ready], path: Path, plan: PeersPlan, failures: dict[str, str], progress: Progress
) -> dict[str, tuple[FreshStart, ...]]:
    """Fresh processes in turn, after one of each that is not kept."""
    if not plan.cold_starts:
        return {}
    drawn = random.Random(SEED)  # noqa: S311 - an order, not a secret
    show = progress("rounds of fresh processes", plan.cold_starts + 1)
    starts: dict[str, list[FreshStart]] = {one.name: [] for one in ready if one.name not in failures}
    for count in range(plan.cold_starts + 1):
        working = [one for one in ready if one.name not in failures]
        for one in drawn.sample(working, len(working)):
            try:
                starts[one.name].append(_start(one.command, path.absolute()))
            except ChildError as exc:
                failures[one.name] = str(exc)
        show(count + 1)
    return {name: tuple(found[1:]) for name, found in starts.items()}


def _start(command: Sequence[str], path: Path) -> FreshStart:
    began = perf_counter()
    with PeerProcess(command) as process:
        process.ask(path)
        first_answer_ms = (perf_counter() - began) * 1e3
        return FreshStart(
            ready_ms=round((process.ready_at - began) * 1e3, 1),
            first_answer_ms=round(first_answer_ms, 1),
            peak_memory_mib=process.peak_memory_mib,
        )


def _stage_ns(stage: str, reply: Reply) -> int:
    return reply.stages_ns.get(stage, 0)


def _run(one: _Ready, warm: _Warm, starts: tuple[FreshStart, ...], model_size_bytes: int) -> PeerRun:
    def table(nanoseconds: Callable[[Reply], int]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(round(nanoseconds(reply) / 1e3) for reply in replies) for replies in warm.replies)

    last = warm.replies[-1]
    probabilities = [one.point.probability(one.logit(reply.value)) for reply in last]
    told = [name for name in _STAGES if name in last[0].stages_ns]
    return PeerRun(
        name=one.name,
        title=one.peer.title,
        way=one.peer.way,
        model_size_bytes=model_size_bytes,
        versions=warm.versions,
        probabilities=tuple(probabilities),
        decisions=tuple(one.point.decide(probability) for probability in probabilities),
        wall_us=table(lambda reply: reply.wall_ns),
        cpu_us=table(lambda reply: reply.cpu_ns),
        stages_us={name: table(partial(_stage_ns, name)) for name in told},
        starts=starts,
        peak_memory_mib=warm.peak_memory_mib,
    )

"""The figures of the benchmark report, drawn as the training report's are."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.operators import NetworkProfile
from slimscan_bench.peers.roster import FLOOR, OURS
from slimscan_bench.report.ladder import Rung
from slimscan_bench.report.view import View, Way, megapixels
from slimscan_bench.scaling import ThreadFigures
from slimscan_train.plots import ACCENT, MUTED, RULE, SERIES, plain_log, svg_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_INCHES = 0.34
_HEAD_INCHES = 0.75
_RIDGE = 0.78
"""Height of a distribution's highest point, in rows."""
_BINS = 60
_APART = (24.0, 12.0)
"""Dots on the screen across and down; numbers nearer to each other would overlap."""
_OUTLIER = 2.5
"""Times as long as all other bars, from which on a bar is cut off."""
_STAGE_COLOURS = (SERIES[0], SERIES[1], SERIES[2], MUTED)


def report_plots(view: View, ladder: Sequence[Rung]) -> dict[str, str]:
    """Every figure, SVG by name; empty where the record does not allow it."""
    plots = {
        **dict.fromkeys(("stages", "starts", "memory", "accuracy", "size", "threads", "operators"), ""),
        "distributions": latency_distributions(view.ways),
        "sizes": image_sizes(view),
    }
    if any(way.stages_ms for way in view.ways):
        plots["stages"] = stage_breakdown([way for way in view.ways if way.stages_ms])
    if starting := [way for way in view.ways if way.first_answers_ms]:
        plots["starts"] = first_answers(starting)
    if remembered := {way.title: way.peak_memory_mib for way in view.ways if way.peak_memory_mib}:
        plots["memory"] = memory_bars(remembered)
    if view.has_auroc:
        plots["accuracy"] = accuracy_latency(view.ways)
    if view.has_auroc or ladder:
        plots["size"] = size_accuracy(view.ways, ladder)
    if len(view.scaling) > 1:
        plots["threads"] = thread_scaling(view.scaling)
    if view.operators:
        plots["operators"] = operator_bars(view.operators)
    return plots


def latency_distributions(ways: Sequence[Way]) -> str:
    """How often each way takes how long, one row a way; the median is marked, a line runs to the 99th percentile."""
    everything = np.concatenate([way.wall_ms.ravel() for way in ways])
    low, high = np.quantile(everything, [0.001, 0.999])
    edges = np.geomspace(low * 0.9, high * 1.1, _BINS + 1)

    def draw(axes: "Axes") -> None:
        plain_log(axes, "x")
        for row, way in enumerate(ways):
            counts, _ = np.histogram(way.wall_ms, edges)
            heights = _RIDGE * counts / max(int(counts.max()), 1)
            colour = _colour(way)
            axes.stairs(row - heights, edges, baseline=row, fill=True, color=colour, alpha=0.45)
            median, p99 = np.quantile(way.wall_ms, [0.5, 0.99])
            axes.plot([median, p99], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot(median, row, "o", color=colour, markersize=4)
        axes.set_xlim(edges[0], edges[-1])
        _name_rows(axes, [way.title for way in ways], top=-1.0)
        axes.set_xlabel("file to answer, ms")

    return svg_figure(draw, "Distribution of latency, one row a way", height=_height(len(ways)))


def stage_breakdown(ways: Sequence[Way]) -> str:
    """What of the median goes where, one bar a way."""
    names = list(dict.fromkeys(name for way in ways for name in way.stages_ms))
    totals = [sum(way.stages_ms.values()) for way in ways]
    longest = _longest_bar(totals)

    def draw(axes: "Axes") -> None:
        for stage, colour in zip(names, _STAGE_COLOURS, strict=False):
            lefts = [sum(way.stages_ms.get(name, 0.0) for name in names[: names.index(stage)]) for way in ways]
            widths = [way.stages_ms.get(stage, 0.0) for way in ways]
            axes.barh(range(len(ways)), widths, 0.62, lefts, color=colour, label=stage)
        for row, total in enumerate(totals):
            if total > longest:
                axes.annotate(
                    f"→ {total:.0f}", (longest, row), xytext=(3, 0), textcoords="offset points", va="center", size=8
                )
        axes.set_xlim(0.0, longest)
        _name_rows(axes, [way.title for way in ways])
        axes.set_xlabel("median, ms")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, columnspacing=1.0, handlelength=1.2)

    return svg_figure(draw, "Stages of each way's median", height=_height(len(ways)))


def _longest_bar(totals: Sequence[float]) -> float:
    """Where bars are cut off: beyond one that is several times as long as all others."""
    *others, longest = sorted(totals)
    return 1.3 * others[-1] if others and longest > _OUTLIER * others[-1] else 1.05 * longest


def operator_bars(profile: NetworkProfile) -> str:
    """What each operator adds to the network's time, in the order in which they run, with its interval."""
    kinds = list(dict.fromkeys(operator.kind for operator in profile.operators))
    colours = dict(zip(sorted(kinds, key=lambda kind: -_share(profile, kind)), [*SERIES[:4], MUTED], strict=False))

    def draw(axes: "Axes") -> None:
        labelled: set[str] = set()
        for row, operator in enumerate(profile.operators):
            kind = operator.kind if operator.kind in colours else ""
            label = "" if kind in labelled else kind
            labelled.add(kind)
            axes.barh(row, operator.p50_us, 0.72, color=colours.get(operator.kind, MUTED), label=label or None)
            if interval := operator.interval:
                axes.plot(interval, [row, row], color=ACCENT, linewidth=1.0)
        _name_rows(axes, [operator.short_name for operator in profile.operators])
        axes.set_xlabel("µs")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, columnspacing=1.0, handlelength=1.2)

    return svg_figure(draw, "Time of each operator of the network", height=_height(len(profile.operators)) * 0.62)


def _share(profile: NetworkProfile, kind: str) -> float:
    """Microseconds of all operators of a kind."""
    return sum(operator.p50_us for operator in profile.operators if operator.kind == kind)


def first_answers(ways: Sequence[Way]) -> str:
    """Every fresh process, one row a way."""

    def draw(axes: "Axes") -> None:
        plain_log(axes, "x")
        for row, way in enumerate(ways):
            axes.plot(way.first_answers_ms, [row] * len(way.first_answers_ms), "o", color=_colour(way), alpha=0.4)
            median = float(np.median(way.first_answers_ms))
            axes.plot([median] * 2, [row - 0.32, row + 0.32], color=_colour(way), linewidth=1.6)
        _name_rows(axes, [way.title for way in ways])
        axes.set_xlabel("process start to first answer, ms")

    return svg_figure(draw, "Time to first answer of fresh processes", height=_height(len(ways)))


def memory_bars(mib: Mapping[str, float]) -> str:
    """The largest resident set, one bar a way."""

    def draw(axes: "Axes") -> None:
        colours = [SERIES[0] if row == 0 else MUTED for row in range(len(mib))]
        axes.barh(range(len(mib)), list(mib.values()), 0.62, color=colours)
        for row, value in enumerate(mib.values()):
            axes.annotate(f"{value:.0f}", (value, row), xytext=(3, 0), textcoords="offset points", va="center", size=8)
        axes.margins(x=0.12)
        _name_rows(axes, list(mib))
        axes.set_xlabel("peak memory, MiB")

    return svg_figure(draw, "Peak memory of each way", height=_height(len(mib)))


def accuracy_latency(ways: Sequence[Way]) -> str:
    """AUROC with its interval over the median; ways are numbered from 1 in their order."""
    points = {n: (way.p50_ms, way.auroc) for n, way in enumerate(ways, 1) if way.auroc is not None}

    def draw(axes: "Axes") -> None:
        plain_log(axes, "x")
        for number, at in points.items():
            way = ways[number - 1]
            if way.auroc_interval:
                axes.plot([at[0]] * 2, way.auroc_interval, color=_colour(way), linewidth=0.7)
            face = _colour(way) if way.right else "none"
            axes.plot(*at, "o", color=_colour(way), markerfacecolor=face, markersize=5, clip_on=False)
        axes.set(xlabel="median, ms", ylabel="AUROC")
        axes.margins(0.1)
        _number(axes, points)

    return svg_figure(draw, "AUROC against latency of every way")


def size_accuracy(ways: Sequence[Way], ladder: Sequence[Rung]) -> str:
    """AUROC over the size of the model's file: ways as dots with their numbers, rows of the ladder as triangles."""
    sized = [
        (n, way, (way.model_size_bytes / 1024, way.auroc))
        for n, way in enumerate(ways, 1)
        if way.model_size_bytes and way.auroc is not None
    ]
    splits = list(dict.fromkeys(split for rung in ladder for split in rung.auroc))

    def draw(axes: "Axes") -> None:
        plain_log(axes, "x")
        for split, colour, marker in zip(splits, SERIES[1:], "^v", strict=False):
            drawn = [rung for rung in ladder if split in rung.auroc]
            x, y = [rung.size_bytes / 1024 for rung in drawn], [rung.auroc[split] for rung in drawn]
            axes.plot(x, y, marker, color=colour, markersize=4.5, label=f"ladder, {split}")
        for _, way, at in sized:
            axes.plot(*at, "o", color=_colour(way), markersize=5, clip_on=False)
        axes.set(xlabel="model file, KiB", ylabel="AUROC")
        axes.margins(0.1)
        _number(axes, {n: at for n, _, at in sized})
        if splits:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return svg_figure(draw, "AUROC against size of the model")


def thread_scaling(figures: Sequence[ThreadFigures]) -> str:
    """Images a second over the number of threads: one after the other, and a folder read ahead; with the ideal."""
    threads = [row.threads for row in figures]
    single = [row.one_by_one_per_second for row in figures]
    batch = [row.images_per_second for row in figures]

    def draw(axes: "Axes") -> None:
        ideal = [single[0] * count / threads[0] for count in threads]
        axes.plot(threads, ideal, color=RULE, linewidth=1.0, linestyle=":", label="in proportion")
        axes.plot(threads, single, "o-", color=SERIES[0], label="one after the other")
        axes.plot(threads, batch, "s--", color=SERIES[1], label="a folder, read ahead")
        axes.set_xticks(threads)
        axes.set_ylim(bottom=0.0)
        axes.set(xlabel="threads of one inference", ylabel="images a second")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.0, handlelength=1.6)

    return svg_figure(draw, "Images a second by number of threads")


def image_sizes(view: View) -> str:
    """Median of each image over its size: ours, the floor and the fastest other way."""
    floor = next((way for way in view.ways if way.name == FLOOR), None)
    drawn = [way for way in (view.fastest_other, floor, view.ours) if way]
    size = megapixels(view.images)

    def draw(axes: "Axes") -> None:
        for way, colour, marker in zip(drawn, _of(drawn, _series_colour), _of(drawn, _series_marker), strict=True):
            medians = np.median(way.wall_ms, axis=0)
            axes.plot(size, medians, marker, color=colour, markersize=3.5, alpha=0.7, label=way.title)
        axes.set(xlabel="image, megapixels", ylabel="median, ms")
        axes.set_xlim(left=0.0)
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    return svg_figure(draw, "Latency of each image against its size")


def _of(ways: Sequence[Way], look: Callable[[Way], str]) -> list[str]:
    return [look(way) for way in ways]


def _series_colour(way: Way) -> str:
    return {OURS: SERIES[0], FLOOR: SERIES[2]}.get(way.name, SERIES[1])


def _series_marker(way: Way) -> str:
    return {OURS: "o", FLOOR: "^"}.get(way.name, "x")


def _colour(way: Way) -> str:
    """Ours stands out, the floor is another, and those that decide otherwise are alarming."""
    if not way.right and way.name != FLOOR:
        return ACCENT
    return {OURS: SERIES[0], FLOOR: SERIES[2]}.get(way.name, MUTED)


def _height(rows: int) -> float:
    return _HEAD_INCHES + _ROW_INCHES * rows


def _name_rows(axes: "Axes", names: Sequence[str], *, top: float = -0.6) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, top)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _number(axes: "Axes", points: Mapping[int, tuple[float, float]]) -> None:
    """Numbers beside points; those that would lie over each other share a place."""
    axes.autoscale_view()  # settles the limits, on which the places on the screen depend
    groups: list[tuple[NDArray[np.float64], list[int]]] = []
    for number, at in points.items():
        there = axes.transData.transform(at)
        near = next((members for place, members in groups if (np.abs(place - there) < _APART).all()), None)
        if near is None:
            groups.append((there, [number]))
        else:
            near.append(number)
    for _, members in groups:
        text = ", ".join(map(str, members))
        axes.annotate(text, points[members[0]], xytext=(6, 5), textcoords="offset points", fontsize=8)

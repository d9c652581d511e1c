"""Operators told apart by cutting the network: the cuts compute what the whole does, and planted times come back."""

import copy
import dataclasses
import json
import subprocess
import sys

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from slimscan_bench import operators
from slimscan_bench.macs import tflite_macs
from slimscan_bench.operators import NetworkProfile, OperatorTimes, profile_operators
from slimscan_bench.prefixes import cut, steps
from slimscan_bench.reading import read_record
from slimscan_bench.tflite_file import TfliteFile
from slimscan_edge.bundle import read_bundle
from slimscan_edge.errors import InputError, MachineError
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.locate import locate_bundle

KINDS = schema.BuiltinOperator


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return read_bundle(locate_bundle(None).path).model


def built(*network, outputs, constants=(), graphs=1, older=False) -> bytes:
    """A network on `pixels`, 1x4x4x2: operators as (kind, inputs, outputs), each tensor of the input's size.

    Constants are float16; `older` leaves out the field of operator codes that came in 2020.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    names = list(dict.fromkeys(["pixels", *(n for _, taken, made in network for n in (*taken, *made))]))
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph.tensors, graph.operators = [], []
    for name in names:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = (
            name.encode(),
            [1, 4, 4, 2],
            schema.TensorType.FLOAT32,
            0,
        )
        if name in constants:
            buffer = schema.BufferT()
            buffer.data = np.arange(32, dtype=np.float16).view(np.uint8)
            model.buffers.append(buffer)
            tensor.type, tensor.buffer = schema.TensorType.FLOAT16, len(model.buffers) - 1
        graph.tensors.append(tensor)
    for kind, taken, made in network:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.deprecatedBuiltinCode, code.builtinCode, code.version = kind, 0 if older else kind, 1
        if kind == KINDS.SPLIT_V:
            code.version = 2
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [names.index(n) for n in taken], [names.index(n) for n in made]
        if kind == KINDS.ADD:
            operator.builtinOptionsType, operator.builtinOptions = (
                schema.BuiltinOptions.AddOptions,
                schema.AddOptionsT(),
            )
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [names.index("pixels")], [names.index(n) for n in outputs]
    model.subgraphs = [graph, *(copy.deepcopy(graph) for _ in range(graphs - 1))]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def branches() -> bytes:
    """Two branches that meet, and an operator that unpacks what is added at the end."""
    return built(
        (KINDS.RELU, ["pixels"], ["left"]),
        (KINDS.DEQUANTIZE, ["packed"], ["unpacked"]),
        (KINDS.RELU6, ["pixels"], ["right"]),
        (KINDS.ADD, ["left", "right"], ["sum"]),
        (KINDS.ADD, ["sum", "unpacked"], ["end"]),
        outputs=["end"],
        constants=["packed"],
    )


def answers(model: bytes, seed: int = 0) -> tuple[np.ndarray, ...]:
    """What a network makes of random pixels."""
    interpreter = Interpreter(model, threads=1)
    pixels = np.random.default_rng(seed).integers(0, 256, interpreter.input.shape).astype(interpreter.input.dtype)
    return interpreter.invoke(pixels)


def planted_times(monkeypatch, cost):
    """A network takes the sum of what `cost` says of the tensors that its operators make; returns what was timed."""
    timed = []

    def run_us(model, threads):
        file = TfliteFile(model)
        made = [file.tensor(operator.outputs[0]).name.decode() for operator in file.graph.operators]
        timed.append((made[-1], threads))
        return float(sum(map(cost, made)))

    monkeypatch.setattr(operators, "_run_us", run_us)
    return timed


def test_every_operator_of_the_file_is_listed_with_what_it_multiplies(shipped):
    done = []
    profile = profile_operators(shipped, threads=1, rounds=2, progress=done.append)
    file, macs = TfliteFile(shipped), tflite_macs(shipped)
    tensors = [file.tensor(operator.outputs[0]) for operator in file.graph.operators]
    assert [operator.name for operator in profile.operators] == [tensor.name.decode() for tensor in tensors]
    assert [operator.shape for operator in profile.operators] == [tuple(tensor.shape) for tensor in tensors]
    assert {operator.name: operator.macs for operator in profile.operators if operator.macs} == macs
    assert [operator.kind for operator in profile.operators[:4]] == [
        "QUANTIZE",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
    ]
    assert (profile.operators[-1].kind, profile.operators[-1].shape) == ("MEAN", (1, 2))
    assert all(len(operator.differences_us) == 2 for operator in profile.operators)
    assert len(profile.whole_us) == 2
    assert min(profile.whole_us) > 0
    assert done == [1, 2]


def test_a_network_cut_short_computes_what_the_whole_does_up_to_there(shipped):
    file = TfliteFile(shipped)
    everything = range(len(file.graph.operators))
    for step in steps(file):
        made = [int(tensor) for tensor in file.graph.operators[step.operator].outputs]
        (short,) = answers(cut(file, step.through))
        (whole,) = answers(file.packed(everything, made))
        assert short.shape == tuple(file.tensor(made[0]).shape)
        assert np.array_equal(short, whole), step.operator


@pytest.mark.parametrize("seed", range(3))
def test_the_cut_after_a_head_gives_the_shipped_integers(shipped, golden_bundle, seed):
    for model in (shipped, golden_bundle.model):
        file = TfliteFile(model)
        after = {int(file.graph.operators[step.operator].outputs[0]): step.through for step in steps(file)}
        for head, expected in zip(file.graph.outputs, answers(model, seed), strict=True):
            (short,) = answers(cut(file, after[int(head)]), seed)
            assert short.dtype == expected.dtype
            assert np.array_equal(short, expected)


def test_what_no_operator_needs_is_not_in_the_file(shipped):
    file = TfliteFile(shipped)
    first, *_, last = steps(file)
    assert len(cut(file, first.through)) < len(cut(file, last.through)) / 3
    assert schema.Model.GetRootAs(cut(file, last.through), 0).MetadataLength() == 0
    assert schema.Model.ModelBufferHasIdentifier(cut(file, first.through), 0)


def test_a_chain_with_residual_branches_telescopes_to_the_whole(shipped, monkeypatch):
    costs = {name: 1.0 + place for place, name in enumerate(_names(shipped))}
    planted_times(monkeypatch, costs.__getitem__)
    profile = profile_operators(shipped, threads=1, rounds=3)
    assert "ADD" in {operator.kind for operator in profile.operators}
    assert [operator.p50_us for operator in profile.operators] == list(costs.values())
    assert profile.sum_p50_us == profile.whole_p50_us == sum(costs.values())


def test_a_sum_is_timed_after_both_its_branches_and_unpacking_with_what_it_is_for(branches, monkeypatch):
    costs = {"left": 10.0, "unpacked": 1.0, "right": 20.0, "sum": 5.0, "end": 3.0}
    planted_times(monkeypatch, costs.__getitem__)
    profile = profile_operators(branches, threads=1, rounds=1)
    assert [(operator.kind, operator.name, operator.p50_us) for operator in profile.operators] == [
        ("RELU", "left", 10.0),
        ("RELU6", "right", 20.0),
        ("ADD", "sum", 5.0),
        ("ADD", "end", 4.0),
    ]


def test_branches_run_in_the_interpreter(branches):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 2)).astype(np.float32)
    expected = {"left": pixels, "right": np.minimum(pixels, 6)}
    file = TfliteFile(branches)
    before, through = steps(file)[2].before, steps(file)[2].through
    left, right = answers(cut(file, before))
    assert np.array_equal(left, expected["left"])
    assert np.array_equal(right, expected["right"])
    assert np.array_equal(answers(cut(file, through))[0], sum(expected.values()))
    end = sum(expected.values()) + np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
    assert np.array_equal(answers(cut(file, steps(file)[3].through))[0], end)
    assert len(profile_operators(branches, threads=1, rounds=1).operators) == 4


def test_an_operator_that_makes_several_tensors_counts_once(monkeypatch):
    network = built(
        (KINDS.SPLIT_V, ["pixels"], ["half", "other"]),
        (KINDS.RELU, ["half"], ["a"]),
        (KINDS.ADD, ["a", "other"], ["b"]),
        outputs=["b"],
    )
    planted_times(monkeypatch, {"half": 7.0, "a": 2.0, "b": 4.0}.__getitem__)
    profile = profile_operators(network, threads=1, rounds=1)
    assert [(operator.name, operator.p50_us) for operator in profile.operators] == [
        ("half", 7.0),
        ("a", 2.0),
        ("b", 4.0),
    ]
    assert list(TfliteFile(cut(TfliteFile(network), frozenset({0}))).graph.outputs) == [1, 2]


def test_each_round_times_every_cut_once_in_an_order_of_its_own(branches, monkeypatch):
    timed = planted_times(monkeypatch, len)
    profile_operators(branches, threads=2, rounds=6)
    assert {threads for _, threads in timed} == {2}
    each = len(timed) // 6
    orders = [tuple(name for name, _ in timed[k : k + each]) for k in range(0, len(timed), each)]
    assert len({tuple(sorted(order)) for order in orders}) == 1
    assert len(set(orders)) > 1
    again = planted_times(monkeypatch, len)
    profile_operators(branches, threads=2, rounds=6)
    assert again == timed


def test_a_file_of_before_2020_says_what_its_operators_are():
    (relu,) = profile_operators(
        built((KINDS.RELU, ["pixels"], ["out"]), outputs=["out"], older=True), threads=1, rounds=1
    ).operators
    assert relu.kind == "RELU"


def test_refuses_what_it_cannot_tell_apart(branches):
    several = built((KINDS.RELU, ["pixels"], ["out"]), outputs=["out"], graphs=2)
    with pytest.raises(InputError, match="2 graphs"):
        profile_operators(several, threads=1, rounds=1)
    with pytest.raises(InputError, match="no operators"):
        profile_operators(built(outputs=["pixels"]), threads=1, rounds=1)
    for counts in ({"threads": 1, "rounds": 0}, {"threads": 0, "rounds": 1}):
        with pytest.raises(InputError, match="expected at least 1 each"):
            profile_operators(branches, **counts)


def test_without_the_schema_one_line_says_so(branches, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MachineError, match="pip install ai-edge-litert") as refusal:
        profile_operators(branches, threads=1, rounds=1)
    assert "\n" not in str(refusal.value)


def test_needs_base_dependencies_only_and_the_schema_when_asked(golden_bundle_path):
    script = f"""
import sys
for name in ("scipy", "sklearn", "matplotlib", "tensorflow", "tf_keras", "jinja2", "rich"):
    sys.modules[name] = None  # an import of it fails
from pathlib import Path
from slimscan_bench.operators import profile_operators
assert not any(name.startswith(("ai_edge_litert", "flatbuffers")) for name in sys.modules)
from slimscan_edge.bundle import read_bundle
profile = profile_operators(read_bundle(Path({str(golden_bundle_path)!r})).model, threads=1, rounds=1)
assert [operator.kind for operator in profile.operators] == ["QUANTIZE", "CONV_2D", "MEAN"]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def operator_times(*differences_us, name="model/a/Conv2D", macs=0, kind="CONV_2D"):
    return OperatorTimes(kind=kind, name=name, shape=(1, 6, 6, 8), macs=macs, differences_us=differences_us)


def test_figures_are_medians_over_rounds_with_intervals():
    operator = operator_times(1.0, 9.0, 2.0, 3.0, -4.0, macs=4000)
    assert operator.p50_us == 2.0
    assert operator.macs_per_ns == 2.0
    low, high = operator.interval
    assert -4.0 <= low < 2.0 < high <= 9.0
    assert operator_times(*[5.0] * 8).interval == (5.0, 5.0)
    assert operator_times(5.0).interval is None
    assert operator_times(5.0).macs_per_ns is None
    assert operator_times(-0.5, macs=10).macs_per_ns is None


@pytest.mark.parametrize(
    ("tensor", "short"),
    [
        ("slimscan/a_relu/Relu6;slimscan/a_bn/FusedBatchNormV3;slimscan/a/Conv2D1", "a"),
        ("slimscan/b_relu/Relu6;slimscan/b_sum/add", "b_sum"),
        ("model/features/c/Conv2D", "features/c"),
        ("tfl.quantize", "tfl.quantize"),
        ("model/dense", "model/dense"),
        ("StatefulPartitionedCall:0", "StatefulPartitionedCall:0"),
        ("", ""),
        ("model/a_very_deep_scope/with_a_long_name/conv/Conv2D", "…ope/with_a_long_name/conv"),
    ],
)
def test_a_long_name_is_cut_to_the_layer(tensor, short):
    assert operator_times(1.0, name=tensor).short_name == short


def test_the_table_names_a_dozen_longest_first_and_counts_the_rest():
    planted = [
        operator_times(float(place), float(place), macs=2_000_000 * (place % 2), name=f"m/layer{place}/Conv2D")
        for place in range(1, 16)
    ]
    profile = NetworkProfile(threads=1, whole_us=(150.0, 150.0), operators=tuple(planted))
    head, columns, *rows, last = profile.to_lines()
    assert "1 thread, 2 rounds: the whole takes 150.0 us (150.0 to 150.0), 15 operators together 120.0 us" in head
    assert " ".join(columns.split()) == "operator makes shape M MACs us 95 % interval share MACs/ns"
    assert [row.split()[1] for row in rows] == [f"layer{place}" for place in range(15, 3, -1)]
    assert " ".join(rows[0].split()) == "CONV_2D layer15 1x6x6x8 2.000 15.0 15.0 to 15.0 10.0% 133.3"
    assert " ".join(rows[1].split()) == "CONV_2D layer14 1x6x6x8 - 14.0 14.0 to 14.0 9.3% -"
    assert {len(row) for row in rows} == {len(columns)}
    assert last == "  and 3 operators that take less, together 6.0 us"


def test_the_table_of_one_round_has_no_intervals_and_of_few_operators_no_rest():
    profile = NetworkProfile(threads=4, whole_us=(8.0,), operators=(operator_times(3.0), operator_times(5.0)))
    head, _, *rows = profile.to_lines()
    assert head.endswith("4 threads, 1 round: the whole takes 8.0 us, 2 operators together 8.0 us")
    assert [row.split()[-4:] for row in rows] == [["5.0", "-", "62.5%", "-"], ["3.0", "-", "37.5%", "-"]]
    thirteen = dataclasses.replace(profile, operators=(operator_times(3.0),) * 13)
    assert thirteen.to_lines()[-1] == "  and 1 operator that takes less, together 3.0 us"


def test_a_profile_comes_back_from_its_json(golden_bundle):
    profile = profile_operators(golden_bundle.model, threads=1, rounds=2)
    table = json.loads(json.dumps(dataclasses.asdict(profile)))
    assert read_record(NetworkProfile, table, where="profile") == profile


def _names(model: bytes) -> list[str]:
    file = TfliteFile(model)
    return [file.tensor(operator.outputs[0]).name.decode() for operator in file.graph.operators]

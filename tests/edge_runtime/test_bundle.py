import dataclasses
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_edge import bundle as bundle_module
from slimscan_edge.bundle import GateResult, pack_bundle, parse_bundle, read_bundle, write_bundle
from slimscan_edge.errors import BundleError
from slimscan_edge.interpreter import TensorSpec
from slimscan_edge.operating_point import OperatingPoint


def unzipped(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip as slimscan writes it, whatever it holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.fixture
def raw(golden_bundle_path):
    return golden_bundle_path.read_bytes()


@pytest.fixture
def refused(raw):
    """Check that the golden bundle with a changed manifest or other files is refused with a message."""

    def check(message, *, manifest=None, files=None):
        content = unzipped(raw)
        if manifest is not None:
            table = json.loads(content["manifest.json"])
            manifest(table)
            content["manifest.json"] = json.dumps(table).encode()
        if files is not None:
            files(content)
        with pytest.raises(BundleError, match=message):
            parse_bundle(zipped(content), name="b")

    return check


# --- what is written is what is read ----------------------------------------------------------------------------


def test_the_golden_bundle_is_read_whole(golden_bundle, raw):
    assert golden_bundle.manifest.bundle_id == "brightness-1.0.0"
    assert golden_bundle.manifest.labels == ("DARK", "BRIGHT")
    assert golden_bundle.model == unzipped(raw)["model.tflite"]


def test_packing_what_was_read_gives_the_same_bytes(golden_bundle, raw):
    assert pack_bundle(golden_bundle.manifest, golden_bundle.members) == raw
    backwards = dict(reversed(golden_bundle.members.items()))
    assert pack_bundle(golden_bundle.manifest, backwards) == raw


def test_the_manifest_comes_first_and_nothing_is_compressed(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        infos = archive.infolist()
    assert infos[0].filename == "manifest.json"
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}


words = st.text(max_size=20)
inside = st.floats(0.01, 0.99)
verdicts = st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE"])
names = st.sampled_from(["card.html", "golden/a.png", "golden/expected.json"])


@given(
    threshold=inside,
    temperature=st.floats(0.01, 100),
    labels=st.tuples(words, words),
    gates=st.lists(st.builds(GateResult, name=words, verdict=verdicts, measured=words, allowed=words), max_size=3),
    training_data=st.dictionaries(words, words, max_size=3),
    verdict=verdicts,
    members=st.dictionaries(names, st.binary(max_size=50)),
    model=st.binary(max_size=50),
)
def test_any_content_survives_the_round_trip(
    golden_bundle, threshold, temperature, labels, gates, training_data, verdict, members, model
):
    point = OperatingPoint(
        temperature=temperature,
        threshold=threshold,
        target_sensitivity=0.9,
        refer_low=threshold,
        refer_high=threshold,
        chosen_on="x",
    )
    manifest = dataclasses.replace(
        golden_bundle.manifest,
        labels=labels,
        gates=tuple(gates),
        training_data=training_data,
        verdict=verdict,
        operating_point=point,
    )
    members = {"model.tflite": model, **members}
    raw = pack_bundle(manifest, members)
    read = parse_bundle(raw, name="b")
    assert (read.manifest, dict(read.members)) == (manifest, members)
    assert pack_bundle(read.manifest, read.members) == raw


def test_writing_returns_the_digest_that_reading_finds(golden_bundle, tmp_path):
    digest = write_bundle(tmp_path / "new" / "b.slimscan", golden_bundle.manifest, golden_bundle.members)
    assert read_bundle(tmp_path / "new" / "b.slimscan").sha256 == digest == golden_bundle.sha256


@pytest.mark.parametrize("members", [{}, {"model.tflite": b"", "notes.txt": b""}, {"model.tflite": b"", "../x": b""}])
def test_members_that_a_bundle_may_not_hold_are_not_written(golden_bundle, members):
    with pytest.raises(BundleError, match="a bundle holds"):
        pack_bundle(golden_bundle.manifest, members)


# --- damage -----------------------------------------------------------------------------------------------------


def test_every_flipped_byte_is_refused(raw):
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 0x10
        with pytest.raises(BundleError):
            parse_bundle(bytes(damaged), name="b")


@pytest.mark.parametrize("part", [0, 1, 100, 5000, -1])
def test_a_truncated_bundle_is_refused(raw, part):
    with pytest.raises(BundleError, match="damaged or not a bundle"):
        parse_bundle(raw[:part], name="b")


def test_bytes_before_or_after_the_zip_are_refused(raw):
    for around in (b"#!/bin/sh\n" + raw, raw + b"\0"):
        with pytest.raises(BundleError, match="damaged"):
            parse_bundle(around, name="b")


def test_a_member_changed_with_a_right_zip_checksum_is_refused(refused):
    refused("golden/ramp.png is not the file", files=lambda files: files.update({"golden/ramp.png": b"other"}))


def test_an_exchanged_model_of_the_same_size_is_refused(refused):
    def exchange(files):
        files["model.tflite"] = files["model.tflite"][:-1] + b"\xff"

    refused("model.tflite is not the file", files=exchange)


def test_a_wrong_hash_or_size_in_the_manifest_is_refused(refused):
    for key, value in (("sha256", "0" * 64), ("size_bytes", 1)):
        refused(
            "model.tflite is not the file",
            manifest=lambda table, key=key, value=value: table["members"]["model.tflite"].update({key: value}),
        )


def test_extra_and_absent_members_are_refused(refused):
    refused("not listed: .*card.html", files=lambda files: files.update({"card.html": b""}))
    refused("members absent: .*ramp.png", files=lambda files: files.pop("golden/ramp.png"))
    refused("members absent: .*model.tflite", files=lambda files: files.pop("model.tflite"))


def test_a_listed_member_of_another_kind_is_refused(refused):
    import hashlib

    listing = {"size_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    refused(
        "'run.sh' is not one a bundle may hold",
        manifest=lambda table: table["members"].update({"run.sh": listing}),
        files=lambda files: files.update({"run.sh": b""}),
    )


def test_a_member_twice_is_refused(raw):
    buffer = io.BytesIO(raw)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("model.tflite", b"another")
    with pytest.raises(BundleError, match="holds a member twice"):
        parse_bundle(buffer.getvalue(), name="b")


def test_compressed_members_are_refused(raw):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in unzipped(raw).items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="compressed or encrypted"):
        parse_bundle(buffer.getvalue(), name="b")


def test_another_zip_layout_is_refused(raw):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in unzipped(raw).items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(2024, 2, 29, 0, 0, 0)), content)
    with pytest.raises(BundleError, match="layout differs"):
        parse_bundle(buffer.getvalue(), name="b")


def test_too_large_a_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", 100)
    (tmp_path / "large.slimscan").write_bytes(bytes(101))
    with pytest.raises(BundleError, match="larger than a bundle can be"):
        read_bundle(tmp_path / "large.slimscan")


# --- manifests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0, [1], {}, 10**18])
def test_an_unknown_schema_version_is_refused(refused, version):
    refused("has schema version .*update", manifest=lambda table: table.update(schema_version=version))


def test_no_manifest_or_none_in_json_is_refused(refused):
    refused("has no manifest.json", files=lambda files: files.pop("manifest.json"))
    refused("is not JSON", files=lambda files: files.update({"manifest.json": b"{"}))
    refused("is not JSON", files=lambda files: files.update({"manifest.json": b"[" * 100_000}))
    refused("schema version None", files=lambda files: files.update({"manifest.json": b"[]"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "blue"},  # unknown key
        {"name": "Bright Ness"},
        {"name": "../x"},
        {"version": "1.0"},
        {"labels": ["ONE"]},
        {"labels": None},
        {"output_roles": ["logits", "logits"]},
        {"output_roles": ["evidence", "logits"]},  # swapped: the shapes do not fit
        {"outputs": []},
        {"outputs": 3},
        {"input": {"shape": [1, 16, 16, 1], "dtype": "uint8"}},
        {"input": {"shape": [1, 32, 32, 1], "dtype": "float32"}},
        {"preprocess": {"height": 32, "width": 32, "resize_filter": "nearest"}},
        {"preprocess": {"height": 32, "width": 32, "sharpen": True}},
        {"operating_point": {"threshold": 2.0}},
        {"gates": [{"name": "no verdict"}]},
        {"members": {}},
        {"members": None},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(refused, changes):
    refused("manifest|unknown key", manifest=lambda table: table.update(changes))


@pytest.mark.parametrize("key", ["name", "outputs", "preprocess", "operating_point", "gates", "members", "verdict"])
def test_an_absent_entry_is_refused(refused, key):
    refused("manifest", manifest=lambda table: table.pop(key))


NUMBERS = [
    ("operating_point", "threshold"),
    ("operating_point", "temperature"),
    ("operating_point", "bias"),
    ("preprocess", "height"),
    ("input", "scale"),
    ("input", "zero_point"),
    ("members", "model.tflite", "size_bytes"),
]


@pytest.mark.parametrize("path", NUMBERS, ids="/".join)
@pytest.mark.parametrize(
    "number",
    ["1" + "0" * 400, "-1" + "0" * 400, "1" * 5000, "1e400", "-1e999", "NaN", "Infinity", "-Infinity", "true", "null"],
    ids=lambda number: f"{number[:6]} of {len(number)}",
)
def test_a_number_is_a_finite_one(refused, path, number):
    def put(files):
        table = json.loads(files["manifest.json"])
        place = table
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "@"
        files["manifest.json"] = json.dumps(table, indent=1).replace('"@"', number).encode()

    refused(r"^b: [^\n]{1,300}$", files=put)


def test_numbers_where_texts_belong_and_the_reverse_are_refused(refused):
    for changes in (
        {"labels": [1, 2]},
        {"intended_use": 3},
        {"training_data": {"split": 1}},
        {"tools": {"numpy": None}},
    ):
        refused("does not hold what it should", manifest=lambda table, changes=changes: table.update(changes))
    for shape in ([1, 32, 32, True], ["1", 32, 32, 1], [1.0, 32, 32, 1], [[1], 32, 32, 1], None):
        refused("does not hold what", manifest=lambda table, shape=shape: table["input"].update(shape=shape))


def keys_of(raw):
    return list(json.loads(unzipped(raw)["manifest.json"]))


def test_a_null_for_any_required_value_is_refused(refused, raw):
    for key in keys_of(raw):
        refused("^b", manifest=lambda table, key=key: table.update({key: None}))


def as_text(change):
    """A change of the manifest as the text that it is."""
    return lambda files: files.update({"manifest.json": change(files["manifest.json"].decode())})


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"version"', '"version": "0.0.1",\n "version"', 1).encode(),
        lambda text: text.replace('"threshold"', '"threshold": 0.01,\n  "threshold"', 1).encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-32"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("DARK", "D\u00c4RK").encode("latin-1"),
        lambda text: text.replace('"DARK"', '"\\ud800"').encode(),
        lambda text: text.replace('"DARK"', '"DAR\\u004b"').encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: (text + "\n").encode(),
        lambda text: text.rstrip().encode(),
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1).encode(),
        lambda text: text.replace('"PASS",\n "gates"', '"PASS", \n "gates"').encode(),
    ],
    ids=[
        "key twice",
        "inner key twice",
        "utf-16",
        "utf-16 without mark",
        "utf-32",
        "byte order mark",
        "latin-1",
        "half a character",
        "needless escape",
        "line ends",
        "no indent",
        "line more",
        "line less",
        "other order",
        "space more",
    ],
)
def test_the_manifest_has_one_form_only(refused, change):
    refused("as slimscan writes it|is no Unicode", files=as_text(change))


def test_inner_keys_have_an_order_too(refused):
    def turn(text):
        table = json.loads(text)
        table["preprocess"] = dict(reversed(table["preprocess"].items()))
        return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()

    refused("as slimscan writes it", files=as_text(turn))


def test_what_is_left_to_its_default_may_be_absent(raw):
    """As in bundles of the first releases."""
    files = unzipped(raw)
    table = json.loads(files["manifest.json"])
    del table["subtypes"], table["operating_point"]["bias"]
    files["manifest.json"] = (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
    assert parse_bundle(zipped(files), name="b").manifest == parse_bundle(raw, name="b").manifest


@pytest.mark.parametrize("depth", [40, 900, 1000, 5000, 100_000])
@pytest.mark.parametrize("key", ["intended_use", "gates", "training_data", "anything"])
def test_deep_nesting_is_refused(refused, depth, key):
    deep = "[" * depth + "]" * depth

    def put(files):
        table = {**json.loads(files["manifest.json"]), key: "@"}
        files["manifest.json"] = json.dumps(table).replace('"@"', deep).encode()

    refused("nested deeper than", files=put)


def test_members_have_an_order(raw):
    files = unzipped(raw)
    manifest = files.pop("manifest.json")
    for order in ({**files, "manifest.json": manifest}, {"manifest.json": manifest, **dict(reversed(files.items()))}):
        with pytest.raises(BundleError, match="order of members is not as slimscan writes it"):
            parse_bundle(zipped(order), name="b")


def test_evidence_must_have_as_many_classes_as_logits(golden_bundle):
    logits, evidence = golden_bundle.manifest.outputs
    two = TensorSpec(shape=(*evidence.shape[:3], 2), dtype="int8", scale=evidence.scale)
    with pytest.raises(ValueError, match=r"expected logits \[1, K\] and evidence \[1, h, w, K\]"):
        dataclasses.replace(golden_bundle.manifest, outputs=(logits, two))


# --- verdicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_a_bundle_that_did_not_pass_is_refused_unless_allowed(write_variant, verdict):
    path = write_variant(verdict=verdict)
    with pytest.raises(BundleError, match=r"did not pass its gates.*--allow-failed"):
        read_bundle(path)
    assert read_bundle(path, allow_failed=True).manifest.verdict == verdict


GATE = {"name": "g", "measured": "", "allowed": ""}


@pytest.mark.parametrize(
    ("verdict", "gates"),
    [
        ("PASS", ()),
        ("PASS", ("FAIL",)),
        ("PASS", ("PASS", "FAIL", "PASS")),
        ("PASS", ("PASS", "INCONCLUSIVE")),
        ("INCONCLUSIVE", ("PASS", "FAIL")),
    ],
)
@pytest.mark.parametrize("allow_failed", [False, True])
def test_a_verdict_better_than_its_gates_is_refused(write_variant, verdict, gates, allow_failed):
    path = write_variant(verdict=verdict, gates=tuple(GateResult(**GATE, verdict=gate) for gate in gates))
    with pytest.raises(BundleError, match=f"has the verdict {verdict}, and its {len(gates)} gates say no more"):
        read_bundle(path, allow_failed=allow_failed)


@pytest.mark.parametrize("word", ["pass", "PASSED", "", "OK", " PASS", None, True, 1, ["PASS"]])
def test_a_verdict_is_one_of_three_words(refused, word):
    refused("verdict is .*expected one of PASS, FAIL, INC", manifest=lambda table: table.update(verdict=word))
    refused("verdict is .*expected one of", manifest=lambda table: table["gates"][0].update(verdict=word))


def test_allowing_failed_gates_allows_no_damage(raw, tmp_path):
    (tmp_path / "b.slimscan").write_bytes(raw[:-1])
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(tmp_path / "b.slimscan", allow_failed=True)


def test_an_absent_bundle_or_a_folder_is_told(tmp_path):
    for path in (tmp_path / "absent.slimscan", tmp_path):
        with pytest.raises(BundleError, match="cannot be read"):
            read_bundle(path)


def make_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make",
    [
        make_pipe,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
    ids=["pipe", "link to zeros", "link to null", "link to itself", "dangling link", "folder", "absent"],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "b.slimscan")
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(tmp_path / "b.slimscan")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "x" * 300, "x/" * 3000, "/proc/self/mem"])
def test_odd_paths_are_told(name):
    with pytest.raises(BundleError, match=r"cannot be read|damaged"):
        read_bundle(name)


def test_a_link_to_a_bundle_is_followed(golden_bundle_path, tmp_path):
    (tmp_path / "b.slimscan").symlink_to(golden_bundle_path)
    assert read_bundle(Path(tmp_path / "b.slimscan")).manifest.bundle_id == "brightness-1.0.0"


@pytest.mark.parametrize(
    ("bundle_id", "parts"),
    [
        ("pneumonia-0.1.0", ("pneumonia", "0.1.0")),
        ("chest-2-10.0.1-rc.1", ("chest-2", "10.0.1-rc.1")),
    ],
)
def test_a_bundle_id_is_a_name_and_a_version(bundle_id, parts):
    assert bundle_module.split_bundle_id(bundle_id) == parts


@pytest.mark.parametrize("wrong", ["pneumonia", "pneumonia-1.0", "Chest-0.1.0", "my chest-0.1.0", "-0.1.0", "0.1.0"])
def test_what_is_no_bundle_id_is_refused(wrong):
    with pytest.raises(BundleError, match="is no NAME-VERSION"):
        bundle_module.split_bundle_id(wrong)

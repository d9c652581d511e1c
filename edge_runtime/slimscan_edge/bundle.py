"""The bundle: one file that holds a model and all that is needed to run it and to trust it.

A bundle is a zip of stored (uncompressed) members, `NAME-VERSION.slimscan`, whose first member
`manifest.json` lists every other member with size and SHA-256. It is read once: what was hashed is what is
loaded. The zip and its manifest have one form only, so that any changed byte, in a member or between them, is
refused before the model is parsed.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import BundleError, InputError
from slimscan_edge.interpreter import TensorSpec
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_edge.records import from_mapping, read_json, shortened

SCHEMA_VERSION = 1
SUFFIX = ".slimscan"
MANIFEST = "manifest.json"
MODEL = "model.tflite"
CARD = "card.html"
GUARD = "guard.json"
MAX_BUNDLE_BYTES = 64 * 2**20

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
_VERDICTS: tuple[Verdict, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
"""From the worst to the best."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_MEMBER = re.compile(r"(model\.tflite|card\.html|guard\.json|golden/[a-z0-9_-]+\.(png|json))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Size and SHA-256 (hexadecimal) of one file inside a bundle."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate as it was decided at export.

    Attributes:
        name: What was compared ("new misses").
        verdict: `PASS`, `FAIL` or `INCONCLUSIVE`.
        measured: The figure and its bound, in words.
        allowed: What it had to keep to, in words.
    """

    name: str
    verdict: Verdict
    measured: str
    allowed: str


ARENA_MEMORY = "arena memory"
"""Name of the gate on the memory that TFLite Micro runs the model in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that a bundle says of itself.

    Attributes:
        name: Lower-case name of the model.
        version: Semantic version of the model.
        labels: Names of the negative and the positive class.
        subtypes: Names of the two subtypes of the positive class that a second logit tells apart, the one it speaks
            for first; empty when the model has one logit.
        input: The model's input; uint8 raw pixels `[1, H, W, C]`.
        outputs: The model's outputs in the file's order.
        output_roles: What each output is: `logits` `[1, K]` or `evidence` `[1, h, w, K]`.
        preprocess: How an image becomes the input.
        operating_point: How a logit becomes a decision.
        verdict: Of all gates together.
        gates: Each gate's result.
        training_data: Description, attribution and licence of the training images.
        intended_use: What the model is for, and what it is not.
        tools: Version of each tool that made the bundle.
    """

    name: str
    version: str
    labels: tuple[str, str]
    subtypes: tuple[str, ...] = ()
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    output_roles: tuple[str, ...]
    preprocess: PreprocessSpec
    operating_point: OperatingPoint
    verdict: Verdict
    gates: tuple[GateResult, ...]
    training_data: Mapping[str, str]
    intended_use: str
    tools: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}, expected lower-case letters, digits, - and _")
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"version is {self.version!r}, expected a semantic version such as 0.1.0")
        if len(self.labels) != 2:
            raise ValueError(f"got {len(self.labels)} labels, expected the negative and the positive one")
        if sorted(self.output_roles) != ["evidence", "logits"] or len(self.outputs) != 2:
            raise ValueError(f"outputs are {self.output_roles}, expected one 'logits' and one 'evidence'")
        shapes = {role: spec.shape for role, spec in zip(self.output_roles, self.outputs, strict=True)}
        ranks = (len(shapes["logits"]), len(shapes["evidence"]))
        if ranks != (2, 4) or shapes["logits"][-1] != shapes["evidence"][-1]:
            raise ValueError(f"outputs are {shapes}, expected logits [1, K] and evidence [1, h, w, K]")
        if (shapes["logits"][-1], len(self.subtypes)) not in ((1, 0), (2, 2)):
            raise ValueError(
                f"got {shapes['logits'][-1]} logits and {len(self.subtypes)} subtypes, "
                "expected one logit and no subtypes, or two of both"
            )
        spec = self.preprocess
        if self.input.dtype != "uint8" or self.input.shape != (1, spec.height, spec.width, spec.channels):
            raise ValueError(f"the model's input {self.input} does not fit the preprocessing {spec}")

    @property
    def bundle_id(self) -> str:
        """`NAME-VERSION`, as in the file's name."""
        return f"{self.name}-{self.version}"

    @property
    def best_verdict(self) -> Verdict:
        """The best verdict that the gates leave open: PASS only if there are some and each passed."""
        found = {gate.verdict for gate in self.gates}
        if "FAIL" in found:
            return "FAIL"
        return "PASS" if found == {"PASS"} else "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory, verified.

    Attributes:
        manifest: What it says of itself.
        members: Every file but the manifest, by name.
        sha256: Of the whole file, hexadecimal.
    """

    manifest: Manifest
    members: Mapping[str, bytes]
    sha256: str

    @property
    def model(self) -> bytes:
        """The bytes of the `.tflite` model."""
        return self.members[MODEL]


def split_bundle_id(bundle_id: str) -> tuple[str, str]:
    """Name and version of a `NAME-VERSION`.

    Raises:
        BundleError: It is none.
    """
    match = re.fullmatch(rf"({_NAME.pattern})-({_VERSION.pattern})", bundle_id)
    if not match:
        raise BundleError(
            f"{bundle_id!r} is no NAME-VERSION such as pneumonia-0.1.0: a name of lower-case letters, digits, - and _, "
            "and a semantic version"
        )
    return match[1], match[2]


def read_bundle(path: str | os.PathLike[str], *, allow_failed: bool = False) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: A `.slimscan` file.
        allow_failed: Accept a bundle whose gates did not pass.

    Raises:
        BundleError: It is absent, damaged, of another schema version, holds a member too few or too many, its verdict
            is better than its gates, or its gates did not pass and `allow_failed` is False.
    """
    name = os.fspath(path)
    manifest = (bundle := parse_bundle(_read_file(name), name=name)).manifest
    if _VERDICTS.index(manifest.verdict) > _VERDICTS.index(manifest.best_verdict):
        raise BundleError(
            f"bundle {name} has the verdict {manifest.verdict}, and its {len(manifest.gates)} gates say no more than "
            f"{manifest.best_verdict}; take another"
        )
    if manifest.verdict != "PASS" and not allow_failed:
        raise BundleError(
            f"bundle {name} did not pass its gates (verdict {manifest.verdict}); "
            "take one that did, or say --allow-failed to run it all the same"
        )
    return bundle


def _read_file(name: str) -> bytes:
    """The bytes of a regular file of bounded size, links followed; a pipe or a device is not waited for."""
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"bundle {name} cannot be read (it is no regular file)")
            raw = file.read(status.st_size + 1) if status.st_size <= MAX_BUNDLE_BYTES else b""
    except OSError as exc:
        raise BundleError(f"bundle {name} cannot be read ({exc.strerror or exc})") from exc
    if max(status.st_size, len(raw)) > MAX_BUNDLE_BYTES:
        raise BundleError(f"{name} is larger than a bundle can be ({MAX_BUNDLE_BYTES // 2**20} MiB)")
    return raw


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse_bundle(raw: bytes, *, name: str) -> Bundle:
    """Verify the bytes of a bundle, whatever its verdict.

    Args:
        raw: The whole file.
        name: What to call it in messages.

    Raises:
        BundleError: As for `read_bundle`.
    """
    members = _unzip(raw, name)
    if MANIFEST not in members:
        raise BundleError(f"{name} has no {MANIFEST}; it is not a slimscan bundle")
    is_first = next(iter(members)) == MANIFEST
    written = members.pop(MANIFEST)
    try:
        table = read_json(written)
    except ValueError as exc:
        raise BundleError(f"{name}: {MANIFEST} is not JSON as slimscan writes it ({exc})") from exc
    version = table.get("schema_version") if isinstance(table, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleError(
            f"{name} has schema version {shortened(version)}, this slimscan reads {SCHEMA_VERSION}; "
            "update slimscan or the bundle"
        )
    _check_members(table.get("members"), members, name)
    own = {key: value for key, value in table.items() if key not in ("schema_version", "members")}
    try:
        manifest = from_mapping(Manifest, own, where="manifest")
    except InputError as exc:
        raise BundleError(f"{name}: the manifest does not hold what it should ({exc})") from exc
    in_order = is_first and list(members) == sorted(members)
    if not in_order or _as_bytes(_in_order(_table(manifest, members), table)) != written:
        raise BundleError(f"{name}: {MANIFEST} or the order of members is not as slimscan writes it; take another")
    return Bundle(manifest=manifest, members=members, sha256=hashlib.sha256(raw).hexdigest())


def write_bundle(path: str | os.PathLike[str], manifest: Manifest, members: Mapping[str, bytes]) -> str:
    """Write a bundle whole or not at all; the same content gives the same bytes.

    Args:
        path: The file to write; replaced only when all of it is on disk.
        manifest: What it says of itself.
        members: Every file but the manifest, by name; `model.tflite` among them.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        BundleError: A member's name is not allowed, or the model is absent.
        InputError: The file cannot be written.
    """
    raw = pack_bundle(manifest, members)
    write_atomically(path, raw)
    return hashlib.sha256(raw).hexdigest()


def pack_bundle(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle; the same content gives the same bytes.

    Raises:
        BundleError: A member's name is not allowed, or the model is absent.
    """
    unknown = [name for name in members if not _MEMBER.fullmatch(name)]
    if unknown or MODEL not in members:
        raise BundleError(f"a bundle holds {MODEL}, {CARD}, {GUARD} and golden/*, got {sorted(members)}")
    files = {MANIFEST: _as_bytes(_table(manifest, members))}
    files.update((name, members[name]) for name in sorted(members))
    return _zip(files)


def _table(manifest: Manifest, members: Mapping[str, bytes]) -> dict[str, Any]:
    """What `manifest.json` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        **dataclasses.asdict(manifest),
        "members": {
            name: {"size_bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
            for name in sorted(members)
        },
    }


def _as_bytes(table: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError as exc:
        raise BundleError(f"a text of the manifest is no Unicode ({exc.reason})") from exc


def _in_order(whole: Any, found: Any) -> Any:
    """Found values in the order in which they would be written; what was left to its default stays left out."""
    if isinstance(whole, dict):
        return {key: _in_order(value, found[key]) for key, value in whole.items() if key in found}
    if isinstance(whole, list | tuple):
        return [_in_order(value, one) for value, one in zip(whole, found, strict=True)]
    return found


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # else it says which system wrote it, and the bytes differ
            archive.writestr(info, content)
    return buffer.getvalue()


def _unzip(raw: bytes, name: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if len(set(names)) != len(names):
                raise BundleError(f"{name} holds a member twice")
            if sum(info.file_size for info in infos) > MAX_BUNDLE_BYTES:
                raise BundleError(f"{name} unpacks to more than {MAX_BUNDLE_BYTES // 2**20} MiB")
            if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
                raise BundleError(f"{name} has compressed or encrypted members; slimscan writes neither")
            members = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as exc:
        raise BundleError(f"{name} is damaged or not a bundle ({exc}); copy it again") from exc
    # The hashes cover the members; comparing the whole covers the bytes around them, which a reader ignores.
    if _zip(members) != raw:
        raise BundleError(f"{name} is damaged or was not written by slimscan (its zip layout differs); copy it again")
    return members


def _check_members(listed: Any, members: Mapping[str, bytes], name: str) -> None:
    if not isinstance(listed, dict) or MODEL not in listed:
        raise BundleError(f"{name}: the manifest lists no {MODEL}")
    absent, extra = sorted(set(listed) - set(members)), sorted(set(members) - set(listed))
    if absent or extra:
        raise BundleError(f"{name}: members absent: {absent or 'none'}; not listed: {extra or 'none'}")
    for member_name, content in members.items():
        if not _MEMBER.fullmatch(member_name):
            raise BundleError(f"{name}: member {member_name!r} is not one a bundle may hold")
        try:
            member = from_mapping(Member, listed[member_name], where=member_name)
        except InputError as exc:
            raise BundleError(f"{name}: the manifest does not hold what it should ({exc})") from exc
        if len(content) != member.size_bytes or hashlib.sha256(content).hexdigest() != member.sha256:
            raise BundleError(f"{name}: {member_name} is not the file that the manifest lists; copy the bundle again")

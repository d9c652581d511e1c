"""Is this machine ready to answer, and what is missing: each thing looked at, with what to do about it."""

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

from slimscan_edge import __version__
from slimscan_edge.cores import usable_cores
from slimscan_edge.errors import InterpreterError, SlimscanError

Status = Literal["ok", "absent", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        status: `ok`; `absent`, which the device does without; or `problem`, which it does not.
        detail: What was found, and what to do when it is not `ok`.
    """

    name: str
    status: Status
    detail: str


def check_up(bundle: Path | None) -> Iterator[Check]:
    """Look at all that `slimscan predict` needs, and at what is optional.

    Args:
        bundle: As given with `--bundle`; None for the one that would be used.

    Yields:
        A check as soon as it is made. One that fails does not stop the others that can still be made.
    """
    yield Check(name="slimscan", status="ok", detail=__version__)
    yield Check(name="python", status="ok", detail=f"{platform.python_implementation()} {platform.python_version()}")
    yield Check(name="machine", status="ok", detail=_machine())
    needed = [_package("numpy", "numpy"), _package("pillow", "PIL"), _interpreter()]
    yield from needed
    if needed[1].status == "ok":
        yield from _codecs()
    if all(check.status == "ok" for check in needed):
        yield from _bundle(bundle)
    yield from _extras()


def _machine() -> str:
    memory = ""
    if hasattr(os, "sysconf"):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**20:,.0f} MiB memory"
    bits = "" if sys.maxsize > 2**32 else ", 32-bit Python"
    return f"{platform.machine()}{bits}, {platform.system()} {platform.release()}, {usable_cores()} cores{memory}"


def _package(distribution: str, module: str) -> Check:
    try:
        loaded = import_module(module)
        return Check(name=distribution, status="ok", detail=_version(distribution, loaded))
    except ImportError as exc:
        detail = f"does not load ({exc}); run: pip install --force-reinstall {distribution}"
        return Check(name=distribution, status="problem", detail=detail)


def _version(distribution: str, module: ModuleType) -> str:
    """A distribution's version, or that of a twin which brings the same module, such as pillow-simd."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    for twin in metadata.packages_distributions().get(module.__name__, []):
        return f"{metadata.version(twin)} ({twin})"
    return str(getattr(module, "__version__", "of unknown version"))


def _interpreter() -> Check:
    try:
        from slimscan_edge.interpreter import describe_package, import_interpreter, package_of

        return Check(name="interpreter", status="ok", detail=describe_package(package_of(import_interpreter())))
    except ImportError as exc:
        return Check(name="interpreter", status="problem", detail=f"cannot be tried: {exc}")
    except InterpreterError as exc:
        return Check(name="interpreter", status="problem", detail=_on_32_bit_arm() or str(exc))


def _on_32_bit_arm() -> str:
    """Which interpreter a 32-bit ARM Python without one can have; empty for any other Python."""
    machine = platform.machine()
    if sys.maxsize > 2**32 or not machine.startswith(("arm", "aarch64")):
        return ""
    if any(map(_is_installed, ("tflite-runtime", "ai-edge-litert"))):
        return ""
    if machine.startswith("armv6") or sys.version_info >= (3, 12):
        what = "ARMv6" if machine.startswith("armv6") else "32-bit ARM and Python 3.12 or newer"
        return f"no TFLite interpreter is published for {what}; use a 64-bit system, or ARMv7 with Python 3.11"
    kernel = " under a 64-bit kernel, which pip takes for a 64-bit one" if machine == "aarch64" else ""
    return (
        f"no TFLite interpreter is installed in this 32-bit Python{kernel}; "
        "run: pip install 'numpy<2' pillow tflite-runtime"
    )


def _codecs() -> Iterator[Check]:
    from PIL import features

    for codec, what in (("jpg", "JPEG"), ("zlib", "PNG")):
        if not features.check_codec(codec):
            detail = f"this Pillow cannot read {what}; run: pip install --force-reinstall pillow"
            yield Check(name=what, status="problem", detail=detail)
    if features.check_feature("libjpeg_turbo"):
        yield Check(name="libjpeg-turbo", status="ok", detail=str(features.version_feature("libjpeg_turbo")))
    else:
        detail = "this Pillow decodes JPEG with another libjpeg, several times slower; Pillow's own wheels have it"
        yield Check(name="libjpeg-turbo", status="absent", detail=detail)


def _bundle(given: Path | None) -> Iterator[Check]:
    from slimscan_edge.bundle import read_bundle
    from slimscan_edge.classifier import Classifier
    from slimscan_edge.golden import require_self_test
    from slimscan_edge.locate import locate_bundle
    from slimscan_edge.notices import native_notices_dropped

    name = "bundle"
    try:
        located = locate_bundle(given)
        bundle = read_bundle(located.path, allow_failed=True)
        manifest = bundle.manifest
        detail = f"{manifest.bundle_id}, {located.chosen}, sha256 {bundle.sha256[:16]}"
        yield Check(name=name, status="ok", detail=detail)
        name = "gates"
        if manifest.verdict == "PASS":
            yield Check(name=name, status="ok", detail=f"PASS, {len(manifest.gates)} gates")
        else:
            detail = f"{manifest.verdict}: it is refused without --allow-failed; take a bundle that passed"
            yield Check(name=name, status="problem", detail=detail)
        name = "self-test"
        with native_notices_dropped():
            classifier = Classifier(bundle)
        result = require_self_test(classifier)
        detail = f"{result.images} golden images, {result.largest_difference} steps off at most"
        yield Check(name=name, status="ok", detail=f"{detail} ({result.allowed_steps} allowed)")
        if classifier.guard:
            detail = f"rejects what is no X-ray; fitted on {classifier.guard.record.fitted_on}"
            yield Check(name="guard", status="ok", detail=detail)
        else:
            yield Check(name="guard", status="absent", detail="this bundle answers for whatever picture it is shown")
    except SlimscanError as exc:
        yield Check(name=name, status="problem", detail=str(exc))


def _extras() -> Iterator[Check]:
    """Which optional parts are there, by what the installed slimscan itself says that they need."""
    try:
        wanted = metadata.requires("slimscan") or []
    except metadata.PackageNotFoundError:  # run from its source without being installed
        return
    needs: dict[str, list[str]] = {}
    for requirement in wanted:
        # "scikit-learn>=1.5; extra == 'train'"
        match = re.match(r"""([\w.-]+).*;.*\bextra == ['"]([\w-]+)['"]""", requirement)
        if match:
            needs.setdefault(match[2], []).append(match[1])
    for extra, packages in needs.items():
        missing = [package for package in packages if not _is_installed(package)]
        if missing:
            detail = f"without {', '.join(missing)}; if you want it: pip install 'slimscan[{extra}]'"
            yield Check(name=f"extra {extra}", status="absent", detail=detail)
        else:
            yield Check(name=f"extra {extra}", status="ok", detail=", ".join(packages))


def _is_installed(distribution: str) -> bool:
    """Whether a distribution is there, by its metadata: nothing is imported."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True

"""The evidence map drawn on the X-ray: where the model's answer came from.

Colour and opacity grow with the evidence for the positive label, on a scale that is the bundle's and not the
picture's: the same colour means the same evidence on every picture, and a picture without any stays grey. Evidence
counts from the operating point's bias on, so that a map whose mean is zero has a probability of one half. Lines of
equal evidence keep the shape readable on a grey printer.
"""

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slimscan_edge.atomic import write_atomically
from slimscan_edge.bundle import Manifest
from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE, Finding
from slimscan_edge.errors import BundleError
from slimscan_edge.interpreter import TensorSpec
from slimscan_edge.preprocess import ImageSource, PreprocessSpec, decode, extent_of

LONG_SIDE = 1024
"""Pixels of the picture's longer side; a larger picture is reduced to it."""
SHORTEST_LONG_SIDE = 512
"""A smaller picture is enlarged to it, so that the caption fits."""

VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 45, 123),
        (59, 82, 139),
        (44, 113, 142),
        (33, 145, 140),
        (40, 174, 128),
        (94, 201, 98),
        (173, 220, 48),
        (253, 231, 37),
    ],
    np.float64,
)
"""Nine evenly spaced colours of viridis, RGB 0 to 255: lightness rises evenly, for colour-blind eyes too, and no
colour is grey as an X-ray is (van der Walt and Smith 2015, bids.github.io/colormap; public domain)."""

OPACITY = 0.55
"""From half the scale on, and less below it; the X-ray shows through everywhere."""
LEVELS = (0.25, 0.5, 0.75)
"""Lines of equal evidence, as parts of the full scale."""

READING = PreprocessSpec(height=LONG_SIDE, width=LONG_SIDE, channels=1, jpeg_oversample=1)
"""How the X-ray below an overlay is decoded."""
_MARGIN = 12
_BAR_WIDTH = 80
_CAPTION_HEIGHT = 136
_HEADLINE = {"positive": "POSITIVE", "negative": "NEGATIVE", "refer": "REFER: too close to call, ask a person"}


def draw_overlay(source: ImageSource, finding: Finding, manifest: Manifest) -> Image.Image:
    """Draw a finding on its X-ray.

    Args:
        source: The image that the finding is about.
        finding: Any but a rejected one.
        manifest: Of the bundle that answered.

    Returns:
        An RGB picture with a caption below it; the X-ray's longer side has at most `LONG_SIDE` pixels.

    Raises:
        ImageError: The image cannot be read.
        BundleError: The bundle's evidence is not quantised, so that there is no fixed scale to draw it on.
    """
    xray = _to_display_size(decode(source, READING))
    scale = evidence_scale(manifest)
    evidence = (finding.evidence + np.float32(manifest.operating_point.bias)) / np.float32(scale)
    strength = place_evidence(evidence, xray.size, manifest.preprocess)
    picture = Image.fromarray(_blend(np.asarray(xray), strength))
    return _with_caption(picture, finding, manifest, scale)


def write_overlay(path: str | os.PathLike[str], source: ImageSource, finding: Finding, manifest: Manifest) -> None:
    """Draw a finding on its X-ray and write it as PNG, whole or not at all.

    Raises:
        ImageError: The image cannot be read.
        BundleError: As for `draw_overlay`.
        InputError: The file cannot be written.
    """
    buffer = io.BytesIO()
    draw_overlay(source, finding, manifest).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def evidence_scale(manifest: Manifest) -> float:
    """The evidence that is drawn in full colour, in logits above a probability of one half: the most that there can be.

    Raises:
        BundleError: The evidence is not quantised and has no bound.
    """
    spec: TensorSpec = manifest.outputs[manifest.output_roles.index("evidence")]
    if spec.scale == 0.0:
        raise BundleError(f"{manifest.bundle_id} has a float evidence map and so no scale to draw it on")
    return float(spec.real_values(np.array(np.iinfo(spec.dtype).max))) + manifest.operating_point.bias


def place_evidence(
    evidence: NDArray[np.float32], picture_size: tuple[int, int], spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Lay an evidence map over the part of a picture that the model saw.

    Args:
        evidence: float32 `[h, w]`, 1 for the full scale.
        picture_size: Width and height of the upright picture, pixels.
        spec: How the picture became the model's input.

    Returns:
        float32 `[height, width]`, 0 to 1: the positive part, smoothly enlarged; NaN where the model did not look.
    """
    width, height = picture_size
    left, top, right, bottom = _input_window(picture_size, spec)
    seen = (max(0, round(left)), max(0, round(top)), min(width, round(right)), min(height, round(bottom)))
    rows, columns = evidence.shape
    across, down = columns / (right - left), rows / (bottom - top)
    box = (
        max(0.0, (seen[0] - left) * across),
        max(0.0, (seen[1] - top) * down),
        min(float(columns), (seen[2] - left) * across),
        min(float(rows), (seen[3] - top) * down),
    )
    positive = Image.fromarray(np.clip(evidence, 0.0, 1.0).astype(np.float32))
    # Bicubic draws round hills where bilinear draws pyramids; its overshoot is clipped, but for 1/200 of a peak.
    enlarged = positive.resize((seen[2] - seen[0], seen[3] - seen[1]), Image.Resampling.BICUBIC, box=box)
    placed = np.full((height, width), np.nan, np.float32)
    placed[seen[1] : seen[3], seen[0] : seen[2]] = np.clip(np.asarray(enlarged), 0.0, 1.0)
    return placed


def colours(strength: NDArray[np.float32]) -> NDArray[np.float64]:
    """The colour of each strength 0 to 1: RGB `[..., 3]`, 0 to 255."""
    stops = np.linspace(0.0, 1.0, len(VIRIDIS))
    return np.stack([np.interp(strength, stops, channel) for channel in VIRIDIS.T], axis=-1)


def _input_window(size: tuple[int, int], spec: PreprocessSpec) -> tuple[float, float, float, float]:
    """The rectangle of the picture that the model's input covers: all of it, less (crop) or more (letterbox)."""
    width, height = size
    if spec.fit == "stretch":
        return 0.0, 0.0, float(width), float(height)
    pick = min if spec.fit == "letterbox" else max
    enlargement = pick(spec.width / width, spec.height / height)
    covered_width, covered_height = spec.width / enlargement, spec.height / enlargement
    left, top = (width - covered_width) / 2, (height - covered_height) / 2
    return left, top, left + covered_width, top + covered_height


def _to_display_size(xray: Image.Image) -> Image.Image:
    longer = max(xray.size)
    factor = min(max(longer, SHORTEST_LONG_SIDE), LONG_SIDE) / longer
    width, height = extent_of(xray)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return xray if size == xray.size else xray.resize(size, Image.Resampling.BICUBIC, box=(0, 0, width, height))


def _blend(grey: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    unseen = np.isnan(strength)
    known = np.where(unseen, np.float32(0.0), strength)
    opacity = (OPACITY * np.minimum(2.0 * known, 1.0))[:, :, np.newaxis]
    below = np.where(unseen, grey * 0.5, grey)[:, :, np.newaxis]  # what the model did not see is dimmed
    mixed = below * (1.0 - opacity) + colours(known) * opacity
    for level in LEVELS:
        inner, outer = _contour(known >= level)
        mixed[inner], mixed[outer] = 255.0, 0.0  # white beside black shows on any grey
    return np.rint(mixed).astype(np.uint8)


def _contour(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels on either side of a region's border: those of it, and those just outside."""
    return inside & ~_all_neighbours(inside), ~inside & ~_all_neighbours(~inside)


def _all_neighbours(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1, mode="edge")
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _with_caption(picture: Image.Image, finding: Finding, manifest: Manifest, scale: float) -> Image.Image:
    headline, notes = ImageFont.load_default(22), ImageFont.load_default(14)
    positive = manifest.labels[1]
    sheet = Image.new("RGB", (max(picture.width, SHORTEST_LONG_SIDE), picture.height + _CAPTION_HEIGHT), "black")
    sheet.paste(picture, ((sheet.width - picture.width) // 2, 0))
    bar = np.rint(colours(np.linspace(0.0, 1.0, _BAR_WIDTH, dtype=np.float32))).astype(np.uint8)
    draw = ImageDraw.Draw(sheet)
    top = picture.height + 10
    draw.text((_MARGIN, top), _HEADLINE[finding.decision], fill="white", font=headline)
    draw.text((_MARGIN, top + 28), f"probability of {positive}: {finding.probability:.3f}", fill="white", font=headline)
    sheet.paste(Image.fromarray(np.tile(bar, (12, 1, 1))), (_MARGIN, top + 66))
    legend = f"evidence for {positive}, fixed scale: 0 to {scale:+.1f} logits"
    draw.text((_MARGIN + _BAR_WIDTH + 8, top + 64), legend, fill="silver", font=notes)
    verdict = "" if manifest.verdict == "PASS" else f" (its gates: {manifest.verdict})"
    draw.text((_MARGIN, top + 86), f"{finding.bundle_id}{verdict}", fill="silver", font=notes)
    draw.text((_MARGIN, top + 106), NOT_A_MEDICAL_DEVICE, fill="silver", font=notes)
    return sheet

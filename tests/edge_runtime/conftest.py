"""Pictures and bundles that are made for a test."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.bundle import Bundle, pack_bundle

WriteBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """The bytes of a picture file: `encode(image or pixels, "PNG", **save options)`."""

    def encoded(picture: Image.Image | np.ndarray, file_format: str, **options: Any) -> bytes:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="session")
def encode_dicom() -> Callable[..., bytes]:
    """The bytes of a DICOM file: `encode_dicom(pixels, syntax, PixelRepresentation=1, WindowCenter=40)`.

    Stored values `[H, W]` or RGB `[H, W, 3]` of 8 or 16 bits; attributes as they follow from these, with changes, where
    None leaves one out. Syntaxes other than uncompressed ones are encoded by GDCM.
    """
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset

    def encoded(pixels: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian, **changes: Any) -> bytes:
        native = syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax if native else uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
        dataset.SOPInstanceUID = "1.2.3"
        dataset.Modality = "CR"
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        content = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == uid.ExplicitVRBigEndian else pixels
        dataset.PixelData = content.tobytes() + b"\0" * (content.nbytes % 2)
        dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.HighBit = changes.get("HighBit", dataset.BitsStored - 1)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        raw = buffer.getvalue()
        return raw if native or syntax == uid.ExplicitVRLittleEndian else _compress(raw, syntax)

    return encoded


def _compress(raw: bytes, syntax: str) -> bytes:
    """Another transfer syntax for a DICOM file, by GDCM, which only knows files."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.dcm", Path(folder) / "after.dcm"
        before.write_bytes(raw)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return after.read_bytes()


@pytest.fixture
def xrays(tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    """A folder with a bright and a dark picture, one of them in a folder of its own."""
    folder = tmp_path / "xrays"
    (folder / "ward").mkdir(parents=True)
    (folder / "bright.png").write_bytes(encode(np.full((40, 50), 220, np.uint8), "PNG"))
    (folder / "ward" / "dark.jpeg").write_bytes(encode(np.full((50, 40), 30, np.uint8), "JPEG"))
    return folder


@pytest.fixture
def write_variant(tmp_path: Path, golden_bundle: Bundle) -> WriteBundle:
    """Write the golden bundle with other manifest fields or members: `write_variant(verdict="FAIL")`."""
    from dataclasses import replace

    def written(*, members: dict[str, bytes] | None = None, **changes: Any) -> Path:
        path = tmp_path / "variant-1.0.0.slimscan"
        content = golden_bundle.members if members is None else members
        path.write_bytes(pack_bundle(replace(golden_bundle.manifest, **changes), content))
        return path

    return written

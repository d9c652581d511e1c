"""What a DICOM header says of body part, view, side and intent: refused where it is known to be no frontal chest."""

import numpy as np
import pytest
from pydicom import Dataset, uid

from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode

FULL = PreprocessSpec(height=8, width=8, jpeg_oversample=0)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)


def code(meaning, value="1", scheme="99TEST"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


REFUSED = [
    ("BodyPartExamined", part, part)
    for part in (
        "KNEE", "HAND", "ABDOMEN", "SKULL", "CSPINE", "LSPINE", "TSPINE", "SHOULDER", "HIP", "FOOT", "PELVIS", "Knee",
        "KNEES", "LEFT KNEE", "KNEE_LT", "THORACIC SPINE", "KNIE", "RODILLA", "GENOU", "Wrist ", "L-SPINE", "BREAST",
    )
] + [
    ("ViewPosition", view, view)
    for view in ("LL", "RL", "LLO", "RLO", "LATERAL", "LAT", "Lateral", "LEFT LATERAL", "L LAT", "LATERAL_LEFT",
                 "OBLIQUE", "RAO", "PROFIL", "LATÉRAL", "MLO", "AP OBLIQUE")
] + [
    ("ImageLaterality", "L", "laterality L"),
    ("ImageLaterality", "R", "laterality R"),
    ("Laterality", "L", "laterality L"),
    ("Laterality", "RIGHT", "laterality RIGHT"),
    ("PresentationIntentType", "FOR PROCESSING", "FOR PROCESSING"),
    ("PresentationIntentType", "For_Processing", "FOR PROCESSING"),
    ("SOPClassUID", uid.DigitalXRayImageStorageForProcessing, "FOR PROCESSING"),
    ("ViewCodeSequence", code("lateral"), "lateral"),
    ("ViewCodeSequence", code("Left lateral", "399173006", "SCT"), "Left lateral"),
    ("ViewCodeSequence", code("seitlich"), "seitlich"),
    ("ViewCodeSequence", code("", "R-10236", "SRT"), "R-10236"),
    ("ViewCodeSequence", code("Izquierda", "399173006", "SCT"), "Izquierda"),
    ("ViewCodeSequence", code("right anterior oblique"), "oblique"),
    ("AnatomicRegionSequence", code("Knee"), "Knee"),
    ("AnatomicRegionSequence", code("Cervical spine"), "Cervical spine"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keyword", "value", "words"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_is_known_to_be_something_else_is_refused_in_the_headers_words(encode_dicom, keyword, value, words):
    with pytest.raises(ImageError) as refused:
        decode(encode_dicom(RAMP, **{keyword: value}), FULL)
    assert words.strip() in str(refused.value)
    assert "\n" not in str(refused.value)


READ = [
    ("BodyPartExamined", part)
    for part in (
        "CHEST", "THORAX", "TORAX", "TÓRAX", "CHEST PA", "CHEST_AP", "chest", "Chest ", "LUNG", "LUNGS", "RIBS",
        "CHESTABDOMEN", "CHEST ABDOMEN", "CHEST/NECK", "BRUST", "POITRINE", "PECHO", "PORTABLE CHEST", "PACHEST", "CXR",
        "WHOLEBODY", "UNKNOWN", "", "THX", "HEART",
    )
] + [
    ("ViewPosition", view)
    for view in ("AP", "PA", "pa", "P.A.", "AP PORTABLE", "PA/LAT", "LLD", "RLD", "AP LATERAL DECUBITUS", "FRONTAL",
                 "POSTERO_ANTERIOR", "BILATERAL", "CHEST", "", "ERECT", "W_CHEST_PA")
] + [
    ("ImageLaterality", "U"),
    ("ImageLaterality", "B"),
    ("Laterality", ""),
    ("PresentationIntentType", "FOR PRESENTATION"),
    ("PresentationIntentType", ""),
    ("SOPClassUID", uid.DigitalXRayImageStorageForPresentation),
    ("ViewCodeSequence", code("postero-anterior", "272479007", "SCT")),
    ("ViewCodeSequence", code("antero-posterior", "R-10206", "SRT")),
    ("ViewCodeSequence", code("frontal")),
    ("ViewCodeSequence", code("anders")),
    ("ViewCodeSequence", []),
    ("ViewCodeSequence", [Dataset()]),
    ("AnatomicRegionSequence", code("Chest", "51185008", "SCT")),
    ("AnatomicRegionSequence", code("Thorax")),
    ("AnatomicRegionSequence", code("Entire thorax")),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keyword", "value"), READ, ids=lambda value: str(value)[:20])
def test_a_chest_however_it_is_spelled_and_what_is_unknown_is_read(encode_dicom, keyword, value):
    raw = encode_dicom(RAMP, **{keyword: value})
    assert (np.asarray(decode(raw, FULL)) == RAMP).all()


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_the_words_are_read_in_every_encoding(encode_dicom, syntax):
    for words in ({"BodyPartExamined": "KNEE"}, {"ViewCodeSequence": code("lateral")}):
        with pytest.raises(ImageError, match="no frontal chest radiograph"):
            decode(encode_dicom(RAMP, syntax, **words), FULL)


def test_several_words_count_together(encode_dicom):
    with pytest.raises(ImageError, match="body part LEG KNEE"):
        decode(encode_dicom(RAMP, BodyPartExamined=["LEG", "KNEE"]), FULL)
    decode(encode_dicom(RAMP, BodyPartExamined=["ABDOMEN", "CHEST"]), FULL)

"""Whether a DICOM file says of itself that it is no frontal chest radiograph.

Only what is known to be something else is refused: a body part, a view or a laterality that is absent, or written in
words that are not known here, goes on to the guard, which looks at the picture.
"""

import unicodedata
from typing import TYPE_CHECKING, Any

from slimscan_edge.dicom.header import words
from slimscan_edge.preprocess import Refused, printable

if TYPE_CHECKING:
    from pydicom import Dataset


def _terms(words: str) -> frozenset[str]:
    return frozenset(words.split())


MODALITIES = frozenset({"CR", "DX", "RG", "DR", "OT", ""})
"""What a chest radiograph may call itself (PS3.3, C.7.3.1.1.1): computed radiography, digital radiography, radiographic
imaging (film), `DR`, which is no defined term and yet written by some devices, other, which scanned film has, or
nothing at all."""

CHEST = ("CHEST", "THORAX", "TORAX", "LUNG", "PULMO", "RIBS", "BABYGRAM")
"""Beside any other body part these leave it to the guard: a newborn's picture is often of chest and abdomen."""
OTHER_PARTS = _terms(
    """
    ABDOMEN ANKLE ARM BLADDER BREAST CALCANEUS CAROTID CLAVICLE COCCYX COLON CSPINE ELBOW EXTREMITY EYE FACE FEMUR
    FIBULA FINGER FOOT FOREARM HAND HEAD HEEL HIP HUMERUS JAW JOINT KIDNEY KNEE LEG LIVER LSPINE LUMBAR MANDIBLE
    MAXILLA NASAL NECK NOSE ORBIT PATELLA PELVIS RADIUS SACRUM SCAPULA SELLA SHOULDER SINUS SKULL SPINE
    SSPINE STERNUM STOMACH TARSUS TEETH THIGH THUMB TIBIA TMJ TOE TOOTH TSPINE ULNA UTERUS VERTEBRA WRIST ZYGOMA
    BECKEN ELLBOGEN FUSS HUFTE HANDGELENK HALSWIRBELSAULE KNIE LENDENWIRBELSAULE OBERSCHENKEL SCHADEL SCHULTER
    SPRUNGGELENK UNTERSCHENKEL WIRBELSAULE
    BASSIN CHEVILLE COUDE CRANE EPAULE GENOU HANCHE PIED POIGNET RACHIS
    CADERA CODO COLUMNA CRANEO HOMBRO MANO MUNECA PIE RODILLA TOBILLO
    ANCA BACINO CAVIGLIA COLONNA CRANIO GINOCCHIO GOMITO PIEDE POLSO SPALLA
    COLUNA COTOVELO JOELHO OMBRO PELVE PUNHO QUADRIL TORNOZELO
    """
)
"""Defined terms (PS3.16, annex L) in the singular, and the commonest in German, French, Spanish, Italian and
Portuguese."""

FRONTAL = _terms("AP PA FRONTAL ANTEROPOSTERIOR POSTEROANTERIOR LLD RLD DECUBITUS DECUB")
"""Beside a lateral one these leave it to the guard; the decubitus views are frontal (PS3.3, C.8.1.1.1)."""
SIDE_VIEWS = _terms(
    """
    LL RL LLAT RLAT LAT LATL LATR LATERAL LATERALE LATEROLATERAL MEDIOLATERAL LATEROMEDIAL ML LM MLO SAGITTAL
    PROFIL PROFILE PROFILO PERFIL SEITLICH SEITL
    """
)
OBLIQUE_VIEWS = _terms("LLO RLO LAO RAO LPO RPO OBL OBLIQUE OBLICUA OBLICUO OBLIQUA OBLIQUO SCHRAG")
SIDE_CODES = _terms(
    """
    399067008 399173006 399198007 399260004 399352003 30730003 R-102CD R-10236 R-10232 R-10224 R-10228 G-A145
    399182000 399184004 399236003 399006002 399038007 399135007 399356000 399059000 399312000 399160007 260427002
    399325008 R-102C1 R-10238 R-10234 R-10212 R-10210 R-10220 R-40985 R-10216 R-10208 R-10204 R-40783 R-10254
    """
)
"""Lateral and oblique views among the DX views (PS3.16, CID 4010), as SNOMED CT and as SNOMED RT."""
SIDES = _terms("L R LEFT RIGHT")
FOR_PROCESSING = frozenset(
    f"1.2.840.10008.5.1.4.1.1.1.{number}" for number in ("1.1", "2.1", "3.1")
)  # digital, mammography and intra-oral X-ray images
_LONGEST = 64


def require_frontal_chest(header: "Dataset") -> None:
    """Refuse what says of itself that it is none.

    Raises:
        Refused: It is of another modality, body part or view, of one side, or not yet processed for presentation.
    """
    modality = words(header, "Modality")
    if modality not in MODALITIES:
        known = ", ".join(sorted(MODALITIES - {""}))
        raise Refused(f"is DICOM of modality {modality[:16]!r}, no radiograph; expected one of {known}")
    for what, part, _ in (
        ("body part", _text(header, "BodyPartExamined"), ""),
        *_coded(header, "AnatomicRegionSequence"),
    ):
        if _is_other_part(part):
            raise Refused(f"is DICOM of {what} {part}, no frontal chest radiograph; expected CHEST")
    views = (("view position", _text(header, "ViewPosition"), ""), *_coded(header, "ViewCodeSequence"))
    for what, view, code in views:
        if code in SIDE_CODES or _is_side_view(view):
            raise Refused(f"is DICOM of {what} {view or code}, no frontal chest radiograph; expected AP or PA")
    for keyword in ("ImageLaterality", "Laterality"):
        side = _text(header, keyword)
        if SIDES.intersection(_words(side)):
            raise Refused(f"is DICOM of laterality {side}, no frontal chest radiograph, which has both sides")
    intent = _text(header, "PresentationIntentType")
    if "FORPROCESSING" in "".join(_words(intent)) or _text(header, "SOPClassUID") in FOR_PROCESSING:
        raise Refused("is DICOM FOR PROCESSING, not yet made to be looked at; export it FOR PRESENTATION")


def _is_other_part(text: str) -> bool:
    found = _words(text)
    if any(chest in word for word in found for chest in CHEST):
        return False
    return any(word in OTHER_PARTS or word.removesuffix("S") in OTHER_PARTS for word in found)


def _is_side_view(text: str) -> bool:
    found = set(_words(text))
    return bool(OBLIQUE_VIEWS & found) or (bool(SIDE_VIEWS & found) and not FRONTAL & found)


def _words(text: str) -> list[str]:
    """The words of a text in capitals without accents."""
    plain = unicodedata.normalize("NFKD", text.upper())
    letters = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return "".join(sign if sign.isalnum() else " " for sign in letters).split()


def _coded(header: "Dataset", keyword: str) -> list[tuple[str, str, str]]:
    """What a sequence of codes is called, and the meaning and the value of each; none if it cannot be read."""
    name = "view" if keyword == "ViewCodeSequence" else "anatomic region"
    try:
        items = list(header.get(keyword) or ())
    except Exception:  # a converter of pydicom's may raise anything; the attribute is optional
        return []
    return [(name, _text(item, "CodeMeaning"), _text(item, "CodeValue")) for item in items]


def _text(dataset: "Dataset", keyword: str) -> str:
    """The words of an element as they lie in the file, with all of its values; empty when it is absent."""
    from pydicom.datadict import tag_for_keyword

    tag: Any = tag_for_keyword(keyword)
    value: Any = dataset.get_item(tag).value if tag in dataset else None
    text = _decoded(value) if isinstance(value, bytes) else str(value or "")
    return printable(text.replace("\0", " ").replace("\\", " "), most=_LONGEST)


def _decoded(value: bytes) -> str:
    """A text of either of the two sets of characters that are common where accents are written."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")

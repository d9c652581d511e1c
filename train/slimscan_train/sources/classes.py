"""Which of two classes is the negative one: told by a word for healthy, or by the user, never guessed."""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import groupby

from slimscan_edge.errors import InputError

_HEALTHY = {
    "English": "normal, normals, healthy, negative, negatives, neg, control, controls, benign, unremarkable, "
    "unaffected, uninfected, nad, disease free",
    "German": "normal, gesund, gesunde, negativ, kontrolle, kontrollen, gutartig, unauffällig, unauffaellig, o b, "
    "befundlos",
    "French": "normal, normale, normaux, sain, saine, sains, saines, négatif, négative, témoin, témoins, bénin, "
    "bénigne",
    "Spanish": "normal, normales, sano, sana, sanos, sanas, saludable, saludables, negativo, negativa, negativos, "
    "negativas, benigno, benigna",
    "Portuguese": "normal, normais, saudável, saudáveis, sadio, sadia, negativo, controle, benigno",
    "Italian": "normale, normali, sano, sani, sana, negativo, negativi, controllo, controlli, benigno",
    "Dutch": "normaal, gezond, gezonde, negatief, controle, goedaardig",
    "Scandinavian": "normal, frisk, friske, friska, negativ, kontroll, kontrol, godartet, terve, normaali",
    "Polish, Czech": "normalny, prawidłowy, prawidłowe, zdrowy, zdrowe, zdrowi, negatywny, ujemny, zdravý, zdraví, "
    "normální, negativní",
    "Turkish": "normal, sağlıklı, sağlam, negatif, kontrol, iyi huylu",
    "Indonesian": "normal, sehat, negatif, kontrol",
    "Vietnamese": "bình thường, khỏe mạnh, khoẻ mạnh, âm tính, lành tính, đối chứng",
    "Russian, Ukrainian": "норма, нормальный, нормальные, здоровый, здоровые, здоров, отрицательный, контроль, "
    "здоровий, здорові",
    "Greek": "φυσιολογικό, φυσιολογική, υγιής, υγιείς, αρνητικό",
    "Arabic, Persian": "طبيعي, سليم, سلبي, سالم, طبیعی, نرمال, منفی",
    "Hindi": "सामान्य, स्वस्थ",
    "Chinese": "正常, 健康, 阴性, 陰性, 对照, 對照, 良性, 未见异常, 未見異常",
    "Japanese": "正常, 健常, 健康, 陰性, 異常なし, 所見なし",
    "Korean": "정상, 건강, 음성, 대조군, 이상없음, 이상 없음",
}
_ABSENT = (
    "no, without, ohne, kein, keine, keinen, sans, aucun, aucune, pas de, sin, ningun, ninguna, sem, nenhum, nenhuma, "
    "senza, nessun, nessuna, nessuno, geen, zonder, uden, utan, ingen, inga, bez, без, нет, khong, khong co, "
    "tanpa, tidak ada, χωρις, بدون, 无, 無, 未见, 未見, 没有"
)
"""Words before a finding that say it is absent."""
_ABSENT_BEHIND = "yok, nein, なし, 없음"
_NO_FINDINGS = "label, labels, labelled, labeled, data, image, images, answer, information, info, contrast, name, class"
"""What may be absent without anybody being healthy."""
_NOT = "not, non, nicht, pas, no es, nao, não, non e, niet, ikke, inte, nie, не, değil, 不, 非"
_ILL = "sick, ill, diseased, disease, infected, affected, abnormal, pathological, pathologic, krank, malade, enfermo"


def class_key(label: str) -> str:
    """What two spellings of one class share: letters and digits, in one case, by words."""
    words = re.split(r"[\W_]+", unicodedata.normalize("NFC", label).casefold())
    return " ".join(filter(None, words)) or label.strip().casefold()


def one_spelling(labels: Iterable[str]) -> dict[str, str]:
    """Each spelling of a class with the commonest one of the same class, which stands for all."""
    counts = Counter(labels)
    ranked = sorted(counts, key=lambda label: (class_key(label), -counts[label], label))
    chosen: dict[str, str] = {}
    for _, spellings in groupby(ranked, key=class_key):
        first, *others = spellings
        chosen.update(dict.fromkeys((first, *others), first))
    return chosen


def is_healthy(label: str) -> bool:
    """Whether a class's name says that nothing was found: by a word for healthy, or by a finding that is absent."""
    words = _words(label)
    for start in range(len(words)):
        phrase = next((p for p in _PHRASES if words[start : start + len(p)] == p), None)
        if phrase:
            return not set(words[:start]) & _NEGATING
    if any(_begins_healthy(word) for word in words):
        return True
    for absent in _ABSENT_PHRASES:
        if words[: len(absent)] == absent and (rest := words[len(absent) :]):
            return not set(rest) & _NOTHING_OF_HEALTH
    if len(words) > 1 and words[-1] in _BEHIND:
        return True
    return len(words) == 2 and words[0] in _NEGATING and words[1] in _SICK


def choose_classes(found: Collection[str], positive: str | None, source: object) -> tuple[str, str]:
    """The negative and the positive class.

    Args:
        found: The classes of the data set, one spelling of each.
        positive: The positive one, if the user says which, in any spelling.
        source: What to call the data set in a message.

    Raises:
        InputError: There are not two, the user names another, or neither name (or both) says that it is healthy.
    """
    names = sorted(found)
    if len(names) != 2:
        raise InputError(f"{source} holds the classes {', '.join(names)}; expected exactly two")
    if positive is not None:
        named = [name for name in names if positive in (name, name.strip())] or [
            name for name in names if class_key(name) == class_key(positive)
        ]
        if not named:
            raise InputError(f"no class {positive!r} in {source}; it holds {', '.join(names)}")
        (negative,) = set(names) - set(named)
        return negative, named[0]
    healthy = [name for name in names if is_healthy(name) or _is_glued_absence(name, *(set(names) - {name}))]
    if len(healthy) != 1:
        which = "both names say" if healthy else "neither name says"
        options = " or ".join(f"--positive {shlex.quote(name)}" for name in names)
        raise InputError(
            f"{source} holds the classes {names[0]} and {names[1]}, and {which} that nothing was found; "
            f"say which one is positive: {options}"
        )
    (other,) = set(names) - set(healthy)
    return healthy[0], other


def _words(text: str) -> tuple[str, ...]:
    """A name's words in lower case without accents; `NoFinding` has two."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = unicodedata.normalize("NFKD", apart.casefold().translate(_LETTERS))
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return tuple(filter(None, re.split(r"[\W_]+", unicodedata.normalize("NFC", plain))))


_LETTERS = str.maketrans({"ı": "i", "đ": "d", "ł": "l", "ø": "o"})


def _phrases(*lists: str) -> tuple[tuple[str, ...], ...]:
    """The phrases of lists, the longest first."""
    return tuple(sorted({_words(phrase) for text in lists for phrase in text.split(",")}, key=len, reverse=True))


def _single_words(*lists: str) -> frozenset[str]:
    return frozenset(phrase[0] for phrase in _phrases(*lists) if len(phrase) == 1)


_PHRASES = _phrases(*_HEALTHY.values())
_ABSENT_PHRASES = _phrases(_ABSENT)
_NEGATING = _single_words(_ABSENT, _NOT)
_BEHIND = _single_words(_ABSENT_BEHIND)
_NOTHING_OF_HEALTH = _single_words(_NO_FINDINGS)
_SICK = _single_words(_ILL)
_UNSPACED = tuple("".join(phrase) for phrase in _phrases(_HEALTHY["Chinese"], _HEALTHY["Japanese"], _HEALTHY["Korean"]))
_UNSPACED_ABSENT = ("无", "無", "未见", "未見", "没有")


def _begins_healthy(word: str) -> bool:
    """Whether a word of a script without spaces begins with one for healthy, or ends with an absence."""
    if word.isascii():
        return False
    return word.startswith((*_UNSPACED, *_UNSPACED_ABSENT)) or word.endswith(("なし", "없음"))


def _is_glued_absence(label: str, other: str) -> bool:
    """Whether a name is another's with an absence before it: `notumor` beside `tumor`."""
    name, rest = ("".join(_words(text)) for text in (label, other))
    return bool(rest) and name in {"".join(absent) + rest for absent in _ABSENT_PHRASES}

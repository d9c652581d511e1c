"""Which class is the negative one: names for healthy, and names that only look like one."""

import pytest

from slimscan_edge.errors import InputError
from slimscan_train.sources.classes import choose_classes, class_key, is_healthy, one_spelling

HEALTHY = """
NORMAL, normal, Normal_Cases, normal chest xray, Healthy, HEALTHY-LUNGS, negative, neg, Control, control_group, benign
No Finding, no_finding, no-findings, NoFinding, without pneumonia, NO PNEUMONIA, No_DR, disease-free, unremarkable
0_normal, Normal (control), pneumonia_negative, uninfected, not sick, non-diseased
gesund, GESUND, ohne Befund, ohne_befund, unauffällig, UNAUFFÄLLIG, unauffaellig, kein Befund, o.B., negativ
sain, Négatif, NEGATIF, sans anomalie, témoins, aucune anomalie, sano, SIN HALLAZGOS, sin_neumonia, saludable
saudável, sem achados, sem pneumonia, normale, nessun reperto, senza polmonite, sani, gezond, geen afwijkingen, frisk
zdrowy, zdravý, bez zmian, Sağlıklı, SAĞLIKLI, negatif, zatürre yok, sehat, tanpa kelainan
bình thường, BÌNH THƯỜNG, binh_thuong, khỏe mạnh, âm tính, không viêm phổi, Đối chứng
正常, 正常胸片, 健康, 阴性, 陰性, 未见异常, 无异常, 无肺炎, 無異常, 健常, 異常なし, 정상, 이상없음
норма, Здоров, без патологии, طبيعي, سليم, सामान्य, φυσιολογικό
"""
OTHERS = """
PNEUMONIA, covid, COVID-19, abnormal, ABNORMAL, anormal, unhealthy, not normal, non-normal, not_healthy, no normal
sick, ill, krank, malade, malignant, positive, positiv, nodule, noise, normality, normalised, controlled, other, unknown
yes, no, true, false, 0, 1, +, -, none, a, B, class_1, no label, no data, non-small-cell, viêm phổi, bất thường
不正常, 非正常, 异常, 肺炎, 阳性, 비정상, 폐렴, больной, kein, sin, without
"""


def listed(text: str) -> list[str]:
    return [name for line in text.strip().splitlines() for name in line.split(", ")]


@pytest.mark.parametrize("name", listed(HEALTHY))
def test_a_name_for_healthy(name: str) -> None:
    assert is_healthy(name)
    assert choose_classes({name, "Zzz"}, None, "data") == (name, "Zzz")
    assert choose_classes({name, "AAA"}, None, "data") == (name, "AAA")


@pytest.mark.parametrize("name", listed(OTHERS))
def test_a_name_that_does_not_tell(name: str) -> None:
    assert not is_healthy(name)


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("covid", "normal"), "covid"),
        (("abnormal", "normal"), "abnormal"),
        (("not normal", "normal"), "not normal"),
        (("benign", "malignant"), "malignant"),
        (("case", "control"), "case"),
        (("notumor", "tumor"), "tumor"),
        (("NoDR", "DR"), "DR"),
        (("nopneumonia", "Pneumonia"), "Pneumonia"),
        (("negative", "positive"), "positive"),
    ],
)
def test_the_other_class_is_positive_wherever_it_stands_in_the_alphabet(names: tuple[str, str], positive: str) -> None:
    negative, found = choose_classes(set(names), None, "data")
    assert found == positive
    assert {negative, found} == set(names)


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("0", "1"), ("no", "yes"), ("bacteria", "virus"), ("benign", "normal"), ("control", "healthy")],
)
def test_where_no_name_or_both_tell_the_user_is_asked_in_one_line(names: tuple[str, str]) -> None:
    with pytest.raises(InputError) as asked:
        choose_classes(set(names), None, "data")
    said = str(asked.value)
    assert "\n" not in said
    assert all(f"--positive {name}" in said for name in names)
    for positive in names:
        (other,) = set(names) - {positive}
        assert choose_classes(set(names), positive, "data") == (other, positive)


def test_the_user_has_the_last_word_in_any_spelling() -> None:
    assert choose_classes({"NORMAL", "No Finding"}, "normal", "data") == ("No Finding", "NORMAL")
    assert choose_classes({"normal", "viral_pneumonia"}, "Viral Pneumonia", "data") == ("normal", "viral_pneumonia")
    assert choose_classes({"+", "-"}, "+", "data") == ("-", "+")
    with pytest.raises(InputError, match="no class 'FLU' in data; it holds NORMAL, PNEUMONIA"):
        choose_classes({"NORMAL", "PNEUMONIA"}, "FLU", "data")


@pytest.mark.parametrize("names", [(), ("NORMAL",), ("A", "B", "NORMAL")])
def test_other_numbers_of_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="expected exactly two"):
        choose_classes(names, None, "data")


def test_spellings_of_one_class_become_the_commonest() -> None:
    labels = ["NORMAL"] * 3 + ["normal"] * 2 + ["Normal "] + ["covid-19", "COVID_19", "COVID_19"]
    assert one_spelling(labels) == {
        **dict.fromkeys(("NORMAL", "normal", "Normal "), "NORMAL"),
        **dict.fromkeys(("covid-19", "COVID_19"), "COVID_19"),
    }


def test_names_that_differ_by_more_than_case_and_separators_stay_apart() -> None:
    names = ["0", "1", "+", "-", "class 1", "class 2", "正常", "肺炎"]
    assert len({class_key(name) for name in names}) == len(names)

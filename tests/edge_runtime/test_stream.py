import threading

import numpy as np
import pytest

from slimscan_edge.preprocess import decode
from slimscan_edge.stream import DECODED_AHEAD, predict_each


@pytest.fixture
def pictures(tmp_path, encode):
    paths = [tmp_path / f"{index}.png" for index in range(8)]
    for index, path in enumerate(paths):
        path.write_bytes(encode(np.full((20, 20), 30 * index, np.uint8), "PNG"))
    return paths


def test_answers_come_in_order_and_are_those_for_each_alone(classifier, pictures):
    answers = list(predict_each(classifier, pictures))
    assert [path for path, _ in answers] == pictures
    assert [finding.logit for _, finding in answers] == [classifier.predict(path).logit for path in pictures]


def test_a_bad_one_is_rejected_and_the_others_are_answered(classifier, pictures):
    pictures[0].write_bytes(b"")
    pictures[3].unlink()
    findings = [finding for _, finding in predict_each(classifier, pictures)]
    assert [index for index, finding in enumerate(findings) if finding.decision == "rejected"] == [0, 3]
    assert "is empty" in findings[0].reason
    assert "3.png cannot be read (No such file or directory)" in findings[3].reason


def test_no_images_no_answers(classifier):
    assert list(predict_each(classifier, [])) == []


def test_one_image_is_answered_in_this_thread(classifier, pictures):
    threads = []

    def reading(path, spec):
        threads.append(threading.current_thread())
        return decode(path, spec)

    ((path, finding),) = predict_each(classifier, pictures[:1], decode=reading)
    assert (path, finding.logit) == (pictures[0], classifier.predict(pictures[0]).logit)
    assert threads == [threading.current_thread()]
    pictures[0].write_bytes(b"")
    ((_, torn),) = predict_each(classifier, pictures[:1])
    assert torn.decision == "rejected"


def test_only_a_few_are_read_ahead_and_nothing_after_it_is_closed(classifier, pictures):
    taken = []
    answers = predict_each(classifier, (taken.append(path) or path for path in pictures))
    next(answers)
    assert len(taken) == DECODED_AHEAD + 1
    answers.close()
    assert len(taken) == DECODED_AHEAD + 1
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())


def test_a_defect_in_reading_is_not_taken_for_a_bad_image(classifier, pictures):
    def broken(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(predict_each(classifier, pictures, decode=broken))


def test_the_next_image_is_read_while_the_network_is_at_work(classifier, pictures, monkeypatch):
    begun = {path: threading.Event() for path in pictures}
    answer = classifier.answer

    def reading(path, spec):
        begun[path].set()
        return decode(path, spec)

    def at_work(image, **about):
        current = pictures[len(answered)]
        answered.append(current)
        following = pictures[len(answered) : len(answered) + 1]
        assert all(begun[path].wait(60) for path in following)  # for ever, were it not read before this one is answered
        return answer(image, **about)

    answered = []
    monkeypatch.setattr(classifier, "answer", at_work)
    assert len(list(predict_each(classifier, pictures, decode=reading))) == len(pictures)

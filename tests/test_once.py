"""What texts alone decide is asked once: in a process, and between processes."""

import json
import os

import pytest
from damaging import WAYS

from vitlab import keys, once
from vitlab.book import pages
from vitlab.files import sealed


@pytest.fixture
def process(monkeypatch):
    """Called: forget what this process knows, as a new one would."""

    def begin():
        monkeypatch.setattr(once, "_known", {})
        monkeypatch.setattr(once, "_asked", set())

    begin()
    return begin


def counter():
    """A question, and the texts that it was really asked."""
    heard = []

    def upper(*texts):
        heard.append(texts)
        return [text.upper() for text in texts]

    return upper, heard


def test_a_text_is_asked_about_once(process, tmp_path):
    upper, heard = counter()
    for _ in range(2):
        with once.kept(tmp_path / "kept.json"):
            assert once.asked(upper, "a", "b") == ["A", "B"]
            assert once.asked(upper, "ab") == ["AB"]
        process()
    assert heard == [("a", "b"), ("ab",)]


def test_a_file_that_has_grown_long_begins_anew(process, tmp_path, monkeypatch):
    monkeypatch.setattr(once, "_MOST", 2)
    (upper, heard), path = counter(), tmp_path / "kept.json"
    for text in "abcbda":
        with once.kept(path):
            once.asked(upper, text)
        process()
    assert heard == [("a",), ("b",), ("c",), ("d",), ("a",)]


@pytest.mark.parametrize("how", [*WAYS, "another", "answers", "unsealed"])
def test_a_damaged_file_is_as_good_as_none(process, tmp_path, how):
    damage = WAYS | {
        "another": lambda content: b"[1]",
        "answers": lambda content: content.replace(b'"A"', b'"B"'),
        "unsealed": lambda content: json.dumps({**json.loads(content), "seal": None}).encode(),
    }
    path, (upper, heard) = tmp_path / "kept.json", counter()
    for _ in range(2):
        with once.kept(path):
            assert once.asked(upper, "a") == ["A"]
        path.write_bytes(damage[how](path.read_bytes()))
        process()
    assert len(heard) == 2


def test_a_pipe_in_its_place_is_not_waited_for(process, tmp_path):
    (upper, heard), path = counter(), tmp_path / "kept.json"
    os.mkfifo(path)
    for _ in range(2):
        with once.kept(path):
            assert once.asked(upper, "a") == ["A"]
        process()
    assert len(heard) == 1, "what was asked is kept in its place"


@pytest.mark.parametrize("forged", [None, 7, "A", [], ["A", 1], {"a": 1}, {}])
def test_answers_of_another_form_are_asked_anew(process, tmp_path, forged):
    """Sealed by somebody: the seal is no secret."""
    path = tmp_path / "kept.json"
    asked = [
        lambda: keys.modules("vitlab.rng"),
        lambda: [cell.source for cell in pages.read(tmp_path / "page.md").cells],
        lambda: pages._parts(tmp_path, "page", pages.read(tmp_path / "page.md"), {}, {}),
    ]
    (tmp_path / "page.md").write_text("# A page\n\n```{code-cell}\nx = 1\n```\n")
    (tmp_path / "requirements.lock").write_text("")
    for ask in asked:
        process()
        keys._module.cache_clear()
        with once.kept(path):
            right = ask()
        stored = json.loads(path.read_text())
        answers = dict.fromkeys(stored["answers"], forged)
        path.write_text(json.dumps(sealed(stored | {"answers": answers})))
        process()
        keys._module.cache_clear()
        with once.kept(path):
            assert ask() == right
    path.write_text(json.dumps(sealed(stored | {"answers": forged})))
    process()
    with once.kept(path):
        assert asked[-1]() == right


def test_other_code_asks_anew(process, tmp_path):
    code, (upper, heard) = tmp_path / "code.py", counter()
    for text in ("x = 1", "x = 2", "x = 2"):
        code.write_text(text)
        with once.kept(tmp_path / "kept.json", code):
            once.asked(upper, "a")
        process()
    assert len(heard) == 2


def test_halves_of_characters_and_dates_stop_nothing(process, tmp_path):
    with once.kept(tmp_path / "kept.json"):
        once.asked(lambda text: ["\ud800"], "a")
    process()
    with once.kept(tmp_path / "kept.json"):
        once.asked(lambda text: {1, 2}, "a")  # no JSON
    assert once.asked(lambda text: 3, "b") == 3

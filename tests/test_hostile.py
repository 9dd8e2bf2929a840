"""No text is code: any text at all comes through pages, drawings and files as the text it is."""

import html
import json
from urllib.parse import unquote

import jinja2
import pytest
from bs4 import BeautifulSoup
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_build import HOSTILE, Tags, structure

from vitlab import files
from vitlab.book import svg
from vitlab.markup import inert, placeless, render

# Pieces of what HTML, Markdown, MyST and Jinja read as theirs, in any order and between anything.
PIECES = [
    *HOSTILE, "{", "{{", "}}", "{%", "%}", "{#", "<", ">", "</", "/>", "<!--", "-->", "<![CDATA[",
    "&", "&lt;", "&#60;", "&#x3c;", "'", '"', "`", "```", ":::", "---", "===", "***", "|", "||",
    "$", "$$", "\\", "\\(", "[", "](", "![", "]: x", "#", "# ", "> ", "* ", "+ ", "1) ", "99. ",
    "~", "~~~", "=", "(a)=", "@", "^", "_", "__", "%", "+++", "\n", "\r", "\t", "\n\n    ",
    "\0", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\u200b", "\xad", "javascript:", "data:",
    "onload=", "a", "B", "https://a.org/b", "a@b.org", " ", "  ",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=8).map("".join)
visible = texts.filter(inert)


def plain(text):
    """The text as it is to be read: one line of what can be printed, said without `inert`."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def tags(text):
    return Tags(text).found


PLACES = [
    "{}", "before {} after", "# {}", "- {}", "> {}", "| a | b |\n|---|---|\n| {} | c |", "*{}*",
    "[{}](there)", '<p title="{}">{}</p>', "<td>{}</td>", "<svg><title>{}</title></svg>",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@given(text=visible)
@settings(max_examples=60)
def test_any_text_leaves_a_page_as_a_word_would(place, text):
    put = place.replace("{}", str(inert(text)))
    assert structure(put) == structure(place.replace("{}", "word"))
    shown = BeautifulSoup(MarkdownIt().enable("table").render(put), "html.parser")
    assert plain(text) in plain(shown.text)


@given(text=texts)
@example("{{ 7 * 7 }}")
@settings(max_examples=300)
def test_any_text_is_one_line_that_reads_as_it_was(text):
    line = str(inert(text))
    assert "\n" not in line
    assert html.unescape(line) == plain(text)
    assert jinja2.Environment().from_string(line).render() == line
    assert inert(inert(text)) == line, "what is inert already is left alone"


def drawings(word):
    """Drawings and pages' parts that hold a word wherever they take one."""
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1000}
    edition = {**number, "primary": word, "demand": "> 0.1", "control": {**number, "against": word}}
    point = [0.5, 0.4, 0.3, 0.6, 9, word]
    one, two = f"net {word}", f"net {word} again"  # whatever it begins with, of no known group
    numbers = svg.Panel(word, {one: [[0.1, *point[1:]], point]}, word, word, 0.5)
    lines = {one: [[one, *point[1:]]], two: [[two, *point[1:]]]}
    rows = svg.Panel(word, lines, chance=0.5)
    state = {"finished": word, "commit": word}
    return [
        str(svg.bar(edition, 0.3)),
        svg.headline([numbers], word, word),
        svg.headline([rows, rows], word, word),
        render("failed.md", problem={"error": word, "time": word}, state=state),
        render("never_run.md", name=word, error=word),
        render("intro.md", parameters={word: word}),
        render("figure.html", name=word, file=word),
        render("badge.html", place=word),
    ]


@given(word=visible)
@settings(max_examples=60)
def test_any_name_leaves_drawings_and_templates_as_a_word_would(word):
    for drawn, harmless in zip(drawings(word), drawings("word"), strict=True):
        assert tags(drawn) == tags(harmless)
        assert structure(drawn) == structure(harmless)
        soup = BeautifulSoup(drawn, "html.parser")
        said = [soup.text, *(str(v) for tag in soup.find_all(True) for v in tag.attrs.values())]
        told = plain(" ".join(said))
        assert plain(word)[:30] in f"{told} {plain(unquote(told))}", "addresses are quoted"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(value=values)
@settings(max_examples=100)
def test_any_value_comes_back_from_a_file_as_it_was(tmp_path, value):
    path = tmp_path / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert [one.name for one in tmp_path.iterdir()] == ["value.json"]
    for wrong in (float("nan"), "\ud800"):  # neither JSON, nor text that a file can hold
        with pytest.raises(ValueError):  # noqa: PT011  two kinds, and no words of ours
            files.write_json(path, [value, wrong])
        assert files.read_json(path) == value, "what was whole stays"


@given(value=st.dictionaries(st.text(), values, min_size=1, max_size=4), data=st.data())
@settings(max_examples=100)
def test_a_sealed_value_that_was_changed_is_noticed(value, data):
    value.pop("seal", None)
    kept = json.loads(json.dumps(files.sealed(value)))
    assert files.is_whole(kept)
    name = data.draw(st.sampled_from(sorted(value) or ["a"]))
    other = data.draw(values.filter(lambda new: json.dumps(new) != json.dumps(value.get(name))))
    assert not files.is_whole({**kept, name: other})
    assert not files.is_whole({**kept, "more" + "".join(value): 1})


parts = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=3, max_size=8)


def test_a_folder_with_a_space_in_its_name_is_not_told_where_quotes_show_its_end():
    said = (
        "OSError: '/home/ann lee/my photos/1 a.jpg' and \"/srv/of ann/2.jpg\", not '/' or 'a/b c'"
    )
    assert placeless(said) == "OSError: '…/1 a.jpg' and \"…/2.jpg\", not '/' or 'a/b c'"


@given(
    folders=st.lists(parts, min_size=1, max_size=4, unique=True), name=parts, quoted=st.booleans()
)
@settings(max_examples=100)
def test_no_folder_of_a_machine_is_told(folders, name, quoted):
    path = "/" + "/".join([*folders, f"{name}.jpg"])
    said = placeless(
        f"OSError: {path!r} is cut" if quoted else f"{path}: is cut, see https://a.org/b"
    )
    assert f"…/{name}.jpg" in said
    assert not any(f"{folder}/" in said for folder in folders)
    assert said.endswith("is cut" if quoted else "see https://a.org/b")

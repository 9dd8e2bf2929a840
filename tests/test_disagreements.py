"""Where the papers disagree: the pairs, what is said of them, the page and its links."""

import copy
import re

import check_site
import pytest
from bs4 import BeautifulSoup
from test_book import edition
from test_build import HOSTILE, structure

from vitlab import claims
from vitlab.book import build, disagreements, papers
from vitlab.book.disagreements import together

PAIRS = disagreements.pairs()
STATED = [
    (paper["id"], entry["id"], one)
    for paper in claims.papers().values()
    for entry in paper["claims"]
    for one in entry.get("disagrees", [])
]


# --- the pairs of the papers' files ---------------------------------------------------------------


def test_every_stated_pair_is_of_two_papers_and_named_once_by_the_later():
    assert len(PAIRS) == len(STATED) >= 10
    assert len({frozenset((p.first, p.second)) for p in PAIRS}) == len(PAIRS)
    assert len({p.id for p in PAIRS}) == len(PAIRS)
    for paper, claim, one in STATED:
        theirs, _, their_claim = one["with"].partition(".")
        assert claims.claim(theirs, their_claim)
        assert theirs != paper
        year, their_year = (int(re.search(r"\d{4}$", name)[0]) for name in (paper, theirs))
        assert their_year <= year, f"{paper}.{claim}: the later paper names the earlier"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_a_paragraph_is_short_and_leaves_verdicts_to_the_ledger(pair):
    assert 60 <= len(pair.says.split()) <= 120
    assert 1 <= len(pair.about.split()) <= 5
    for verdict in ("opposite seen", "not seen", "cannot tell", "in miniature", "on photographs"):
        assert verdict not in pair.says
    assert not re.search(r"\bthis book\b|\bhere\b", pair.says, re.IGNORECASE)


# --- mistakes in the files ------------------------------------------------------------------------


def changed(**more):
    """The papers with one pair alone, that of gu2022 with naseer2021, some of it otherwise."""
    found = copy.deepcopy(claims.papers())
    for paper in found.values():
        for entry in paper["claims"]:
            entry.pop("disagrees", None)
    [entry] = [e for e in found["gu2022"]["claims"] if e["id"].startswith("adversarial-patch")]
    one = {"with": "naseer2021.adversarial-patch", "about": "Patches", "says": "Both attack."}
    entry["disagrees"] = [{key: v for key, v in (one | more).items() if v is not None}]
    return found, entry["disagrees"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"with": "nasser2021.adversarial-patch"}, "unknown paper; nearest: naseer2021"),
        ({"with": "naseer2021.adversarial-pach"}, "no such claim; nearest: adversarial-patch"),
        ({"with": "naseer2021"}, "disagrees with 'naseer2021'; write PAPER.CLAIM"),
        ({"with": "gu2022.natural-patch-vit-more-robust"}, "of its own paper; name another"),
        ({"with": "gu2022.adversarial-patch-vit-more-vulnerable"}, "of its own paper"),
        ({"with": None}, "lacks a text for 'with'"),
        ({"about": None}, "lacks a text for 'about'"),
        ({"says": None}, "lacks a text for 'says'"),
        ({"says": " \n"}, "lacks a text for 'says'"),
        ({"about": 3}, "lacks a text for 'about'"),
        ({"sais": "x"}, "has 'sais'; nearest: says"),
    ],
)
def test_a_mistake_is_told_with_file_claim_and_what_would_do(more, told):
    with pytest.raises(claims.ClaimError) as error:
        disagreements.pairs(changed(**more)[0])
    assert "gu2022.yml: adversarial-patch-vit-more-vulnerable: " in str(error.value)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"with": "naseer2021.fgsm-pgd"}, "is no list"),
        (None, "is no list"),
        (["naseer2021.fgsm-pgd"], "has 'naseer2021.fgsm-pgd'; write with, about, says"),
    ],
)
def test_what_is_no_list_of_pairs_is_told(stated, told):
    found, _ = changed()
    [entry] = [e for e in found["gu2022"]["claims"] if "disagrees" in e]
    entry["disagrees"] = stated
    with pytest.raises(claims.ClaimError, match=told):
        disagreements.pairs(found)


@pytest.mark.parametrize("side", ["gu2022", "naseer2021"])
def test_a_pair_is_named_once(side):
    found, stated = changed()
    own = "gu2022.adversarial-patch-vit-more-vulnerable"
    if side == "gu2022":
        stated.append(dict(stated[0]))
    else:
        [theirs] = [e for e in found[side]["claims"] if e["id"] == "adversarial-patch"]
        theirs["disagrees"] = [{**stated[0], "with": own}]
    with pytest.raises(claims.ClaimError, match=r"named twice, by .*; name it once") as error:
        disagreements.pairs(found)
    assert own in str(error.value)


# --- what the verdicts say of a pair --------------------------------------------------------------


AGREE, APART = "here they do not exclude each other.", "here they disagree as well."
NEITHER, OPEN = "here neither is borne out.", "here nothing is decided between them."


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("seen", "seen", f"both are seen: {AGREE}"),
        ("holds", "holds", f"both hold: {AGREE}"),
        ("seen", "holds", f"the first is seen and the second holds: {AGREE}"),
        ("seen", "not seen", f"the first is seen and the second is not seen: {APART}"),
        (
            "seen",
            "opposite seen",
            f"the first is seen and the opposite of the second is seen: {APART}",
        ),
        ("fails", "holds", f"the first fails and the second holds: {APART}"),
        ("opposite seen", "opposite seen", f"the opposite of both is seen: {NEITHER}"),
        ("not seen", "not seen", f"neither is seen: {NEITHER}"),
        ("fails", "fails", f"both fail: {NEITHER}"),
        ("not seen", "fails", f"the first is not seen and the second fails: {NEITHER}"),
        ("cannot tell", "seen", f"the first stays open and the second is seen: {OPEN}"),
        ("fails", "cannot tell", f"the first fails and the second stays open: {OPEN}"),
        ("cannot tell", "cannot tell", f"both stay open: {OPEN}"),
    ],
)
def test_two_verdicts_of_one_edition(first, second, said):
    assert together({"photos": first}, {"photos": second}) == f"On photographs {said}"


def test_every_pair_of_verdicts_has_a_sentence_and_which_is_first_decides_nothing():
    ends = (AGREE, APART, NEITHER, OPEN)
    measured = [v for v in claims.VERDICTS if v != "not run"]
    for first in measured:
        for second in measured:
            there = together({"mini": first}, {"mini": second})
            back = together({"mini": second}, {"mini": first})
            [end] = [end for end in ends if there.endswith(end)]
            assert back.endswith(end)


def test_editions_are_told_one_by_one_and_never_mixed():
    first, second = {"photos": "seen", "mini": "not seen"}, {"photos": "seen", "mini": "seen"}
    assert together(first, second) == (
        f"On photographs both are seen: {AGREE} "
        f"In miniature the first is not seen and the second is seen: {APART}"
    )
    assert together({**first, "imagenet": "not run"}, second) == together(first, second)
    assert together({"photos": "seen"}, second) == (
        f"On photographs both are seen: {AGREE} Only the second was measured in miniature (seen)."
    )
    assert together({"imagenet": "fails"}, {"mini": "seen"}) == (
        "So far this book measured the first on ImageNet (fails) and the second in miniature "
        "(seen): not both in one setting."
    )
    assert together({}, second) == (
        "So far this book measured only the second, on photographs (seen) and in miniature (seen)."
    )
    assert together({"mini": "not run"}, {"mini": "seen"}) == (
        "So far this book measured only the second, in miniature (seen)."
    )
    assert together({"mini": "not run"}, {}) == "This book has measured neither yet."


def test_what_a_cnn_as_accurate_makes_of_a_claim_is_said_in_its_edition():
    seen = {"photos": "seen", "mini": "seen"}
    told = together(seen, seen, [{"photos": "opposite seen"}, {"photos": "seen"}])
    equal = "Against a CNN as accurate there, the first: opposite seen; the second: seen."
    assert told == (
        f"On photographs both are seen: {AGREE} {equal} In miniature both are seen: {AGREE}"
    )
    assert together({"photos": "seen"}, {}, [{"photos": "cannot tell"}, {}]) == (
        "So far this book measured only the first, on photographs (seen). "
        "Against a CNN as accurate there, the first: cannot tell."
    )


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def records():
    """The ledger of all papers; one pair was measured whole, another in half."""
    said = {
        "naseer2021.adversarial-patch": edition(),
        "gu2022.adversarial-patch-vit-more-vulnerable": edition(verdict="opposite seen"),
        "naseer2021.fgsm-pgd": edition(verdict="cannot tell"),
    }
    found = []
    for r in claims.ledger({}):
        if shown := said.get(f"{r['paper']}.{r['claim']}"):
            r |= {"editions": {"mini": shown}, "edition": "mini", "page": "07-adversaries"}
            r |= {"verdict": shown["verdict"]}
        found.append(r)
    return found


def test_the_page_has_every_pair_once_with_both_claims_text_and_verdicts(records):
    page = BeautifulSoup(disagreements.page(PAIRS, records), "html.parser")
    shown = {box["id"]: box for box in page.select(".disagreement")}
    assert set(shown) == {pair.id for pair in PAIRS}
    for pair in PAIRS:
        box = shown[pair.id]
        text = " ".join(box.get_text().split())
        assert pair.says in text
        for name in (pair.first, pair.second):
            paper, _, claim = name.partition(".")
            assert claims.claim(paper, claim)["short"] in text
            assert paper in [link.text for link in box.select("a.paper")]
    naseer, gu = "naseer2021.adversarial-patch", "gu2022.adversarial-patch-vit-more-vulnerable"
    box = shown[f"{naseer}--{gu}"]
    assert box.select_one(".here").text == (
        f"Here. In miniature the first is seen and the opposite of the second is seen: {APART}"
    )
    leading = [a["href"] for a in box.select("td.c > a:first-child")]
    assert leading == [f"../notebooks/07-adversaries.html#{name}" for name in (naseer, gu)]


def test_pairs_of_one_heading_stand_together(records):
    text = disagreements.page(PAIRS, records)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) == len({pair.about for pair in PAIRS})
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        about = part.partition("\n")[0]
        for pair in PAIRS:
            assert (pair.about == about) == (f'id="{pair.id}"' in part)


def test_links_and_anchors_of_the_page_and_of_the_papers_exist(tmp_path, records):
    made = {"disagreements": disagreements.page(PAIRS, records)}
    pages = papers.pages(records, "", disagreements.others(PAIRS, "../../"))
    made |= {f"papers/{name}": text for name, text in pages.items()}
    for name, text in made.items():
        path = tmp_path / "book" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    measured = [f"{r['paper']}.{r['claim']}" for r in records if r["page"]]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "07-adversaries.html").write_text(
        "".join(f'<p id="{name}"></p>' for name in measured)
    )
    assert check_site.faults(tmp_path) == []


def test_each_card_leads_to_its_pairs_from_both_sides(records):
    pages = papers.pages(records, "", disagreements.others(PAIRS, "../../"))
    said = {}
    for paper in claims.papers():
        page = BeautifulSoup(pages[paper], "html.parser")
        for note in page.find_all("p", string=None):
            if note.text.startswith("Seems to disagree with:"):
                card = note.find_previous(class_="claim")["id"]
                said[f"{paper}.{card}"] = {a["href"] for a in note.select("a")}
    asked = {}
    for pair in PAIRS:
        for name in (pair.first, pair.second):
            asked.setdefault(name, set()).add(f"../../book/disagreements.html#{pair.id}")
    assert said == asked
    without = papers.pages(records, "")
    assert not any("Seems to disagree" in text for text in without.values())


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_a_pair_stays_text(records, word):
    """A hostile word makes of the page what a harmless one does: same blocks, tags, roles."""

    def page(text):
        found = disagreements.pairs(changed(about=text, says=f"{text} and {text}")[0])
        return disagreements.page(found, records)

    assert structure(page(word)) == structure(page("word"))
    shown = BeautifulSoup(page(word), "html.parser").get_text()
    assert " ".join(shown.split()).count(" ".join(word.split())) >= 3


def test_the_book_lists_the_page_after_the_papers(root):
    files = build._in_order(build._toc(root))
    assert files.index(disagreements.PAGE) == files.index("book/papers/index") + 1

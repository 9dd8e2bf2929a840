import html
import json

import pytest

from vitlab import claims
from vitlab.claims import Check
from vitlab.statistics import Interval

EVERYTHING = [claim for paper in claims.papers().values() for claim in paper["claims"]]


def test_every_claim_says_what_it_takes_to_settle_it():
    for claim in EVERYTHING:
        assert {"id", "statement", "kind", "published", "check", "mini"} <= set(claim)
        for number in claim["published"]:
            assert {"model", "condition", "value", "unit", "exact", "where"} <= set(number)


@pytest.mark.parametrize(
    ("interval", "bound", "expected"),
    [
        ((0.1, 0.2), {"above": 0}, "holds"),
        ((-0.1, 0.2), {"above": 0}, "inconclusive"),
        ((-0.2, -0.1), {"above": 0}, "fails"),
        ((-0.2, 0.0), {"above": 0}, "fails"),
        ((0.1, 0.2), {"below": 0.3}, "holds"),
        ((0.1, 0.2), {"below": 0.15}, "inconclusive"),
        ((0.1, 0.2), {"below": 0.1}, "fails"),
    ],
)
def test_a_check_is_decided_by_its_whole_interval(interval, bound, expected):
    assert Check("q", Interval(sum(interval) / 2, *interval, 9), **bound).verdict == expected


def test_a_claim_needs_all_its_checks():
    good, bad, open_ = (
        Check(name, Interval(0, low, high, 5), above=0)
        for name, low, high in [("a", 1, 2), ("b", -2, -1), ("c", -1, 1)]
    )
    assert claims.verdict([good, good]) == "holds"
    assert claims.verdict([good, open_]) == "inconclusive"
    assert claims.verdict([good, open_, bad]) == "fails"
    assert claims.verdict([]) == "not run"


def test_the_ledger_has_a_record_for_every_claim(tmp_path):
    interval = Interval(0.3, 0.2, 0.4, 50)
    claims.settle(
        "naseer2021",
        "occlusion-random",
        [Check("gap", interval, above=0)],
        tmp_path,
        [("ViT", Interval(0.9, 0.8, 1.0, 50), "accuracy")],
    )
    records = claims.ledger({"01-occlusion": tmp_path}, "mini")
    assert len(records) == len(EVERYTHING)
    fields = [
        "paper",
        "claim",
        "statement",
        "page",
        "profile",
        "verdict",
        "reason",
        "published",
        "fresh",
    ]
    assert all(set(fields) <= set(record) for record in records)
    [settled] = [r for r in records if r["claim"] == "occlusion-random"]
    assert (settled["page"], settled["verdict"]) == ("01-occlusion", "holds")
    assert settled["fresh"][0] == {
        "quantity": "gap", "value": 0.3, "low": 0.2, "high": 0.4, "n": 50, "unit": "share"
    }  # fmt: skip
    assert len(settled["published"]) == 7
    waiting = [r for r in records if r["page"] is None]
    assert len(waiting) == len(EVERYTHING) - 1
    assert all(r["verdict"] == "not run" and "waits for" in r["reason"] for r in waiting)


def test_what_a_page_shows_escapes_and_tells_miniature(tmp_path):
    settled = claims.settle(
        "naseer2021",
        "occlusion-random",
        [Check("a < b & c", Interval(-0.3, -0.4, -0.2, 50), above=0)],
        tmp_path,
    )
    shown = settled._repr_html_()
    assert "a < b & c" not in shown
    assert "a < b & c" in html.unescape(shown)
    assert "in miniature" in shown
    assert "−0.400 … −0.200" in shown
    assert "fails" in shown


def test_a_claim_settled_twice_is_an_error(tmp_path):
    for page in ("a", "b"):
        claims.settle("paul2022", "dct-energy-spread", [], tmp_path / page, reason="no ViT")
    with pytest.raises(claims.ClaimError, match="settled by both a and b"):
        claims.ledger({"a": tmp_path / "a", "b": tmp_path / "b"}, "mini")


def test_a_damaged_record_is_named_with_its_line(tmp_path):
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "naseer2021.occlusion-random.json"
    for text, message in [('{\n "paper": ', "random.json, line 2"), ("[]", "build again")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            claims.ledger({"a": tmp_path}, "mini")


def test_unknown_claims_and_silent_ones_are_refused(tmp_path):
    with pytest.raises(claims.ClaimError, match="unknown paper 'naser2021'; nearest: naseer2021"):
        claims.claim("naser2021", "x")
    with pytest.raises(claims.ClaimError, match="nearest: occlusion-"):
        claims.settle("naseer2021", "occlusion", [], tmp_path, reason="x")
    with pytest.raises(ValueError, match="say in `reason`"):
        claims.settle("naseer2021", "occlusion-random", [], tmp_path)
    with pytest.raises(ValueError, match="either above or below"):
        Check("q", Interval(0, 0, 0, 1))


def test_papers_that_break_the_format_are_named(tmp_path):
    (tmp_path / "a2020.yml").write_text(json.dumps({"id": "b2020", "title": "t", "claims": []}))
    with pytest.raises(claims.ClaimError, match=r"a2020\.yml: id is not the file name"):
        claims.papers(tmp_path)
    (tmp_path / "a2020.yml").write_text("id: a2020\ntitle: [\n")
    with pytest.raises(ValueError, match=r"a2020\.yml, line 3: "):
        claims.papers.__wrapped__(tmp_path)
    (tmp_path / "a2020.yml").write_text("only words")
    with pytest.raises(claims.ClaimError, match=r"a2020\.yml is not a mapping"):
        claims.papers.__wrapped__(tmp_path)
    with pytest.raises(claims.ClaimError, match="no papers in"):
        claims.papers(tmp_path / "none")


def test_a_quantity_without_a_number_is_named_and_decides_nothing(tmp_path):
    nan = Interval(float("nan"), float("nan"), float("nan"), 5)
    good = Check("gap", Interval(0.3, 0.2, 0.4, 5), above=0)
    ratio = Check("ratio to nothing", nan, above=0.8)
    settled = claims.settle("naseer2021", "occlusion-random", [good, ratio], tmp_path)
    assert settled.record["verdict"] == "inconclusive"
    assert [item["quantity"] for item in settled.record["fresh"]] == ["gap"]
    assert settled.record["reason"] == "No number for: ratio to nothing."
    [path] = tmp_path.rglob("*.json")
    assert "NaN" not in path.read_text()
    bad = Check("gap", Interval(-0.3, -0.4, -0.2, 5), above=0)
    settled = claims.settle("naseer2021", "occlusion-random", [bad, ratio], tmp_path)
    assert settled.record["verdict"] == "fails"

import html
import json
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from vitlab import claims
from vitlab.claims import Finding, Run
from vitlab.statistics import Interval, Measured, lacking, mean
from vitlab.statistics.check import judge, measured

EVERYTHING = [claim for paper in claims.papers().values() for claim in paper["claims"]]
THEMES = (
    *("occlusion and patches", "shape and texture", "frequencies", "corruptions and shifts"),
    *("adversaries", "features and transfer", "inside", "training for robustness"),
    *("self-supervision", "language", "architecture"),
)
SCHEMA = json.loads(
    (claims.papers_folder().parents[1] / "vitlab/book/ledger.schema.json").read_text()
)


def test_every_claim_says_what_it_takes_to_settle_it():
    for claim in EVERYTHING:
        assert {"id", "statement", "kind", "published", "check", "mini"} <= set(claim)
        for number in claim["published"] + claim.get("independent", []):
            assert {"model", "condition", "value", "unit", "exact", "where"} <= set(number)
        assert claim["published"] or claim["unpublished"] in ("curves only", "not found")
        assert claim["theme"] in THEMES
        assert 3 <= len(claim["short"].split()) <= 12


def test_every_claim_states_the_check_that_decides_each_part():
    for claim in EVERYTHING:
        parts = claims.primaries(claim)
        assert 1 <= len(parts) == len(claim["primary"]) <= 5, claim["id"]
        for name, one in parts.items():
            assert name or len(parts) == 1, claim["id"]
            assert re.fullmatch(r"(>|<|within) -?[\d.]+", one["demand"]), claim["id"]
            assert one["speaks"] in ("architectures", "networks")
            assert set(one["known"]) <= {"miniature", "imagenet", "photos"}
            assert 2 <= len(one.get("every", "ab")) <= 3
            assert one["quantity"]
            assert one.get("only", "imagenet") == "imagenet"


def finding(low, high, claim="occlusion-salient", edition="mini", models=("vit-0",), **more):
    """A claim with one part, settled by a given interval."""
    gap = measured("gap", stated(low, high) > 0)
    run = Run(edition, models, "9 images", "imagenet-1k")
    return Finding("naseer2021", claim, run, {"": [[gap]]}, **more)


def stated(low, high, n=50):
    from vitlab.statistics import stated as exactly

    return exactly(Interval((low + high) / 2, low, high, n))


@pytest.mark.parametrize(
    ("edition", "models", "words"),
    [
        ("mini", ["mini/vit-0"], ["seen", "cannot tell", "opposite seen"]),
        ("photos", ["photos/vit-0"], ["seen", "cannot tell", "opposite seen"]),
        ("imagenet", ["efficientnet-lite0", "vit_tiny"], ["seen", "cannot tell", "opposite seen"]),
        (
            "imagenet",
            ["deit_small_patch16_224.fb_in1k", "resnet50.tv_in1k"],
            ["holds", "cannot tell", "fails"],
        ),
    ],
)
def test_only_a_reproduction_holds_or_fails(edition, models, words):
    intervals = [(0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1)]
    found = [
        claims.judged(finding(*i, edition=edition, models=models))["verdict"] for i in intervals
    ]
    assert found == words


@pytest.mark.parametrize(
    ("models", "data", "whether"),
    [
        (["deit_small_patch16_224.fb_in1k"], "imagenet-1k#500", True),
        (["timm/deit_small_patch16_224"], "imagenet-1k", True),
        (["deit_small_patch16_224.fb_in1k"], "holiday", False),
        (["deit_small_patch16_224.my_own"], "imagenet-1k", False),
        (["vit_small_patch16_224.dino"], "imagenet-1k", True),
        (["vit_small_patch16_224.augreg_in1k"], "imagenet-1k", False),
        (["resnet50.a1_in1k"], "imagenet-1k", False),
    ],
)
def test_a_reproduction_has_the_papers_weights_and_images(models, data, whether):
    assert Run("imagenet", models, "", data).reproduces(claims.papers()["naseer2021"]) == whether


def test_without_its_deciding_check_a_part_is_not_decided_by_the_next(tmp_path, monkeypatch):
    from vitlab import lab

    bench = lab.Lab.__new__(lab.Lab)
    bench.edition = "mini"
    bench.__dict__ |= {
        "groups": {"ViT": [], "CNN": []},
        "models": [],
        "mini": True,
        "out": tmp_path,
    }

    @lab.Lab.settles(bench, "naseer2021", "occlusion-salient")
    def claim():
        yield "RegNetY - CNN", lacking("RegNetY") > 0
        yield "something else", stated(0.1, 0.2) > 0

    assert claim.record["verdict"] == "not run"
    assert "RegNetY - CNN: not checked" in claim.record["reason"]


def test_one_variant_of_several_that_are_named_settles_nothing():
    named = claims.primaries(claims.claim("xie2023", "both-bands-useful"))
    part, stated_ = next(iter(named.items()))
    assert len(stated_["every"]) == 2

    def verdict(*intervals):
        checks = [measured(f"variant {k}", stated(*i) > 0) for k, i in enumerate(intervals)]
        return claims.judged(Finding("xie2023", "both-bands-useful", Run("mini"), {part: [checks]}))

    assert verdict((0.5, 1.5), (0.2, 0.4))["verdict"] == "seen"
    one = verdict((0.5, 1.5))
    assert one["verdict"] == "cannot tell"
    assert "not all were measured: low-pass only, high-pass only" in one["reason"]
    assert verdict((-1.5, -0.5))["verdict"] == "opposite seen", "one that is refuted is enough"


def test_every_variant_has_to_speak_for_architectures_and_the_failing_one_is_shown():
    wide, narrow = (
        measured(n, stated(*i) > 0) for n, i in [("wide", (-0.5, 0.3)), ("n", (-0.06, -0.03))]
    )
    run = Run("mini")
    record = claims.judged(
        Finding("paul2022", "imagenet-9-backgrounds", run, {"accuracy": [[wide, narrow]]})
    )
    assert (record["verdict"], record["value"]) == ("opposite seen", pytest.approx(-0.045))
    assert record["speaks_for"] == "these networks"


def test_a_part_of_imagenet_is_not_asked_of_miniatures():
    good = measured("a", stated(1, 2) > 0)
    with pytest.raises(claims.ClaimError, match="asked of ImageNet alone; put it under"):
        claims.judged(Finding("naseer2021", "pixel-drop", Run("mini"), {"ViT-L best": [[good]]}))


@pytest.mark.parametrize(
    ("primary", "message"),
    [
        ([{"quantity": "q"}], "write - {quantity"),
        ([{"quantity": "q", "demand": ">= 0"}], "within 0.02"),
        ("> 0", "write - {quantity"),
        ([], "write - {quantity"),
        (None, "write - {quantity"),
        ([{"quantity": "q", "demand": "> 0"}] * 2, "two parts ''"),
    ],
)
def test_a_primary_that_cannot_be_read_is_refused(primary, message):
    with pytest.raises(claims.ClaimError, match=message):
        claims.primaries({"id": "a", "primary": primary})


def test_a_missed_bound_other_than_0_is_not_the_opposite(monkeypatch):
    entry = claims.claim("naseer2021", "occlusion-salient")
    monkeypatch.setitem(entry, "primary", [{**entry["primary"][0], "demand": "> 0.5"}])
    for asked in (stated(0.1, 0.2) > 0.5,):
        found = finding(0, 0, claim="occlusion-salient")
        found = Finding(found.paper, found.claim, found.run, {"": [[measured("gap", asked)]]})
        assert claims.judged(found)["verdict"] == "not seen"


def test_the_first_check_of_the_first_part_decides_and_the_rest_is_counted():
    good, bad = (measured(n, stated(*i) > 0) for n, i in [("a", (1, 2)), ("b", (-2, -1))])
    parts = {"cells over pixels": [[bad]], "order": [[good], [bad], [good]]}
    record = claims.judged(Finding("naseer2021", "pixel-drop", Run("mini"), parts))
    assert [p["part"] for p in record["parts"]] == ["order", "cells over pixels", "ViT-L best"]
    assert [p["verdict"] for p in record["parts"]] == ["seen", "opposite seen", "not run"]
    assert record["parts"][2]["reason"] == "asked of ImageNet alone"
    assert (record["verdict"], record["primary"], record["agree"]) == ("seen", "a", [2, 3])
    assert [c["primary"] for c in record["checks"]] == [True, False, False, True]


def test_a_page_asks_what_the_papers_file_states():
    good, wrong = (measured("gap", stated(1, 2) > bound) for bound in (0, 0.1))
    run = Run("mini")
    with pytest.raises(claims.ClaimError, match=r"demands > 0.1, .*file > 0"):
        claims.judged(Finding("naseer2021", "occlusion-salient", run, {"": [[wrong]]}))
    with pytest.raises(
        claims.ClaimError, match=r"has a part .ordre., .*.order., .cells over pixels."
    ):
        claims.judged(Finding("naseer2021", "pixel-drop", run, {"ordre": [[good]]}))


def test_a_claim_that_needs_a_control_is_not_seen_without():
    found = Finding(
        "paul2022", "attention-maps", Run("mini"), {"wider": [[measured("a", stated(1, 2) > 0)]]}
    )
    record = claims.judged(found)
    assert record["verdict"] == record["checks"][0]["verdict"] == "cannot tell"
    assert record["agree"] == [1, 1]
    assert "control was not measured: the same difference" in record["reason"]


def test_what_settles_a_claim_can_be_judged_again(tmp_path):
    rng = np.random.default_rng(0)
    values = {
        (f"{g}{s}", "drop", 0): rng.random(50) < p
        for g, p in [("v", 0.9), ("c", 0.4)]
        for s in range(3)
    }
    groups = {"ViT": ["v0", "v1", "v2"], "CNN": ["c0", "c1", "c2"]}
    found = Measured(values, groups, chance=0.1, classes={"items": np.arange(50) % 5})
    gap = found.gap("drop", 0)
    parts = {
        "order": [[measured("gap", gap > 0)]],
        "widest midway": [[measured(n, gap > 0) for n in "ab"]],
    }
    facts = [("ViT", found("ViT", "drop", 0).interval, "accuracy")]
    whole = Finding(
        "naseer2021", "occlusion-random", Run("mini", ["v0"], "50"), parts, facts, "A remark."
    )
    claims.settle(whole, tmp_path)
    again = claims.read(tmp_path / "claims" / "naseer2021.occlusion-random.json")
    assert claims.judged(again) == claims.judged(whole) == claims.records(tmp_path)[0]
    assert claims.judged(whole)["speaks_for"] == "these architectures"


def test_the_ledger_has_a_record_for_every_claim_and_fits_its_schema(tmp_path):
    claims.settle(
        finding(0.2, 0.4, facts=[("ViT", Interval(0.9, 0.8, 1.0, 50), "accuracy")]), tmp_path
    )
    recorded = {**claims.judged(finding(-0.2, -0.1, edition="photos")), "recorded": "a-run"}
    records = claims.ledger({"01-occlusion": [*claims.records(tmp_path), recorded]})
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(records)
    assert len(records) == len(EVERYTHING)
    [settled] = [r for r in records if r["claim"] == "occlusion-salient"]
    assert (settled["page"], settled["verdict"], settled["edition"]) == (
        "01-occlusion",
        "opposite seen",
        "photos",
    )
    assert list(settled["editions"]) == ["photos", "mini"]  # the nearest to the paper first
    mini = settled["editions"]["mini"]
    assert (mini["verdict"], mini["value"], mini["recorded"]) == ("seen", pytest.approx(0.3), None)
    assert mini["facts"] == [
        {"quantity": "ViT", "value": 0.9, "low": 0.8, "high": 1.0, "n": 50, "unit": "accuracy"}
    ]
    waiting = [r for r in records if r["page"] is None]
    assert len(waiting) == len(EVERYTHING) - 1
    assert all(
        r["verdict"] == "not run" and r["reason"] == "no page measures it yet" for r in waiting
    )


def test_a_ledger_that_is_not_whole_is_found_out():
    from ledger import faults

    whole = claims.ledger({"01-occlusion": [claims.judged(finding(0.2, 0.4))]})
    assert list(faults(whole)) == []
    wrong = json.loads(json.dumps(whole))
    [edition] = [r["editions"]["mini"] for r in wrong if r["editions"]]
    edition["parts"][0]["room"] = None
    del edition["sees"]
    said = "\n".join(faults(wrong))
    assert "'sees' is a required property" in said
    assert "naseer2021 occlusion-salient, mini, : no room" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"low": -0.1}, "seen, but -0.1 to 0.4 is not > 0"),
        ({"verdict": "opposite seen"}, "opposite seen, but 0.2 to 0.4 is > 0"),
        ({"verdict": "holds"}, "holds without ImageNet"),
        ({"verdict": "cannot tell"}, "cannot tell, and does not say why"),
        ({"low": 0.5}, "outside of 0.5 to 0.4"),
        ({"agree": [9, 4]}, "9 of 4 checks agree"),
        ({"speaks_for": "these architectures"}, "speaks for architectures by 0 trainings"),
        ({"demand": "> 0.1"}, "demands > 0.1, its paper's file > 0"),
        ({"part": "else"}, "parts ['else'], asked ['']"),
    ],
)
def test_a_ledger_that_contradicts_itself_is_found_out(change, said):
    from ledger import faults

    whole = claims.ledger({"01-occlusion": [claims.judged(finding(0.2, 0.4))]})
    wrong = json.loads(json.dumps(whole))
    [edition] = [r["editions"]["mini"] for r in wrong if r["editions"]]
    edition["parts"][0] |= change
    assert any(said in fault for fault in faults(wrong))


def test_a_claim_that_is_missing_or_there_twice_is_found_out():
    from ledger import faults

    whole = claims.ledger({})
    said = list(faults(whole[1:] + whole[-1:]))
    assert f"{whole[0]['paper']} {whole[0]['claim']}: missing" in said
    assert f"{whole[-1]['paper']} {whole[-1]['claim']}: 2 times" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"demand": "within -0.02"}, "a margin is above 0"),
        ({"demand": "within 0"}, "a margin is above 0"),
        ({"demand": "> 0.50"}, "a plain number"),
        ({"demand": "> -0"}, "a plain number"),
        ({"demand": "within 0.02", "control": "noise"}, "equality has no control"),
        ({"control": ""}, "are texts"),
        ({"quantity": None}, "are texts"),
        ({"every": ["one"]}, "two or three names"),
        ({"every": "ViT"}, "two or three names"),
        ({"every": ["a", "b", "c", "d"]}, "two or three names"),
        ({"only": "imagnet"}, "only imagenet"),
        ({"speaks": "architecturs"}, "networks or architectures"),
        ({"known": "photos"}, "known is a list"),
        ({"known": ["photo"]}, "known is a list"),
    ],
)
def test_a_check_that_contradicts_itself_is_refused(change, said):
    entry = {"id": "some", "primary": [{"quantity": "gap", "demand": "> 0"} | change]}
    with pytest.raises(claims.ClaimError, match=said):
        claims.primaries(entry)


def test_more_variants_than_a_claim_names_are_no_check_of_it():
    check = measured("a", stated(0.2, 0.4) > 0)
    found = Finding("naseer2021", "occlusion-salient", Run("mini"), {"": [[check, check]]})
    with pytest.raises(claims.ClaimError, match="the page asks it of a, a"):
        claims.judged(found)


def test_the_schema_refuses_what_is_no_ledger():
    record = claims.ledger({})[0]
    for wrong in ({"verdict": "inconclusive"}, {"edition": "toy"}, {"extra": 1}):
        assert list(Draft202012Validator(SCHEMA).iter_errors([record | wrong]))


def test_a_card_escapes_and_names_its_setting(tmp_path):
    check = measured("a < b & c", stated(-0.4, -0.2) > 0)
    found = Finding(
        "naseer2021", "occlusion-salient", Run("mini"), {"": [[check]]}, remarks="1 < 2"
    )
    shown = claims.settle(found, tmp_path)._repr_html_()
    assert "a < b & c" not in shown
    assert "1 < 2" not in shown
    assert "a < b & c = −0.300 [−0.400, −0.200], asked: > 0" in html.unescape(shown)
    assert "miniature" in shown
    assert "opposite seen" in shown


def test_a_claim_settled_twice_is_an_error():
    record = claims.judged(finding(1, 2))
    with pytest.raises(claims.ClaimError, match="settled by both a and b"):
        claims.ledger({"a": [record], "b": [record]})


def test_a_damaged_record_is_named_with_its_line(tmp_path):
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "naseer2021.occlusion-random.json"
    for text, message in [('{\n "paper": ', "random.json, line 2"), ("[]", "build again")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            claims.records(tmp_path)


def test_unknown_claims_and_silent_ones_are_refused():
    with pytest.raises(claims.ClaimError, match="unknown paper 'naser2021'; nearest: naseer2021"):
        claims.claim("naser2021", "x")
    with pytest.raises(claims.ClaimError, match="nearest: occlusion-"):
        claims.judged(Finding("naseer2021", "occlusion", Run("mini"), remarks="x"))
    with pytest.raises(ValueError, match="say in a remark"):
        claims.judged(Finding("naseer2021", "occlusion-random", Run("mini")))


NUMBER = {"model": "m", "condition": "c", "value": 0.5, "unit": "", "exact": True, "where": "w"}
PAPER = dict.fromkeys(("id", "title", "authors", "venue", "idea"), "a2020") | {"claims": []}


def test_papers_that_break_the_format_are_named(tmp_path):
    (tmp_path / "a2020.yml").write_text(json.dumps(PAPER | {"id": "b2020"}))
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


def test_a_number_that_is_none_decides_nothing(tmp_path):
    ratio = mean(np.ones(30), items="a") / mean(np.zeros(30), items="a")
    check = measured("ratio to nothing", ratio > 0)
    assert judge(check) == ("cannot tell", "undefined")
    claims.settle(
        Finding("naseer2021", "occlusion-salient", Run("mini"), {"": [[check]]}), tmp_path
    )
    [record] = claims.records(tmp_path)
    assert (record["verdict"], record["value"], record["low"]) == ("cannot tell", None, None)
    [path] = tmp_path.rglob("*.json")
    assert json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theme": "occlusion"}, "has the theme 'occlusion'; nearest: occlusion and patches"),
        ({"short": None}, "lacks short"),
        ({"id": "a/b.c"}, "an id is made of a-z, 0-9 and -, got 'a/b.c'"),
        ({"published": [], "unpublished": ""}, "say unpublished: not found"),
        (
            {"published": [NUMBER | {"at": "ViT 0.5"}]},
            "at is .series, level or row., got 'ViT",
        ),
        ({"published": [NUMBER | {"at": ["ViT"]}]}, "at is"),
        ({"published": 5}, "line 1: .*: published is no list, but 5"),
        ({"published": [5]}, "published 0 is no mapping, but 5"),
        ({"published": [{**NUMBER, "value": "5"}]}, "published 0 value is no number, but '5'"),
        ({"published": [{"model": "m"}]}, "published 0 lacks condition"),
        (
            {"primary": {"quantity": "q", "demand": ">= 0"}},
            r"kim2022\.yml, line 1: .*: a demand is",
        ),
    ],
)
def test_a_claims_record_is_whole_before_anything_is_built(tmp_path, change, message):
    paper = claims.papers()["kim2022"]
    entry = {**paper["claims"][0], **change}
    entry = {key: value for key, value in entry.items() if value is not None}
    text = json.dumps({**paper, "claims": [entry]}, default=str)
    (tmp_path / "kim2022.yml").write_text(text)
    with pytest.raises(claims.ClaimError, match=message):
        claims.papers(tmp_path)


def test_a_reason_and_a_remark_are_two_sentences():
    check = measured("gap", stated(-0.1, 0.2) > 0)
    found = Finding(
        "naseer2021", "occlusion-salient", Run("mini"), {"": [[check]]}, remarks="at -1 it is so"
    )
    assert claims.judged(found)["reason"] == "The interval includes 0. At −1 it is so."


# --- a pair beside the one that decides


def beside(low, high, text="ViT - CNN by DeiT's recipe", demand=0.0):
    return measured(text, stated(low, high) > demand)


def test_a_pair_by_deits_recipe_stands_beside_and_is_counted_nowhere():
    """It says the same or not; verdict, number and count of the main pair stay as they are."""
    good, bad = (measured(n, stated(*i) > 0) for n, i in [("gap", (0.2, 0.4)), ("b", (-2, -1))])
    alone = {"order": [[good], [bad]]}
    both = {"order": [[good], [beside(-0.3, -0.1)], [bad]]}
    without, record = (
        claims.judged(Finding("naseer2021", "pixel-drop", Run("photos"), parts))
        for parts in (alone, both)
    )
    assert without["by_deit"] is None
    assert record["by_deit"] == record["parts"][0]["by_deit"]
    assert record["by_deit"] | {"reason": ""} == {
        "verdict": "opposite seen",
        "reason": "",
        "quantity": "ViT - CNN by DeiT's recipe",
        **{"value": pytest.approx(-0.2), "low": -0.3, "high": -0.1, "n": 50, "unit": "share"},
        **{"trainings": 0, "speaks_for": "these networks"},
    }
    assert [c["quantity"] for c in record["checks"]] == [
        *("gap", "ViT - CNN by DeiT's recipe", "b"),
    ]
    assert record["agree"] == [1, 2]
    for each in (record, without):
        del each["checks"], each["by_deit"]
        for part in each["parts"]:
            del part["by_deit"]
    assert record == without


def test_single_trainings_of_a_pair_speak_for_these_networks_alone():
    """The same numbers, of three trainings each or one: an interval over images is no other's."""
    rng = np.random.default_rng(0)
    right = {"ViT": 0.9, "CNN": 0.4}

    def found(trainings):
        values = {
            (f"{g}{s}", "drop", 0): rng.random(200) < p
            for g, p in right.items()
            for s in range(trainings)
        }
        groups = {g: [f"{g}{s}" for s in range(trainings)] for g in right}
        return Measured(values, groups, chance=0.1).gap("drop", 0) > 0

    parts = {"": [[measured("gap", found(3))], [measured("gap by DeiT's recipe", found(1))]]}
    record = claims.judged(Finding("naseer2021", "occlusion-salient", Run("photos"), parts))
    assert (record["trainings"], record["speaks_for"]) == (3, "these architectures")
    pair = record["by_deit"]
    assert (pair["trainings"], pair["speaks_for"]) == (1, "these networks")
    assert pair["verdict"] == record["verdict"] == "seen"


def test_a_pair_is_asked_what_the_main_one_is():
    good = measured("gap", stated(0.2, 0.4) > 0)
    run = Run("photos")
    parts = {"": [[good], [beside(0.2, 0.4, demand=0.1)]]}
    with pytest.raises(claims.ClaimError, match=r"demands > 0.1, .*file > 0"):
        claims.judged(Finding("naseer2021", "occlusion-salient", run, parts))
    controlled = measured("a", (stated(1, 2) > 0)), beside(1, 2, "a by DeiT's recipe")
    parts = {"wider": [[one] for one in controlled]}
    record = claims.judged(Finding("paul2022", "attention-maps", run, parts))
    assert "control was not measured" in record["by_deit"]["reason"]
    ends = [measured(f"gap - {k}", stated(1, 2) > 0) for k in (0, 9)]
    theirs = [beside(-1, 2, "gap - 0 by DeiT's recipe"), beside(1, 2, "gap - 9 by DeiT's recipe")]
    parts = {"order": [[good]], "widest midway": [ends, theirs]}
    record = claims.judged(Finding("naseer2021", "occlusion-random", run, parts))
    assert [p["verdict"] for p in record["parts"]] == ["seen", "seen"]
    assert record["parts"][1]["by_deit"]["verdict"] == "cannot tell"
    assert "the interval includes 0" in record["parts"][1]["by_deit"]["reason"]


def test_a_pair_beside_is_kept_with_the_claim_and_shown_on_its_card(tmp_path):
    good = measured("gap", stated(0.2, 0.4) > 0)
    parts = {"": [[good], [beside(0.3, 0.5)], [beside(-0.4, -0.2, "of ViT - CNN, small")]]}
    whole = Finding("naseer2021", "occlusion-salient", Run("photos", ["a"], "50 images"), parts)
    card = claims.settle(whole, tmp_path)._repr_html_()
    text = " ".join(html.unescape(re.sub("<[^>]+>", "", card)).split())
    assert "By DeiT’s recipe, both: ✓ seen 0.400 [0.300, 0.500]; it speaks for these" in text
    assert "opposite seen: of ViT - CNN, small." in text
    [path] = tmp_path.glob("claims/*.json")
    assert claims.judged(claims.read(path)) == claims.records(tmp_path)[0]
    ledger = claims.ledger({"01-occlusion": claims.records(tmp_path)})
    Draft202012Validator(SCHEMA).validate(ledger)
    from ledger import faults

    assert list(faults(ledger)) == []
    wrong = json.loads(json.dumps(ledger))
    [edition] = [r["editions"]["photos"] for r in wrong if r["editions"]]
    edition["parts"][0]["by_deit"] |= {"low": -0.1, "speaks_for": "these architectures"}
    said = "\n".join(faults(wrong))
    assert "seen, but -0.1 to 0.5 is not > 0" in said
    assert "by DeiT's recipe: speaks for architectures by 0 trainings" in said


def test_what_a_pair_beside_decides_otherwise_is_not_said_of_the_main_one():
    checks = [{"part": "", "quantity": "gap by DeiT's recipe", "verdict": "not seen"}]
    from vitlab.markup import contrary

    assert contrary({"part": "", "verdict": "seen"}, checks) == {}

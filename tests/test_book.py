"""What a reader sees: the front page, the top of a page, papers, the site's own check, the PDF."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import check_site
import nbformat
import numpy as np
import pandas as pd
import pydata_sphinx_theme
import pytest
import sphinx
import sphinx_book_theme
from bs4 import BeautifulSoup
from PIL import Image

from vitlab import claims
from vitlab.book import front, papers, pdf, svg
from vitlab.book import site as book
from vitlab.markup import render

BROWSER = next((path for path in map(shutil.which, pdf._BROWSERS) if path), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome to print with")


def edition(value=0.2, low=0.1, high=0.3, demand="> 0", verdict="seen", **more):
    primary = {"primary": "ViT - CNN", "value": value, "low": low, "high": high, "n": 100}
    about = {"demand": demand, "verdict": verdict, "reason": "", "reproduction": False}
    about |= {"control": None, "room": "yes", "trainings": 3, "speaks_for": "", "known": []}
    shown = {"facts": [], "checks": [], "parts": [], "remarks": "", "images": "100 images"}
    return {**primary, **about, **shown, "recorded": None, **more}


@pytest.fixture
def records():
    """The ledger of all papers where three claims were measured, one of them twice."""
    said = {
        "occlusion-random": {"mini": edition()},
        "occlusion-salient": {
            "photos": edition(verdict="cannot tell", reason="the interval includes 0"),
            "mini": edition(-0.2, -0.3, -0.1, verdict="opposite seen"),
        },
        "shape-bias-vit-vs-cnn": {"mini": edition(verdict="not run", reason="no ViT")},
    }
    found = []
    for r in claims.ledger({}):
        editions = said.get(r["claim"], {}) if r["paper"] == "naseer2021" else {}
        ran = [e for e in ("photos", "mini") if editions.get(e, {}).get("verdict") != "not run"]
        ran = [e for e in ran if e in editions]
        headline = editions[ran[0]] if ran else {"verdict": "not run", "reason": "no ViT"}
        found.append(
            {**r, "editions": editions, "edition": ran[0] if ran else None}
            | {"verdict": headline["verdict"], "reason": headline["reason"]}
            | {"page": "01-occlusion" if editions else None}
        )
    return found


# --- an interval against its bound ----------------------------------------------------------------


@pytest.mark.parametrize("demand", ["> {:.3f}", "< {:.3f}"])
def test_right_of_the_bound_is_what_a_demand_asks_for(demand):
    for value, bound in np.random.default_rng(0).uniform(-1, 1, (200, 2)).round(3):
        asked = value > bound if demand.startswith(">") else value < bound
        away = svg.support(value, demand.format(bound))
        if value != bound:
            assert (away > 0) == asked
            assert (svg.across(away) > svg.WIDE / 2) == asked


def test_equality_is_supported_by_the_worst_end_of_an_interval():
    drawn = np.random.default_rng(1).uniform([-1, 0, 0.01], [1, 1, 0.5], (200, 3)).round(3)
    for low, width, margin in drawn:
        high = low + width
        worst, best = svg.supports(low, high, f"within {margin:.3f}")
        nearest = 0 if low < 0 < high else min(abs(low), abs(high))
        assert worst == pytest.approx(margin - max(abs(low), abs(high)), abs=1e-8)
        assert best == pytest.approx(margin - nearest, abs=1e-8)


def test_a_drawing_says_its_numbers_and_lies_where_they_are():
    drawn = BeautifulSoup(str(svg.bar(edition(0.25, 0.04, 0.49, "< 0"))), "html.parser").svg
    assert drawn["aria-label"] == drawn.title.text
    assert "0.250 [0.040, 0.490], asked < 0, n = 100" in drawn.title.text
    at = {e: float(drawn.select_one(".ci")[e]) for e in ("x1", "x2")}
    half = svg.WIDE / 2 - 6  # square roots .7, .5, .2, to the left, as less was asked
    assert at["x1"] == pytest.approx(svg.WIDE / 2 - 0.7 * half, abs=0.1)
    assert at["x2"] == pytest.approx(svg.WIDE / 2 - 0.2 * half, abs=0.1)
    assert float(drawn.select_one(".dot")["cx"]) == pytest.approx(
        svg.WIDE / 2 - 0.5 * half, abs=0.1
    )
    assert svg.bar({"value": None, "low": None, "high": None}) == ""
    with_tick = BeautifulSoup(str(svg.bar(edition(), 0.36)), "html.parser")
    assert with_tick.select_one(".known").title.text == "published: 0.36"


def test_what_a_control_leaves_decides_and_a_number_without_room_is_hollow():
    control = {"against": "a filter", "value": -0.01, "low": -0.09, "high": 0.0576}
    drawn = BeautifulSoup(str(svg.bar(edition(0.25, 0.16, 0.36, control=control))), "html.parser")
    marks = drawn.select(".dot")
    assert ["hollow" in mark["class"] for mark in marks] == [True, False]
    filled = drawn.select(".ci")[1]  # from .3 left to .24 right of the bound, in roots
    half = svg.WIDE / 2 - 6
    assert float(filled["x1"]) == pytest.approx(svg.WIDE / 2 - 0.3 * half, abs=0.1)
    assert float(filled["x2"]) == pytest.approx(svg.WIDE / 2 + 0.24 * half, abs=0.1)
    assert "less what a filter shows, which decides: −0.010" in drawn.title.text
    less = edition(-0.25, -0.36, -0.16, "< 0", control={**control, "low": -0.04, "high": -0.0025})
    second = BeautifulSoup(str(svg.bar(less)), "html.parser").select(".ci")[1]
    assert float(second["x1"]) > svg.WIDE / 2, "less was asked, and less is left"
    [mark] = BeautifulSoup(str(svg.bar(edition(room="ceiling"))), "html.parser").select(".dot")
    assert "hollow" in mark["class"]


@pytest.mark.parametrize(
    ("ends", "verdict", "reason", "hollow"),
    [
        ((0.1, 0.3), "seen", "", False),
        ((-0.1, 0.3), "cannot tell", "the interval includes 0", False),
        ((0.1, 0.3), "cannot tell", "too few: 9 of at least 20", True),
        ((-0.1, 0.3), "cannot tell", "Too few: 9 of at least 20", True),
        ((0.1, 0.3), "cannot tell", "not all of them were measured", True),
    ],
)
def test_a_mark_is_hollow_where_the_verdict_is_withheld(ends, verdict, reason, hollow):
    e = edition(0.2, *ends, verdict=verdict, reason=reason)
    [mark] = BeautifulSoup(str(svg.bar(e)), "html.parser").select(".dot")
    assert ("hollow" in mark["class"]) == hollow


def test_an_interval_beyond_the_drawing_has_an_arrow_at_that_end():
    for value, demand, at in [(2.1, "> 0", 199), (2.1, "< 0", 1), (-1.5, "> 0", 1)]:
        e = edition(value, value - 0.3, value + 0.3, demand)
        [arrow] = BeautifulSoup(str(svg.bar(e)), "html.parser").select(".on")
        assert float(re.match(r"M([\d.]+)", arrow["d"])[1]) == at
    assert 'class="on"' not in svg.bar(edition())


def test_a_headline_shows_every_point_on_one_scale():
    curve = {
        "ViT": [[0, 0.9, 0.8, 1.0, 50], [0.5, 0.5, 0.4, 0.6, 50]],
        "CNN": [[0, 0.7], [0.5, 0.1]],
    }
    published = {"ViT": [[0.5, 0.7, None, None, None, "DeiT-S, 50 %; Sec. 3.1"]]}
    panels = [svg.Panel("published", published), svg.Panel("miniature", curve, chance=0.1)]
    drawn = BeautifulSoup(str(svg.headline(panels, "share dropped", "accuracy")), "html.parser")
    titles = [point.title.text for point in drawn.select(".point")]
    assert titles == [
        "ViT, 0.5 (share dropped): 0.700; DeiT-S, 50 %; Sec. 3.1",
        "ViT, 0 (share dropped): 0.900 [0.800, 1.000], n = 50",
        "ViT, 0.5 (share dropped): 0.500 [0.400, 0.600], n = 50",
        "CNN, 0 (share dropped): 0.700",
        "CNN, 0.5 (share dropped): 0.100",
    ]
    high = [
        float(mark.get("cy") or re.search(r"M[\d.]+ ([\d.]+)", mark["d"])[1])
        for mark in drawn.select("figure .mark")
    ]
    low, top = high[4], high[1]  # .1 and .9; the same scale in both panels
    assert [(low - y) / (low - top) * 0.8 + 0.1 for y in high] == pytest.approx(
        [0.7, 0.9, 0.5, 0.7, 0.1], abs=0.01
    )
    table = front.headline_table(panels)
    assert table["value"].tolist() == [0.7, 0.9, 0.5, 0.7, 0.1]
    assert svg.headline([], "", "") == ""


def along(figure):
    """Where the marks of a panel lie, from its left edge to its right one."""
    marks = figure.select(".mark")
    found = [float(m.get("cx") or re.match(r"M([\d.]+)", m["d"])[1]) for m in marks]
    ticks = figure.select(".tick")
    left, right = float(ticks[0]["x1"]), float(ticks[0]["x2"])
    return [(x - left) / (right - left) for x in found]


@pytest.mark.parametrize(("last", "own"), [(4, True), (24, False)])
def test_a_panel_is_not_squeezed_by_anothers_levels(last, own):
    """Half of the axis or more is one axis for both; less, and the panel has one of its own."""
    short = {"ViT": [[0, 0.9], [last / 2, 0.5], [last, 0.1]]}
    panels = [svg.Panel("photographs", short), svg.Panel("miniature", {"ViT": [[0, 1], [32, 0]]})]
    drawn = BeautifulSoup(str(svg.headline(panels, "radius", "accuracy")), "html.parser")
    small, large = map(along, drawn.select("figure"))
    assert (small[-1] > 0.9) == own
    assert large[-1] > 0.9
    assert own or small[-1] == pytest.approx(last / 32, abs=0.03)


@pytest.mark.parametrize("falls", [True, False])
def test_the_word_at_the_line_of_chance_lies_on_no_mark(falls):
    """A curve that falls steeply crosses chance at the left, one that falls late at the right."""
    levels = [k / 20 for k in range(21)]
    heights = [max(0.0, 1 - 8 * x) if falls else min(1.0, 8 * (1 - x)) for x in levels]
    line = [[x, v, v - 0.01, v + 0.01, 9] for x, v in zip(levels, heights, strict=True)]
    panel = svg.Panel("miniature", {"ViT": line}, chance=0.1)
    drawn = BeautifulSoup(str(svg.headline([panel], "x", "y")), "html.parser")
    [word] = [t for t in drawn.select("text") if t.text == "chance"]
    x, y = float(word["x"]), float(word["y"])
    places = [(float(m["cx"]), float(m["cy"])) for m in drawn.select("figure .mark")]
    assert not [at for at in places if abs(at[0] - x) < 21 and y - 12 < at[1] < y + 4]


@pytest.mark.parametrize(
    "lines",
    [
        {"ViT": [[0.5, 1.0, 1.0, 1.0, 20]]},
        {"ViT": [[0, 0, 0, 0, 20], [1, 0, 0, 0, 20]]},
        {"ViT": [["birds", 1e9]], "CNN": [["birds", 1e9]]},
        {"ViT": [[-3, 1e-12], [-2, 2e-12]]},
    ],
)
def test_a_headline_of_equal_or_tiny_numbers_is_drawn(lines):
    drawn = str(svg.headline([svg.Panel("miniature", lines)], "x", "y"))
    assert drawn.count('class="point"') == sum(map(len, lines.values()))
    assert "nan" not in drawn


def test_rows_of_a_headline_are_named_once_and_told_apart():
    lines = {
        "ViT, last": [["birds", 0.5, 0.4, 0.6, 9]],
        "ViT, four": [["birds", 0.6], ["cars", 0.7]],
    }
    drawn = BeautifulSoup(str(svg.headline([svg.Panel("miniature", lines)], "", "")), "html.parser")
    names = [t.contents[0] for t in drawn.select("figure svg > text") if t.title]
    assert names == ["birds", "cars"]
    assert len(drawn.select("figure .mark.hollow")) == 2, "a second series of the same group"


def test_each_series_of_a_headline_has_a_mark_of_its_own_in_every_panel():
    """In a panel that lacks the first series the second is marked as in the legend."""
    names = ["ViT with CFA", "ViT with CFA, rate 0.1", "ViT with CFA, rate 0.2", "last", "all"]
    lines = {name: [[k, 0.5]] for k, name in enumerate(names)}
    panels = [svg.Panel("photographs", {n: lines[n] for n in names[1:]}), svg.Panel("all", lines)]
    drawn = BeautifulSoup(str(svg.headline(panels, "", "")), "html.parser")

    def shape(mark):
        path = re.sub(r"^M[-\d.]+ [-\d.]+", "", mark.get("d", ""))
        return mark.name, path, *mark["class"]

    legend = {s.get_text(strip=True): shape(s.select_one(".mark")) for s in drawn.select("span")}
    of_group = [legend[name] for name in names[:3]]
    assert len(set(of_group)) == 3
    assert legend["last"] != legend["all"]
    for figure in drawn.select("figure"):
        for point in figure.select(".point"):
            name = re.match(r"(.*), \d", point.title.text)[1]
            assert shape(point.select_one(".mark")) == legend[name]


def test_published_points_of_several_models_are_named():
    remarks = [f"{name}, 50 %; Table 1" for name in ("DeiT-S", "DeiT-B (best)", "DeiT-T")]
    line = [[0.5, 0.4 + 0.2 * k, None, None, None, r] for k, r in enumerate(remarks)]
    shown = svg.headline([svg.Panel("published", {"ViT": [*line, [0.9, 0.2]]})], "share", "y")
    drawn = BeautifulSoup(str(shown), "html.parser")
    assert {t.text for t in drawn.select("text")} >= {"DeiT-S", "DeiT-B", "DeiT-T"}
    marks = [float(m["cx"]) for m in drawn.select("figure .mark")]
    for text in drawn.select("text"):
        if text.text.startswith("DeiT"):
            wide, x = 7.5 * len(text.text), float(text["x"])
            left = x - {"start": 0, "middle": wide / 2, "end": wide}[text["text-anchor"]]
            assert not [m for m in marks[:3] if left < m < left + wide] or "middle" in str(text)
    assert "0.400 at 0.5 (DeiT-S)" in drawn.select_one("figure svg")["aria-label"]


# --- the front page -------------------------------------------------------------------------------


def test_the_front_page_has_a_line_a_claim_and_a_dot_a_claim(records):
    tally = BeautifulSoup(front.tally(front.rows(records, "../")), "html.parser")
    page = BeautifulSoup(front.ledger(front.rows(records, "../")), "html.parser")
    total = len(records)
    assert len(tally.select(".dots .d a")) == total
    assert {a.get("tabindex") for a in tally.select(".dots .d a")} == {"-1"}, (
        "no stops for the keyboard"
    )
    assert f"2 of {total} claims measured" in " ".join(tally.get_text().split())
    lines = page.select("#ledger tr[data-paper]")
    assert [line["id"] for line in lines] == [
        "naseer2021.occlusion-random",
        "naseer2021.occlusion-salient",
        "naseer2021.shape-bias-vit-vs-cnn",
    ]
    assert len(page.select(".waiting li")) == total - 3
    cells = [[cell.get_text(" ", strip=True) for cell in line.select(".e")] for line in lines]
    assert cells[1] == ["· not measured", "? cannot tell", "✗ opposite seen"]
    assert lines[1]["data-editions"].split() == ["photographs", "miniature"]
    assert page.select_one("form")["hidden"] == "", "without a script there is nothing to press"
    assert lines[0].select_one("a")["href"] == (
        "../notebooks/01-occlusion.html#naseer2021.occlusion-random"
    )


def test_a_line_says_how_many_statements_agree_and_for_what_they_speak(records):
    parts = [
        {"part": v, "verdict": v, "reason": ""} for v in ("seen", "not seen", "not run", "seen")
    ]
    [r] = [r for r in records if r["claim"] == "occlusion-random"]
    ours = {"mini": edition(parts=parts, speaks_for="these networks", known=["miniature"])}
    record = {**r, "editions": ours}
    line = BeautifulSoup(front.claims_of_page([record]), "html.parser").select_one("tbody tr")
    cells = [" ".join(cell.get_text(" ").split()) for cell in line.select(".e")]
    assert cells[2] == "✓ seen statements: 2 seen, 1 not seen"
    assert "these networks only" in line.get_text()
    said = " ".join(line.select_one(".num").get_text().split())
    assert said.startswith("miniature, n = 100: seen: ViT - CNN: 0.200 [0.100, 0.300] (asked: > 0)")
    assert front.answer(record).endswith(". Its other statements: not seen.")
    told = " ".join(
        BeautifulSoup(front.tally(front.rows([record], "../")), "html.parser").get_text().split()
    )
    assert "1 of these deciding checks were chosen when results" in told
    ours = {"photos": edition(known=["miniature"])}  # of another edition than this one
    elsewhere = {**record, "editions": ours, "edition": "photos"}
    assert "deciding checks were chosen" not in front.tally(front.rows([elsewhere], "../"))


def browsed(page, *options):
    """A page as the browser has it after its scripts."""
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--virtual-time-budget=3000", *options, page.as_uri()),
        ],
        capture_output=True,
        text=True,
    )
    return BeautifulSoup(done.stdout, "html.parser")


def test_the_legend_says_why_runs_gave_no_verdict(records):
    [r] = [r for r in records if r["claim"] == "shape-bias-vit-vs-cnn"]
    reasons = ["no ViT", "one training", "no ViT"]
    found = [
        {**r, "editions": {"imagenet": edition(verdict="not run", reason=why)}} for why in reasons
    ]
    found.append({**r, "editions": {"mini": edition(verdict="not run", reason="too small")}})
    text = BeautifulSoup(front.no_verdict(found), "html.parser").get_text()
    assert text.strip() == "No verdict: ImageNet 3 (2 of them: no ViT); miniature 1 (too small)."
    assert front.no_verdict([r | {"editions": {}}]).strip() == ""


def test_a_run_that_could_not_answer_says_why_in_its_cell(records):
    page = BeautifulSoup(front.ledger(front.rows(records, "../")), "html.parser")
    line = page.select_one("[id='naseer2021.shape-bias-vit-vs-cnn']")
    cells = [" ".join(cell.get_text(" ").split()) for cell in line.select(".e")]
    assert cells == ["· not measured", "· not measured", "○ no verdict : no ViT"]
    assert line.select(".e")[2]["title"] == "No ViT."


def test_a_number_has_its_unit_where_its_name_has_not(records):
    [r] = [r for r in records if r["claim"] == "occlusion-random"]
    for unit, said in (("nats", "0.300] nats (asked"), ("share", "0.300] (asked")):
        record = {**r, "editions": {"mini": edition(unit=unit)}}
        line = BeautifulSoup(front.claims_of_page([record]), "html.parser")
        assert said in " ".join(line.get_text().split())


SEARCH = """<script>addEventListener("load", () => {
  const form = document.getElementById("ledger-filter"), found = {};
  for (const asked of CASES) {
    form.reset();
    for (const [name, value] of Object.entries(asked)) form[name].value = value;
    form.dispatchEvent(new Event("input"));
    found[Object.values(asked).join("+")] = form.querySelector("output").textContent;
  }
  document.body.dataset.found = JSON.stringify(found);
})</script>"""


@needs_browser
def test_the_filters_find_what_they_name(tmp_path, root, records):
    total = len(records)
    of = {
        ("words", "occlusion random"): sum(
            all(word in text for word in ("occlusion", "random"))
            for row in front.rows(records, "")
            for text in [row["sought"].lower()]
        ),
        ("words", "intriguing properties"): sum(r["paper"] == "naseer2021" for r in records),
        ("words", "nothing is called so"): 0,
        ("verdict", "cannot tell"): 1,
        ("verdict", "not run"): total - 3,
        ("verdict", "no verdict"): 1,
        ("verdict", "opposite seen"): 0,  # in miniature alone, and photographs come first
        ("edition", "miniature", "verdict", "opposite seen"): 1,
        ("edition", "miniature", "verdict", "no verdict"): 1,
        ("edition", "photographs", "verdict", "seen"): 0,
        ("edition", "photographs", "verdict", "not run"): total - 1,
        ("edition", "photographs"): 1,
        ("edition", "miniature"): 3,
        ("paper", "kim2022"): sum(r["paper"] == "kim2022" for r in records),
        ("theme", "language"): sum(r["theme"] == "language" for r in records),
    }
    script = (root / "book" / "ledger.js").read_text()
    table = front.ledger(front.rows(records, "../"))
    page = tmp_path / "page.html"
    page.write_text(
        f"<html><meta charset='utf-8'><body>{table}<script>{script}</script>"
        + SEARCH.replace("CASES", json.dumps([dict(zip(a[::2], a[1::2], strict=True)) for a in of]))
    )
    body = browsed(page).body
    assert json.loads(body["data-found"]) == {
        "+".join(asked[1::2]): f"{n} of {total} claims" for asked, n in of.items()
    }


@pytest.mark.parametrize(("said", "fair"), [("cannot tell", "cannot tell"), ("opposite seen", "")])
def test_a_verdict_that_equal_accuracy_changes_says_so(records, said, fair):
    [r] = [r for r in records if r["claim"] == "shape-bias-vit-vs-cnn"]
    verdicts = {"ViT - CNN": "opposite seen", "ViT - CNN, equal accuracy": said}
    checks = [{"part": "order", "quantity": q, "verdict": v} for q, v in verdicts.items()]
    checks.append({"part": "another", "quantity": "of equal accuracy", "verdict": "seen"})
    photos = edition(verdict="opposite seen", checks=checks)
    record = {**r, "editions": {"photos": photos}, "edition": "photos", "verdict": "opposite seen"}
    texts = front.answer(record), front.claims_of_page([record])
    for text in texts:
        found = " ".join(BeautifulSoup(text, "html.parser").get_text().split())
        assert ("gainst a CNN as accurate" in found) == bool(fair)
        assert not fair or re.search(f"against a CNN as accurate[^:]*: {fair}", found, re.I)


def test_checks_that_decide_otherwise_are_named(records):
    """On the card and in the answer; a check that cannot tell contradicts nothing."""
    [r] = [r for r in records if r["claim"] == "occlusion-salient"]
    verdicts = {f"gap, Q = 0.{k}": "opposite seen" if k < 3 else "seen" for k in range(1, 5)}
    verdicts |= {"gap, Q = 0.9": "cannot tell"}
    checks = [{"part": "", "quantity": q, "verdict": v} for q, v in verdicts.items()]
    checks = [{**edition(), **c, "primary": False} for c in checks]
    part = {**edition(agree=[3, 6]), "part": "", "classes": 0, "over_trainings": None}
    part |= {"takes": None, "sees": None}
    ours = {"photos": edition(checks=checks, parts=[part], agree=[3, 6], models=[])}
    record = {**r, "editions": ours, "edition": "photos", "verdict": "seen"}
    card = claims.card("naseer2021", "occlusion-salient", ours)
    named = "opposite seen: gap, Q = 0.1; Q = 0.2."
    for shown in (card, front.answer(record)):
        text = " ".join(BeautifulSoup(shown, "html.parser").get_text().split())
        assert f"3 of 6 checks say so; {named}" in text
        assert "0.9." not in text


def test_what_was_chosen_with_results_of_another_edition_is_said_with_the_other_numbers():
    """Photographs' learning rate was taken when the miniature was known; the paper's is beside."""
    checks = [edition() | {"part": "error falls", "quantity": "source - CFA", "primary": True}]
    checks.append({**checks[0], "quantity": "source - CFA, rate 0.001", "primary": False})
    checks[1] |= {"value": 0.002, "low": -0.013, "high": 0.017, "verdict": "cannot tell"}
    part = {**edition(agree=[1, 2]), "part": "error falls", "classes": 0, "over_trainings": None}
    part |= {"takes": None, "sees": None}
    ours = {"photos": edition(checks=checks, parts=[part], models=[])}
    ours["mini"] = edition(checks=checks[:1], parts=[part], models=[])
    card = claims.card("kojima2022", "cfa-lowers-imagenet-c-error-vit-b16", ours)
    photos, mini = (
        " ".join(e.get_text().split())
        for e in BeautifulSoup(card, "html.parser").select(".evidence")
    )
    assert "0.0978 is the learning rate that decides" in photos
    assert "the miniature had shown" in photos
    assert "source - CFA, rate 0.001: 0.002 [−0.013, 0.017], cannot tell." in photos
    assert "0.0978" not in mini


def test_every_run_of_a_headline_calls_a_series_the_same(tmp_path):
    """What decides has no rate in its name, and is another rate on photographs."""
    about = {"paper": "kojima2022", "claim": "cfa-helps-every-corruption", "x": "", "y": ""}
    lines = {"ViT with CFA": [["fog", 0.1, 0, 0.2, 9]]}
    lines["ViT with CFA, rate 0.001"] = [["fog", 0.2, 0.1, 0.3, 9]]
    runs = []
    for name, shown in (("mini", [*lines][:1]), ("photos", [*lines])):
        (tmp_path / name).mkdir()
        h = {**about, "edition": name, "chance": None, "lines": {k: lines[k] for k in shown}}
        (tmp_path / name / "headline.json").write_text(json.dumps(h))
        runs.append({"folder": tmp_path / name, "run": name})
    published, photos, mini = front.headline(tmp_path / "mini", runs[1:])
    assert list(mini.lines) == ["ViT with CFA, rate 0.001"]
    assert list(photos.lines) == ["ViT with CFA, rate 0.0978", "ViT with CFA, rate 0.001"]
    assert "ViT with CFA, rate 0.001" in published.lines


def test_the_tally_says_what_equal_accuracy_makes_of_the_verdicts(records):
    """Of three verdicts beside which it stands one stays; a check that has it by itself is none."""
    said = [("seen", "seen"), ("seen", "cannot tell"), ("opposite seen", "cannot tell")]
    found = []
    for verdict, fair in said:
        checks = [{"part": "", "quantity": "ViT - CNN", "verdict": verdict}]
        checks.append({"part": "", "quantity": "ViT - CNN, equal accuracy", "verdict": fair})
        found.append((verdict, checks))
    found.append(("seen", [c | {"quantity": "CNN, equal accuracy"} for c in found[0][1]]))
    found.append(("seen", found[0][1][:1]))
    rows = [
        {**r, "editions": {"photos": edition(verdict=v, checks=checks)}, "edition": "photos"}
        | {"verdict": v, "page": "01-occlusion"}
        for r, (v, checks) in zip(records, found, strict=False)
    ]
    text = BeautifulSoup(front.tally(front.rows(rows, "../")), "html.parser").get_text()
    assert (
        "Beside 3 of them stands the same check against a CNN as accurate as the ViTs: "
        "1 verdict stays the same, 2 turn into “cannot tell”."
    ) in " ".join(text.split())


def pair(verdict, low=0.1, high=0.3, trainings=1):
    """What a check says of two networks by DeiT's recipe."""
    said = {"verdict": verdict, "reason": "", "value": 0.2, "low": low, "high": high, "n": 100}
    return said | {"unit": "share", "trainings": trainings, "speaks_for": "these networks"}


@pytest.mark.parametrize(("trainings", "once"), [(1, ", once each, so it speaks"), (3, ": 1")])
def test_a_pair_by_deits_recipe_is_shown_beside_every_verdict_that_has_one(
    records, trainings, once
):
    """In the claim's line always, in the answer where it is another; the tally counts both."""
    rows = []
    for r, other in zip(records, ("seen", "not seen", ""), strict=False):
        beside = {"by_deit": pair(other, trainings=trainings) if other else None}
        ours = {"photos": edition(**beside)}
        rows.append({**r, "editions": ours, "edition": "photos", "verdict": "seen", "page": "x"})
    rows[2]["editions"]["photos"].pop("by_deit")  # of a run before there were pairs

    def text(html):
        return " ".join(BeautifulSoup(html, "html.parser").get_text().split())

    for row, other in zip(rows, ("seen", "not seen", ""), strict=True):
        line = text(front.claims_of_page([row]))
        shown = f"; by DeiT’s recipe: {other} 0.200 [0.100, 0.300], these networks only"
        assert (shown in line) == bool(other)
        assert ("DeiT’s" in line) == bool(other)
        assert ("By DeiT's recipe: not seen." in text(front.answer(row))) == (other == "not seen")
        top = text(front.top("01-occlusion", [row], []))
        assert ("by DeiT’s recipe: " in top) == bool(other)
    tally = text(front.tally(front.rows(rows, "../")))
    said = (
        "Beside 2 stands the same check of a ViT and a CNN that were both trained by DeiT’s recipe"
    )
    assert f"{said}{once}" in tally
    assert "1 verdict stays the same, 1 turns into “not seen”." in tally
    assert "both trained by" not in text(front.tally(front.rows(rows[2:], "../"))), "none is said"


def test_the_tally_adds_up_and_says_what_has_no_verdict(records):
    text = " ".join(
        BeautifulSoup(front.tally(front.rows(records, "../")), "html.parser").get_text().split()
    )
    total = len(records)
    assert f"2 of {total} claims measured" in text
    [short] = [r["short"] for r in records if r["claim"] == "shape-bias-vit-vs-cnn"]
    assert f"Of the other {total - 2}, 1 has a page and no verdict: {short}." in text
    assert f"{total - 3} have no page yet." in text


def test_the_tally_names_what_is_seen_in_two_editions_and_against_an_equal_cnn(records):
    """Of three seen twice one stays, one turns, of one there is no such check."""
    rows = []
    for r, fair in zip(records, ("seen", "cannot tell", "", "seen"), strict=False):
        checks = [{"part": "", "quantity": "ViT - CNN", "verdict": "seen"}]
        beside = {"part": "", "quantity": "ViT - CNN, equal accuracy", "verdict": fair}
        photos = edition(checks=checks + [beside] * bool(fair))
        ours = {"photos": photos, "mini": edition()}
        rows.append({**r, "editions": ours, "edition": "photos", "page": "x", "verdict": "seen"})
    rows[3]["editions"]["mini"] = edition(verdict="cannot tell")
    found = front.rows(rows, "../")
    text = " ".join(BeautifulSoup(front.tally(found), "html.parser").get_text().split())
    shorts = [r["short"] for r in rows]
    assert "3 are seen on photographs and in miniature." in text
    assert f"Of these, also against a CNN as accurate as the ViTs: {shorts[0]}." in text
    assert f"But not: {shorts[1]} (cannot tell)." in text
    assert "Beside the other 1 no such check stands." in text


def test_a_page_names_its_own_photographs_and_how_good_its_networks_are(records):
    [r] = [r for r in records if r["claim"] == "shape-bias-vit-vs-cnn"]
    ours = {"photos": edition(images="245 images of cue-conflict", models=["photos/cnn-0"])}
    record = {**r, "editions": ours, "edition": "photos", "verdict": "seen"}
    panels = [
        svg.Panel("published", {"ViT stylised": [["DeiT", 0.9]]}),
        svg.Panel("photographs", {"ViT": [["ViT", 0.7]]}),
    ]
    text = BeautifulSoup(front.top("02", [record], panels), "html.parser").get_text()
    assert "Photographs: cue-conflict, shown to networks" in " ".join(text.split())
    assert "(right on clean test images: CNN 86 %)" in " ".join(text.split())
    assert "none was found printed of ViT" in text


def test_a_theme_of_the_tally_leads_to_its_part_of_the_ledger(records):
    found = front.rows(records, "../")
    ledger = BeautifulSoup(front.ledger(found), "html.parser")
    themes = BeautifulSoup(front.tally(found), "html.parser").select(".dots .t a")
    assert [a.text for a in themes] == ["occlusion and patches", "shape and texture"]
    for a in themes:
        [part] = ledger.select(f"[id='{a['href'][1:]}']")
        assert part.th.text == a.text


def test_the_published_value_is_a_tick_in_a_reproduction_alone(records):
    [r] = [r for r in records if r["claim"] == "occlusion-random"]
    stated = [{"published": 0.4, "demand": "> 0"}]
    for reproduction in (True, False):
        ours = {"mini": edition(reproduction=reproduction)}
        [row] = front.rows([{**r, "editions": ours, "primary": stated}], "../")
        assert ("published: 0.4" in row["bar"]) == reproduction


@pytest.mark.parametrize(
    ("verdict", "reason", "said"),
    [
        ("seen", "", "Seen in miniature: A beats B."),
        ("opposite seen", "", "In miniature we see the opposite of “A beats B”."),
        ("cannot tell", "no room", "Cannot tell in miniature whether “A beats B”. No room."),
        ("not seen", "", "Not seen in miniature: “A beats B”."),
    ],
)
def test_a_page_is_answered_from_its_verdict(verdict, reason, said):
    record = {"short": "A beats B", "verdict": verdict, "edition": "mini", "reason": reason}
    assert BeautifulSoup(str(front.answer(record)), "html.parser").get_text() == said


def test_every_claim_has_a_short_statement_and_a_theme_of_the_list():
    for paper in claims.papers().values():
        for entry in paper["claims"]:
            assert 2 <= len(entry["short"].split()) <= 12, entry["id"]
            assert entry["theme"] in claims.THEMES, entry["id"]


def test_a_verdict_of_a_page_whose_last_run_failed_says_so(records):
    measured = next(r for r in records if r["edition"])
    for failed in ((), (measured["page"],)):
        table = BeautifulSoup(front.ledger(front.rows(records, "", failed)), "html.parser")
        marked = [row["id"] for row in table.select("tr[id]") if "last run of its page" in row.text]
        known = [r for r in records if r["page"] in failed and r["edition"]]
        of_page = [f"{r['paper']}.{r['claim']}" for r in known]
        assert sorted(marked) == sorted(of_page)


# --- papers ---------------------------------------------------------------------------------------


def held_since(path):
    return papers.held_since(path, papers.commits(path.parent))


def test_a_paper_has_its_checks_with_the_commit_that_first_held_them(
    tmp_path, monkeypatch, records
):
    (tmp_path / "papers").mkdir()
    path = tmp_path / "papers" / "naseer2021.yml"
    shutil.copy(claims.papers_folder() / "naseer2021.yml", path)

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert held_since(path) == {}, "no history, nothing said"
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    first = git("rev-parse", "HEAD")[:10]
    text = path.read_text()
    claim = "occlusion-salient"
    start = text.index("check:", text.index(f"id: {claim}"))
    path.write_text(text[:start] + text[start:].replace("  ", "  Anew: ", 1))
    path.write_text(text[:start] + text[start:].replace("quantity: ", "quantity: changed ", 1))
    git("commit", "-q", "-a", "-m", "two")
    second = git("rev-parse", "HEAD")[:10]
    held = held_since(path)
    assert len(held) == len(claims.papers()["naseer2021"]["claims"])
    assert held[claim]["commit"] == second
    assert {h["commit"] for name, h in held.items() if name != claim} == {first}
    (tmp_path / "passed over").write_text(git("rev-parse", "HEAD"))
    git("config", "blame.ignoreRevsFile", "passed over")
    git("replace", "--graft", "HEAD")
    assert held_since(path) == held, "how a reader has git show history does not count"
    path.write_text(path.read_text().replace("quantity: changed ", "quantity: again ", 1))
    assert held_since(path)[claim]["commit"] == papers.NOT_YET


def test_a_shallow_clone_says_nothing_of_first_commits(tmp_path, root):
    inside = root / "book" / "papers" / "kim2022.yml"
    if not held_since(inside):
        pytest.skip("this checkout has no history to clone")
    place = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{root}", str(place)], check=True)
    assert held_since(place / "book" / "papers" / "kim2022.yml") == {}


def test_a_papers_page_has_every_claim_and_no_editors_note(records):
    made = papers.pages(records, "https://github.com/a/b")
    assert set(made) == {"index", *claims.papers()}
    for paper, entry in claims.papers().items():
        page = BeautifulSoup(made[paper], "html.parser")
        cards = [card["id"] for card in page.select(".claim")]
        assert cards == [claim["id"] for claim in entry["claims"]]
        for note in (*entry.get("unsure", ()), *(claim["mini"] for claim in entry["claims"])):
            words = " ".join(str(note).split())[:60]
            assert words not in " ".join(page.get_text().split()), words
        assert "known: [" not in page.get_text()
        for claim, card in zip(entry["claims"], page.select(".claim"), strict=True):
            told = " ".join(card.get_text().split())
            assert " ".join(claim["check"].split()) in told
            for one in claims.primaries(claim).values():
                assert " ".join(str(one["quantity"]).split()) in told
    card = BeautifulSoup(made["naseer2021"], "html.parser").select_one("#occlusion-salient")
    settings = [" ".join(s.get_text().split()) for s in card.select(".setting")]
    assert settings == [
        "? cannot tell photographs100 images",
        "✗ opposite seen miniature100 images",
    ]


def test_a_link_of_a_papers_page_is_one_address(records):
    """A suite of three papers has three numbers at arXiv and four places of code."""
    made = papers.pages(records, "")
    linked = {
        paper: re.findall(r"\]\(<([^>]*)>\)", html.unescape(text)) for paper, text in made.items()
    }
    for paper, places in linked.items():
        for place in places:
            assert re.fullmatch(r"https://[^\s,;]+", place), paper
            assert place.count("https:") == 1, paper
            assert "arxiv" not in place or re.fullmatch(r"https://arxiv.org/abs/[\d.]+", place)
    assert len(linked["hendrycks2021"]) == 7
    assert f"[Its code](<{claims.papers()['kojima2022']['code']}>)" in made["kojima2022"]


# --- a finding page -------------------------------------------------------------------------------


def test_a_page_is_staged_in_the_order_of_a_reader(tmp_path, records):
    mine = [r for r in records if r["page"] == "01-occlusion"]
    settle = '@lab.settles("naseer2021", "{}")\ndef body(): ...'
    card = '<div class="claim" id="x" data-claim="naseer2021 occlusion-salient">old</div>'
    cells = [
        nbformat.v4.new_markdown_cell("# Occlusion\n\n**Question.** Does it?"),
        nbformat.v4.new_code_cell("lab.headline()", metadata={"tags": ["headline"]}),
        nbformat.v4.new_code_cell(
            settle.format("occlusion-salient"),
            outputs=[nbformat.v4.new_output("display_data", {"text/html": card})],
        ),
        nbformat.v4.new_code_cell(settle.format("occlusion-random")),
        nbformat.v4.new_code_cell(
            "panels()",
            metadata={"mystnb": {"image": {"alt": "Curves."}}},
            outputs=[
                nbformat.v4.new_output(
                    "display_data",
                    {"image/png": ""},
                    metadata={"vitlab": {"data": "figures/1.csv", "says": "ViT 0.90 at 0"}},
                )
            ],
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    lines = {"ViT": [[0.0, 0.9, 0.8, 1.0, 50], [0.5, 0.4, 0.3, 0.5, 50]]}
    about = {"paper": "naseer2021", "claim": "occlusion-random", "edition": "mini"}
    about |= {"x": "share", "y": "accuracy", "chance": None, "lines": lines}
    (tmp_path / "headline.json").write_text(json.dumps(about))
    state = dict.fromkeys(("finished", "machine", "commit", "versions", "key"), "x")
    panels = front.headline(tmp_path, [])
    differs = "| a |\n|---|\n| b |"
    page = book.staged_page(
        "01-occlusion", tmp_path, state | {"seconds": 1}, mine, [], panels, differs
    )
    sources = [cell.source for cell in page.cells]
    places = [
        next(k for k, text in enumerate(sources) if word in text)
        for word in (
            "# Occlusion",
            "Cannot tell</strong> on photographs",
            "ledger",
            "**Question.**",
            "lab.headline",
            "figures/1.csv",
            "Known deviations",
            "page key",
        )
    ]
    assert places == sorted(places), "the first claim that the page settles is the one answered"
    top = BeautifulSoup(sources[1], "html.parser")
    panels = [f.figcaption.contents[0] for f in top.select("figure")]
    assert panels == ["published", "miniature"]
    assert page.cells[5].metadata["tags"] == ["remove-output", "hide-input"]
    assert 'id="headline"' in page.cells[4].source
    assert top.select("a[href='#headline']")
    shown = BeautifulSoup(page.cells[6].outputs[0]["data"]["text/html"], "html.parser")
    assert [s.strong.text for s in shown.select(".setting")] == ["photographs", "miniature"]
    figure = page.cells[8]
    assert figure.metadata.mystnb.image.alt == "Curves. Found: ViT 0.90 at 0."
    assert "vitlab" not in figure.outputs[0].metadata


@pytest.mark.parametrize(("wide", "classes"), [(500, None), (900, "wide")])
def test_a_figure_wider_than_a_phone_is_marked(tmp_path, wide, classes):
    packed = io.BytesIO()
    Image.new("RGB", (wide, 20)).save(packed, "PNG")
    data = {"image/png": base64.b64encode(packed.getvalue()).decode()}
    shown = nbformat.v4.new_output("display_data", data)
    cells = [nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell("x", outputs=[shown])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    state = dict.fromkeys(("finished", "machine", "commit", "versions", "key"), "x")
    page = book.staged_page("17-mine", tmp_path, state | {"seconds": 1})
    [cell] = [cell for cell in page.cells if cell.cell_type == "code"]
    assert cell.metadata.get("mystnb", {}).get("image", {}).get("classes") == classes


def test_the_status_page_has_the_times_of_recorded_runs():
    state = {"finished": "2026-11-30T02:49:23+00:00", "seconds": 1230.2, "machine": "cpu"}
    state |= {"commit": "0123456789", "image sets": [{"name": "cifar-10"}, {"name": "cifar-10"}]}
    runs = {"01-occlusion": [{"run": "photos", "state": state}], "02-shape-bias": []}
    text = render("status.html", pages=[], total=0, most=1, recorded=book._recorded(runs))
    rows = [
        [cell.get_text() for cell in row.select("td")]
        for row in BeautifulSoup(text, "html.parser").select("tr")
    ]
    told = ["photos", "01-occlusion", "cifar-10", "2026-11-30 02:49", "1,230", "cpu", "0123456789"]
    assert rows[-1] == told


def test_headers_of_tables_say_what_they_head(root):
    for path in sorted((root / "vitlab" / "book" / "templates").glob("*")):
        heads = re.findall(r"<th\b[^>]*>", path.read_text())
        assert [h for h in heads if "scope=" not in h] == [], path.name


def test_buttons_that_copy_code_have_a_name(tmp_path):
    """As sphinx-copybutton writes them, which is a library of its own."""
    import sphinx_copybutton

    from vitlab.book.build import _name_buttons

    script = next(Path(sphinx_copybutton.__file__).parent.rglob("copybutton.js_t"))
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "copybutton.js").write_text(script.read_text())
    _name_buttons(tmp_path)
    written = (tmp_path / "_static" / "copybutton.js").read_text()
    [button] = re.findall(r"<button [^`]*", written)
    assert 'aria-label="' in button


def test_a_claims_record_lies_in_the_site_as_one_line(tmp_path):
    """They and the ledger are a tenth of the site; indented it was more than 30 MB."""
    from vitlab.book.build import _lay

    record, table = {"claim": "ä", "checks": [{"value": 0.5}]}, "a,b\n1,2\n"
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "a.b.json").write_text(json.dumps(record, indent=1))
    (tmp_path / "table.csv").write_text(table)
    for path in (tmp_path / "claims" / "a.b.json", tmp_path / "table.csv"):
        _lay(path, tmp_path / "data" / path.name)
    text = (tmp_path / "data" / "a.b.json").read_text()
    assert (json.loads(text), text.count("\n")) == (record, 0)
    assert (tmp_path / "data" / "table.csv").read_text() == table


def test_a_page_without_a_title_is_called_by_its_name_and_keeps_its_code(tmp_path):
    cells = [nbformat.v4.new_code_cell("# a comment\nx = 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    state = dict.fromkeys(("finished", "machine", "commit", "versions", "key"), "x")
    page = book.staged_page("17-mine", tmp_path, state | {"seconds": 1})
    assert page.cells[0].source == "# 17-mine"
    assert [cell.source for cell in page.cells if cell.cell_type == "code"] == [cells[0].source]


@pytest.mark.parametrize("kind", ["noise", "cut", "text", "drawing"])
def test_pictures_are_packed_and_what_is_none_is_left_alone(kind):
    rng = np.random.default_rng(0)
    flat = np.repeat(np.repeat(rng.integers(0, 9, (40, 40, 1)) * 20, 15, 0), 15, 1)
    pixels = rng.integers(0, 256, (500, 500, 3)) if kind in ("noise", "cut") else flat.repeat(3, 2)
    packed = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(packed, "PNG", compress_level=0)
    text = base64.b64encode(packed.getvalue()).decode()
    text = {"cut": text[: len(text) // 2 - 1], "text": "no picture" * 40_000}.get(kind, text)
    data = {"image/png": text}
    book._lighten(data)
    if kind == "noise":
        assert set(data) == {"image/jpeg"}
        smaller = Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"])))
        assert smaller.size == (500, 500)
    else:
        assert data == {"image/png": text}


def test_a_small_book_links_to_its_own_pages_alone(root):
    """Jupyter Book takes a link to an absent page for an error, and no site is made."""

    def read(name):
        return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)

    def said(page):
        return "\n".join(c.source for c in page.cells if c.cell_type == "markdown")

    names = sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))
    linked = 0
    for name in names:
        text = said(read(name))
        assert "{doc}" not in text, f"{name}: a link with markup of its own"
        alone = said(book.unlinked(read(name), [name]))
        assert ".ipynb)" not in alone
        assert re.sub(r"\[(.+?)\]\([\w-]+\.ipynb\)", r"\1", text) == alone
        assert said(book.unlinked(read(name), names)) == text
        linked += text != alone
    assert linked, "pages that link to another"


def test_deviations_are_kept_by_page_and_all_pages_are_there(root):
    found = book.deviations((root / "book" / "deviations.md").read_text())
    findings = {path.stem for path in (root / "notebooks").glob("*.md")} - {"00-stimuli"}
    assert set(found) == findings, "each page says where it leaves its paper"
    for table in found.values():
        assert table.startswith("| paper or released code | here | why |")


# --- the site's own check -------------------------------------------------------------------------


def small_site(folder, **pages):
    for name, body in pages.items():
        path = folder / "book" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<html><body><main>{body}</main></body></html>")
    return folder


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "dead link"),
        ('<a href="other.html#nowhere">x</a>', "no such place"),
        ('<a href="../../secret.txt">x</a>', "leaves the site"),
        ('<a href="file:///etc/passwd">x</a>', "leaves the site"),
        ('<a href="http://[x">x</a>', "dead link"),
        ("{{ tally }}", "was not filled in"),
        ('<img src="a.png">', "without words"),
        ('<img src="big.png" alt="big">', "MB with its pictures"),
        ("<svg></svg>", "drawing without words"),
        ('<p id="a"></p><p id="a"></p>', "id a twice"),
        ("<div><table></div></table>", "closes another tag"),
        ("<div>", "closes another tag"),
        ("made in /home/me/place", "holds /home/me"),
        ('<script src="big.png"></script>', "with all it loads"),
    ],
)
def test_the_check_of_a_site_finds(tmp_path, body, fault):
    site = small_site(tmp_path, intro=body, other='<p id="here">')
    (tmp_path / "book" / "a.png").write_bytes(b"1")
    (tmp_path / "book" / "big.png").write_bytes(b"1" * 1_600_000)
    assert any(fault in found for found in check_site.faults(site, ("/home/me",)))
    clean = '<a href="other.html#here">x</a><img src="a.png" alt="a"><svg aria-hidden="true"/>'
    assert check_site.faults(small_site(tmp_path, intro=clean), ("/home/me",)) == []


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("theme", "ground"), [("html {", "#ffffff"), ('"dark"] {', "#121212")])
def test_text_has_contrast_in_both_themes(root, theme, ground):
    """WCAG 2.2, 1.4.3: 4.5 for text, on the theme's ground and on the book's bands."""
    css = (root / "book" / "static" / "vitlab.css").read_text()
    block = css[css.index(theme) :].partition("}")[0]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
    assert {"yes", "no", "open", "soft", "ink", "band"} <= set(colours)
    for name in ("yes", "no", "open", "soft", "ink"):
        for under in (ground, colours["band"]):
            light, dark = sorted((luminance(colours[name]), luminance(under)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, under)


THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
LOOKS = """<script>addEventListener("load", () => {
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const found = getComputedStyle(e).backgroundColor;
      if (found !== "rgba(0, 0, 0, 0)") return found;
    }
    return "rgb(255, 255, 255)";
  };
  const said = [...document.querySelectorAll(".claim, .claim *")].filter(
    (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  document.body.dataset.looks = JSON.stringify(
    said.map((e) => [e.outerHTML.slice(0, 60), getComputedStyle(e).color, ground(e)]));
})</script>"""


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_card_is_legible_on_the_ground_that_the_theme_lays_under_it(tmp_path, root, theme):
    """The theme's own style sheet counts: in the dark it lays a light ground under outputs."""
    card = claims.card("naseer2021", "occlusion-random", {"mini": edition()})
    css = [THEME / "styles" / "pydata-sphinx-theme.css", root / "book" / "static" / "vitlab.css"]
    styles = "".join(f"<style>{path.read_text()}</style>" for path in css)
    page = tmp_path / "page.html"
    page.write_text(
        f'<html data-theme="{theme}"><meta charset="utf-8">{styles}<body>'
        '<main class="bd-content"><div class="cell"><div class="cell_output">'
        f'<div class="output text_html">{card}</div></div></div></main>{LOOKS}</body></html>'
    )
    looks = json.loads(browsed(page).body["data-looks"])
    assert len(looks) > 5
    for element, *colours in looks:
        parts = [re.findall(r"\d+", colour)[:3] for colour in colours]
        text, under = (luminance("#" + "".join(f"{int(c):02x}" for c in p)) for p in parts)
        light, dark = max(text, under), min(text, under)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (element, colours)


@needs_browser
def test_a_page_prints_and_fits_a_phone(tmp_path, root):
    """Code and tables go on over sheets, titles stand left; a long name or line is wrapped."""
    css = [
        Path(sphinx.__file__).parent / "themes" / "basic" / "static" / "basic.css.jinja",
        THEME / "styles" / "bootstrap.css",
        *sorted(Path(sphinx_book_theme.__file__).parent.rglob("sphinx-book-theme.css")),
        root / "book" / "static" / "vitlab.css",
    ]
    shown = "\n".join(path.read_text() for path in css)
    card = claims.card("hendrycks2021", "architecture-helps-more-than-augmentation-on-a", {})
    line = "photos/" + "cnn-2, " * 90
    body = (
        '<main class="bd-main"><div class="bd-content">'
        '<div id="jb-print-docs-body"><h1>A</h1></div>'
        f"{card}<table><tr><td>1</td></tr></table><div class='cell'>"
        "<div class='cell_input'><div class='highlight-ipython3'><div class='highlight'>"
        "<pre id='code'>1</pre></div></div></div><div class='cell_output'>"
        f"<div class='output stream'><pre>{line}</pre></div></div></div></div></main>"
    )
    probe = """<script>addEventListener("load", () => {
      const of = (name) => getComputedStyle(document.querySelector(name));
      const found = {table: of("table").breakInside, whole: []};
      for (let e = document.querySelector("#code"); e; e = e.parentElement) {
        const {breakInside, overflowX} = getComputedStyle(e);
        if (breakInside !== "auto" || overflowX !== "visible") found.whole.push(e.className);
      }
      found.title = of("h1").textAlign;
      const widths = [".output pre", ".claim"].map((n) => document.querySelector(n).scrollWidth);
      found.wide = Math.max(...widths);
      document.body.dataset.found = JSON.stringify(found);
    })</script>"""
    found = {}
    for media in ("print", "(max-width: 600px)"):
        page = tmp_path / "page.html"
        styles = shown.replace(f"@media {media}", "@media all").replace("@media(", "@media (")
        page.write_text(
            f'<html><meta charset="utf-8"><style>{styles}</style>'
            f'<body style="width:380px">{body}{probe}</body></html>'
        )
        found[media] = json.loads(browsed(page).body["data-found"])
    printed = found["print"]
    assert (printed["table"], printed["whole"], printed["title"]) == ("auto", [], "left")
    assert found["(max-width: 600px)"]["wide"] <= 380


# --- the PDF --------------------------------------------------------------------------------------


def two_pages(folder):
    (folder / "notebooks").mkdir()
    (folder / "look.css").write_text("")
    head = '<link rel="stylesheet" href="../look.css?v=1">'
    (folder / "book").mkdir()
    (folder / "book" / "intro.html").write_text(
        f'{head}<article><h1 id="a">Front</h1><a href="../notebooks/01.html#b">on</a>'
        '<a href="../data/x.csv" id="d">data</a><a href="https://a.b">out</a>'
        "<script>1</script></article>"
    )
    (folder / "notebooks" / "01.html").write_text(
        '<article><h1 id="b">One</h1><img src="../i%20j.png" alt="x"><a href="#b">up</a></article>'
    )
    return ["book/intro", "notebooks/01"]


def test_pages_are_joined_with_links_that_stay_inside(tmp_path):
    pages = two_pages(tmp_path)
    joined = BeautifulSoup(pdf.one_page(tmp_path, pages), "html.parser")
    ids = {tag["id"] for tag in joined.select("[id]")}
    links = [a.get("href") for a in joined.select("a")]
    assert links == ["#notebooks-01--b", None, "https://a.b", "#notebooks-01--b"]
    assert {link[1:] for link in links if link and link[0] == "#"} <= ids
    assert joined.select_one("img")["src"] == "i%20j.png"
    assert joined.select_one("link")["href"] == "look.css"
    assert not joined.select("script")


def test_the_printed_book_has_a_claims_numbers_once(tmp_path):
    """All checks on the page that measures, what was published on the paper's; both say more."""
    card = (
        '<article><div class="claim"><div class="evidence"><p>seen</p><details>0.178</details>'
        '</div><details>decides</details><details class="published">70 %</details></div></article>'
    )
    for name in ("notebooks/01", "book/papers/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.html").write_text(card)
    joined = BeautifulSoup(pdf.one_page(tmp_path, ["notebooks/01", "book/papers/a"]), "html.parser")
    said = [section.get_text(" ") for section in joined.select("section")]
    assert said == ["seen 0.178 decides", "seen decides 70 %"]


def test_without_a_browser_it_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(pdf.PdfError, match="apt-get install chromium"):
        pdf.browser()


@needs_browser
def test_the_printed_book_is_whole_or_not_there(tmp_path):
    pages = two_pages(tmp_path)
    pdf.write(tmp_path, pages, tmp_path / "book.pdf")
    assert (tmp_path / "book.pdf").read_bytes().startswith(b"%PDF")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"book", "notebooks", "look.css", "book.pdf"}


@needs_browser
def test_the_ledger_prints_within_its_margins(tmp_path, root, records):
    """Nothing is wider than an A4 page between its margins, or than its column: a browser measures.

    A word that does not fit into its column lies on the next one's.
    """
    css = (root / "book" / "static" / "vitlab.css").read_text()
    wide = 680  # pixels of 18 cm
    probe = """<script>addEventListener("load", () => {
      const ends = [...document.querySelectorAll("#ledger *")];
      document.body.dataset.wide = Math.max(...ends.map((e) => e.getBoundingClientRect().right));
      const over = [...document.querySelectorAll("#ledger th, #ledger td")].map((cell) => {
        const text = document.createRange();
        text.selectNodeContents(cell);
        return text.getBoundingClientRect().right - cell.getBoundingClientRect().right;
      });
      document.body.dataset.over = Math.max(...over);
    })</script>"""
    table = front.ledger(front.rows(records, "../"))
    printed = css.replace("@media print {", "@media all {")
    page = tmp_path / "page.html"
    page.write_text(
        f'<html data-theme="light"><meta charset="utf-8"><style>body{{margin:0;width:{wide}px}}'
        ".visually-hidden{display:none}"  # clipped: it lies on nothing
        f"{printed}</style><body>{table}{probe}</body></html>"
    )
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--window-size={wide},1000", "--virtual-time-budget=3000", page.as_uri()),
        ],
        capture_output=True,
        text=True,
    )
    reached = float(re.search(r'data-wide="([\d.]+)"', done.stdout)[1])
    assert 0 < reached <= wide + 1
    assert float(re.search(r'data-over="(-?[\d.]+)"', done.stdout)[1]) <= 0


def test_figures_leave_their_numbers(tmp_path, monkeypatch):
    import matplotlib

    from vitlab import plots
    from vitlab.statistics import mean

    monkeypatch.setattr(plots.plt, "get_backend", lambda: "module://inline")
    shown = []
    monkeypatch.setattr(plots, "display", lambda figure, metadata: shown.append(metadata))
    matplotlib.use("Agg")
    plots.style(tmp_path)
    half = mean([0, 1, 0, 1])
    with plots.panels("left", "right", x="level") as [left, right]:
        plots.line(left, [0, 1], [half, half], "ViT")
        plots.intervals(right, [("a row", half, "CNN")])
    table = pd.read_csv(tmp_path / "figures" / "1.csv")
    assert table["panel"].tolist() == ["left", "left", "right"]
    assert table["x"].tolist() == ["0", "1", "a row"]
    assert table["value"].tolist() == [0.5, 0.5, 0.5]
    assert shown == [
        {
            "vitlab": {
                "says": "ViT (left) 0.50 at 0, 0.50 at 1; CNN (right) 0.50 at a row",
                "data": "figures/1.csv",
            }
        }
    ]


def test_a_name_with_dollar_signs_is_no_formula(tmp_path, monkeypatch):
    import matplotlib

    from vitlab import plots
    from vitlab.statistics import mean

    matplotlib.use("Agg")
    plots.style()
    half, name = mean([0, 1, 0, 1]), r"costs $\no$ more"  # no such command: it cannot be set
    with plots.panels(name, x=name) as [axes]:
        plots.line(axes, [1, 2], [half, half], name)
        axes.set_yscale("log")
        axes.legend()
        figure = axes.figure
    figure.savefig(tmp_path / "drawn.svg")
    with plots.panels("rows") as [rows]:
        plots.intervals(rows, [(name, half, "CNN")])
    rows.figure.savefig(tmp_path / "rows.svg")
    plots.gallery([[np.zeros((2, 2, 3))]], [name]).savefig(tmp_path / "gallery.svg")
    powers = [label for label in axes.get_yticklabels(which="both") if "$" in label.get_text()]
    assert powers
    assert all(label.get_parse_math() for label in powers)

"""The build on small books of its own: two quick notebooks, papermill, once Jupyter Book."""

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from vitlab import claims
from vitlab.book import build, pages, recorded
from vitlab.book import site as book

CLAIMS = sum(len(paper["claims"]) for paper in claims.papers().values())
PAGE = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# {title}

Prose.

```{{code-cell}} ipython3
:tags: [parameters]

profile = "mini"
images = "stimuli"
n = 3
share = 0.5
out = "out"
```

```{{code-cell}} ipython3
import json, pathlib, time
folder = pathlib.Path(out)
folder.mkdir(parents=True, exist_ok=True)
{body}
(folder / "result.csv").write_text(f"n\\n{{n}}\\n")
print("value", n * 7)
```
"""


@pytest.fixture
def checkout(tmp_path, root):
    """A copy of the project's skeleton, with two quick pages instead of its own."""
    place = tmp_path / "check out"  # a path with a space
    shutil.copytree(root / "book", place / "book", ignore=shutil.ignore_patterns("papers"))
    shutil.copy(root / "_config.yml", place)
    shutil.copy(root / "requirements.lock", place)
    (place / "notebooks").mkdir()
    write(place, "01-first")
    write(place, "02-second")
    for prose in (place / "book").glob("*.md"):
        if prose.name == "intro.md":
            prose.write_text("# Book\n\n{{ counts }}\n\n{{ ledger }}\n")
    toc = {"format": "jb-book", "root": "book/intro", "parts": [
        {"caption": "Findings", "chapters": [
            {"file": "notebooks/01-first"}, {"file": "notebooks/02-second"}]},
        {"caption": "Numbers", "chapters": [{"file": "book/status"}]},
    ]}  # fmt: skip
    (place / "book" / "_toc.yml").write_text(json.dumps(toc))
    return place


def write(place, name, body="", title="Page"):
    (place / "notebooks" / f"{name}.md").write_text(PAGE.format(title=title, body=body))


def run(place, **options):
    return build.build(root=place, site=False, **options)


def state(place, name):
    return build.read_state(place / "build" / "pages" / name)


@pytest.mark.build
def test_pages_run_once_and_again_only_for_a_reason(checkout, capsys):
    assert run(checkout) == 0
    first = {name: state(checkout, name)["finished"] for name in ("01-first", "02-second")}
    assert "never run" in capsys.readouterr().out
    page = nbformat.read(checkout / "build/pages/01-first/page.ipynb", as_version=4)
    assert "value 21" in page.cells[-1].outputs[0].text

    assert run(checkout) == 0
    assert capsys.readouterr().out.count("up to date") == 2

    time.sleep(1.1)
    write(checkout, "02-second", body="n = n + 1")
    assert run(checkout) == 0
    said = capsys.readouterr().out
    assert "01-first: up to date" in said
    assert "02-second: running, changed: code" in said
    assert state(checkout, "01-first")["finished"] == first["01-first"]
    assert state(checkout, "02-second")["finished"] > first["02-second"]

    write(checkout, "02-second", body="n = n + 1", title="Another title")
    assert run(checkout) == 0
    assert "02-second: text refreshed, nothing run again" in capsys.readouterr().out
    page = nbformat.read(checkout / "build/pages/02-second/page.ipynb", as_version=4)
    assert "Another title" in page.cells[0].source
    assert "value 28" in page.cells[-1].outputs[0].text

    (checkout / "requirements.lock").write_text("torch==9\n")
    assert run(checkout) == 0
    assert capsys.readouterr().out.count("changed: lock file") == 2


@pytest.mark.build
def test_a_failing_page_keeps_its_last_good_version_and_stops_no_other(checkout, capsys):
    assert run(checkout) == 0
    good = (checkout / "build/pages/01-first/page.ipynb").read_bytes()
    write(checkout, "01-first", body="raise OverflowError('too many bananas')")
    write(checkout, "02-second", body="n = 5")
    assert run(checkout) == 1
    assert "FAILED 01-first: cell 2: OverflowError: too many bananas" in capsys.readouterr().err
    folder = checkout / "build/pages/01-first"
    assert (folder / "page.ipynb").read_bytes() == good
    assert state(checkout, "02-second")["reason"] == "changed: code"
    shown = book.staged_page("01-first", folder, build.read_state(folder))
    assert "last run of this page failed" in shown.cells[1].source
    assert "too many bananas" in shown.cells[1].source
    assert not any("papermill" in cell.metadata for cell in shown.cells)

    assert run(checkout) == 1, "a failed page is tried again"
    write(checkout, "01-first")
    assert run(checkout) == 0
    assert not book.failure(folder)


@pytest.mark.build
def test_a_page_that_never_ran_well_says_so(checkout):
    write(checkout, "01-first", body="1 / 0")
    assert run(checkout, names=["01-first"]) == 1
    folder = checkout / "build/pages/01-first"
    shown = book.staged_page("01-first", folder, build.read_state(folder))
    assert "has never been run" in shown.cells[0].source
    assert "ZeroDivisionError" in shown.cells[0].source


@pytest.mark.build
def test_a_dead_kernel_is_told(checkout, capsys):
    write(checkout, "01-first", body="import os; os.kill(os.getpid(), 9)")
    assert run(checkout, names=["01-first"]) == 1
    assert "was it out of memory?" in capsys.readouterr().err


@pytest.mark.build
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_stopped_in_the_middle_of_a_page_the_next_run_goes_on(checkout, how):
    # The page counts its own starts; what it wrote before the kill is there the second time.
    body = (
        "before = (folder / 'started').exists()\n"
        "(folder / 'started').write_text('x')\n"
        "time.sleep(0 if before else 60)"
    )
    write(checkout, "01-first", body=body)
    command = [sys.executable, "-m", "vitlab.cli", "build", "01-first", "--no-site"]
    # A test run in the background ignores Ctrl-C, and its children would too.
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not list(checkout.glob("build/work/*/out/started")):
        time.sleep(0.1)
    process.send_signal(how)
    assert process.wait() == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    assert not (checkout / "build/pages/01-first").exists()
    assert run(checkout, names=["01-first"]) == 0
    assert (checkout / "build/pages/01-first/started").exists()
    assert state(checkout, "01-first")["seconds"] < 50
    assert not list((checkout / "build/work").iterdir())


def test_another_build_at_work_is_respected(checkout):
    with (
        build._locked(checkout / "build"),
        pytest.raises(build.BuildError, match=f"process {os.getpid()}"),
    ):
        run(checkout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["01-frist"]}, "unknown page '01-frist'; nearest: 01-first"),
        ({"profile": "huge"}, "unknown profile 'huge'; known: mini, colab, full"),
        ({"profile": "colab"}, "01-first has no profile 'colab'; it has mini"),
        ({"names": ["02-second"], "profile": "full"}, "02-second has no profile 'full'"),
        ({"parameters": {"shar": "1"}}, "01-first has no parameter 'shar'; nearest: share"),
        ({"parameters": {"out": "x"}}, "has no parameter 'out'"),
        ({"parameters": {"n": "many"}}, "n=many is not of the kind of its default, 3"),
        ({"parameters": {"n": "2.5"}}, r"n=2\.5 is not of the kind"),
        ({"parameters": {"images": "/nowhere"}}, "image folder '/nowhere' does not exist"),
    ],
)
def test_bad_input_stops_before_anything_is_run(checkout, options, message):
    with pytest.raises(ValueError, match=message):
        run(checkout, **options)
    assert not (checkout / "build").exists()


@pytest.mark.build
def test_a_build_with_parameters_is_a_book_of_its_own(checkout):
    assert run(checkout, names=["01-first"], parameters={"n": "5", "share": "1"}) == 0
    [folder] = (checkout / "build/custom").glob("*/pages/01-first")
    page = nbformat.read(folder / "page.ipynb", as_version=4)
    assert "value 35" in page.cells[-1].outputs[0].text
    assert not (checkout / "build/pages").exists()


@pytest.mark.build
def test_the_site_has_ledger_status_data_and_no_machine_path(checkout, monkeypatch, capsys):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert build.build(root=checkout) == 0
    assert "Colab and source links left out" in capsys.readouterr().out
    site = checkout / "build" / "html"
    front = (site / "book" / "intro.html").read_text()
    assert front.count("<tr>") == 1 + CLAIMS
    assert (site / "index.html").exists()
    assert (site / "data/01-first/result.csv").read_text() == "n\n3\n"
    assert len(json.loads((site / "data/ledger.json").read_text())) == CLAIMS
    assert "02-second" in (site / "book/status.html").read_text()
    page = (site / "notebooks/01-first.html").read_text()
    assert "value 21" in page
    assert "page key" in page
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert str(checkout) not in text, path
        assert "colab.research" not in text, path
        assert 'src="http' not in text, path
    assert build.build(root=checkout) == 0
    assert "site up to date" in capsys.readouterr().out

    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/vitlab")
    assert build.build(root=checkout) == 0
    page = (site / "notebooks/01-first.html").read_text()
    link = "colab.research.google.com/github/someone/vitlab/blob/main/notebooks/01-first.ipynb"
    assert link in page


def test_what_a_page_imports_is_followed_to_the_end():
    found = set(pages.imported("from vitlab.trials import run"))
    assert {"vitlab/trials/run.py", "vitlab/images/load.py", "vitlab/rng.py"} <= found
    assert "vitlab/inside/episodes.py" not in found
    assert pages.imported("import json") == {}


def test_outside_of_a_checkout_the_build_says_so(tmp_path):
    with pytest.raises(pages.PageError, match="not inside a checkout"):
        pages.find_root(tmp_path)


SIZED = """
```{code-cell} ipython3
:tags: [profiles]

PROFILES = {
    "mini": {"n": 3, "share": 0.5, "models": "mini/vit-0", "images": "stimuli"},
    "colab": {
        "n": 30, "share": 0.25, "models": "efficientnet-lite0", "images": "stimuli", "passes": 2
    },
}
```
"""
TAKE = """from vitlab.book.profiles import choose
n, share = choose(PROFILES, profile, n=n, share=share)
"""


def write_sized(place, name, body=""):
    """A page whose parameters come from its profile, as the book's own do."""
    write(place, name, body=TAKE + body)
    path = place / "notebooks" / f"{name}.md"
    text = path.read_text().replace('profile = "mini"', "profile = None")
    text = text.replace("n = 3\n", "n = None\n").replace("share = 0.5\n", "share = None\n")
    path.write_text(text.replace('out = "out"\n```\n', 'out = "out"\n```\n' + SIZED))


@pytest.mark.build
def test_a_profile_sets_what_a_page_leaves_open_and_p_wins(checkout, capsys):
    write_sized(checkout, "01-first")
    assert run(checkout) == 0
    page = nbformat.read(checkout / "build/pages/01-first/page.ipynb", as_version=4)
    assert "value 21" in page.cells[-1].outputs[0].text
    capsys.readouterr()

    assert run(checkout, profile="colab") == 0
    assert "left out: 02-second has no profile 'colab'; it has mini" in capsys.readouterr().out
    folder = checkout / "build/colab/pages"
    assert [path.name for path in folder.iterdir()] == ["01-first"]
    page = nbformat.read(folder / "01-first/page.ipynb", as_version=4)
    assert "profile colab: n=30, share=0.25" in page.cells[-1].outputs[0].text
    assert "value 210" in page.cells[-1].outputs[0].text

    assert run(checkout, names=["01-first"], profile="colab", parameters={"n": "4"}) == 0
    [folder] = (checkout / "build/custom").glob("*/pages/01-first")
    page = nbformat.read(folder / "page.ipynb", as_version=4)
    assert "profile colab: n=4, share=0.25" in page.cells[-1].outputs[0].text
    assert build.read_state(folder)["settings"]["share"] == 0.25
    with pytest.raises(pages.PageError, match=r"n=4\.5 is not of the kind of its default, 30"):
        run(checkout, names=["01-first"], profile="colab", parameters={"n": "4.5"})


@pytest.mark.build
def test_a_recorded_run_stands_on_its_page_and_in_the_ledger(checkout):
    kept = (
        "(folder / 'models.json').write_text(json.dumps([{'name': 'real/net', 'classes': "
        "'imagenet', 'source': 'hub revision 123', 'group': 'ViT'}]))\n"
        "from vitlab import claims\n"
        "from vitlab.statistics import Interval\n"
        "facts = [('ViT at 50%', Interval(0.614, 0.6, 0.628, 800), 'accuracy')]\n"
        "claims.settle('naseer2021', 'occlusion-random', [], folder, facts, False, 'one model')\n"
    )
    write(checkout, "01-first", body=kept)
    assert run(checkout, names=["01-first"], parameters={"n": "5"}) == 0
    [base] = (checkout / "build" / "custom").iterdir()
    where = checkout / "book" / "recorded"
    assert recorded.record(base, "a-run", where) == ["01-first"]
    [found] = recorded.runs("01-first", where)
    assert found["claims"][0]["fresh"][0]["value"] == 0.614
    assert recorded.table("01-first", "result.csv", where)["n"].tolist() == [5]
    assert not (where / "a-run" / "01-first" / "page.ipynb").exists()

    write(checkout, "01-first")
    assert build.build(root=checkout) == 0
    page = html.unescape((checkout / "build/html/notebooks/01-first.html").read_text())
    for text in ("Recorded runs", "real/net (hub revision 123)", "ViT at 50%", "0.600 … 0.628"):
        assert text in page
    front = html.unescape((checkout / "build/html/book/intro.html").read_text())
    assert "recorded run a-run" in front
    assert "0.61 [0.60, 0.63]" in front
    ledger = json.loads((checkout / "build/ledger.json").read_text())
    [entry] = [r for r in ledger if r["claim"] == "occlusion-random"]
    assert entry["recorded"][0]["models"] == ["real/net"]
    assert entry["verdict"] == "not run", "a recorded run does not settle this edition's claim"


@pytest.mark.build
def test_what_cannot_be_recorded_is_refused(checkout, tmp_path):
    into = tmp_path / "recorded"
    with pytest.raises(recorded.RecordError, match="holds no finished pages"):
        recorded.record(checkout / "build", "a-run", into)
    assert run(checkout, names=["01-first"]) == 0
    with pytest.raises(recorded.RecordError, match=r"01-first .* is no run of real models"):
        recorded.record(checkout / "build", "a-run", into)
    for name in ("", "../up", ".hidden"):
        with pytest.raises(recorded.RecordError, match="called like a folder"):
            recorded.record(checkout / "build", name, into)
    (checkout / "build/pages/01-first/failure.json").write_text("{}")
    with pytest.raises(recorded.RecordError, match=r"last run of 01-first .* failed"):
        recorded.record(checkout / "build", "a-run", into)
    assert not into.exists()

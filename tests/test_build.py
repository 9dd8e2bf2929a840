"""The build on small books of its own: two quick notebooks, papermill, once Jupyter Book."""

import base64
import dataclasses
import html
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from importlib import metadata

import check_site
import jupytext
import nbformat
import pandas as pd
import psutil
import pytest
from bs4 import BeautifulSoup
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from PIL import Image

from vitlab import claims, files, keys, models
from vitlab.book import build, front, pages, papers, profiles, recorded
from vitlab.book import site as book
from vitlab.images import catalogue
from vitlab.markup import placeless

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
    shutil.copytree(
        root / "book", place / "book", ignore=shutil.ignore_patterns("papers", "recorded")
    )
    shutil.copy(root / "_config.yml", place)
    shutil.copy(root / "requirements.lock", place)
    (place / "notebooks").mkdir()
    write(place, "01-first")
    write(place, "02-second")
    for prose in (place / "book").glob("*.md"):
        if prose.name == "intro.md":
            prose.write_text("# Book\n\n{{ tally }}\n\n{{ ledger }}\n")
    toc = {"format": "jb-book", "root": "book/intro", "parts": [
        {"caption": "Findings", "chapters": [
            {"file": "notebooks/01-first"}, {"file": "notebooks/02-second"}]},
        {"caption": "Papers", "chapters": [{"file": "book/papers/index"}]},
        {"caption": "Numbers", "chapters": [{"file": "book/status"}, {"file": "book/references"}]},
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
@pytest.mark.parametrize("names", [["01-first"], None])
def test_a_page_of_small_networks_has_one_thread_however_many_run(checkout, monkeypatch, names):
    """Its sums are those of the whole book's, so its trainings end with the same numbers."""
    monkeypatch.setattr(build, "_cores", lambda: 4)
    write(checkout, "01-first", body="import torch; n = torch.get_num_threads()")
    assert run(checkout, names=names) == 0
    assert (checkout / "build/pages/01-first/result.csv").read_text() == "n\n1\n"


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
    path = checkout / "notebooks" / "02-second.md"
    path.write_text(PAGE.format(title="Page", body="import os; os._exit(3)"))
    assert run(checkout) == 1
    said = capsys.readouterr().err
    hint = "was it out of memory? try --jobs 1"  # it has no batch_size
    assert f"FAILED 01-first: cell 2: its kernel was killed; {hint}\n" in said
    assert "FAILED 02-second: cell 2: its kernel ended (exit code 3)\n" in said


@pytest.mark.parametrize(
    ("settable", "size", "hint"),
    [
        ({"batch_size"}, 64, "try -p batch_size=32 or --jobs 1"),
        ({"batch_size"}, 1, "try --jobs 1"),
        ({"n"}, 64, "try --jobs 1"),
    ],
)
def test_a_smaller_batch_is_advised_where_there_is_one(settable, size, hint):
    page = pages.Page("p", None, {}, {"batch_size": size}, {})
    assert build._when_killed(page, settable) == f"; was it out of memory? {hint}"


MEASURES = """
from vitlab import progress
with progress.bar(1000, "work") as bar:
    for _ in range(4):
        bar.update(100)
        time.sleep(0.8)
"""


@pytest.mark.build
def test_a_log_tells_how_far_a_page_is(checkout, monkeypatch, capsys):
    monkeypatch.setattr(build, "EVERY", 0)
    write(checkout, "01-first", body=MEASURES)
    assert run(checkout, names=["01-first"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "01-first: cell 1 of 2" in lines
    said = r"01-first: cell 2 of 2, (\d+) of 1,000 images of this pass, (\d+) s left"
    measured = [re.fullmatch(said, line) for line in lines]
    found = [(int(m[1]), int(m[2])) for m in measured if m]
    assert found
    assert all(0 < done <= 400 and 2 <= left <= 20 for done, left in found)
    assert not list((checkout / "build/pages").rglob("progress.json"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_page_has_one_line(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(build.sys, "stdout", screen)
    with build._line("01-first") as tell:
        tell("cell 1 of 2")
        tell("cell 2 of 2, 3 of 9 images")
    shown = screen.getvalue()
    assert "01-first: cell 1 of 2" in shown
    assert "01-first: cell 2 of 2, 3 of 9 images" in shown
    assert "\n" not in shown


@pytest.mark.build
def test_a_page_runs_in_this_python_and_a_long_error_is_told(
    checkout, tmp_path, monkeypatch, capsys
):
    """Whatever kernel this machine calls python3."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "P"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write(checkout, "01-first", body="import sys; raise ValueError(sys.executable + 'x' * 200000)")
    assert run(checkout, names=["01-first"]) == 1
    told = capsys.readouterr().err
    assert f"ValueError: {sys.executable}xxx" in told
    assert len(told) > 200000


@pytest.mark.build
@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 130)],
    ids=["kill -9", "kill", "Ctrl-C"],
)
def test_stopped_in_the_middle_of_a_page_the_next_run_goes_on(checkout, how, code):
    # The page counts its own starts; what it wrote before the kill is there the second time.
    body = (
        "import os\n"
        "before = (folder / 'started').exists()\n"
        "(folder / 'started').write_text(str(os.getpid()))\n"
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
    assert process.wait() == code
    (started,) = checkout.glob("build/work/*/out/started")
    kernel = int(started.read_text())
    for _ in range(150):
        if not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == "zombie":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the page's kernel works on without its build")
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
        ({"profile": "huge"}, "unknown profile 'huge'; known: mini, photos, colab, full"),
        ({"profile": "colab"}, "01-first has no profile 'colab'; it has mini"),
        ({"names": ["02-second"], "profile": "full"}, "02-second has no profile 'full'"),
        ({"parameters": {"shar": "1"}}, "01-first has no parameter 'shar'; nearest: share"),
        ({"parameters": {"out": "x"}}, "has no parameter 'out'"),
        ({"parameters": {"n": "many"}}, "n=many is not of the kind of its default, 3"),
        ({"parameters": {"n": "2.5"}}, r"n=2\.5 is not of the kind"),
        ({"parameters": {"n": "1e9"}}, "n=1e9 is not of .*, 3: give a whole number"),
        ({"parameters": {"n": "9" * 23}}, f"n={'9' * 23} must .* at most {2**63 - 1}; write it"),
        ({"parameters": {"n": f"0x{'f' * 400}"}}, "n=0xf{78} cannot be read"),
        ({"parameters": {"share": "yes"}}, "share=yes is not of .*, 0.5: give a number"),
        ({"parameters": {"n": "0"}}, "n=0 must be at least 1; write it like 3"),
        ({"parameters": {"n": "2026-99-99"}}, "n=2026-99-99 cannot be read; write it like 3"),
        ({"parameters": {"n": "[" * 9999}}, r"n=\[{80} cannot be read"),
        ({"parameters": {"share": "0"}}, "share=0 must be above 0; write it like 0.5"),
        ({"parameters": {"share": "12:30"}}, "share=12:30 is not of the kind of its default, 0.5"),
        ({"parameters": {"n": "1:30"}}, "n=1:30 cannot be read; write it like 3"),
        ({"parameters": {"n": "0x10"}}, "n=0x10 cannot be read; write it like 3"),
        ({"parameters": {"n": "true"}}, "n=true is not of the kind of its default, 3"),
        ({"parameters": {"share": ".nan"}}, "share=.nan must be above 0"),
        ({"parameters": {"share": ".inf"}}, "share=.inf must be above 0"),
        ({"parameters": {"images": " , "}}, "images= ,  names nothing; write it like 'stimuli'"),
        ({"parameters": {"images": "cifar-10/../../x"}}, "cifar-10/../../x leads out of the set"),
        ({"parameters": {"images": "/nowhere"}}, "image folder '/nowhere' does not exist"),
    ],
)
def test_bad_input_stops_before_anything_is_run(checkout, options, message):
    with pytest.raises(ValueError, match=message):
        run(checkout, **options)
    assert not (checkout / "build").exists()


@pytest.mark.parametrize(
    ("name", "value", "known", "said"),
    [
        ("seed", 0, [0], ""),
        ("seed", -1, [0], "must be at least 0; write it like 0"),
        ("n_images", 1, [160, 500], ""),
        ("per_side", 0, [13, 0], ""),
        ("severities", [1, 6], [[1, 2]], "must be at least 1 and at most 5; write it like [1, 2]"),
        ("severities", [], [[1, 2]], "is empty; write it like [1, 2]"),
        ("severities", ["a"], [[1, 2]], "holds what is not of the kind of its default"),
        (
            "severities",
            [[1]],
            [[1, 2]],
            "holds what is not of the kind of its default: give a list",
        ),
        ("seed", 2**63, [0], f"must be at least 0 and at most {2**63 - 1}; write it like 0"),
        ("radii", [10**400], [[0.5]], f"must be above 0 and at most {2**63 - 1}"),
        ("radii", [1e300], [[0.5]], ""),
        ("n_images", 2**63 - 1, [160], ""),
        ("radii", [0.5, 1], [[2, 4]], "must be at least 1"),
        ("radii", [0.1, 1], [[2, 4], [0.25, 0.5]], ""),
        ("radii", [0], [[0.25, 0.5]], "must be above 0"),
        ("scale_cnn", [], [["a", "b"], []], ""),
        ("saliency", "", ["timm/x", ""], ""),
        ("frames", 32, [16], "must be at least 2 and at most 31"),
        ("note", "", [], ""),
    ],
)
def test_a_value_is_measured_by_the_known_ones(name, value, known, said):
    found = pages.fault(name, value, known)
    assert found.startswith(said) if said else not found, found


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("n", "010", 10), ("n", " 5\n", 5), ("share", "1e-3", 0.001), ("share", "1", 1.0)],
)
def test_a_number_is_what_it_reads_as(checkout, name, text, value):
    [page] = pages.choose(checkout, ["01-first"], {name: text})
    assert page.parameters[name] == value
    assert type(page.parameters[name]) is type(value)


def test_a_copied_page_is_told_before_anything_is_run(checkout):
    settles = "if 0:\n    @lab.settles(\n        'naseer2021', 'fgsm-pgd')\n    def f(): pass"
    for name in ("01-first", "03-copy"):
        write(checkout, name, body=settles.replace("'", '"'))
    with pytest.raises(pages.PageError, match="naseer2021 fgsm-pgd is settled by both 01-first"):
        run(checkout)
    assert not (checkout / "build").exists()


def test_a_mistake_in_a_parameters_cell_is_told_by_page_and_line(checkout):
    path = checkout / "notebooks" / "01-first.md"
    path.write_text(path.read_text().replace("share = 0.5", "share = = 0.5"))
    message = "01-first: its parameters cell, line 4: share = = 0.5: invalid syntax"
    with pytest.raises(pages.PageError, match=message):
        run(checkout)


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
    assert front.count("<li data-paper") == CLAIMS, "none is measured on these pages"
    assert (site / "index.html").exists()
    assert (site / "data/01-first/result.csv").read_text() == "n\n3\n"
    assert len(json.loads((site / "data/ledger.json").read_text())) == CLAIMS
    assert "/mathjax/" not in front, "a megabyte, for formulas that it has none of"
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

    assert check_site.faults(site) == []

    # A notebook that is opened on Colab installs vitlab from the address in its first cell.
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/vitlab")
    link = "colab.research.google.com/github/someone/vitlab/blob/main/notebooks/01-first.ipynb"
    for address in ("", "https://github.com/someone/vitlab"):
        config = (checkout / "_config.yml").read_text().replace('url: ""', f'url: "{address}"')
        (checkout / "_config.yml").write_text(config)
        pages.sync(checkout)
        assert build.build(root=checkout) == 0
        page = (site / "notebooks/01-first.html").read_text()
        assert ('class="badge"' in page) == bool(address)
    assert link in page


def test_what_a_page_imports_is_followed_to_the_end():
    found = set(keys.modules("vitlab.trials.run"))
    assert {"vitlab/trials/run.py", "vitlab/images/images.py"} <= found
    assert "vitlab/keys.py" not in found, "how keys are made changes no number"
    assert "vitlab/inside/episodes.py" not in found
    assert keys.modules(*keys.wanted("import json")) == {}


def test_outside_of_a_checkout_the_build_says_so(tmp_path):
    with pytest.raises(pages.PageError, match="not inside a checkout"):
        pages.find_root(tmp_path)


SIZES = """
01-first:
  mini: {n: 3, share: 0.5, models: mini/vit-0, images: stimuli}
  colab: {n: 30, share: 0.25, models: efficientnet-lite0, images: stimuli, passes: 2}
"""
TAKE = """from vitlab.book.profiles import sizes
chosen = sizes("01-first")[profile]
n, share = n or chosen["n"], share or chosen["share"]
print(f"profile {profile}: n={n}, share={share}")
"""


def write_sized(place):
    """A first page whose parameters come from its profile, as the book's own do."""
    write(place, "01-first", body=TAKE)
    path = place / "notebooks" / "01-first.md"
    text = path.read_text().replace("n = 3\n", "n = None\n")
    path.write_text(text.replace("share = 0.5\n", "share = None\n"))
    (place / "notebooks" / "profiles.yml").write_text(SIZES)


@pytest.mark.build
def test_a_profile_sets_what_a_page_leaves_open_and_p_wins(checkout, capsys):
    write_sized(checkout)
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


# Of a page's body: what it was run on, as `Lab` keeps it.
REAL_NET = (
    "(folder / 'models.json').write_text(json.dumps([{'name': 'real/net', 'classes': "
    "'imagenet', 'source': 'hub revision 123', 'group': 'ViT'}]))\n"
)


@pytest.mark.build
def test_a_recorded_run_stands_on_its_page_and_in_the_ledger(checkout):
    kept = (
        "(folder / 'trials.json').write_text(json.dumps(['k', 'gone']))\n"
        "import os; kept = pathlib.Path(os.environ['VITLAB_TRIALS'], 'k')\n"
        "kept.mkdir(parents=True)\n"
        "about = {'images': '800 of photos', 'fingerprint': 'abcd'}\n"
        "(kept / 'about.json').write_text(json.dumps(about))\n"
        f"{REAL_NET}"
        "from vitlab import claims\n"
        "from vitlab.statistics import Interval\n"
        "facts = [('ViT at 50%', Interval(0.614, 0.6, 0.628, 800), 'accuracy')]\n"
        "ran = claims.Run('imagenet', ['real/net'], '800 of photos')\n"
        "found = claims.Finding('naseer2021', 'occlusion-random', ran, {}, facts, 'one model')\n"
        "claims.settle(found, folder)\n"
    )
    write(checkout, "01-first", body=kept)
    assert run(checkout, names=["01-first"], parameters={"n": "5"}) == 0
    [base] = (checkout / "build" / "custom").iterdir()
    where = checkout / "book" / "recorded"
    assert recorded.record(base, "a-run", where) == ["01-first"]
    [found] = recorded.runs("01-first", where)
    assert found["claims"][0]["facts"][0]["value"] == 0.614
    assert found["state"]["image sets"] == [{"name": "photos", "fingerprint": "abcd", "n": 800}]
    assert recorded.table("01-first", "result.csv", where)["n"].tolist() == [5]
    assert not (where / "a-run" / "01-first" / "page.ipynb").exists()

    write(checkout, "01-first")
    assert build.build(root=checkout) == 0
    page = html.unescape((checkout / "build/html/notebooks/01-first.html").read_text())
    for text in ("Recorded runs", "real/net (hub revision 123)", "ViT at 50%", "0.600 … 0.628"):
        assert text in page
    front = html.unescape((checkout / "build/html/book/intro.html").read_text())
    assert (
        "no verdict" in front.partition('id="naseer2021.occlusion-random"')[2].partition("</tr>")[0]
    )
    ledger = json.loads((checkout / "build/ledger.json").read_text())
    [entry] = [r for r in ledger if r["claim"] == "occlusion-random"]
    kept = entry["editions"]["imagenet"]
    assert (kept["recorded"], kept["models"]) == ("a-run", ["real/net"])
    assert kept["facts"][0]["value"] == 0.614
    assert entry["verdict"] == "not run", "a run without a check settles nothing"


MODELS = '[{"name": "net", "classes": "imagenet", "source": "x"}]'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("state.json", text) for text in ("", "[]", "1", "null", "{}", '{"files": {}}')),
        *(("models.json", text) for text in ("", "{}", "1", "null", "[1]", '[{"name": "x"}]')),
        *(("models.json", text) for text in ('["x"]', '[{"name": 1, "classes": 2, "source": 3}]')),
    ],
)
def test_a_damaged_page_is_not_recorded_and_named(checkout, tmp_path, name, text):
    _, folder = finished(checkout, "01-first")
    (folder / "models.json").write_text(MODELS)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        recorded.record(checkout / "build", "a-run", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "about",
    ["", "[]", "1", '{"images": 5}', '{"images": "x of y", "fingerprint": "f"}', "{",
     '{"images": "5 of y", "fingerprint": [1]}'],
)  # fmt: skip
def test_a_damaged_note_of_trials_costs_a_recorded_run_only_that_note(checkout, tmp_path, about):
    _, folder = finished(checkout, "01-first")
    (folder / "models.json").write_text(MODELS)
    (folder / "trials.json").write_text('["k", "good", "a\\u0000b", "../../x"]')
    good = '{"images": "5 of photos, mine", "fingerprint": "f"}'
    for key, text in [("k", about), ("good", good)]:
        (checkout / "build" / "trials" / key).mkdir(parents=True)
        (checkout / "build" / "trials" / key / "about.json").write_text(text)
    recorded.record(checkout / "build", "a-run", tmp_path / "kept")
    kept = json.loads((tmp_path / "kept" / "a-run" / "01-first" / "state.json").read_text())
    assert kept["image sets"] == [{"name": "photos, mine", "fingerprint": "f", "n": 5}]


def test_a_recorded_run_tells_no_folder_of_the_machine(checkout, tmp_path):
    _, folder = finished(checkout, "01-first")
    (folder / "models.json").write_text(MODELS)
    known = json.loads((folder / "state.json").read_text())
    known["settings"] = {"images": "/home/ann/photos", "models": "timm/x=/home/ann/w.pth", "n": 3}
    (folder / "state.json").write_text(json.dumps(files.sealed(known)))
    recorded.record(checkout / "build", "a-run", tmp_path / "kept")
    kept = json.loads((tmp_path / "kept" / "a-run" / "01-first" / "state.json").read_text())
    assert kept["settings"] == {"images": "…/photos", "models": "timm/x=…/w.pth", "n": 3}


@pytest.mark.build
def test_a_recorded_run_that_was_tampered_with_is_caught(checkout):
    body = (
        f"{REAL_NET}"
        "from vitlab import claims\n"
        "from vitlab.statistics import mean\n"
        "from vitlab.statistics.check import measured\n"
        "gap = mean([0.2, 0.3] * 20)\n"
        "found = claims.Finding('naseer2021', 'occlusion-salient', claims.Run('photos'), "
        "{'': [[measured('gap', gap > 0)]]})\n"
        "claims.settle(found, folder)\n"
    )
    write(checkout, "01-first", body=body)
    assert run(checkout, names=["01-first"], parameters={"n": "5"}) == 0
    [base] = (checkout / "build" / "custom").iterdir()
    where = checkout / "book" / "recorded"
    recorded.record(base, "a-run", where)
    [found] = recorded.runs("01-first", where)
    assert (found["claims"][0]["verdict"], found["claims"][0]["recorded"]) == ("seen", "a-run")
    items = next(where.rglob("claims/*.parquet"))
    table = pd.read_parquet(items)
    table["added"] = -table["added"]
    table.to_parquet(items)
    with pytest.raises(recorded.RecordError, match=r"occlusion-salient.parquet differ; restore"):
        recorded.runs("01-first", where)
    items.unlink()
    with pytest.raises(recorded.RecordError, match="not what was recorded"):
        recorded.runs("01-first", where)


@pytest.mark.build
def test_what_cannot_be_recorded_is_refused(checkout, tmp_path):
    into = tmp_path / "recorded"
    with pytest.raises(recorded.RecordError, match="holds no finished pages"):
        recorded.record(checkout / "build", "a-run", into)
    assert run(checkout, names=["01-first"]) == 0
    with pytest.raises(recorded.RecordError, match=r"01-first .* is no run of real models"):
        recorded.record(checkout / "build", "a-run", into)
    odd = "<b>", "a b", "{{x}}", "`a`", "x" * 101, "ä", "a\n"
    for name in ("", "../up", ".hidden", "a\n\n# b", "a/b", *odd):
        with pytest.raises(recorded.RecordError, match="called like a folder"):
            recorded.record(checkout / "build", name, into)
    (checkout / "build/pages/01-first/failure.json").write_text("{}")
    with pytest.raises(recorded.RecordError, match=r"last run of 01-first .* failed"):
        recorded.record(checkout / "build", "a-run", into)
    assert not into.exists()


def test_make_sets_up_again_for_another_content_or_place_alone(root, tmp_path):
    """A checkout gives files new times; a venv knows its place."""

    def stamp(place):
        command = ["make", "-n", "venv", f"PYTHON={sys.executable}"]
        said = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout
        return re.findall(r"touch (\S+)", said)

    place = tmp_path / "here"
    place.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, place)
    [first] = stamp(place)
    (place / ".venv").mkdir()
    (place / first).touch()
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(place / name, (2e9, 2e9))
    assert stamp(place) == []
    (place / "requirements.lock").write_text("torch==9\n")
    [other] = stamp(place)
    assert (
        other.rpartition("-")[0].rpartition("-")[0] == first.rpartition("-")[0].rpartition("-")[0]
    )
    moved = place.rename(tmp_path / "there")
    shutil.copy(root / "requirements.lock", moved)
    assert stamp(moved) not in ([], [first])


# What is known of a good run, beside what it depends on.
STATE = {
    "key": "", "parts": {}, "seconds": 1.5, "peak_mb": 9, "finished": "today",
    "machine": "a machine", "commit": "abc", "versions": "Python 3", "reason": "never run",
    "settings": {}, "files": {},
}  # fmt: skip


# --- what a run depends on ----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of vitlab's sources that the pages' keys are made from."""
    place = tmp_path / "library" / "vitlab"
    shutil.copytree(keys._PACKAGE, place, ignore=shutil.ignore_patterns("*.safetensors", "__py*"))
    monkeypatch.setattr(keys, "_PACKAGE", place)
    return place


def page_keys(root):
    return {page.name: page.key for page in pages.choose(root, [], {})}


def changed(root, before):
    return {name for name, key in page_keys(root).items() if key != before[name]}


def users_of(root, module):
    chosen = pages.choose(root, [], {})
    return {page.name for page in chosen if f"vitlab/{module}" in page.parts}


def test_a_change_re_runs_exactly_the_pages_that_use_what_changed(root, library):
    before = page_keys(root)
    for path in (library / "plots.py", library / "conditions" / "patchdrop.py"):
        path.write_text(
            '"""Other words."""\n# a comment\n' + path.read_text().partition('"""\n')[2]
        )
    for path in library.rglob("*.py"):
        path.write_text(path.read_text() + "\n# another comment\n")
    assert changed(root, before) == set(), "a comment or a docstring re-runs nothing"

    path = library / "conditions" / "cutout.py"
    path.write_text(path.read_text() + "\nEXTRA = 1\n")
    users = users_of(root, "conditions/cutout.py")
    assert changed(root, before) == users
    assert users
    assert "03-dct-energy" not in users
    [page] = pages.choose(root, [sorted(users)[0]], {})
    old = {**page.parts, "vitlab/conditions/cutout.py": "another"}
    folder = library.parent / "page"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps(files.sealed(STATE | {"parts": old})))
    assert build.reason_to_run(page, folder) == "changed: vitlab/conditions/cutout.py"


@pytest.mark.parametrize("version", [metadata.version("torch"), "2.6.0", "2.6.0+cu126"])
def test_the_device_of_a_key_is_that_of_torch(monkeypatch, version):
    monkeypatch.setattr(pages.metadata, "version", lambda name: version)
    assert pages._best_device() == models.best_device()


def test_the_keys_of_an_up_to_date_book_need_no_torch_where_it_is_for_cpus(root):
    program = "import sys; from vitlab.book import build, pages; from pathlib import Path;"
    program += "pages.choose(Path(sys.argv[1]), [], {}); print('torch' in sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", program, str(root)], text=True)
    assert said.strip() == str(not metadata.version("torch").endswith("+cpu"))


def test_only_the_weights_and_manifests_that_a_page_names_count(root, monkeypatch):
    before = page_keys(root)
    zoo = {**models.zoo()}
    zoo["mini/swin-0"] = {**zoo["mini/swin-0"], "sha256": "another", "group": "another"}
    monkeypatch.setattr("vitlab.models.zoos.zoo", lambda: zoo)
    named = {
        path.stem
        for path in (root / "notebooks").glob("*.md")
        if "mini/swin" in path.read_text() or "mini/*" in path.read_text()
    }
    named |= {
        page
        for page, sizes in profiles.pages(root / "notebooks" / "profiles.yml").items()
        if "mini/swin-0" in models.select(sizes.get("mini", {}).get("models", "mini/vit-0"))
    }
    assert changed(root, before) <= named
    assert "09-inside" in changed(root, before)
    zoo["mini/swin-0"] = {**models.zoo()["mini/swin-0"], "curve": []}

    monkeypatch.undo()
    known = {**catalogue.manifests()}
    known["dtd"] = dataclasses.replace(known["dtd"], purpose="another")
    monkeypatch.setattr(catalogue, "manifests", lambda: known)
    changed_by_a_manifest = changed(root, before)
    assert len(changed_by_a_manifest) <= 1, "a set that no other page names"


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("%matplotlib inline\nfrom vitlab.attacks import patch", "vitlab/attacks/patch.py"),
        ("%%time\nfrom vitlab.attacks import patch", "vitlab/attacks/patch.py"),
        ("!ls\nnet = 'photos/vit-0'", "weights of photos/vit-0"),
        ("models = f'photos/vit-{1}'", "weights of photos/vit-1"),
        ("lab.settles('naseer2021', 'pixel-drop')", "papers/naseer2021.yml"),
        ("lab.settles(paper='naseer2021', claim='pixel-drop')", "papers/naseer2021.yml"),
    ],
)
def test_what_a_cell_names_in_any_way_counts(checkout, cell, part):
    write(checkout, "01-first", body=cell)
    [page] = pages.choose(checkout, ["01-first"], {})
    assert part in page.parts


def test_a_default_that_names_images_counts_as_one_that_is_given(checkout, photo_folder):
    source = checkout / "notebooks" / "01-first.md"
    text = source.read_text()
    assert "\nn = 3\n" in text
    source.write_text(text.replace("\nn = 3\n", f"\nn = 3\nimages = {str(photo_folder)!r}\n"))
    [page] = pages.choose(checkout, ["01-first"], {})
    assert f"images in {photo_folder.name}" in page.parts


def parts(place, **parameters):
    return pages.choose(place, ["01-first"], parameters)[0].parts


def test_images_and_weights_given_by_path_count_by_content(checkout, photo_folder, tmp_path):
    first = parts(checkout, images=str(photo_folder))
    assert parts(checkout, images=str(photo_folder)) == first
    picture = sorted(photo_folder.rglob("*.jpg"))[0]
    pixels = bytearray(picture.read_bytes())
    pixels[-20] ^= 1  # another picture of the same size
    picture.write_bytes(pixels)
    second = parts(checkout, images=str(photo_folder))
    assert {k for k in second if second[k] != first[k]} == {"images in photos"}
    deep = photo_folder / "n01440764" / "more"
    deep.mkdir()
    (deep / "loop").symlink_to(photo_folder)
    shutil.copy(picture, deep)
    assert parts(checkout, images=str(photo_folder)) != second

    path = checkout / "notebooks" / "01-first.md"
    path.write_text(path.read_text().replace('images = "stimuli"', 'models = "mini/vit-0"'))
    weights = tmp_path / "best.pth"
    weights.write_bytes(b"one")
    given = {"models": f"timm/resnet18={weights}"}
    first = parts(checkout, **given)
    weights.write_bytes(b"two")
    second = parts(checkout, **given)
    assert {k for k in second if second[k] != first[k]} == {"weights timm/resnet18=best.pth"}


PROFILES = """
every page: {n: 3, share: 0.5, device: null}
01-first:
  mini: {levels: [1, 2]}
  colab: {n: 30, levels: [1]}
"""
MANY = 'profile = None\nimages = "stimuli"\nn = share = levels = device = out = None\n'


def test_sizes_come_from_profiles_yml(checkout, monkeypatch):
    path = checkout / "notebooks" / "01-first.md"
    text = path.read_text()
    a, b = text.index('profile = "mini"'), text.index('out = "out"\n')
    path.write_text(text[:a] + MANY + text[b + len('out = "out"\n') :])
    where = checkout / "notebooks" / "profiles.yml"
    where.write_text(PROFILES)
    monkeypatch.setenv("VITLAB_PROFILES", str(where))
    assert profiles.sizes("01-first")["colab"] == {
        "n": 30, "share": 0.5, "device": None, "levels": [1]
    }  # fmt: skip
    [page] = pages.choose(checkout, ["01-first"], {"levels": "[1, 3]", "device": "cpu"}, "colab")
    assert page.settings | {"profile": ""} == {
        "n": 30, "share": 0.5, "device": "cpu", "levels": [1, 3], "profile": ""
    }  # fmt: skip
    for given, message in [
        ({"n": "2.5"}, r"n=2\.5 is not of the kind of its default, 30"),
        ({"levels": "3"}, r"levels=3 is not of .* its default, \[1\]: give a list of numbers"),
        ({"levels": "[1,"}, r"levels=\[1, cannot be read; write it like \[1\]"),
        ({"n": "true"}, "n=true is not of the kind"),
        ({"levls": "[1]"}, "nearest: levels"),
    ]:
        with pytest.raises(pages.PageError, match=message):
            pages.choose(checkout, ["01-first"], given, "colab")
    with pytest.raises(pages.PageError, match="it has mini, colab"):
        pages.choose(checkout, ["01-first"], {}, "full")
    with pytest.raises(ValueError, match="has no page '01-frist'; nearest: 01-first"):
        profiles.sizes("01-frist")
    where.write_text(PROFILES + "  full: {n: 9}\n")
    [again] = pages.choose(checkout, ["01-first"], {"levels": "[1, 3]", "device": "cpu"}, "colab")
    assert again.key == page.key, "another profile's sizes do not count"
    for text, message in [("a: [", "line 1"), ("01-first: {huge: {}}", "'huge' is no profile")]:
        where.write_text(text)
        with pytest.raises(ValueError, match=message):
            pages.choose(checkout, ["01-first"], {})


# --- a finished page -----------------------------------------------------------------------------


def finished(place, name, outputs=()):
    """A page's folder as a good run leaves it, without a kernel: outputs[i] printed by cell i."""
    [page] = pages.choose(place, [name], {})
    folder = place / "build" / "pages" / name
    (folder / "claims").mkdir(parents=True)
    notebook = jupytext.read(page.source)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, text in zip(code, outputs, strict=False):
        cell.outputs = [nbformat.v4.new_output("stream", text=text)]
    nbformat.write(notebook, folder / "page.ipynb")
    (folder / "table.csv").write_text("n\n3\n")
    (folder / "claims" / "a.b.json").write_text("{}")
    state = STATE | {"key": page.key, "parts": page.parts, "files": build._files(folder)}
    (folder / "state.json").write_text(json.dumps(files.sealed(state)))
    return page, folder


def test_a_changed_comment_is_shown_with_the_old_outputs_in_their_order(checkout):
    path = checkout / "notebooks" / "01-first.md"
    twice = "```{code-cell} ipython3\nprint(next(values))\n```\n\n"
    path.write_text(PAGE.format(title="Page", body="values = iter([1, 2])") + "\n" + twice * 2)
    _, folder = finished(checkout, "01-first", ["", "made", "1", "2"])
    text = path.read_text().replace("# Page", "# A page")
    path.write_text(text.replace("print(next(values))", "print( next(values) )  # once more", 1))
    [page] = pages.choose(checkout, ["01-first"], {})
    assert build.reason_to_run(page, folder) == ""
    build._refresh_prose(page, folder)
    cells = nbformat.read(folder / "page.ipynb", as_version=4).cells
    assert cells[0].source.startswith("# A page")
    assert [c.outputs[0].text for c in cells[-2:]] == ["1", "2"]
    assert cells[-2].source == "print( next(values) )  # once more"
    assert build.reason_to_run(page, folder) == "", "its list of files knows the new text"


@pytest.mark.parametrize("name", ["table.csv", "claims/a.b.json", "page.ipynb"])
def test_a_lost_or_changed_output_is_noticed_and_named(checkout, name):
    page, folder = finished(checkout, "01-first")
    assert build.reason_to_run(page, folder) == ""
    (folder / name).write_text("changed")
    assert build.reason_to_run(page, folder) == f"missing or not as it was left: {name}"
    (folder / name).unlink()
    assert name in build.reason_to_run(page, folder)
    assert build.read_state(folder) == {}, "nothing of it is published"


@pytest.mark.parametrize("text", ["", '{"parts": {', "[]", "{}", '{"parts": {}}'])
def test_a_damaged_state_means_never_run(checkout, text):
    page, folder = finished(checkout, "01-first")
    (folder / "state.json").write_text(text)
    assert build.reason_to_run(page, folder) == "never run"
    assert build.read_state(folder) == {}


def test_a_state_whose_seal_is_gone_means_never_run(checkout):
    page, folder = finished(checkout, "01-first")
    state = json.loads((folder / "state.json").read_text())
    assert state.pop("seal")
    (folder / "state.json").write_text(json.dumps(state))
    assert build.reason_to_run(page, folder) == "never run"


@pytest.mark.parametrize("name", [name for name in STATE if name != "peak_mb"])
def test_a_state_that_lacks_what_pages_show_means_never_run(checkout, name):
    page, folder = finished(checkout, "01-first")
    known = json.loads((folder / "state.json").read_text())
    for other in ({k: v for k, v in known.items() if k != name}, known | {name: [1]}):
        (folder / "state.json").write_text(json.dumps(files.sealed(other)))
        assert build.reason_to_run(page, folder) == "never run"
    (folder / "state.json").write_text(json.dumps(known))
    assert build.reason_to_run(page, folder) == ""


def test_a_swap_that_was_stopped_loses_nothing(tmp_path):
    place = tmp_path / "page"
    for where, text in [(tmp_path / ".old-page", "good"), (tmp_path / "new", "newer")]:
        where.mkdir()
        (where / "x").write_text(text)
    files.restore(place)  # stopped between the renames: the old one returns
    assert (place / "x").read_text() == "good"
    files.swap(tmp_path / "new", place)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (place / "x").read_text() == "newer"


def quick(monkeypatch, make=lambda out, environment: None):
    """Pages run by a function instead of a kernel: make(out, environment)."""

    class Quick:
        def __init__(self, environment, folder):
            self.environment, self.folder = environment, folder

        def run(self, notebook, executed, parameters, tell):
            shutil.copy(notebook, executed)
            make(self.folder / parameters["out"], self.environment)
            return 9

        def stop(self):
            pass

    monkeypatch.setattr(build, "Runner", Quick)


def test_a_page_given_twice_runs_once_and_leaves_its_neighbours_work(checkout, monkeypatch, capsys):
    write(checkout, "01-first-long")
    other = checkout / "build" / "work" / "01-first-long-0123456789abcdef"
    stale = checkout / "build" / "work" / "01-first-0123456789abcdef"
    for folder in (other, stale):
        folder.mkdir(parents=True)
    quick(monkeypatch)
    assert run(checkout, names=["01-first", "01-first"]) == 0
    assert capsys.readouterr().out.count("01-first: running") == 1
    assert other.exists()
    assert not stale.exists()


def test_the_pages_process_knows_the_store_and_the_sizes(checkout, monkeypatch):
    known = {}
    quick(monkeypatch, lambda out, environment: known.update(environment))
    assert run(checkout, names=["01-first"], parameters={"n": "5"}) == 0
    assert known["VITLAB_TRIALS"] == str(checkout / "build" / "trials")
    assert known["VITLAB_PROFILES"] == str(checkout / "notebooks" / "profiles.yml")


def test_a_full_disk_stops_one_page_not_the_others(checkout, monkeypatch, capsys):
    quick(monkeypatch)
    full = OSError(28, "No space left on device")

    def write_json(path, value):
        if "01-first" in str(path):
            raise full
        files.write_json(path, value)

    monkeypatch.setattr(build, "write_json", write_json)
    assert run(checkout) == 1
    said = capsys.readouterr()
    assert "FAILED 01-first: [Errno 28]" in said.err
    assert "02-second: done" in said.out


# --- no text is code ------------------------------------------------------------------------------

HOSTILE = [
    "{{ cycler.__init__.__globals__.os.system('touch EXECUTED') }}",
    "{% for x in (1,) %}EXECUTED{% endfor %}",
    "<svg onload=alert(1)>",
    "</code></p><script>alert(1)</script>",
    "x\n\n<script>alert(1)</script>\n\n# Heading",
    "x\n:::\n\n```{code-cell}\nboom\n```\n{raw}`<b>`",
    "{eval-rst}`x` {download}`/etc/passwd` $\\alpha$ [a](javascript:b) ![i](j.png) |s| *b* `c`",
    '" onmouseover="alert(1)',
    "1. list", "- list", "# heading", "% comment", ":::{error}", "~~~", "(target)=", "{{ ledger }}",
]  # fmt: skip


def hostile_site(place, word):
    """What is staged of a page, the front page and the status page, a word wherever one enters."""
    _, folder = finished(place, "01-first")
    state = build._state(folder) | dict.fromkeys(("machine", "commit", "versions"), word)
    state |= {"settings": {"images": word}, "reason": word, "key": word}
    (folder / "failure.json").write_text(json.dumps({"error": word, "time": word}))
    name = word.replace("/", "-")
    (folder / f"{name}.csv").write_text("a\n1\n")
    kept = place / "kept"
    kept.mkdir()
    pd.DataFrame({word: [word, "2"]}).to_csv(kept / f"{name}.csv", index=False)
    number = {"quantity": word, "value": 0.5, "low": 0.4, "high": 0.6, "n": 1000, "unit": word}
    said = dict.fromkeys(("reason", "remarks", "primary", "unit", "part", "images"), word)
    # A demand is made of two numbers by this book's code, so it is none of anybody's words.
    said |= {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1000, "demand": "> 0", "verdict": "holds"}
    said |= {
        "trainings": 3,
        "classes": 5,
        "spread": 0.1,
        "sees": 0.1,
        "takes": None,
        "agree": [1, 2],
    }
    said |= {"over_trainings": None, "speaks_for": word, "known": [word], "reproduction": True}
    said |= {"control": {"against": word, "value": 0.1, "low": 0.0, "high": 0.2}}
    check = {**number, "primary": True, "demand": "> 0", "verdict": "holds", "reason": word}
    edition = {**said, "recorded": word, "checks": [check] * 3, "facts": [number], "parts": [said]}
    theirs = {"model": word, "condition": word, "value": 1, "unit": word, "exact": 0}
    record = {
        **edition, "paper": word, "claim": word, "short": word, "statement": word, "theme": word,
        "page": word, "published": [theirs] * 3, "independent": [theirs] * 2, "primary": [],
        "unpublished": word, "photos": word, "edition": "imagenet",
        "editions": {"imagenet": edition},
    }  # fmt: skip
    known = record | {"paper": "naseer2021", "claim": "occlusion-random", "page": "01-first"}
    run = {
        "run": word, "folder": kept, "models": [{"name": word, "source": word}],
        "claims": [record], "state": state | {"image sets": [{"n": 5, "fingerprint": word}]},
    }  # fmt: skip
    headline = {"paper": "naseer2021", "claim": "occlusion-random", "edition": "mini"}
    headline |= {"x": word, "y": word, "chance": None, "lines": {word: [[word, 0.5, 0.4, 0.6, 5]]}}
    (folder / "headline.json").write_text(json.dumps(headline))
    panels = front.headline(folder, [])
    page = book.staged_page("01-first", folder, state, [known], [run], panels, "", "a/b")
    made = papers.pages([known], "https://github.com/a/b")
    never = book.staged_page(word, folder, {})
    staged = [cell.source for cell in [*page.cells[1:5], *page.cells[-2:], *never.cells]]
    staged += [made["naseer2021"]]
    prose = place / "prose"
    prose.mkdir()
    (prose / "ledger.js").write_text("let x = 1;")
    (prose / "intro.md").write_text(book.small_intro({word: word}))
    (prose / "status.md").write_text("# Status\n\n{{ status }}\n")
    book.fill(prose, [record], {word: folder}, {word: state})
    assert len(page.cells) > 8
    return staged + [path.read_text() for path in sorted(prose.glob("*.md"))]


class Tags(HTMLParser):
    """The tags of a piece of HTML with their attributes' names."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *(name for name, _ in attributes)))

    def handle_endtag(self, tag):
        self.found.append(("/", tag))


def structure(text):
    """What MyST makes of a text, the text itself aside; substitutions are on, to be strict."""
    extensions = {"amsmath", "colon_fence", "deflist", "dollarmath", "html_image", "substitution"}
    parser = create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)

    def read(tokens):
        for token in tokens:
            html_tags = Tags(token.content).found if token.type.startswith("html") else []
            info = "" if token.type == "text" else token.info
            yield token.type, info, html_tags, list(read(token.children or []))

    return list(read(parser.parse(text)))


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_text_in_a_page_stays_text(checkout, tmp_path, word):
    """A hostile word makes of a page what a harmless one does: same blocks, tags, roles."""
    shutil.copytree(checkout, tmp_path / "other")
    hostile, harmless = hostile_site(checkout, word), hostile_site(tmp_path / "other", "word")
    assert len(hostile) == len(harmless) > 5
    for ours, theirs in zip(hostile, harmless, strict=True):
        assert structure(ours) == structure(theirs), ours
    shown = " ".join(html.unescape(" ".join(hostile)).split())
    assert shown.count(" ".join(word.split())) >= 20, "and it is there to be read"


def outputs(words):
    """What a page puts out of a reader's names: printed, as a table, as a figure's description."""
    new = nbformat.v4.new_output
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8)).save(drawn, "PNG")
    table = pd.DataFrame({word: [word] for word in words}, index=words[:1])
    picture = {"image/png": base64.b64encode(drawn.getvalue()).decode()}
    table_data = {"text/html": table.to_html(), "text/plain": str(table)}
    about = {"vitlab": {"says": " ".join(words)}}
    return [
        new("stream", text="\n".join(words)),
        new("stream", name="stderr", text="\n".join(words)),
        new("display_data", data=table_data),
        new("display_data", data=picture, metadata=about),
    ]


def injected(page):
    """What a page would run that the theme has not put there."""
    soup = BeautifulSoup(page, "html.parser")
    found = [str(tag) for tag in soup.find_all("script") if "alert(1)" in tag.text]
    for tag in soup.find_all(True):
        for name, value in tag.attrs.items():
            handler = name.startswith("on") and "alert" in str(value)
            if handler or (name in ("href", "src") and str(value).startswith("javascript:")):
                found.append(str(tag)[:200])
    return found


@pytest.mark.build
def test_a_hostile_book_is_built_whole_and_nothing_of_it_is_executed(checkout, monkeypatch):
    """Every way in at once: an error, outputs, alternative text, -p values, runs, host, files."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    words = [word.replace("\n", " ") for word in HOSTILE]
    every = " ".join(words)
    states, kept = {}, {}
    for name in ("01-first", "02-second"):
        _, folder = finished(checkout, name)
        notebook = nbformat.read(folder / "page.ipynb", as_version=4)
        notebook.cells[-1].outputs = outputs(words)
        nbformat.write(notebook, folder / "page.ipynb")
        (folder / f"{HOSTILE[2]}.csv").write_text("n\n1\n")
        (folder / "failure.json").write_text(json.dumps({"error": every, "time": HOSTILE[2]}))
        shutil.rmtree(folder / "claims")
        about = dict.fromkeys(("machine", "commit", "versions", "key", "reason"), every)
        states[name] = build._state(folder) | about
        run_ = {"run": every, "folder": folder, "models": [{"name": every, "source": every}]}
        kept[name] = [{**run_, "claims": [], "state": states[name]}]
    base = checkout / "build"
    build.write_json(base / "ledger.json", [])
    given = {"images": every, "models": "timm/x=/home/ann/secret/w.pth"}
    build._site(checkout, base, states, [], kept, given)
    site = base / "html"
    for name in ("notebooks/01-first", "notebooks/02-second", "book/intro", "book/status"):
        page = (site / f"{name}.html").read_text()
        assert "cycler" in page, "it is there to be read"
        assert injected(page) == [], name
        assert page.index("Content-Security-Policy") < page.index("<script"), name
        assert "EXECUTED" not in BeautifulSoup(page, "html.parser").text.replace(
            "touch EXECUTED", ""
        ).replace("%}EXECUTED{%", "")
        assert "/home/ann" not in page
    assert not list(checkout.rglob("EXECUTED"))
    assert injected('<svg onload="alert(1)"></svg><a href="javascript:b">x</a>') != []


def test_folders_of_the_machine_are_not_published(checkout):
    _, folder = finished(checkout, "01-first", ["", "DataError: /home/ann/photos/1.jpg is cut"])
    failure = {"error": "OSError: '/home/ann/my photos/2.jpg'", "time": "now"}
    (folder / "failure.json").write_text(json.dumps(failure))
    page = book.staged_page("01-first", folder, build._state(folder))
    never = book.staged_page("01-first", folder, {})
    shown = pd.DataFrame({"path": ["/home/ann/photos/3.jpg"]}).to_html()
    picture = '<img src="data:image/png;base64,+/home/ann/x+/a/b">'
    cell = nbformat.v4.new_code_cell("1")
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": text}) for text in (shown, picture)
    ]
    cells = book._staged(cell, "01-first", {})[0].outputs
    assert "<td>…/3.jpg</td>" in cells[0].data["text/html"]
    assert cells[1].data["text/html"] == picture, "a picture's letters are no folders"
    intro = book.small_intro({"images": "/home/ann/photos", "models": "timm/x=/home/ann/w.pth"})
    cluster = {"VITLAB_SCHEDULER": "tcp://10.0.0.1:8786"}
    told = json.dumps(build.provenance(checkout, "cpu", cluster))
    told += placeless("ClusterError: no Dask scheduler answers at 'tcp://10.0.0.1:8786' in 5 s")
    assert "and a Dask cluster" in told
    assert "answers at 'tcp://…' in 5 s" in told
    assert "10.0.0.1" not in told
    said = html.unescape(nbformat.writes(page) + nbformat.writes(never) + intro)
    assert "ann" not in re.findall(r"\w+", said)
    assert "…/1.jpg is cut" in said
    assert "images=…/photos" in said
    assert "timm/x=…/w.pth" in said

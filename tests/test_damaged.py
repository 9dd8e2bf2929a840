"""Files that are empty, cut, flipped, of another type or gone: made again, or named."""

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Means
from damaging import WAYS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_build import checkout, quick, write  # noqa: F401  a fixture

from vitlab import claims, files, models
from vitlab import images as data
from vitlab.book import build, front, pages, papers, recorded, svg
from vitlab.conditions import CLEAN, patchdrop
from vitlab.models import Model, zoos
from vitlab.statistics import Interval, mean
from vitlab.statistics.check import measured
from vitlab.trials import listing, measure, store
from vitlab.trials.run import run as evaluate

DAMAGE = WAYS | {
    "binary": lambda content: b"\xff\xfe\x00",
    "list": lambda content: b"[]",
    "number": lambda content: b"1",
}
NOT_YAML = {**DAMAGE, "half": lambda content: b"a: [1,\n", "flipped": lambda content: b"a: [1,\n"}
damages = pytest.mark.parametrize("how", DAMAGE)


# --- trials ---------------------------------------------------------------------------------------


class Counting(Means):
    """Means that counts the images it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = 0

    def forward(self, x):
        self.shown += len(x)
        return super().forward(x)


def brightness(net, batch):
    return {"mean": batch.pixels.mean((1, 2, 3)), "score": net.logits(batch.pixels)}


def made():
    return {"a": torch.arange(3)}


DROPS = [CLEAN, *patchdrop.random([0.25, 0.5], (8, 8), seed=1)]


def results(images):
    """What the engine, a page's function and a page's own making give; and images shown."""
    net = Model("net", Counting(), "CNN", "stimuli", "w")
    trials = evaluate([net], images, DROPS)
    values = measure.collect(brightness, [net], images)
    return (trials, values, measure.keep(made)), net.net.shown


def agree(found, before):
    pd.testing.assert_frame_equal(found[0], before[0])
    assert found[1].keys() == before[1].keys()
    assert all(torch.equal(found[1][key], before[1][key]) for key in before[1])
    assert torch.equal(found[2]["a"], before[2]["a"])


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(store, "PIECE", 8)


@damages
def test_every_damaged_file_of_the_store_is_made_again(trial_store, recwarn, how):
    images = data.load("stimuli", n=12)
    before, _ = results(images)
    whole = {path: path.read_bytes() for path in trial_store.rglob("*") if path.is_file()}
    assert len(whole) == 11, "four results of seven pieces"
    for path, content in whole.items():
        if (damaged := DAMAGE[how](content)) == content:
            continue
        path.write_bytes(damaged)
        found, shown = results(images)
        agree(found, before)
        assert shown <= 2 * 8, "that piece, at both levels, and nothing else"
        assert path.read_bytes() == content or path.name == "about.json"
        assert listing._row(path.parent, [])["what"][:7] != "unknown"
    agree(results(images)[0], before)
    assert {path for path in trial_store.rglob("*") if path.is_file()} == set(whole)
    named = " ".join(str(warning.message) for warning in recwarn)
    assert all(path.name in named for path in whole if path.name != "about.json")
    assert results(images)[1] == 0


def stray(path, content):
    """A file with a right hash in its name that is not what belongs here."""
    kind, number = path.suffix, path.name.split("-")[1]
    return path.with_name(f"piece-{number}-{hashlib.sha256(content).hexdigest()[:16]}{kind}")


def test_a_whole_piece_of_something_else_is_not_taken(trial_store, tmp_path, recwarn):
    images = data.load("stimuli", n=12)
    before, _ = results(images)
    pieces = sorted(trial_store.glob("*/piece-*"))
    contents = {path: path.read_bytes() for path in pieces}
    rows = tmp_path / "rows.parquet"
    for path in pieces:
        others = [c for p, c in contents.items() if p.suffix == path.suffix and p != path]
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            for wrong in (
                table[:-1],
                pd.concat([table, table]),
                table.assign(image=0),
                table[::-1],
                table.assign(model="another"),
                table.drop(columns="label"),
            ):
                wrong.to_parquet(rows, index=False)
                others.append(rows.read_bytes())
        for other in others:
            path.unlink(missing_ok=True)
            stray(path, other).write_bytes(other)
            agree(results(images)[0], before)
            assert sorted(trial_store.glob("*/piece-*")) == pieces
    pieces[0].unlink()
    pieces[0].mkdir()
    agree(results(images)[0], before)
    assert str(pieces[0]) in " ".join(str(warning.message) for warning in recwarn)


NO_FILE = {
    "pipe": lambda path, other: os.mkfifo(path),
    "link to a pipe": lambda path, other: path.symlink_to(other.parent / "pipe"),
    "loop": lambda path, other: path.symlink_to(path.name),
    "dangling link": lambda path, other: path.symlink_to("nowhere"),
    "long link": lambda path, other: path.symlink_to("x" * 300),
    "folder": lambda path, other: path.mkdir(),
    "link to a folder": lambda path, other: path.symlink_to(other),
}


@pytest.mark.parametrize("how", NO_FILE)
def test_what_is_no_file_is_never_opened_and_made_again(
    trial_store, tmp_path, never_waiting, recwarn, how
):
    """Nothing that a link leads to is touched."""
    images = data.load("stimuli", n=8)
    before, _ = results(images)
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    os.mkfifo(tmp_path / "pipe")
    whole = {path for path in trial_store.rglob("*") if path.is_file()}
    entries = [] if "folder" in how else [path.parent for path in whole]
    for path in [*sorted(whole), *sorted(set(entries))]:
        files.clear(path)
        NO_FILE[how](path, other)
        agree(results(images)[0], before)
        assert {path for path in trial_store.rglob("*") if path.is_file()} == whole
        assert not any(path.is_symlink() for path in trial_store.rglob("*"))
        named = [str(warning.message) for warning in recwarn]
        assert path.name == "about.json" or f"{path} is damaged: measured again" in named
    assert results(images)[1] == 0
    assert [file.name for file in other.iterdir()] == ["kept"]


def test_a_store_that_leads_nowhere_is_left_alone(tmp_path, monkeypatch):
    """It may be a link to a disk that is not there at the moment."""
    place = tmp_path / "trials"
    place.symlink_to("nowhere")
    monkeypatch.setenv("VITLAB_TRIALS", str(place))
    with pytest.raises(store.StoreError, match="results cannot be written to"):
        measure.keep(made)
    assert place.is_symlink()


def spoilt(content, how, places):
    """A file's content with any damage: bits flipped, cut off, emptied, something behind it."""
    content = bytearray(content)
    if how == "cut":
        del content[places[0] % (len(content) + 1) :]
    elif how == "longer":
        content += bytes(place % 256 for place in places)
    elif content and how == "flipped":
        for place in places:
            content[place // 8 % len(content)] ^= 1 << place % 8
    return b"" if how == "empty" else bytes(content)


SPOILING = st.tuples(
    st.integers(0, 2**20),
    st.sampled_from(["flipped", "cut", "empty", "longer"]),
    st.lists(st.integers(0, 2**20), min_size=1, max_size=4),
)


@given(damage=st.lists(SPOILING, min_size=1, max_size=4))
@settings(max_examples=30)
def test_a_store_with_any_damage_gives_what_was_measured(trial_store, damage):
    """Read as it was, or measured again: never something else, and whole afterwards."""
    images = data.load("stimuli", n=12)
    before, _ = results(images)
    paths = sorted(path for path in trial_store.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in paths}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at, how, places in damage:
            path = paths[at % len(paths)]
            path.write_bytes(spoilt(path.read_bytes(), how, places))
        agree(results(images)[0], before)
    told = {path: content for path, content in whole.items() if path.name != "about.json"}
    assert {path: path.read_bytes() for path in told} == told
    assert {path for path in trial_store.rglob("*") if path.is_file()} == set(paths)
    assert results(images)[1] == 0


# --- the book -------------------------------------------------------------------------------------


@pytest.fixture
def book(checkout, monkeypatch):  # noqa: F811
    """A checkout whose pages run in no time and settle a claim."""

    def settle(out, environment):
        (out / "table.csv").write_text("n\n1\n")
        (out / "trials.json").write_text('["key"]')
        if out.parent.name.startswith("01-first"):
            kept = claims.Run("photos", ["net"], "40 images")
            gap = mean([0.2, 0.3] * 20)
            found = claims.Finding(
                *("naseer2021", "occlusion-salient", kept),
                parts={"": [[measured("gap", gap > 0)]]},
                facts=[("share", Interval(0.5, 0.4, 0.6, 40), "")],
            )
            claims.settle(found, out)

    quick(monkeypatch, settle)
    return checkout


def run(place, **options):
    return build.build(root=place, jobs=1, **{"site": False, **options})


def broken(path, how, damage=DAMAGE):
    """Damage a file for a while: the damages that change it."""
    content = path.read_bytes()
    if damage[how](content) == content:
        return False
    path.write_bytes(damage[how](content))
    return True


@damages
def test_a_damaged_page_is_run_again_and_no_other(book, capsys, how):
    assert run(book) == 0
    ledger = (book / "build" / "ledger.json").read_bytes()
    folder = book / "build" / "pages" / "01-first"
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert len(names) == 6, names
    for name in sorted(names):
        content = (folder / name).read_bytes()
        if not broken(folder / name, how):
            continue
        capsys.readouterr()
        assert run(book) == 0
        said = capsys.readouterr().out
        assert "01-first: running" in said, name
        assert "02-second: up to date" in said
        assert name.name in said or name.name == "state.json"
        if name.name not in ("state.json", "page.ipynb"):
            assert (folder / name).read_bytes() == content
        assert (book / "build" / "ledger.json").read_bytes() == ledger
    (book / "build" / "ledger.json").write_bytes(DAMAGE[how](ledger))
    (folder / "failure.json").write_bytes(DAMAGE[how](b'{"error": "x"}'))
    assert run(book) == 0
    assert (book / "build" / "ledger.json").read_bytes() == ledger


@given(damage=st.lists(SPOILING, min_size=1, max_size=3))
@settings(max_examples=25)
def test_a_build_with_any_damage_heals_and_settles_the_same(book, damage):
    """Whatever befell the files of its pages, the next build makes them again, and the ledger."""

    def states():
        found = [build.read_state(book / "build" / "pages" / name) for name in pages.names(book)]
        return [{name: state[name] for name in lasting} for state in found]

    lasting = ("key", "parts", "settings", "versions", "machine", "commit")
    assert run(book) == 0
    ledger, known = (book / "build" / "ledger.json").read_bytes(), states()
    paths = [*(book / "build" / "pages").rglob("*"), book / "build" / "ledger.json"]
    paths = sorted(path for path in paths if path.is_file())
    for at, how, places in damage:
        path = paths[at % len(paths)]
        path.write_bytes(spoilt(path.read_bytes(), how, places))
    assert run(book) == 0
    assert (book / "build" / "ledger.json").read_bytes() == ledger
    assert states() == known


@damages
def test_a_damaged_recorded_run_is_named_and_the_book_goes_on(book, capsys, how):
    assert run(book) == 0
    folder = book / "build" / "pages" / "01-first"
    where = book / "book" / "recorded" / "a-run" / "01-first"
    where.mkdir(parents=True)
    shutil.copy(folder / "table.csv", where)
    shutil.copytree(folder / "claims", where / "claims")
    state = json.loads((folder / "state.json").read_text())
    state = files.sealed({**state, "files": recorded._hashes(where)})
    (where / "state.json").write_text(json.dumps(state))
    assert run(book) == 0
    write(book, "02-second", body="pass")
    for path in sorted(path for path in where.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if not broken(path, how):
            continue
        capsys.readouterr()
        assert run(book) == 1, path
        said = capsys.readouterr()
        assert "FAILED 01-first: " in said.err
        assert path.name in said.err
        assert "FAILED 02-second" not in said.err
        assert "ledger: " in said.out
        path.write_bytes(content)
    where.rename(where.with_name(".old-01-first"))  # a swap that was stopped
    assert [one["run"] for one in recorded.runs("01-first", where.parents[1])] == ["a-run"]


ODD = [
    b"", b"[]", b"1", b"null", b"{}", b"[1]", b"\xff\xfe", b'{"paper": 1}', b'[{"name": 1}]',
    b'{"paper": "naseer2021", "claim": "occlusion-salient", "evidence": {}}',
    b'{"paper": "naseer2021", "claim": "occlusion-salient", "evidence": '
    b'{"run": ["x"], "parts": {"": [[{}]]}, "facts": [[1]], "remarks": 1}}',
]  # fmt: skip
EVIDENCE = [  # what each of these is made of, in a run that is otherwise as it was recorded
    *(("unit",), ("quantity",), ("against",), ("trainings",)),
    *(("facts", 0, 0), ("facts", 0, 2), ("facts", 0, 1, 3)),
    *(("run", 0), ("run", 1, 0), ("run", 2), ("run", 3), ("remarks",)),
]
HEAD = {"paper": "naseer2021", "claim": "occlusion-salient", "edition": "mini", "x": "x", "y": "y"}
HEAD |= {"chance": None, "lines": {"ViT": [["a", 0.5, 0.4, 0.6, 9]]}}
HEADS = [
    *({k: v for k, v in HEAD.items() if k != name} for name in HEAD),
    *({**HEAD, "lines": lines} for lines in (1, {"a": 1}, {"a": [1]}, {"a": [[1, 2]]})),
    *({**HEAD, "lines": {"a": [["x", *numbers]]}} for numbers in ("1234", [[]] * 4, [True] * 4)),
    *({**HEAD, **more} for more in ({"paper": "nobody"}, {"claim": "x"}, {"edition": []})),
    *({**HEAD, "lines": {"a": [[x, 0.5, 0.4, 0.6, 9]]}} for x in ({"a": 1}, [1], None, True)),
    *({**HEAD, **{name: odd}} for name in ("x", "y", "chance") for odd in ({"a": 1}, [1])),
    {**HEAD, "lines": {"a": [["x", None, 0.4, 0.6, 9], ["y", 0.5, 0.4, 0.6, 9]]}},
    {**HEAD, "lines": {"a": [[float("nan"), 0.5, 0.4, 0.6, 9]]}},
]


@pytest.mark.parametrize("name", ["models.json", "table.csv", "headline.json", "claims"])
def test_a_recorded_run_that_was_made_up_is_named(book, name):
    """Its hashes are right; whoever wrote them may have written anything."""
    assert run(book) == 0
    where = book / "book" / "recorded" / "a-run" / "01-first"
    shutil.copytree(book / "build" / "pages" / "01-first", where)
    path = next(where.glob(f"{name}/*.json"), where / name)
    state = json.loads((where / "state.json").read_text())
    odd = [*ODD, *(json.dumps(head).encode() for head in HEADS)]
    for content in odd if name == "headline.json" else ODD:
        path.write_bytes(content)
        state = files.sealed({**state, "files": recorded._hashes(where)})
        (where / "state.json").write_text(json.dumps(state))
        if name == "table.csv" and content not in (b"", b"\xff\xfe"):
            continue  # a table is any text
        if (name, content) != ("models.json", b"[]"):
            with pytest.raises(ValueError, match=path.name):
                front.headline(where, recorded.runs("01-first", where.parents[1]))


@pytest.mark.parametrize("at", EVIDENCE, ids=str)
def test_a_recorded_run_of_odd_evidence_is_named_and_the_book_goes_on(book, capsys, at):
    assert run(book) == 0
    where = book / "book" / "recorded" / "a-run" / "01-first"
    shutil.copytree(book / "build" / "pages" / "01-first", where)
    [path] = where.glob("claims/*.json")
    kept = json.loads(path.read_text())
    state = json.loads((where / "state.json").read_text())
    inside = kept["evidence"]
    if len(at) == 1 and at[0] != "remarks":
        [[inside]] = inside["parts"][""]
    for key in at[:-1]:
        inside = inside[key]
    for odd in ({"a": 1}, ["x"], 1.5, None):
        inside[at[-1]] = odd
        path.write_text(json.dumps(kept))
        state = files.sealed({**state, "files": recorded._hashes(where)})
        (where / "state.json").write_text(json.dumps(state))
        capsys.readouterr()
        assert run(book) == 1
        said = capsys.readouterr()
        assert f"FAILED 01-first: {path} cannot be read: " in said.err
        assert said.err.count("FAILED") == 1
        assert "ledger: " in said.out


def test_a_page_whose_headline_is_none_is_named_and_the_book_goes_on(book, monkeypatch, capsys):
    def draw(out, environment):
        head = HEAD if out.parent.name.startswith("02-second") else {"x": 1}
        (out / "headline.json").write_text(json.dumps(head))

    quick(monkeypatch, draw)
    assert run(book) == 1
    said = capsys.readouterr()
    assert "FAILED 01-first: " in said.err
    assert "headline.json is no headline: KeyError: 'y'" in said.err
    assert "FAILED 02-second" not in said.err
    assert "ledger: " in said.out
    drawn = [build._headline(book / "build" / "pages" / name, []) for name in pages.names(book)]
    assert drawn[0] == []
    assert drawn[1]


def test_any_error_of_the_site_is_told_and_not_thrown(book, monkeypatch, capsys):
    monkeypatch.setattr(build, "_site", lambda *of: {}["a key"])
    assert run(book, site=True) == 1
    assert (
        "FAILED ledger and site: KeyError: 'a key'; the last ones stay" in capsys.readouterr().err
    )


@pytest.mark.parametrize("how", NOT_YAML)
@pytest.mark.parametrize("name", ["book/_toc.yml", "_config.yml"])
def test_what_the_site_is_made_by_is_named_and_the_pages_are_run(book, capsys, name, how):
    if how == "flipped":
        return
    broken(book / name, how, NOT_YAML)
    assert run(book, site=True) == 1
    said = capsys.readouterr()
    assert "01-first: done" in said.out
    assert "02-second: done" in said.out
    assert f"FAILED ledger and site: {book / name}" in said.err
    assert ("line 2" in said.err) == (how == "half")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("book/_toc.yml", f"root: book/intro\nparts: {parts}") for parts in (
            "{a: 1}", "[{chapters: null}]", "[{chapters: [x]}]", "[{chapters: [{file: 3}]}]",
            "[{chapters: [{file: a, sections: 1}]}]", "[{chapters: [{file: a, sections: [b]}]}]",
        )),
        *(("_config.yml", f"repository: {value}") for value in ("[1]", "{url: 3}", "text")),
    ],
)  # fmt: skip
def test_what_the_site_is_made_by_may_have_any_form(book, capsys, name, text):
    (book / name).write_text(text)
    assert run(book, site=True) == 1
    assert f"FAILED ledger and site: {book / name}" in capsys.readouterr().err


def test_what_editors_and_file_systems_leave_beside_the_sources_is_none(book, own_papers):
    for place in (book / "notebooks", own_papers):
        source = sorted(place.iterdir())[0]
        (place / f".#{source.name}").symlink_to("nobody@host.123")  # Emacs, while it is edited
        (place / f"._{source.name}").write_bytes(b"\0\5\x16\7")  # macOS
    assert pages.names(book) == ["01-first", "02-second"]
    assert run(book) == 0
    pages.sync(book)
    assert [path.name for path in (book / "notebooks").glob("*.ipynb")] == [
        "01-first.ipynb", "02-second.ipynb",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["---\njupytext: [\n---\n# x\n", "```{code-cell}\n:tags: [\n```\n"]
)
def test_a_source_that_is_no_notebook_is_named(book, text):
    (book / "notebooks" / "01-first.md").write_text(text)
    for read in (run, pages.sync):
        with pytest.raises(files.FileError, match=r"01-first\.md is no notebook"):
            read(book)


@pytest.mark.parametrize("how", ["empty", "binary"])
@pytest.mark.parametrize("name", ["notebooks/01-first.md", "requirements.lock"])
def test_a_source_that_is_no_text_is_named_before_anything_is_run(book, name, how):
    path = book / name
    path.write_bytes(DAMAGE[how](b""))
    if (name, how) == ("requirements.lock", "empty"):
        assert run(book) == 0
        return
    with pytest.raises(files.FileError, match=path.name.replace(".", r"\.")):
        run(book)
    assert not (book / "build").exists()


@damages
def test_a_damaged_ipynb_stops_nothing_and_is_written_again(book, how):
    pages.sync(book)
    path = book / "notebooks" / "01-first.ipynb"
    content = path.read_bytes()
    broken(path, how)
    assert run(book) == 0
    if how != "flipped":  # which may be another letter, and so an edit of somebody's
        pages.sync(book)
        assert path.read_bytes() == content


@pytest.mark.parametrize("how", NOT_YAML)
def test_damaged_sizes_are_named(book, how):
    path = book / "notebooks" / "profiles.yml"
    path.write_text("01-first:\n  mini: {n: 3}\n")
    broken(path, how, NOT_YAML)
    with pytest.raises(files.FileError, match=r"profiles\.yml"):
        run(book)


@pytest.mark.parametrize(
    "value", ["{1: 2, a: 3}", "&a [*a]", "[[1]]", "2026-01-01", "!!binary aaaa", "!!set {a}"]
)
def test_a_size_of_no_kind_that_a_parameter_has_is_named(book, value):
    path = book / "notebooks" / "profiles.yml"
    for text in (f"01-first:\n  mini: {{n: {value}}}\n", f"every page: {{n: {value}}}\n"):
        path.write_text(text)
        with pytest.raises(files.FileError, match=r"profiles\.yml: .*: n: .* is no number, text"):
            run(book)


@pytest.fixture
def own_papers(tmp_path, root, monkeypatch):
    place = tmp_path / "papers"
    shutil.copytree(root / "book" / "papers", place)
    monkeypatch.setenv("VITLAB_PAPERS", str(place))
    claims.papers.cache_clear()
    yield place
    claims.papers.cache_clear()


@pytest.mark.parametrize("how", NOT_YAML)
def test_a_damaged_paper_is_named_and_stops_no_page_of_another(book, own_papers, capsys, how):
    broken(own_papers / "kim2022.yml", how, NOT_YAML)
    assert run(book) == 1
    said = capsys.readouterr()
    assert "01-first: done" in said.out
    assert f"FAILED ledger and site: {own_papers / 'kim2022.yml'}" in said.err
    assert claims.claim("naseer2021", "occlusion-salient")["id"] == "occlusion-salient"
    with pytest.raises(ValueError, match=r"kim2022\.yml"):
        claims.claim("kim2022", "x")


@pytest.mark.parametrize("value", ["5", "[5]", "text", "{a: 1}", "[{model: m}]", "", "[[]]"])
@pytest.mark.parametrize("key", ["published", "independent"])
def test_a_paper_of_another_form_is_named_with_its_line_and_no_run(
    book, own_papers, capsys, key, value
):
    """A sound recorded run of a claim is not at fault for what stands in its paper's file."""
    assert run(book) == 0
    where = book / "book" / "recorded" / "a-run" / "01-first"
    shutil.copytree(book / "build" / "pages" / "01-first", where)
    state = json.loads((where / "state.json").read_text())
    state = files.sealed({**state, "files": recorded._hashes(where)})
    (where / "state.json").write_text(json.dumps(state))
    path = own_papers / "naseer2021.yml"
    text, odd = path.read_text(), f"    {key}: {value}\n"
    start = text.index("    published:", text.index("- id: occlusion-salient"))
    end = text.index("    check:", start)
    path.write_text(text[:start] + odd + (text[start:] if key != "published" else text[end:]))
    line = text[:start].count("\n") + 1
    assert run(book) == 1
    said = capsys.readouterr()
    assert f"{path}, line {line}: occlusion-salient: {key} " in said.err
    assert "restore it" not in said.err
    assert "02-second: up to date" in said.out


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: (
        st.lists(inside, max_size=2) | st.dictionaries(st.text("ab"), inside, max_size=2)
    ),
    max_leaves=4,
)


@given(draw=st.data())
@settings(max_examples=30, deadline=None)
def test_a_paper_with_anything_in_it_is_read_or_named(own_papers, draw):
    """What is read can be shown: the ledger, the pages of papers, the headlines."""
    name = draw.draw(st.sampled_from(["kojima2022", "mao2022", "naseer2021"]))
    path = own_papers / f"{name}.yml"
    text = path.read_text()
    paper = files.parse_yaml(text)
    paper["claims"] = paper["claims"][:2]
    place, going = paper, True
    while going:
        keys = sorted(place) if isinstance(place, dict) else [*range(len(place))]
        key = draw.draw(st.sampled_from(keys))
        going = (
            isinstance(place[key], dict | list) and bool(place[key]) and draw.draw(st.booleans())
        )
        place = place[key] if going else place
    place[key] = draw.draw(ANYTHING)
    path.write_text(json.dumps(paper))
    claims.papers.cache_clear()
    try:
        known = claims.papers()[name]
    except ValueError as error:
        told = str(error)
    else:
        told = str(path)
        records = [record for record in claims.ledger({}) if record["paper"] == name]
        json.dumps(records, allow_nan=False)
        assert papers.pages(records, "").keys() == {"index", *(r["paper"] for r in records)}
        for entry in known["claims"]:
            front._published(svg.Panel("x", paper=name, claim=entry["id"]))
    finally:
        path.write_text(text)
    assert str(path) in told


INDEX = {
    **DAMAGE,
    "flipped": lambda content: content.replace(b'"models"', b'"nodels"'),
    "mapping": lambda content: b'{"models": {"mini/a": 1}, "zoos": {"mini": {}}}',
    "lacking": lambda content: b'{"models": {"mini/a": {}}, "zoos": {"mini": {}}}',
}


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """A zoo with an index and no weights, to be damaged."""
    place = tmp_path / "zoo"
    (place / "mini").mkdir(parents=True)
    shutil.copy(zoos.ZOO / "index.json", place)
    monkeypatch.setattr(zoos, "ZOO", place)
    zoos.zoo.cache_clear()
    yield place
    zoos.zoo.cache_clear()


@pytest.mark.parametrize("how", [*INDEX, "gone"])
def test_a_damaged_index_of_the_zoo_stops_only_pages_that_name_its_models(
    book, own_zoo, monkeypatch, capsys, how
):
    """A page of the zoo's models fails by name, once mended it stands; others go on."""

    def load(out, environment):
        if out.parent.name.startswith("01-first"):
            models.select("mini/vit-0")  # as the page's own loading does first

    quick(monkeypatch, load)
    for name, wanted in [("01-first", "mini/vit-0"), ("02-second", "efficientnet-lite0")]:
        page = book / "notebooks" / f"{name}.md"
        text = page.read_text()
        page.write_text(text.replace('images = "stimuli"', f'models = "{wanted}"'))
    assert run(book) == 0
    path = own_zoo / "index.json"
    content = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(INDEX[how](content))
    zoos.zoo.cache_clear()
    capsys.readouterr()
    assert run(book) == 1
    said = capsys.readouterr()
    assert "02-second: up to date" in said.out
    assert "FAILED 01-first: " in said.err
    assert "index.json" in said.err
    assert "restore it from the repository" in said.err
    assert "FAILED 02-second" not in said.err
    path.write_bytes(content)
    zoos.zoo.cache_clear()
    assert run(book) == 0
    assert "01-first: up to date" in capsys.readouterr().out


@damages
def test_a_damaged_list_of_trials_stops_pruning_and_names_its_file(tmp_path, how):
    path = tmp_path / "build" / "pages" / "01-first" / "trials.json"
    path.parent.mkdir(parents=True)
    path.write_text('["aaaa", "bbbb"]')
    broken(path, how)
    if how == "list":
        assert listing.users(tmp_path) == {}
        return
    with pytest.raises(files.FileError, match=r"trials\.json"):
        listing.prune(tmp_path)


IN_THE_WAY = {
    "file": lambda path, other: path.write_text("x"),
    "folder": lambda path, other: (path / "inside").mkdir(parents=True),
    "link": lambda path, other: path.symlink_to(other),
    "dangling link": lambda path, other: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("how", IN_THE_WAY)
def test_whatever_lies_where_a_build_writes_is_cleared_away(book, tmp_path, how):
    """What a link leads to is somebody's, and stays."""
    assert run(book) == 0
    [page], folder = pages.choose(book, ["01-first"], {}), book / "build" / "pages" / "01-first"
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    for name in (
        *("ledger.json", "work", f"work/01-first-{page.key}", f"work/01-first-{'0' * 16}"),
        *(f"work/01-first-{page.key}/out", "pages/.old-01-first", "pages/01-first"),
        *(f"pages/01-first/{name}" for name in ("state.json", "failure.json", "table.csv")),
    ):
        path = book / "build" / name
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        IN_THE_WAY[how](path, other)
        for _ in range(2):
            assert run(book) == 0, name
            assert build.reason_to_run(page, folder) == ""
            (folder / "state.json").unlink()
        assert [file.name for file in other.iterdir()] == ["kept"]


def test_a_book_without_pages_says_so(book):
    for path in (book / "notebooks").glob("*.md"):
        path.unlink()
    with pytest.raises(pages.PageError, match="notebooks holds no pages"):
        run(book)


# --- what goes wrong while a book is built --------------------------------------------------------


def test_any_error_of_a_page_is_its_own(book, monkeypatch, capsys):
    real = build.jupytext.write

    def fails(notebook, path, **how):
        if "01-first" in str(path):
            raise IndexError("no such cell")
        real(notebook, path, **how)

    monkeypatch.setattr(build.jupytext, "write", fails)
    assert run(book) == 1
    said = capsys.readouterr()
    assert "FAILED 01-first: IndexError: no such cell" in said.err
    assert "02-second: done" in said.out


def test_the_first_cause_is_told_first(book, monkeypatch, capsys):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(build, "write_json", full)
    assert run(book) == 1
    last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("FAILED")]
    assert [line.split(":")[0] for line in last] == [
        "FAILED 01-first", "FAILED 02-second", "FAILED ledger and site",
    ]  # fmt: skip
    assert "state.json" in last[0]


def test_half_a_file_of_a_killed_run_is_not_published(book):
    [page] = pages.choose(book, ["01-first"], {})
    out = book / "build" / "work" / f"01-first-{page.key}" / "out" / "claims"
    out.mkdir(parents=True)
    (out / ".naseer2021.occlusion-salient.77.part.parquet").write_bytes(b"half")
    assert run(book) == 0
    assert not [path for path in book.rglob("*.part*") if "recorded" not in path.parts]


def test_without_git_a_page_has_no_commit(book, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(book) == 0
    assert build.read_state(book / "build" / "pages" / "01-first")["commit"] == "no commit"


def test_a_page_name_is_no_pattern(book):
    write(book, "0[1-9]-first")
    other = book / "build" / "work" / f"01-first-{'0' * 16}"
    other.mkdir(parents=True)
    assert run(book, names=["0[1-9]-first"]) == 0
    assert other.exists()


def test_the_first_page_of_a_small_book_may_fail(book, monkeypatch):
    quick(monkeypatch, lambda out, environment: 1 / 0)
    assert run(book, names=["01-first"], parameters={"n": "5"}) == 1
    [folder] = book.glob("build/custom/*/pages/01-first")
    assert "ZeroDivisionError" in json.loads((folder / "failure.json").read_text())["error"]


def test_what_lasts_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(files.os, "fsync", lambda number: events.append("on the disk"))
    real = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: events.append("named") or real(a, b))
    files.write_json(tmp_path / "a.json", {}, lasting=True)
    assert events == ["on the disk", "named"]
    (tmp_path / "new" / "below").mkdir(parents=True)
    (tmp_path / "new" / "below" / "x").touch()
    files.swap(tmp_path / "new", tmp_path / "place", lasting=True)
    assert events == ["on the disk", "named", "on the disk"]
    assert Path(tmp_path / "place" / "below" / "x").exists()

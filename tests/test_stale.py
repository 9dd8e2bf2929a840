"""A number is never stale: what can change it has it measured anew, and nothing else does."""

import json
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import huggingface_hub
import hypothesis
import numpy as np
import pytest
import torch
from conftest import photograph
from hypothesis import strategies as st
from test_build import PAGE, STATE, checkout, quick  # noqa: F401  a fixture

from vitlab import images as data
from vitlab import keys
from vitlab.book import build, pages
from vitlab.conditions import CLEAN, Condition, patchdrop
from vitlab.files import sealed
from vitlab.images import contents
from vitlab.models import Model
from vitlab.trials import measure
from vitlab.trials.run import run


class Counting(torch.nn.Module):
    """A network of 1,000 classes that counts the images it was shown."""

    def __init__(self, kind=torch.nn.ReLU):
        super().__init__()
        self.act, self.scale = kind(), torch.nn.Parameter(torch.linspace(0, 1, 1000))
        self.shown = 0

    def forward(self, x):
        self.shown += len(x)
        return self.act(x.mean((2, 3)).sum(1, keepdim=True)) * self.scale


CONFIG = {"input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bilinear"}
CONFIG |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def shown(images, conditions=(CLEAN,), kind=torch.nn.ReLU, weights="w", **how):
    """How many images are shown to a network by a run of the engine."""
    config = CONFIG | how.pop("config", {})
    net = Model("net", Counting(kind), "CNN", "imagenet", weights, config)
    run([net], images, list(conditions), **how)
    return net.net.shown


@pytest.fixture
def place(checkout, monkeypatch):  # noqa: F811
    """A checkout with a page whose images and models are asked for."""
    path = checkout / "notebooks" / "01-first.md"
    more = 'images = "stimuli"\nhard = "stimuli"\nmodels = "mini/vit-0"'
    path.write_text(PAGE.format(title="Page", body="").replace('images = "stimuli"', more))
    monkeypatch.setenv("VITLAB_DATA", str(checkout / "sets"))
    monkeypatch.setattr(contents, "_SETTLED", 0)
    return checkout


@pytest.fixture
def folder(place):
    """Five bitmaps, all of one size in bytes, of classes that labels.txt names."""
    where = place / "sets" / "imagenet-a"
    for i, name in enumerate(["fish/a.bmp", "fish/b.bmp", "other/a.bmp", "other/b.bmp"]):
        photograph(where / name, i)
    photograph(where / "other" / "deeper" / "c.bmp", 4)
    (where / "labels.txt").write_text("fish 0\nother 1\n")
    return where


def reason(place, given, kept):
    """Why a page would be run that was run before with these parameters; kept: its folder."""
    [page] = pages.choose(place, ["01-first"], given)
    if not (kept / "state.json").exists():
        kept.mkdir()
        (kept / "state.json").write_text(json.dumps(sealed(STATE | {"parts": page.parts})))
    return build.reason_to_run(page, kept)


def pixel(path):
    """Another pixel, with the old size and times."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchanged(folder):
    (folder / "fish/a.bmp").rename(folder / "kept")
    (folder / "fish/b.bmp").rename(folder / "fish/a.bmp")
    (folder / "kept").rename(folder / "fish/b.bmp")


def class_renamed(folder):
    (folder / "fish").rename(folder / "my fish")
    (folder / "labels.txt").write_text("my fish 0\nother 1\n")


CHANGES = {
    "a pixel": lambda f: pixel(f / "fish/a.bmp"),
    "exchanged": exchanged,
    "added": lambda f: photograph(f / "fish/c.bmp", 7),
    "removed": lambda f: (f / "fish/b.bmp").unlink(),
    "renamed": lambda f: (f / "fish/b.bmp").rename(f / "fish/c.bmp"),
    "another class": lambda f: (f / "fish/b.bmp").rename(f / "other/c.bmp"),
    "class renamed": class_renamed,
    "labels corrected": lambda f: (f / "labels.txt").write_text("fish 0\nother 2\n"),
}
DEEPER = {
    "a pixel, deeper": lambda f: pixel(f / "other/deeper/c.bmp"),
    "added, deeper": lambda f: photograph(f / "other/deeper/d.bmp", 8),
    "removed, deeper": lambda f: (f / "other/deeper/c.bmp").unlink(),
}


def touched(folder):
    for path in folder.rglob("*"):
        os.utime(path)


def copied(folder):
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


UNCHANGED = {
    "touched": touched,
    "copied": copied,
    "hidden": lambda f: (f / ".DS_Store").write_text("x"),
    "left alone": lambda f: None,
}


@pytest.mark.parametrize("how", [*CHANGES, *DEEPER, *UNCHANGED])
def test_images(place, folder, tmp_path, how):
    """A set given by its folder, by its name, and as a further set of the page."""
    own = [{"images": str(folder)}, {"images": "imagenet-a"}, {"hard": str(folder)}]
    for k, given in enumerate(own):
        assert reason(place, given, tmp_path / f"page{k}") == ""
    assert shown(data.load(folder)) == 4
    before = data.own(folder).fingerprint
    {**CHANGES, **DEEPER, **UNCHANGED}[how](folder)
    why = [reason(place, given, tmp_path / f"page{k}") for k, given in enumerate(own)]
    if how in UNCHANGED:
        assert why == ["", "", ""]
    else:
        assert all(words.startswith("changed: images ") for words in why), why
    assert (shown(data.load(folder)) > 0) == (how in CHANGES)
    if how in DEEPER:
        assert data.own(folder).fingerprint != before


# --- any edits at all -----------------------------------------------------------------------------

FILES = [f"{kind}/{name}.bmp" for kind in ("fish", "other") for name in "abc"]
EDITS = st.one_of(
    st.tuples(st.sampled_from(["picture", "picture, old times"]), st.sampled_from(FILES)),
    st.tuples(st.just("remove"), st.sampled_from(FILES)),
    st.tuples(st.just("move"), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("exchange"), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("label"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["touch", "copy", "hide"])),
)


def edited(folder, pictures, labels, edit):
    """Do an edit, to the folder and to what is known of it: file -> picture, class -> label."""
    kind, *files = edit
    paths = [folder / str(name) for name in files]
    if kind.startswith("picture"):
        times = paths[0].stat() if paths[0].exists() else None
        pictures[files[0]] = (pictures.get(files[0], 0) + 1) % 4  # may come back to what it was
        photograph(paths[0], pictures[files[0]])
        if times and kind.endswith("old times"):
            os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    elif kind == "remove" and files[0] in pictures and len(pictures) > 1:
        del pictures[files[0]]
        paths[0].unlink()
    elif kind == "move" and files[0] in pictures:
        paths[0].rename(paths[1])
        pictures[files[1]] = pictures.pop(files[0])
    elif kind == "exchange" and {*files} <= {*pictures}:
        paths[0].rename(folder / "kept")
        if files[0] != files[1]:
            paths[1].rename(paths[0])
        (folder / "kept").rename(paths[1])
        first, second = files
        pictures[first], pictures[second] = pictures[second], pictures[first]
    elif kind == "label":
        labels["other"] = files[0]
        (folder / "labels.txt").write_text(f"fish 4\nother {files[0]}\n")
    elif kind == "touch":
        touched(folder)
    elif kind == "copy":
        copied(folder)
    elif kind == "hide":
        (folder / "fish" / ".hidden.bmp").write_text(str(time.time_ns()))
    time.sleep(0.012)  # a tick of the clock that stamps files


@hypothesis.given(edits=st.lists(EDITS, min_size=1, max_size=6))
@hypothesis.settings(max_examples=40)
def test_after_any_edits_a_set_has_the_key_of_its_content(tmp_path, edits):
    """Same pictures under same names and labels: same keys, whatever happened; others: others."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=tmp_path) as place:
        patch.setenv("VITLAB_DATA", f"{place}/sets")
        patch.setattr(contents, "_SETTLED", 0)
        folder, pictures, labels = Path(place, "set"), {}, {}
        for start in [("picture", FILES[0]), ("picture", FILES[3]), ("label", 1)]:
            edited(folder, pictures, labels, start)
        (folder / "fish").mkdir(exist_ok=True)
        (folder / "other").mkdir(exist_ok=True)
        known = {}, {}  # content -> key, of all files and of the images with their labels
        for edit in [("touch",), *edits]:
            edited(folder, pictures, labels, edit)
            every = sorted(pictures.items()), labels["other"]
            shown = every if any(name.startswith("other") for name in pictures) else every[0]
            keys_ = contents.fingerprint(folder), data.load(folder).fingerprint
            for of, content, key in zip(known, (every, shown), keys_, strict=True):
                assert of.setdefault(str(content), key) == key, "unchanged, and yet another key"
        for of in known:
            assert len({*of.values()}) == len(of), "changed, and yet the old key"


def test_a_further_set_lies_where_the_reader_is(place, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    [page] = pages.choose(place, ["01-first"], {"hard": folder.name})
    assert page.settings["hard"] == "imagenet-a", "a set's name is no folder"
    shutil.copytree(folder, folder.with_name("mine"))
    [page] = pages.choose(place, ["01-first"], {"hard": "mine"})
    assert page.settings["hard"] == str(folder.with_name("mine"))
    assert "images in mine" in page.parts


def test_folders_and_weights_that_are_called_alike_count_each(place, tmp_path):
    """As /a/val and /b/val are, or best.pth of two trainings."""
    path = place / "notebooks" / "01-first.md"
    path.write_text(
        path.read_text().replace('hard = "stimuli"', 'hard = "stimuli"\nteacher = "mini/vit-0"')
    )
    sets = [tmp_path / name / "val" / "n01440764" / "x.bmp" for name in "ab"]
    nets = [tmp_path / name / "best.pth" for name in "ab"]
    for file in (*sets, *nets):
        photograph(file.with_suffix(".bmp"), 0)
        file.with_suffix(".bmp").rename(file)
    images, weights = (
        [str(file.parents[up]) for file in files] for files, up in ((sets, 1), (nets, 0))
    )
    given = dict(zip(("images", "hard"), images, strict=True))
    given |= {
        key: f"timm/resnet18={one}/best.pth"
        for key, one in zip(("models", "teacher"), weights, strict=True)
    }
    for k, file in enumerate((*sets, *nets)):
        assert reason(place, given, tmp_path / f"page{k}") == ""
        pixel(file)
        assert reason(place, given, tmp_path / f"page{k}").startswith("changed: ")


def test_what_a_pages_cells_name_counts(place, tmp_path):
    """A reader's own modules, folders and weights in code, and a folder beside the notebooks."""
    photos, weights = tmp_path / "far" / "photos", tmp_path / "w.pth"
    for where in (photos, place / "near"):
        photograph(where / "n01440764" / "x.bmp", 0)
    shutil.copy(photos / "n01440764" / "x.bmp", weights)
    (place / "mine.py").write_text("import mine_too\n\nfactor = 2\n")
    (place / "mine_too").mkdir()
    (place / "mine_too" / "__init__.py").write_text("offset = 1\n")
    path = place / "notebooks" / "01-first.md"
    body = f"from mine import factor\nload({str(photos)!r}, 'timm/resnet18={weights}')\n"
    cell = f"```{{code-cell}} ipython3\n{body}```\n"
    text = path.read_text().replace('hard = "stimuli"', 'hard = "near"')
    path.write_text(f"{text}\n{cell}")
    changes = [
        lambda: pixel(photos / "n01440764" / "x.bmp"),
        lambda: pixel(place / "near" / "n01440764" / "x.bmp"),
        lambda: pixel(weights),
        lambda: (place / "mine.py").write_text("import mine_too\n\nfactor = 3\n"),
        lambda: (place / "mine_too" / "__init__.py").write_text("offset = 2\n"),
    ]
    for k, change in enumerate(changes):
        assert reason(place, {}, tmp_path / f"page{k}") == ""
        (place / "mine.py").write_text("# said\n" + (place / "mine.py").read_text())
        assert reason(place, {}, tmp_path / f"page{k}") == ""
        change()
        assert reason(place, {}, tmp_path / f"page{k}").startswith("changed: "), k


def test_a_moved_folder_is_not_measured_again(folder):
    assert shown(data.load(folder)) == 4
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    assert shown(data.load(elsewhere)) == 0


def test_a_set_that_is_too_large_to_read_counts_by_size_and_times(folder, monkeypatch):
    monkeypatch.setattr(contents, "LARGEST", 1)
    monkeypatch.setattr(contents, "_whatever", lambda path: pytest.fail("it was read"))
    before = contents.fingerprint(folder)
    assert contents.fingerprint(folder) == before
    touched(folder)
    assert contents.fingerprint(folder) != before


def test_a_large_set_counts_by_the_time_that_cannot_be_set(folder, monkeypatch):
    monkeypatch.setattr(contents, "LARGEST", 1)
    before, file = contents.fingerprint(folder), folder / "fish/a.bmp"
    times = file.stat()
    pixel(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert contents.fingerprint(folder) != before


def test_a_link_to_a_class_that_is_there_is_another_content(folder):
    known = {contents.fingerprint(folder)}
    link = folder / "a class before fish"
    for target in ("fish", "other", "."):
        link.symlink_to(target)
        known.add(contents.fingerprint(folder))
        link.unlink()
    assert len(known) == 4
    link = folder / "z"
    link.symlink_to("fish")
    assert contents.fingerprint(folder) not in known
    link.unlink()
    assert contents.fingerprint(folder) in known


def test_files_are_read_once_and_all_again_if_that_is_asked_for(folder, monkeypatch):
    read = []
    real = contents._whatever
    monkeypatch.setattr(contents, "_whatever", lambda path: read.append(path) or real(path))
    before = contents.fingerprint(folder)
    assert len(read) == 6
    assert contents.fingerprint(folder) == before
    pixel(folder / "fish/a.bmp")
    assert contents.fingerprint(folder) != before
    assert len(read) == 7
    contents.forget()
    contents.fingerprint(folder)
    assert len(read) == 13


def test_links_that_lead_round_are_followed_once(folder):
    (folder / "fish" / "loop").symlink_to(folder)
    (folder / "fish" / "nowhere").symlink_to(folder / "gone")
    os.mkfifo(folder / "pipe")
    before = contents.fingerprint(folder)
    pixel(folder / "fish/a.bmp")
    assert contents.fingerprint(folder) != before


# --- models ---------------------------------------------------------------------------------------


def weights_file(place, content):
    (place / "best.pth").write_bytes(content)
    return {"models": f"timm/resnet18={place / 'best.pth'}"}


def model_folder(place, content):
    (place / "model").mkdir(exist_ok=True)
    (place / "model" / "model.safetensors").write_bytes(b"the same")
    (place / "model" / "config.json").write_bytes(content)
    return {"models": f"local-dir:{place / 'model'}"}


def hub(name, repo, place, content):
    """A model of the hub's without a revision, as it lies in the cache."""
    cache = place / "hub" / f"models--{repo.replace('/', '--')}"
    commit = content.hex().ljust(40, "0")
    (cache / "refs").mkdir(parents=True, exist_ok=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
    (cache / "snapshots" / commit / "config.json").write_text("{}")
    return {"models": name}


@pytest.mark.parametrize(
    "ask",
    [
        weights_file,
        model_folder,
        partial(hub, "hf-hub:you/your-vit", "you/your-vit"),
        partial(hub, "timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
    ],
    ids=["weights file", "folder", "hub", "timm"],
)
def test_weights_behind_a_name(place, tmp_path, monkeypatch, ask):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place / "hub"))
    assert reason(place, ask(place, b"one"), tmp_path / "page") == ""
    assert reason(place, ask(place, b"one"), tmp_path / "page") == ""
    assert reason(place, ask(place, b"two"), tmp_path / "page") != ""


def test_a_pinned_revision_does_not_move(place, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place / "hub"))
    name = f"hf-hub:you/your-vit@{b'one'.hex().ljust(40, '0')}"
    assert reason(place, hub(name, "you/your-vit", place, b"one"), tmp_path / "page") == ""
    assert reason(place, hub(name, "you/your-vit", place, b"two"), tmp_path / "page") == ""


# --- the engine -----------------------------------------------------------------------------------


def brighter(by):
    return Condition("brighter", 1, lambda batch: (batch.pixels + by).clamp(0, 1))


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"batch_size": 1}, False),
        ({"workers": 2}, False),
        ({"order": [3, 1, 0, 2]}, False),
        ({"weights": "other"}, True),
        ({"kind": torch.nn.GELU}, True),
        ({"config": {"crop_pct": 1.0}}, True),
        ({"config": {"interpolation": "bicubic"}}, True),
        ({"config": {"mean": (0.4, 0.5, 0.5)}}, True),
        ({"conditions": [brighter(0.2)]}, True),
        ({"conditions": patchdrop.random([0.5], (8, 8), seed=1)}, True),
    ],
)
def test_models_and_conditions(folder, change, again):
    images = data.load(folder)
    start = {"conditions": [brighter(0.1)]}
    assert shown(images, **start) == 4
    assert shown(images, **start | change) == (4 if again else 0)


def mean_of(net, batch):
    return {"mean": batch.pixels.mean((1, 2, 3))}


@pytest.mark.parametrize("library", keys.LIBRARIES)
def test_versions_of_libraries(place, folder, tmp_path, monkeypatch, library):
    images = data.load(folder)
    assert shown(images) == 4
    assert reason(place, {}, tmp_path / "page") == ""
    real = keys.metadata.version
    monkeypatch.setattr(
        keys.metadata, "version", lambda name: "other" if name == library else real(name)
    )
    keys.libraries.cache_clear()
    pages.installed.cache_clear()
    try:
        assert shown(images) == 4
        assert reason(place, {}, tmp_path / "page") == "changed: libraries"
    finally:
        monkeypatch.undo()
        keys.libraries.cache_clear()
        pages.installed.cache_clear()


def test_a_page_that_gives_less_than_a_value_for_each_image_is_refused(folder):
    net = Model("net", Counting(), "CNN", "imagenet", "w", CONFIG)

    def summed(net, batch):
        return {"mean": batch.pixels.mean((1, 2, 3))[:1]}

    with pytest.raises(ValueError, match=r"summed gives 1 values of 'mean' for 4 images of net"):
        measure.collect(summed, [net], data.load(folder))
    found = measure.collect(mean_of, [net], data.load(folder))
    assert np.shape(found["net", "mean"]) == (4,)


# --- the site -------------------------------------------------------------------------------------


PAPERS_PAGES, LIBRARY_PAGE = build.papers.pages, build.api.markdown


@pytest.fixture
def rendered(checkout, tmp_path, monkeypatch):  # noqa: F811
    """How often the site of a small book is rendered by a build, with a stand-in for its renderer.

    The book's own code is a copy, to be changed.
    """
    place = tmp_path / "bin"
    place.mkdir()
    made = (
        'mkdir -p "$6/_build/html"; echo page > "$6/_build/html/index.html"; echo x >> "$6/count"'
    )
    script = place / "jupyter-book"
    script.write_text(f'#!/bin/sh\nwhile [ "$1" != --config ]; do shift; done\n{made}\n')
    script.chmod(0o755)
    code = tmp_path / "vitlab"
    shutil.copytree(build._PACKAGE / "book", code / "book")
    quick(monkeypatch, lambda out, environment: (out / "table.csv").write_text("n\n1\n"))
    monkeypatch.setattr(build, "_PACKAGE", code)
    monkeypatch.setattr("sys.executable", str(place / "python"))
    monkeypatch.setattr(build.papers, "pages", lambda *of: {"index": "# Papers"})
    monkeypatch.setattr(build.api, "markdown", lambda: "# The library")

    def count():
        assert build.build(root=checkout, jobs=1) == 0
        return len((checkout / "build" / "count").read_text().split())

    return count


def appended(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda place, code: None, False),
        (lambda place, code: appended(code / "book" / "build.py", "\n# a comment\n"), False),
        (lambda place, code: appended(code / "book" / "build.py", "\nEXTRA = 1\n"), True),
        (lambda place, code: appended(code / "book" / "pdf.py", "\nEXTRA = 1\n"), True),
        (lambda place, code: (place / "html" / "index.html").write_text("pagf\n"), True),
        (lambda place, code: (place / "html" / "data" / "ledger.json").unlink(), True),
        (lambda place, code: (place / "html" / "data/01-first/table.csv").write_text(""), True),
        (lambda place, code: (place / "site.json").write_bytes(b"\xff\xfe\x00"), True),
        (lambda place, code: touched(place.parent / "book"), False),
        (lambda place, code: appended(place.parent / "book" / "intro.md", "\nMore.\n"), True),
        (lambda place, code: appended(place.parent / "_config.yml", "\nlogo: a.png\n"), True),
        (lambda place, code: appended(place.parent / "requirements.lock", "\nnone==1\n"), True),
        (lambda place, code: (place.parent / "notebooks/01-first.ipynb").write_text("{}"), True),
    ],
)
def test_a_site_is_rendered_again_when_anything_it_is_made_from_has_changed(
    rendered,
    checkout,  # noqa: F811
    tmp_path,
    change,
    again,
):
    assert rendered() == 1
    assert rendered() == 1
    change(checkout / "build", tmp_path / "vitlab")
    assert rendered() == 1 + again
    assert rendered() == 1 + again, "and then it stands"


def test_a_site_made_by_code_that_changed_meanwhile_is_made_again(
    rendered,
    checkout,  # noqa: F811
    monkeypatch,
    capsys,
):
    """A build goes by the code that it began with, and the key has the files' code."""
    monkeypatch.setattr(build.keys, "edited", lambda: [Path("vitlab/markup.py")])
    assert rendered() == 1
    assert "markup.py has changed since this build began" in capsys.readouterr().out
    monkeypatch.setattr(build.keys, "edited", list)
    assert rendered() == 2
    assert rendered() == 2, "and then it stands"


def test_a_site_stands_whatever_lies_beside_its_sources(rendered, checkout):  # noqa: F811
    """Links that lead round twice, a pipe, a name that is no UTF-8."""
    notebooks = checkout / "notebooks"
    for name in ("a", "b"):
        (notebooks / name).symlink_to(notebooks, target_is_directory=True)
    os.mkfifo(notebooks / "pipe")
    Path(os.fsdecode(os.fsencode(notebooks) + b"/caf\xe9.txt")).write_text("au lait")
    assert rendered() == 1
    assert rendered() == 1


def test_a_site_that_is_to_be_printed_is_made_again(rendered, checkout, monkeypatch):  # noqa: F811
    """Also in a book that has no place for a link to it."""
    printed = []
    monkeypatch.setattr(build.printer, "browser", lambda: "chromium")
    monkeypatch.setattr(build.printer, "write", lambda *of: printed.append(of))
    assert rendered() == 1
    assert build.build(root=checkout, jobs=1, pdf=True) == 0
    assert len(printed) == 1


def test_a_site_that_stands_is_not_staged_again(rendered, checkout, monkeypatch):  # noqa: F811
    assert rendered() == 1
    monkeypatch.setattr(build.book, "staged_page", None)
    assert rendered() == 1
    appended(checkout / "book" / "intro.md", "\nMore.\n")
    assert build.build(root=checkout, jobs=1) == 1, "what has changed is staged"


def test_all_that_a_site_is_staged_from_is_part_of_its_key(rendered, checkout, monkeypatch):  # noqa: F811
    """Else it would stand when that has changed. The papers' pages and the library's are made."""
    package = Path(pages.__file__).parents[1]
    monkeypatch.setattr(build, "_PACKAGE", package)
    monkeypatch.setattr(build.papers, "pages", PAPERS_PAGES)
    monkeypatch.setattr(build.api, "markdown", LIBRARY_PAGE)
    opened = {"key": set(), "stage": set()}
    at = []  # what is being done, while it is

    def note(event, about):
        if event == "open" and at and isinstance(about[0], str | os.PathLike):
            opened[at[-1]].add(Path(os.path.realpath(about[0])))

    def sources(*of, real=build._sources):
        at.append("key")
        try:
            return real(*of)
        finally:
            at.append("stage")

    monkeypatch.setattr(build, "_sources", sources)
    sys.addaudithook(note)
    assert build.build(root=checkout, jobs=1) == 0
    at.clear()
    made = [checkout / "build" / name for name in ("src", "html", "_build", "_config.yml")]
    made += [checkout / "build" / name for name in ("_toc.yml", "site.json", "jupyter-book.log")]
    read = {
        path
        for path in opened["stage"]
        if any(path.is_relative_to(place) for place in (checkout, package, package.parent / "book"))
        and path.suffix != ".pyc"
        and not any(path.is_relative_to(place) for place in made)
        and path.exists()  # a part of a file that is made
    }
    assert len(read) > 50
    assert read - opened["key"] == set()

import re

import jupytext
import nbformat
import pytest

from vitlab import build, claims

PAGES = sorted((build._PACKAGE.parent / "notebooks").glob("*.md"))


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def source(request):
    return request.param


def test_the_pair_is_in_step(source):
    text, pair = jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [(c.cell_type, c.source) for c in text.cells] == [
        (c.cell_type, c.source) for c in pair.cells
    ], f"run make notebooks: {source.name} and its .ipynb differ"
    assert all(not cell.get("outputs") for cell in pair.cells)


def test_no_notebook_lacks_its_source():
    folder = build._PACKAGE.parent / "notebooks"
    assert {p.stem for p in folder.glob("*.ipynb")} == {p.stem for p in folder.glob("*.md")}


def test_parameters_are_literals_and_complete(source):
    parameters = build.page_parameters(jupytext.read(source))
    assert {"profile", "seed", "out"} <= set(parameters)
    assert parameters["profile"] == "mini"


def test_code_fits_the_page_and_figures_have_alt_texts(source):
    for cell in jupytext.read(source).cells:
        if cell.cell_type != "code":
            continue
        long = [line for line in cell.source.splitlines() if len(line) > 88]
        assert not long, long
        if "plt.show()" in cell.source:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 30, cell.source[:200]


def test_settled_claims_exist_and_once(source):
    settled = re.findall(r'claims\.settle\(\s*"(\w+)",\s*"([\w-]+)"', source.read_text())
    assert len(settled) == len(set(settled))
    for paper, claim in settled:
        claims.claim(paper, claim)


def test_the_book_lists_every_page(root):
    toc = (root / "book" / "_toc.yml").read_text()
    for path in PAGES:
        assert f"notebooks/{path.stem}\n" in toc

import re

import jupytext
import nbformat
import pytest

from vitlab import claims, models
from vitlab.book import build, pages, profiles
from vitlab.images import catalogue as datasets

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


def test_parameters_and_sizes_are_literals_and_complete(source):
    notebook = jupytext.read(source)
    parameters, sizes = pages.parameters(notebook), pages.sizes(notebook)
    assert {"profile", "seed", "out"} <= set(parameters)
    assert parameters["profile"] is None
    for profile, values in sizes.items():
        assert profile in profiles.PROFILES
        assert set(values) - {"passes", "needs"} <= set(parameters), (
            f"{profile} sets what is no parameter"
        )
        assert {k: type(v) for k, v in values.items()} == {
            k: type(v) for k, v in sizes["mini"].items()
        }
    left = {k for k, v in parameters.items() if v is None} - {"profile", "device"}
    assert left <= set(sizes["mini"]), f"{left} have no value"


def test_profiles_name_models_and_images_that_exist(source):
    for values in pages.sizes(jupytext.read(source)).values():
        if "models" in values:
            assert models.select(values["models"])
        for images in datasets.several(values.get("images", "stimuli")):
            assert images == "stimuli" or datasets.is_set(images)
    colab = pages.sizes(jupytext.read(source)).get("colab", {})
    for images in datasets.several(colab.get("images", "stimuli")):
        if images != "stimuli":
            assert datasets.manifests()[datasets.set_name(images)].access == "open"


def test_a_page_begins_with_what_it_is_and_what_colab_needs(source, root):
    cells = jupytext.read(source).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert "setup" in cells[1].metadata["tags"]
    assert "parameters" in cells[2].metadata["tags"]
    [address] = re.findall(r'"VITLAB_SOURCE", "([^"]*)"', cells[1].source)
    known = pages.address(root)
    assert address == (f"git+{known}" if known else ""), "run make notebooks"
    for never in ("torch", "numpy", "pandas"):
        assert f'"{never}' not in cells[1].source


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

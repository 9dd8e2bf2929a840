import ast
import os
import re
import statistics
import types

import jupytext
import nbformat
import pytest

from vitlab import claims, lab, models
from vitlab.book import build, pages, profiles
from vitlab.conditions import patchdrop
from vitlab.images import catalogue as datasets

PAGES = sorted((build._PACKAGE.parent / "notebooks").glob("*.md"))


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def source(request):
    return request.param


def test_the_pair_is_in_step(source, root):
    fresh = nbformat.writes(pages.notebook_for_colab(source, pages.address(root))) + "\n"
    assert source.with_suffix(".ipynb").read_text() == fresh, "run make notebooks"


def test_no_notebook_lacks_its_source():
    folder = build._PACKAGE.parent / "notebooks"
    assert {p.stem for p in folder.glob("*.ipynb")} == {p.stem for p in folder.glob("*.md")}


def test_parameters_and_sizes_are_literals_and_complete(source):
    notebook = jupytext.read(source)
    parameters, sizes = pages.parameters(notebook), profiles.sizes(source.stem)
    assert {"profile", "seed", "out"} <= set(parameters)
    assert parameters["profile"] is None
    for profile, values in sizes.items():
        assert profile in profiles.PROFILES
        for_all = set(profiles.pages()["every page"])
        assert set(values) - {"passes", "needs"} - for_all <= set(parameters), (
            f"{profile} sets what is no parameter"
        )
        assert {k: type(v) for k, v in values.items()} == {
            k: type(v) for k, v in sizes["mini"].items()
        }
    left = {k for k, v in parameters.items() if v is None} - {"profile", "device", "out"}
    assert left <= set(sizes["mini"]), f"{left} have no value"


def test_profiles_name_models_and_images_that_exist(source):
    for values in profiles.sizes(source.stem).values():
        if "models" in values:
            assert models.select(values["models"])
        for images in datasets.several(values.get("images", "stimuli")):
            assert images == "stimuli" or datasets.is_set(images)
    colab = profiles.sizes(source.stem).get("colab", {})
    for images in datasets.several(colab.get("images", "stimuli")):
        if images != "stimuli":
            assert datasets.manifests()[datasets.set_name(images)].access == "open"


def test_photographs_show_both_recipes_on_every_page_that_compares_with_a_fairer_cnn(source):
    """Where a run has the pair by DeiT's recipe, each claim about ViT and CNN asks it, too."""
    named = profiles.sizes(source.stem).get("photos", {}).get("models", "")
    code = source.read_text()
    assert ("-deit-" in named) == ("lab.pairs_beside" in code)
    for cell in jupytext.read(source).cells if "-deit-" in named else []:
        if found := re.search(r'@lab.settles\("(.+?)", "(.+?)"', cell.source):
            [first, *_] = claims.primaries(claims.claim(*found.groups())).values()
            if "acc(ViT) - acc(CNN)" in first["quantity"] or "ViT - CNN" in first["quantity"]:
                beside = "lab.pairs_beside" in cell.source or "beside(" in cell.source
                assert beside, found.groups()


def test_a_page_begins_with_what_it_is_and_what_colab_needs(source, root):
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert "setup" in cells[1].metadata["tags"]
    assert "parameters" in cells[2].metadata["tags"]
    [address] = re.findall(r'"VITLAB_SOURCE", "([^"]*)"', cells[1].source)
    known = pages.address(root)
    assert address == (f"git+{known}" if known else ""), "run make notebooks"
    for never in ("torch", "numpy", "pandas"):
        assert f'"{never}' not in cells[1].source


def called(node):
    """Names of the functions that code calls, function bodies left out."""
    if isinstance(node, ast.FunctionDef):
        return set()
    name = {ast.unparse(node.func)} if isinstance(node, ast.Call) else set()
    return name.union(*map(called, ast.iter_child_nodes(node)))


def test_code_fits_the_page_and_figures_have_alt_texts(source):
    draws = {"panels", "pictures", "plt.show"}
    for cell in jupytext.read(source).cells:
        if cell.cell_type != "code":
            continue
        long = [line for line in cell.source.splitlines() if len(line) > 88]
        assert not long, long
        tree = ast.parse(cell.source)
        for node in tree.body:  # a page's own function that draws
            if isinstance(node, ast.FunctionDef) and draws & set.union(*map(called, node.body)):
                draws |= {node.name}
        if draws & called(tree):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 30, cell.source[:200]


def code_lines(source):
    """Lines of code in each code cell, without comments and blanks."""
    cells = [c.source for c in jupytext.read(source).cells if c.cell_type == "code"]
    lines = ([x.strip() for x in cell.splitlines()] for cell in cells)
    return [n for cell in lines if (n := sum(bool(x) and x[0] != "#" for x in cell))]


def test_cells_hold_one_idea(source):
    counts = code_lines(source)
    assert max(counts) <= 25, counts
    assert statistics.median(counts) <= 12, counts


def test_a_page_holds_no_installation_and_no_sizes(source):
    text = source.read_text()
    assert "VITLAB_SOURCE" not in text, "make notebooks writes it into the .ipynb"
    assert "PROFILES" not in text, "sizes stand in profiles.yml"


def test_no_import_hides_a_parameter(source):
    notebook = jupytext.read(source)
    parameters = pages.parameters(notebook)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not {a.asname or a.name for a in node.names} & set(parameters)


def test_settled_claims_exist_and_once(source):
    settled = re.findall(r'settles?\(\s*"(\w+)",\s*"([\w-]+)"', source.read_text())
    assert len(settled) == len(set(settled))
    for paper, claim in settled:
        claims.claim(paper, claim)


def test_the_book_lists_every_page(root):
    toc = (root / "book" / "_toc.yml").read_text()
    for path in PAGES:
        assert f"notebooks/{path.stem}\n" in toc


@pytest.fixture
def checkout(tmp_path, root):
    (tmp_path / "notebooks").mkdir()
    text = (root / "notebooks" / "01-occlusion.md").read_text()
    (tmp_path / "notebooks" / "01-occlusion.md").write_text(text)
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://github.com/me/vitlab'}\n")
    return tmp_path


def test_the_pair_is_written_from_the_md_alone(checkout):
    source, pair = (checkout / "notebooks" / f"01-occlusion.{end}" for end in ("md", "ipynb"))
    pages.sync(checkout)
    first = pair.read_bytes()
    assert b"git+https://github.com/me/vitlab" in first
    pages.sync(checkout)
    assert pair.read_bytes() == first
    source.write_text(source.read_text() + "\nMore prose.\n")
    os.utime(source, (1, 1))  # the .ipynb is newer by far
    pages.sync(checkout)
    assert b"More prose." in pair.read_bytes()
    assert source.read_text().endswith("More prose.\n")


def test_an_edited_ipynb_is_told_and_not_lost(checkout):
    pages.sync(checkout)
    source, pair = (checkout / "notebooks" / f"01-occlusion.{end}" for end in ("md", "ipynb"))
    before = source.read_text()
    text = pair.read_text().replace("Blank out half", "Blank out a third")
    pair.write_text(text)
    assert pages.edited(source)
    with pytest.raises(pages.PageError, match=r"01-occlusion\.ipynb was edited"):
        pages.sync(checkout)
    assert (source.read_text(), pair.read_text()) == (before, text)
    pair.unlink()
    pages.sync(checkout)
    assert not pages.edited(source)


@pytest.mark.parametrize(
    "size", [32, 64, 96, 160, 224, 240, 256, 260, 288, 299, 300, 336, 384, 448]
)
def test_the_masks_of_the_occlusion_page_fit_any_input(size, root):
    """Its cells of code that make them, at the sizes that timm's networks have."""
    made = types.SimpleNamespace(size=size, side=lab.cells_along(size), seed=0, draws=1)
    scope = {"lab": made, "patchdrop": patchdrop}
    for cell in jupytext.read(root / "notebooks" / "01-occlusion.md").cells:
        if cell.cell_type == "code" and re.search(r"^(side|few) = ", cell.source, re.MULTILINE):
            exec(re.sub(r"^lab = .*", "", cell.source, flags=re.MULTILINE), scope)
    for condition in scope["conditions"]:
        condition.check(size)
    names = {condition.name for condition in scope["conditions"]}
    grids = {f"{s} x {s} grid" for s in (scope["sides"][0], scope["wide"])}
    assert grids <= names, "the claim on sizes of cells compares these"
    if size % 16 == 0 and size > 64:
        assert size // made.side == 16, "a cell is a patch"
    if size == 224:
        assert scope["sides"] == [4, 7, 8, 16, 32]
    if size in (32, 64):
        assert (made.side, scope["sides"]) == (8, [2, 4, 8, 16, 32])

"""A page begun for a claim has what every page of the book must have."""

import shutil

import jupytext
import pytest
import yaml

from vitlab import claims
from vitlab.book import finding, pages, profiles
from vitlab.statistics.check import measured


@pytest.fixture
def checkout(tmp_path, root):
    for folder in ("notebooks", "book"):
        (tmp_path / folder).mkdir()
    for name in ("notebooks/01-occlusion.md", "notebooks/profiles.yml", "book/_toc.yml"):
        shutil.copy(root / name, tmp_path / name)
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(root / name, tmp_path)
    return tmp_path


def test_a_new_page_is_complete(checkout):
    paper = next(p for p in claims.papers().values() if p["id"] != "naseer2021")
    claim = paper["claims"][0]
    assert len(finding.begin(checkout, paper["id"], claim["id"])) == 3
    name = f"02-{claim['id']}"
    assert pages.names(checkout) == ["01-occlusion", name]
    toc = yaml.safe_load((checkout / "book" / "_toc.yml").read_text())
    assert toc["parts"][0]["chapters"][-1] == {"file": f"notebooks/{name}"}
    assert profiles.sizes(name, checkout / "notebooks" / "profiles.yml")["mini"]["seed"] == 0
    [page] = pages.choose(checkout, [name], {"n_images": "8"})
    assert page.settings["n_images"] == 8
    assert f"papers/{paper['id']}.yml" in page.parts
    text = page.source.read_text()
    assert " ".join(claim["statement"].split()) in text
    for cell in jupytext.read(page.source).cells:
        if cell.cell_type == "code":
            compile(cell.source, name, "exec")
            assert len(cell.source.splitlines()) <= 25


def test_a_claim_that_a_page_has_is_refused_and_nothing_written(checkout):
    before = sorted(path.name for path in checkout.rglob("*"))
    with pytest.raises(pages.PageError, match="01-occlusion has naseer2021 occlusion-random"):
        finding.begin(checkout, "naseer2021", "occlusion-random")
    with pytest.raises(claims.ClaimError, match="nearest: occlusion-random"):
        finding.begin(checkout, "naseer2021", "oclusion-random")
    assert sorted(path.name for path in checkout.rglob("*")) == before


def test_a_new_page_asks_what_decides_every_claim():
    """The template's code, run with a stand-in, yields each part with the demand of the file."""
    from vitlab.lab import Part
    from vitlab.statistics import average, mean

    for entry in (entry for paper in claims.papers().values() for entry in paper["claims"]):
        asked = [o for o in entry["primary"] if not o.get("only")] or entry["primary"]
        lines = []
        for one in finding.primaries(entry):
            lines += [f'yield Part("{one["part"]}")'] * bool(one["part"])
            lines += [f"yield average([mean([0.0, 1.0])]){one['asked']}"]
        body = "def settled():\n    " + "\n    ".join(lines)
        space = {"Part": Part, "average": average, "mean": mean}
        exec(compile(body, entry["id"], "exec"), space)
        found = list(space["settled"]())
        assert [str(p) for p in found if isinstance(p, Part)] == [
            o["part"] for o in asked if "part" in o
        ]
        demands = [measured("", q).demand for q in found if not isinstance(q, Part)]
        assert demands == [str(o["demand"]) for o in asked]

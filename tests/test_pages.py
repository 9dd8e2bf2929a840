"""Pages run as a whole on inputs that leave them little to measure."""

import json
import runpy
from dataclasses import replace

import jupytext
import matplotlib
import pytest

from vitlab import lab
from vitlab.images import loading


@pytest.fixture
def relabelled(monkeypatch):
    """Sets that pages load get other labels: a function of their labels."""
    whole = loading.load

    def become(other):
        def load(*args, **how):
            images = whole(*args, **how)
            return replace(images, table=images.table.assign(label=other(images.table["label"])))

        monkeypatch.setattr(loading, "load", load)
        monkeypatch.setitem(lab._READERS, "", load)

    return become


def run(root, page, tmp_path, **parameters):
    """Runs a page's cells of code, in miniature, as a script; returns its names."""
    matplotlib.use("Agg")
    parameters |= {"profile": "mini", "out": str(tmp_path)}
    script = tmp_path / "page.py"
    lines = []
    for cell in jupytext.read(root / "notebooks" / f"{page}.md").cells:
        if cell.cell_type == "code":
            lines.append(cell.source)
        if "parameters" in cell.metadata.get("tags", []):
            lines += [f"{name} = {value!r}" for name, value in parameters.items()]
    script.write_text("\n".join(lines))
    return runpy.run_path(str(script))


def reason(tmp_path, claim):
    """Why a claim has no verdict."""
    kept = json.loads((tmp_path / "claims" / f"{claim}.json").read_text())
    assert kept["verdict"] == "not run"
    return kept["reason"]


def test_one_patch_where_no_image_is_right_for_all_networks(root, relabelled, tmp_path):
    relabelled(lambda labels: (labels + 1) % 10)
    run(root, "17-one-patch", tmp_path, n_images=20)
    assert "right" in reason(tmp_path, "gu2022.natural-patch-vit-more-robust")


def test_attacks_that_travel_where_no_image_is_right_for_all_networks(root, relabelled, tmp_path):
    relabelled(lambda labels: (labels + 1) % 10)
    run(root, "19-travelling-attacks", tmp_path, n_images=20, module_steps=1)
    assert "right" in reason(tmp_path, "naseer2022.conventional-transfer-is-low")


def test_adapting_where_the_source_lacks_a_class(root, relabelled, tmp_path):
    relabelled(lambda labels: labels.where(labels < 9, 0))
    few = {"n_images": 20, "n_source": 40, "corruptions": "contrast", "ablated": "contrast"}
    run(root, "20-test-time", tmp_path, **few, orders=1)
    assert "every class" in reason(tmp_path, "kojima2022.cfa-lowers-imagenet-c-error-vit-b16")

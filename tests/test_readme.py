import re

import bench
import matplotlib
import pytest
import torch
from conftest import ROOT

from vitlab import images
from vitlab.models import load


def test_the_example_of_the_readme_runs_as_printed(tmp_path, monkeypatch, capsys):
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(example.splitlines()) <= 11
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.search(r"CNN +\S+ \[\S+, \S+\]", said)
    assert re.search(r"'ViT': 0\.\d+ \[0", said)
    assert (tmp_path / "occlusion.png").stat().st_size > 5_000


def test_a_mistyped_part_of_the_benchmark_is_told_and_nothing_is_measured(tmp_path, capsys):
    assert bench.main(tmp_path, ["nonsense", "memory"]) == 2
    said = capsys.readouterr().err
    assert "no part is called 'nonsense'; there are" in said
    assert "engine against the released loop" in said
    assert not list(tmp_path.iterdir())


def test_the_benchmark_measures_anew_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_TRIALS", str(tmp_path))
    one = load("mini/vit-patch16-0")
    found = bench.engine([one], images.load("stimuli", n=4), 8, 4)
    assert len(found["ratios"]) == 7
    assert found["forwards_per_second"] < 5000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("of", [bench.attacks, bench.adaptation])
def test_loops_are_compared_with_as_many_passes_of_the_bare_network(of, monkeypatch):
    seen = []

    def count(module, given, _):
        if hasattr(module, "forward_features"):
            seen.append((len(given[0]), given[0].requires_grad))

    def passes(side):
        seen.clear()
        side()
        return list(seen)

    monkeypatch.setattr(bench, "_ratio", lambda bare, ours: (passes(bare), passes(ours)))
    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        found = of("mini/vit-patch16-0", 2)
    finally:
        hook.remove()
    for bare, ours in found.values():
        assert len(bare) >= 2
        assert {size for size, _ in bare + ours} == {64}
        assert sorted(bare) == sorted(ours)

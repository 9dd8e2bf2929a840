import re

import bench
import matplotlib
from conftest import ROOT


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

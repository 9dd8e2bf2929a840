import re

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

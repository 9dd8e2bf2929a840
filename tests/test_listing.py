"""The store's list, on a store made up of three keys."""

import json
import os

import pandas as pd
import pytest

from vitlab import cli
from vitlab.trials import listing


def entry(root, key, rows, what="random PatchDrop"):
    place = root / "build" / "trials" / key
    place.mkdir(parents=True)
    about = {"what": what, "model": "mini/vit-0", "images": "stimuli, 160", "code": "0"}
    (place / "about.json").write_text(json.dumps({**about, "created": "2026-11-29T12:00:00"}))
    for piece, n in enumerate(rows):
        pd.DataFrame({"prediction": range(n)}).to_parquet(place / f"{piece}.parquet")
    os.utime(place, (1_700_000_000, 1_700_000_000))


def page(root, folder, keys):
    place = root / "build" / folder
    place.mkdir(parents=True)
    (place / "trials.json").write_text(json.dumps(keys))


@pytest.fixture
def store(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").write_text("title: x\n")
    entry(tmp_path, "aaaa", [256, 44])
    entry(tmp_path, "bbbb", [10], "attack")
    entry(tmp_path, "cccc", [7])
    entry(tmp_path, "dddd", [5])
    page(tmp_path, "pages/01-first", ["aaaa"])
    page(tmp_path, "custom/0123/pages/02-second", ["aaaa", "bbbb"])
    page(tmp_path, "colab/work/03-third-0123456789abcdef/out", ["dddd"])
    return tmp_path


def test_the_list_says_what_how_much_and_who(store):
    listed = listing.table(store).set_index("key")
    assert list(listed["rows"].loc[["aaaa", "bbbb", "cccc", "dddd"]]) == [300, 10, 7, 5]
    assert listed["pages"].to_dict() == {
        "aaaa": "01-first, 02-second", "bbbb": "02-second", "cccc": "", "dddd": "03-third"
    }  # fmt: skip
    assert listed.loc["bbbb", "what"] == "attack"
    assert listed.loc["aaaa", "last used"] == "2023-11-14"
    whole = sum(p.stat().st_size for p in (store / "build/trials").rglob("*.*"))
    assert listed["MB"].sum() * 1e6 == pytest.approx(whole)
    assert list(listing.table(store.parent)["key"]) == []


def test_a_value_that_is_no_table_has_no_rows(store):
    entry(store, "eeee", [], "accuracy")
    (store / "build/trials/eeee/0.npz").write_bytes(b"x" * 9000)
    assert listing.table(store).set_index("key").loc["eeee", "rows"] == ""


def test_only_what_no_page_uses_is_pruned(store):
    place = store / "build" / "trials" / "cccc"
    size = sum(path.stat().st_size for path in place.iterdir())
    assert listing.prune(store) == size
    assert {p.name for p in place.parent.iterdir()} == {"aaaa", "bbbb", "dddd"}
    assert listing.prune(store) == 0


def test_damage_is_shown_and_nothing_is_pruned_by_a_list_that_cannot_be_read(store):
    (store / "build/trials/cccc/about.json").write_text("{")
    (store / "build/trials/cccc/0.parquet").write_text("")
    row = listing.table(store).set_index("key").loc["cccc"]
    assert (row["rows"], row["what"][:7]) == (0, "unknown")
    (store / "build/pages/01-first/trials.json").write_text('["aaaa"')
    with pytest.raises(ValueError, match=r"trials\.json, line 1"):
        listing.prune(store)
    assert (store / "build/trials/cccc").exists()


def test_a_pipe_is_not_waited_for_and_what_a_link_leads_to_stays(
    store, tmp_path_factory, never_waiting
):
    other = tmp_path_factory.mktemp("other")
    (other / "kept.parquet").touch()
    os.mkfifo(other / "pipe")
    for name in ("about.json", "0.parquet"):
        (store / "build/trials/cccc" / name).unlink()
        (store / "build/trials/cccc" / name).symlink_to(other / "pipe")
    (store / "build/trials/eeee").symlink_to(other)
    row = listing.table(store).set_index("key").loc["cccc"]
    assert (row["rows"], row["what"][:7]) == (0, "unknown")
    assert listing.prune(store) == 0
    assert {p.name for p in (store / "build/trials").iterdir()} == {"aaaa", "bbbb", "dddd"}
    assert {p.name for p in other.iterdir()} == {"kept.parquet", "pipe"}


def test_the_command_lists_and_prunes(store, monkeypatch, capsys):
    monkeypatch.chdir(store)
    assert cli.main(["trials"]) == 0
    assert "01-first, 02-second" in capsys.readouterr().out
    assert cli.main(["trials", "--prune"]) == 0
    assert "1 of 4 removed" in capsys.readouterr().out

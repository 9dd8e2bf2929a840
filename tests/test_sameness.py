import copy
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from sameness import differences

NUMBER = {"quantity": "gap", "value": 0.5, "low": 0.25, "high": 0.75, "n": 160, "unit": "share"}
LEDGER = [{"paper": "p", "claim": "c", "verdict": "holds", "fresh": [NUMBER]}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(verdict="fails"), "holds -> fails"),
        (lambda r: r["fresh"][0].update(high=0.75 + 1e-8), "0.5000"),
        (lambda r: r["fresh"][0].update(n=159), "n 159"),
        (lambda r: r["fresh"].clear(), "is gone"),
        (lambda r: r.update(claim="d"), "is new"),
        (lambda r: r["fresh"][0].update(low=0.25 + 1e-10), ""),
        (lambda r: r["fresh"][0].update(unit="accuracy"), ""),
    ],
)
def test_what_differs_is_found_and_rounding_is_not(change, words):
    changed = copy.deepcopy(LEDGER)
    change(changed[0])
    found = list(differences(LEDGER, changed))
    assert bool(found) == bool(words)
    assert any(words in said for _, _, said in found) or not words

import copy

import pytest
from sameness import differences

NUMBER = {"quantity": "gap", "value": 0.5, "low": 0.25, "high": 0.75, "n": 160, "unit": "share"}
MINI = {"verdict": "seen", "checks": [NUMBER], "facts": [{**NUMBER, "quantity": "ViT"}]}
LEDGER = [{"paper": "p", "claim": "c", "verdict": "seen", "editions": {"mini": MINI}}]


def checks(record):
    return record["editions"]["mini"]["checks"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(verdict="not seen"), "seen -> not seen"),
        (lambda r: checks(r)[0].update(high=0.75 + 1e-8), "0.5000"),
        (lambda r: checks(r)[0].update(n=159), "n 159"),
        (lambda r: checks(r).clear(), "is gone"),
        (lambda r: checks(r)[0].update(low=None), "[none, 0.7500]"),
        (lambda r: r["editions"]["mini"].update(verdict="not seen"), "seen -> not seen"),
        (lambda r: r.update(claim="d"), "is new"),
        (lambda r: checks(r)[0].update(low=0.25 + 1e-10), ""),
        (lambda r: checks(r)[0].update(unit="accuracy"), ""),
    ],
)
def test_what_differs_is_found_and_rounding_is_not(change, words):
    changed = copy.deepcopy(LEDGER)
    change(changed[0])
    found = list(differences(LEDGER, changed))
    assert bool(found) == bool(words)
    assert any(words in said for _, _, said in found) or not words


def test_a_ledger_of_the_first_edition_is_read_and_values_are_compared_alone():
    first = [{"paper": "p", "claim": "c", "verdict": "holds", "fresh": [{**NUMBER, "low": 0.3}]}]
    assert list(differences(first, LEDGER, values=True)) == []
    moved = [{**first[0], "fresh": [{**NUMBER, "value": 0.6}]}]
    [(_, quantity, words)] = differences(moved, LEDGER, values=True)
    assert (quantity, words.split()[0]) == ("gap", "0.6000")

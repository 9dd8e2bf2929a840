import pytest
import torch
from conftest import Means

from vitlab.images import load, subset
from vitlab.models import Model
from vitlab.trials import measure, store

CALLS = []


def brightness(net, batch):
    CALLS.append((net.name, len(batch.ids)))
    return {"mean": batch.pixels.mean((1, 2, 3)), ("logit", 3): net.logits(batch.pixels)[:, 3]}


@pytest.fixture
def calls(monkeypatch):
    """The calls of `brightness`; a list is a value that its key would depend on."""
    CALLS.clear()
    monkeypatch.setattr(measure.keys, "function", lambda body: body.__qualname__)
    return CALLS


def models():
    return [Model(name, Means(), "CNN", "stimuli", name) for name in ("a", "b")]


def test_what_a_function_gives_is_that_of_each_image_alone(calls):
    images = load("stimuli", n=20)
    found = measure.collect(brightness, models(), images, [3, 0, 19], batch_size=2)
    assert set(found) == {(m, *key) for m in "ab" for key in [("mean",), ("logit", 3)]}
    for place, i in enumerate([3, 0, 19]):
        alone = models()[0].pixels(images.picture(i)).float() / 255
        assert found["a", "mean"][place] == pytest.approx(float(alone.mean()), abs=1e-6)
        logit = models()[0].logits(alone[None])[0, 3]
        assert found["b", "logit", 3][place] == pytest.approx(float(logit), abs=1e-5)


def test_what_was_measured_is_read_and_only_the_rest_is_measured(calls):
    images = load("stimuli", n=300)
    first, second = models()
    one = measure.collect(brightness, [first], images)
    del calls[:]
    both = measure.collect(brightness, [first, second], images)
    assert {name for name, _ in calls} == {"b"}
    assert torch.equal(both["a", "mean"], one["a", "mean"])
    del calls[:]
    measure.collect(brightness, [first, second], images, batch_size=7)
    assert not calls, "a batch size changes no number"
    measure.collect(brightness, [first], load("stimuli", n=300, seed=1))
    assert sum(n for _, n in calls) == 300, "other images"


def test_a_broken_off_piece_alone_is_measured_again(calls, trial_store):
    images = load("stimuli", n=300)
    before = measure.collect(brightness, models()[:1], images)
    [piece] = trial_store.glob("*/piece-000001-*")
    piece.unlink()
    del calls[:]
    again = measure.collect(brightness, models()[:1], images)
    assert sum(n for _, n in calls) == 300 - store.PIECE
    assert torch.equal(again["a", "mean"], before["a", "mean"])


def test_larger_images_go_fewer_at_a_time_on_a_cpu():
    small, large = models()
    large = Model(
        "l", Means(), "CNN", "stimuli", "l", {**small.config, "input_size": (3, 256, 256)}
    )
    assert measure.at_once(small, 64) == 64
    assert measure.at_once(large, 64) == 4
    assert measure.at_once(large, 1) == 1


def fit(net, level):
    CALLS.append(level)
    return {"weights": torch.full((2,), level), ("a", 1): [level, {"deep": torch.ones(1)}]}


def test_anything_made_of_tensors_is_kept(calls):
    [net, _] = models()
    made = measure.keep(fit, net, 0.5)
    again = measure.keep(fit, net, 0.5)
    assert calls == [0.5]
    assert torch.equal(again["weights"], made["weights"])
    assert again["a", 1][1]["deep"] == 1
    measure.keep(fit, net, 0.25)
    measure.keep(fit, net, 0.25, also=subset(load("stimuli", n=3), [0]))
    assert calls == [0.5, 0.25, 0.25]


def test_the_store_lists_what_a_process_has_asked_for(calls, tmp_path):
    before = set(store.asked())
    measure.collect(brightness, models(), load("stimuli", n=5))
    assert len(set(store.asked()) - before) == 2
    store.save_asked(tmp_path)
    assert store.read_asked(tmp_path) == store.asked()
    (tmp_path / "trials.json").write_text("[")
    assert store.read_asked(tmp_path) == []

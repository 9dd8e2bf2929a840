import torch
from safetensors.torch import load_file

from vitlab.training import loop as train

TINY = {**train.RECIPE, "images": 128, "epochs": 3}


def test_a_broken_off_training_reaches_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    whole = train.train("mini/cnn-0", tmp_path / "a", _with(tmp_path / "a"))
    assert train.train("mini/cnn-0", tmp_path / "b", _with(tmp_path / "b"), stop_after=7) == {}
    assert not (tmp_path / "b" / "cnn-0.safetensors").exists()
    resumed = train.train("mini/cnn-0", tmp_path / "b", TINY)
    assert resumed["sha256"] == whole["sha256"]
    assert resumed["curve"] == whole["curve"]


def _with(folder):
    folder.mkdir()
    return TINY


def test_a_finished_training_is_not_repeated_but_another_recipe_is(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    recipe = {**TINY, "epochs": 1}
    first = train.train("mini/cnn-1", tmp_path, recipe)
    assert train.train("mini/cnn-1", tmp_path, recipe) == first
    other = train.train("mini/cnn-1", tmp_path, {**recipe, "learning_rate": 2e-3})
    assert other["sha256"] != first["sha256"]


def test_shipped_weights_are_16_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    record = train.train("mini/vit-0", tmp_path, {**TINY, "epochs": 1})
    kinds = {v.dtype for v in load_file(tmp_path / record["file"]).values()}
    assert kinds == {torch.float16}


def test_distillation_is_half_the_labels_and_half_the_teacher():
    """Against the sums written out."""
    torch.manual_seed(0)
    by_class, by_teacher = torch.randn(2, 5, 16, dtype=torch.float64)
    rows, advice = torch.arange(5), torch.tensor([3, 0, 0, 15, 7])
    shares = torch.rand(5, 16, dtype=torch.float64).softmax(1)
    own = -(shares * by_class.log_softmax(1)).sum(1).mean()
    learned = -by_teacher.log_softmax(1)[rows, advice].mean()
    found = train._loss((by_class, by_teacher), shares, advice, smoothing=0.0)
    torch.testing.assert_close(found, (own + learned) / 2)
    smoothed = train._loss(by_class, rows, None, smoothing=0.1)
    even = -by_class.log_softmax(1).mean()
    plain = -by_class.log_softmax(1)[rows, rows].mean()
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * even)


def test_mixed_pictures_and_their_labels_are_mixed_alike():
    """With flat pictures of one grey per class, a picture's mean is its labels' mean grey."""
    labels = torch.arange(8)
    greys = labels / 10
    pixels = greys[:, None, None, None].expand(8, 3, 64, 64)
    kinds = set()
    for step in range(12):
        mixed, shares = train.mixed(pixels, labels, (0, step))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), shares[:, :8] @ greys)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        kinds.add("CutMix" if len(mixed[0].unique()) > 1 else "Mixup")
    assert kinds == {"CutMix", "Mixup"}
    again, _ = train.mixed(pixels, labels, (0, 11))
    assert torch.equal(again, mixed)


def test_augmix_depends_on_the_pictures_key_alone():
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    keys = [(0, 0, 5), (0, 1, 5), (0, 0, 6)]
    before = torch.get_rng_state()
    mixed = train._augmix(pictures, keys)
    assert torch.equal(torch.get_rng_state(), before)
    assert mixed.dtype == torch.uint8
    assert torch.equal(train._augmix(pictures[2:], keys[2:])[0], mixed[2])
    same = train._augmix(pictures[:1].repeat(2, 1, 1, 1), keys[:2])
    assert not torch.equal(same[0], same[1]), "another epoch, another mixture"


def test_what_a_special_model_learns_from(tmp_path, monkeypatch):
    """A share of the images is taken from the front; a student keeps its teacher in the record."""
    monkeypatch.setattr(train, "TEST_IMAGES", 16)
    shrunk = {"images": 64, "epochs": 1}
    small = {name: (*entry[:2], {**entry[2], **shrunk}) for name, entry in train.SPECIAL.items()}
    monkeypatch.setattr(train, "SPECIAL", small)
    student = train.train("mini/vit-shape-distilled-0", tmp_path)
    assert student["recipe"]["teacher"] == "mini/cnn-stylised-0"
    keys = load_file(tmp_path / student["file"])
    assert {"head.weight", "head_dist.weight"} <= set(keys)
    plain = train.train("mini/vit-sixteenth-0", tmp_path)
    assert plain["recipe"] == shrunk
    assert not torch.equal(keys["head.weight"], load_file(tmp_path / plain["file"])["head.weight"])

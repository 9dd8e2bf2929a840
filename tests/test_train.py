import io
import json
import math
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from damaging import WAYS
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from vitlab import cli, models, plots
from vitlab.images import cifar
from vitlab.images.errors import DataError
from vitlab.models import weights, zoos
from vitlab.models.small import ARCHITECTURES
from vitlab.training import augmentation, index, loop, objectives, sources
from vitlab.training.augmentation import Batch
from vitlab.training.recipe import RecipeError, read, recipes
from vitlab.training.schedule import SCHEDULES, STREAMS, epoch_generator


@pytest.fixture(autouse=True)
def few_tested(monkeypatch):
    for name in ("stimuli/natural", "stimuli/stylised"):
        monkeypatch.setitem(sources.SOURCES, name, replace(sources.SOURCES[name], tested=16))


def tiny(name, **changes):
    return replace(recipes()[name], **{"image_count": 128, "epochs": 3, **changes})


# --- the loop


@pytest.mark.parametrize(
    ("streams", "augmented"), [("keyed", {}), ("sequential", {"flip": {}, "crop": {"padding": 4}})]
)
def test_a_broken_off_training_reaches_the_same_weights(tmp_path, streams, augmented):
    """Whether its random choices are keyed or come from one stream; it stops within an epoch."""
    recipe = tiny("mini/cnn-0", augmentation=augmented, streams=streams)
    whole = loop.train(recipe, tmp_path / "a")
    assert loop.train(recipe, tmp_path / "b", stop_after=7) == {}
    assert not (tmp_path / "b" / "mini" / "cnn-0.safetensors").exists()
    resumed = loop.train(recipe, tmp_path / "b")
    assert resumed["sha256"] == whole["sha256"]
    assert resumed["curve"] == whole["curve"]


def test_a_finished_training_is_not_repeated_but_another_recipe_is(tmp_path):
    recipe = tiny("mini/cnn-1", epochs=1)
    first = loop.train(recipe, tmp_path)
    assert loop.train(recipe, tmp_path) == first
    other = loop.train(replace(recipe, learning_rate=2e-3), tmp_path)
    assert other["sha256"] != first["sha256"]


DAMAGE = WAYS | {
    "another": lambda content: b"[]",
    "another number": lambda content: content.replace(b'"seed": 0', b'"seed": 1'),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("steps", [3, 0], ids=["broken off", "finished"])
def test_a_training_with_a_damaged_file_ends_with_the_same_weights(tmp_path, how, steps):
    """Its rendered pictures, its checkpoint, its weights and their record, one after the other."""

    def facts(record):
        return {name: value for name, value in record.items() if name != "seconds"}

    recipe = tiny("mini/cnn-0", epochs=1, image_count=256)
    good = facts(loop.train(recipe, tmp_path / "good"))
    loop.train(recipe, tmp_path / "start", stop_after=steps)
    names = [p.relative_to(tmp_path / "start") for p in (tmp_path / "start").rglob("*.*")]
    assert len(names) == (2 if steps else 3)
    for name in names:
        shutil.copytree(tmp_path / "start", tmp_path / "work")
        path = tmp_path / "work" / name
        path.write_bytes(DAMAGE[how](path.read_bytes()))
        assert facts(loop.train(recipe, tmp_path / "work")) == good
        shutil.rmtree(tmp_path / "work")


def test_no_flipped_bit_of_a_checkpoint_is_taken_up(tmp_path, capsys):
    recipe = tiny("mini/cnn-0", epochs=1, image_count=256)
    loop.train(recipe, tmp_path, stop_after=3)
    (checkpoint,) = tmp_path.rglob("*.checkpoint.pt")
    content = checkpoint.read_bytes()
    for place in range(7, len(content), len(content) // 20):
        checkpoint.write_bytes(
            content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
        )
        loop.train(recipe, tmp_path, stop_after=1)
        assert f"{checkpoint} is damaged" in capsys.readouterr().err, place


@pytest.mark.parametrize("name", sorted(loop._ENTRIES))
def test_a_checkpoint_that_lacks_something_is_damaged(tmp_path, capsys, name):
    checkpoint = tmp_path / "net.checkpoint.pt"
    saved = dict.fromkeys(loop._ENTRIES, 0) | {"stamp": "s"}
    loop._keep(saved, checkpoint)
    assert loop._broken_off(checkpoint, "s", "cpu") == saved
    assert loop._broken_off(checkpoint, "other", "cpu") is None
    assert capsys.readouterr().err == ""
    loop._keep({k: v for k, v in saved.items() if k != name}, checkpoint)
    assert loop._broken_off(checkpoint, "s", "cpu") is None
    assert f"{checkpoint} is damaged" in capsys.readouterr().err


def test_a_folder_in_the_place_of_a_checkpoint_is_a_damaged_one(tmp_path, capsys):
    checkpoint = tmp_path / "net.checkpoint.pt"
    (checkpoint / "in").mkdir(parents=True)
    assert loop._broken_off(checkpoint, "s", "cpu") is None
    assert f"{checkpoint} is damaged" in capsys.readouterr().err
    loop._keep({"stamp": "s"}, checkpoint)
    assert checkpoint.is_file()


def test_shipped_weights_are_16_bit(tmp_path):
    record = loop.train(tiny("mini/vit-0", epochs=1), tmp_path)
    kinds = {v.dtype for v in load_file(tmp_path / record["file"]).values()}
    assert kinds == {torch.float16}


def test_what_is_shipped_in_8_bits_is_what_is_measured(tmp_path, monkeypatch):
    """A finished network is written again in fewer bits, not trained again, and never in more."""
    recipe = tiny("mini/cnn-0", epochs=1, image_count=256)
    first = loop.train(recipe, tmp_path)
    before = load_file(tmp_path / first["file"])
    fewer = replace(recipe, bits=8)
    assert fewer.digest == recipe.digest
    monkeypatch.setattr(loop, "OBJECTIVES", {})  # nothing can be trained any more
    record = loop.train(fewer, tmp_path)
    after = load_file(tmp_path / record["file"])
    assert after.keys() > before.keys()
    assert after["conv1.weight"].dtype == torch.int8
    net = ARCHITECTURES["cnn"]().eval()
    net.load_state_dict(weights.unpack(after))
    shown, right = next(sources.SOURCES[recipe.images].shown("test", 16))
    model = replace(models.load("mini/cnn-0", "cpu"), net=net)
    asked = model.logits(shown.float() / 255).argmax(1)
    assert record["accuracy"] == (asked == right).double().mean().item()
    same = {"recipe", "stamp", "seconds", "curve", "parameters", "file", "torch", "device"}
    assert all(record[k] == first[k] for k in same)
    assert record["sha256"] != first["sha256"]
    assert loop.train(fewer, tmp_path) == record
    with pytest.raises(RecipeError, match="mini/cnn-0: bits: of 8 no 16 can be made"):
        loop.train(recipe, tmp_path)
    with pytest.raises(RecipeError, match="its weights are of another"):
        loop.kept_again(replace(recipe, epochs=9), record, tmp_path, tmp_path)


def test_one_step_by_hand(tmp_path, monkeypatch):
    """AdamW's first step moves a weight by the rate against its gradient's sign, after decay."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 16))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    monkeypatch.setitem(models.ARCHITECTURES, "vit", lambda: net)
    recipe = tiny("mini/vit-0", image_count=32, epochs=1, warm_up=0.0, weight_decay=0.1)
    loop.train(recipe, tmp_path, stop_after=1)
    pictures, labels = sources.SOURCES[recipe.images].learned(32, tmp_path)
    seen = ((pictures.double() / 255 - 0.5) / 0.25).mean((2, 3))
    weight, bias = before["2.weight"].double(), before["2.bias"].double()
    wanted = torch.eye(16, dtype=torch.float64)[labels] * 0.9 + 0.1 / 16
    surplus = (seen @ weight.T + bias).softmax(1) - wanted
    for key, value, gradient in (
        ("2.weight", weight, surplus.T @ seen / 32),
        ("2.bias", bias, surplus.mean(0)),
    ):
        expected = value * (1 - 1e-3 * 0.1) - 1e-3 * gradient.sign()
        torch.testing.assert_close(net.state_dict()[key].double(), expected, atol=1e-6, rtol=0)


def test_a_student_is_taught_and_a_smaller_share_is_taken_from_the_front(tmp_path):
    student = loop.train(tiny("mini/vit-shape-distilled-0", image_count=64, epochs=1), tmp_path)
    keys = load_file(tmp_path / student["file"])
    assert {"head.weight", "head_dist.weight"} <= set(keys)
    pictures, labels = sources.SOURCES["stimuli/natural"].learned(64, tmp_path)
    more, _ = sources.SOURCES["stimuli/natural"].learned(96, tmp_path)
    assert torch.equal(more[:64], pictures)
    assert labels[:18].tolist() == [*range(16), 0, 1]


def test_training_pictures_of_cue_conflicts_are_labelled_by_their_shape(tmp_path):
    labels = sources.SOURCES["stimuli/cue-conflict"].learned(64, tmp_path)[1]
    assert labels.tolist() == [k // 15 for k in range(64)]  # 15 textures to each shape in turn


def test_a_start_is_another_models_weights():
    model = loop.begin(tiny("mini/vit-1", start="mini/vit-0"), "cpu")
    trained = models.load("mini/vit-0", "cpu").net.state_dict()
    assert all(torch.equal(v, trained[k]) for k, v in model.net.state_dict().items())
    assert all(p.requires_grad for p in model.net.parameters())


def test_half_precision_without_the_fused_kernel_gives_nearly_the_same_loss():
    pixels, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    batch = Batch(pixels, labels, labels, 0, 0, 0, torch.Generator())
    fast = loop.begin(recipes()["photos/vit-0"], "cpu")
    slow = loop.begin(
        replace(recipes()["photos/vit-0"], precision="float32", fused_attention=True), "cpu"
    )
    assert not any(getattr(part, "fused_attn", False) for part in fast.net.modules())
    assert any(getattr(part, "fused_attn", False) for part in slow.net.modules())
    found = [objectives.labels(model, batch) for model in (fast, slow)]
    assert found[0].dtype == torch.float32
    assert found[0] != found[1]
    torch.testing.assert_close(*found, atol=0.02, rtol=0)


# --- schedules and streams


def test_learning_rates_against_their_description():
    rates = [SCHEDULES["cosine"](i, 100, 0.1) for i in range(100)]
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert rates[55] == pytest.approx(0.5)
    rates = [SCHEDULES["cosine from zero"](i, 100, 0.1) for i in range(101)]
    assert rates[:10] == pytest.approx([i / 10 for i in range(10)])
    assert rates[10] == max(rates) == pytest.approx(1)
    assert rates[55] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert rates[100] == pytest.approx(0)


@pytest.mark.parametrize("streams", STREAMS)
def test_every_epoch_shows_every_image_in_an_order_of_its_own(streams):
    orders = [STREAMS[streams].order(3, e, 50, epoch_generator(3, e)) for e in (0, 1, 0)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])


# --- objectives


class Answering(nn.Module):
    """A network that gives the same answers whatever it sees."""

    def __init__(self, *logits):
        super().__init__()
        self.said = nn.ParameterList(logits)

    def set_distilled_training(self, on):
        self.on = on

    def forward(self, pixels):
        return tuple(self.said) if len(self.said) > 1 else self.said[0]


def answering(*logits):
    return models.Model("answering", Answering(*logits), "", "stimuli", "")


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_distillation_is_half_the_labels_and_half_the_teacher(temperature):
    """Against the sums written out."""
    torch.manual_seed(0)
    by_class, by_teacher, advice = torch.randn(3, 5, 16)
    shares, rows = torch.rand(5, 16).softmax(1), torch.arange(5)
    batch = Batch(torch.zeros(5, 3, 64, 64), shares, rows, 0, 0, 0, torch.Generator())
    own = -(shares * by_class.log_softmax(1)).sum(1).mean()
    if temperature is None:
        learned = -by_teacher.log_softmax(1)[rows, advice.argmax(1)].mean()
    else:
        p, q = ((x / temperature).softmax(1) for x in (advice, by_teacher))
        learned = temperature**2 * (p * (p / q).log()).sum(1).mean()
    found = objectives.distillation(
        answering(by_class, by_teacher), batch, teacher=answering(advice), temperature=temperature
    )
    torch.testing.assert_close(found, (own + learned) / 2)


def test_smoothed_labels():
    torch.manual_seed(0)
    logits, rows = torch.randn(5, 16), torch.arange(5)
    batch = Batch(torch.zeros(5, 3, 64, 64), rows, rows, 0, 0, 0, torch.Generator())
    even, plain = -logits.log_softmax(1).mean(), -logits.log_softmax(1)[rows, rows].mean()
    found = objectives.labels(answering(logits), batch, smoothing=0.1)
    torch.testing.assert_close(found, 0.9 * plain + 0.1 * even)


# --- augmentations


def test_mixed_pictures_and_their_labels_are_mixed_alike():
    """With flat pictures of one grey per class, a picture's mean is its labels' mean grey."""
    labels = torch.arange(8)
    greys = labels / 10
    pixels = greys[:, None, None, None].expand(8, 3, 64, 64)
    kinds = set()
    for step in range(12):
        mixed, shares = augmentation.mixed(pixels, labels, (0, step))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), shares[:, :8] @ greys)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        kinds.add("CutMix" if len(mixed[0].unique()) > 1 else "Mixup")
    assert kinds == {"CutMix", "Mixup"}
    again, _ = augmentation.mixed(pixels, labels, (0, 11))
    assert torch.equal(again, mixed)


def test_augmix_depends_on_the_pictures_key_alone():
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    keys = [(0, 0, 5), (0, 1, 5), (0, 0, 6)]
    before = torch.get_rng_state()
    mixed = augmentation.augmixed(pictures, keys)
    assert torch.equal(torch.get_rng_state(), before)
    assert mixed.dtype == torch.uint8
    assert torch.equal(augmentation.augmixed(pictures[2:], keys[2:])[0], mixed[2])
    same = augmentation.augmixed(pictures[:1].repeat(2, 1, 1, 1), keys[:2])
    assert not torch.equal(same[0], same[1]), "another epoch, another mixture"
    batch = Batch(pictures.float() / 255, torch.zeros(3), torch.tensor([5, 5, 6]), 0, 0, 9, None)
    assert torch.equal(augmentation.augmix(batch).pixels[2], mixed[2].float() / 255)


def test_flips_and_crops_move_pictures_and_change_nothing_else():
    """Every picture is found in the padded original, mirrored or not, where nothing was cut."""
    torch.manual_seed(0)
    pixels, labels = torch.rand(40, 3, 8, 8), torch.arange(40)
    batch = Batch(pixels, labels, labels, 0, 0, 0, torch.Generator().manual_seed(1))
    flipped = augmentation.flip(batch).pixels
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, pixels, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped, pixels, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 8 <= sum(turned) <= 32
    colour = (0.1, 0.2, 0.3)
    cropped = augmentation.crop(batch, padding=2, colour=colour).pixels
    places = set()
    for was, now in zip(pixels.numpy(), cropped.numpy(), strict=True):
        around = np.tile(np.float32(colour)[:, None, None], (1, 12, 12))
        around[:, 2:10, 2:10] = was
        windows = [(i, j) for i in range(5) for j in range(5)]
        (found,) = [
            p for p in windows if (around[:, p[0] : p[0] + 8, p[1] : p[1] + 8] == now).all()
        ]
        places.add(found)
    assert len(places) > 10


# --- recipes, index, looks


def table(**changes):
    given = yaml.safe_load((models.ZOO / "recipes.yml").read_text())
    record = {**given["mini"]["models"]["vit"], **changes}
    return {"mini": {**given["mini"], "models": {"vit": record}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "vot"}, r"mini/vit-0: arch: unknown 'vot'; nearest: .*vit"),
        ({"image": 3}, r"mini/vit-0: unknown key 'image'; nearest: images"),
        ({"images": "stimuli/natral"}, r"images: unknown 'stimuli/natral'; nearest: stimuli/nat"),
        ({"objective": {"label": {}}}, r"objective: unknown 'label'; nearest: labels"),
        ({"objective": {"labels": {"smooth": 1}}}, r"no setting 'smooth'; nearest: smoothing"),
        ({"objective": {"distillation": {}}}, r"distillation needs a setting 'teacher'"),
        ({"objective": "labels"}, r"objective: 'labels' is not one name with its settings"),
        ({"augmentation": {"augmx": {}}}, r"augmentation: unknown 'augmx'; nearest: augmix"),
        ({"augmentation": {"flip": {"odds": 1}}}, r"flip has no setting 'odds'; it has none"),
        ({"augmentation": ["flip"]}, r"augmentation: \['flip'\] is not names with settings"),
        ({"precision": "float8"}, r"precision: unknown 'float8'"),
        ({"epochs": 0}, r"epochs: 0 is not a number above 0"),
        ({"image_count": 8}, r"batch: 32 of 8 images"),
        ({"bits": 4}, r"bits: 4 is none of 8, 16"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words(tmp_path, changes, message):
    (tmp_path / "r.yml").write_text(yaml.safe_dump(table(**changes)))
    with pytest.raises(RecipeError, match=message):
        read(tmp_path / "r.yml")


def test_a_recipe_that_lacks_something_and_a_table_that_is_none(tmp_path):
    lacking = table()
    del lacking["mini"]["shared"]["schedule"]
    (tmp_path / "r.yml").write_text(yaml.safe_dump(lacking))
    with pytest.raises(RecipeError, match="mini/vit-0: no schedule"):
        read(tmp_path / "r.yml")
    (tmp_path / "r.yml").write_text("mini: {models")
    with pytest.raises(RecipeError, match=r"r\.yml is not a table of recipes"):
        read(tmp_path / "r.yml")


def test_the_index_holds_what_the_recipes_gave():
    """A recipe that is changed after its training is found out, a new name or group is not one."""
    for name, entry in models.zoo().items():
        recipe = recipes()[name]
        assert entry["recipe"] == recipe.digest
        assert [entry[k] for k in ("arch", "group", "seed")] == [
            getattr(recipe, k) for k in ("arch", "group", "seed")
        ]
        assert models.load(name, "cpu").config == recipe.config
    recipe = recipes()["mini/vit-0"]
    assert replace(recipe, name="mini/other-0", group="other").digest == recipe.digest
    assert replace(recipe, epochs=5).digest != recipe.digest
    assert recipes()["mini/vit-0"].config == models.MINI_CONFIG


def test_every_group_of_the_zoos_has_a_look_of_its_own():
    groups = {recipe.group for recipe in recipes().values()}
    assert groups <= set(plots.COLOURS)
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)
    for group in groups:
        plots.plt.plot([0], [0], color=plots.colour(group), marker=plots.MARKERS[group])
    plots.plt.close("all")


def photo_accuracy(index):
    return index["models"]["photos/cnn-0"]["accuracy"]


def test_a_second_zoo_is_published_beside_the_first(tmp_path, monkeypatch):
    """Its models bring their own classes and preprocessing; what has no weights is not offered."""
    monkeypatch.setattr(zoos, "ZOO", tmp_path / "zoo")
    pictures = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(256) % 10
    monkeypatch.setattr(cifar, "load", lambda split: (pictures, labels))
    few = sources.Source(
        lambda: "noise",
        lambda n, folder: (pictures[:n], labels[:n]),
        sources.SOURCES["cifar-10"].shown,
        "test",
        20,
    )
    monkeypatch.setitem(sources.SOURCES, "cifar-10", few)
    models.zoo.cache_clear()
    try:
        for name, changes in (
            ("photos/cnn-0", {"image_count": 256, "epochs": 1}),
            ("mini/cnn-0", {"image_count": 32, "epochs": 1}),
        ):
            recipe = replace(recipes()[name], **changes)
            index.publish(recipe, loop.train(recipe, tmp_path / "work"), tmp_path / "work")
        assert models.names()[:2] == ["mini/cnn-0", "photos/cnn-0"]
        assert models.select("photos/*") == ["photos/cnn-0"]
        photo, mini = models.load("photos/cnn-0", "cpu"), models.load("mini/cnn-0", "cpu")
        assert (photo.classes, photo.size, mini.classes, mini.size) == (
            "cifar-10",
            32,
            "stimuli",
            64,
        )
        assert photo.logits(pictures[:2].float() / 255).shape == (2, 10)
        assert [point["images"] for point in index.curves()["photos/cnn-0"]] == [256]
        listed = json.loads((tmp_path / "zoo" / "index.json").read_text())
        assert listed["models"]["photos/cnn-0"]["file"] == "photos/cnn-0.safetensors"

        whole = photo.net.state_dict()
        fewer = replace(recipes()["photos/cnn-0"], image_count=256, epochs=1, bits=8)
        monkeypatch.setattr(loop, "chosen", lambda wanted: [fewer])
        told = list(loop.keep(["photos/cnn-0"], tmp_path / "again"))
        assert [name for name, *_ in told] == ["photos/cnn-0"]
        assert list(loop.keep(["photos/cnn-0"], tmp_path / "again")) == [], "it is done"
        now = json.loads((tmp_path / "zoo" / "index.json").read_text())["models"]
        changed = {
            k for k, v in now["photos/cnn-0"].items() if v != listed["models"][fewer.name][k]
        }
        assert changed - {"accuracy"} == {"sha256"}
        assert told[0][1:] == (photo_accuracy(listed), photo_accuracy({"models": now}))
        kept = models.load("photos/cnn-0", "cpu")
        assert kept.weights != photo.weights
        for name, value in kept.net.state_dict().items():
            largest = whole[name].abs().amax() if value.ndim > 1 else 0
            assert torch.all((value - whole[name]).abs() <= largest / 250), name
        given = loop.digits(kept.logits(pictures[:20].float() / 255).argmax(1))
        assert index.answers()["photos/cnn-0"] == given
        assert len(index.curves()["photos/cnn-0"]) == 1
    finally:
        monkeypatch.undo()
        models.zoo.cache_clear()


def test_the_command_lists_recipes(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert cli.main(["zoo", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(recipes())
    (line,) = [line for line in lines if line.startswith("mini/vit-distilled-0 ")]
    reached = models.zoo()["mini/vit-distilled-0"]["accuracy"]
    assert " ".join(line.split()) == (
        f"mini/vit-distilled-0 vit-two-tokens ViT distilled distillation {reached:.4f}"
    )


# --- CIFAR-10


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Twenty training pictures and ten test pictures; the set's folder is returned."""
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    monkeypatch.setattr(cifar, "SPLITS", {"train": 20, "test": 10})
    (tmp_path / "cifar-10").mkdir()
    rng = np.random.default_rng(0)
    arrays = {
        split: (rng.integers(0, 256, (n, 3, 32, 32), np.uint8), np.arange(n) % 10)
        for split, n in cifar.SPLITS.items()
    }
    return tmp_path / "cifar-10", arrays


def binary(pictures, labels):
    rows = zip(pictures, labels, strict=True)
    return b"".join(bytes([label]) + picture.tobytes() for picture, label in rows)


def test_cifar_is_read_from_the_official_archive(photographs, monkeypatch):
    place, arrays = photographs
    (x, y), (tx, ty) = arrays["train"], arrays["test"]
    with tarfile.open(place / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in (
            ("data_batch_2.bin", binary(x[10:], y[10:])),
            ("data_batch_1.bin", binary(x[:10], y[:10])),
            ("test_batch.bin", binary(tx, ty)),
            ("readme.html", b"?"),
        ):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    for split, (pictures, labels) in arrays.items():
        found = cifar.load(split)
        assert np.array_equal(found[0], pictures)
        assert found[1].tolist() == labels.tolist()
        assert found[1].dtype == torch.long
    monkeypatch.setattr(cifar, "_binary", None)
    cifar._decode.cache_clear()
    assert np.array_equal(cifar.load("train")[0], x), "decoded once"


def test_cifar_is_read_from_folders(photographs):
    place, arrays = photographs
    for split, (pictures, labels) in arrays.items():
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            path = place / split / cifar.CLASSES[label] / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.transpose(1, 2, 0)).save(path)
    pictures, labels = cifar.load("train")
    assert labels.tolist() == sorted(arrays["train"][1].tolist())
    order = np.argsort(arrays["train"][1], kind="stable")
    assert np.array_equal(pictures, arrays["train"][0][order])
    shown = list(sources.SOURCES["cifar-10"].shown("train", 10))
    assert shown[0][1].tolist() == list(range(10)), "spread over files that are sorted by class"
    assert len(cifar.fingerprint()) == 16


def test_cifar_that_is_absent_or_not_whole_is_refused(photographs):
    place, arrays = photographs
    with pytest.raises(DataError, match="cifar-10 is not here"):
        cifar.load("test")
    (place / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds neither cifar-10-binary\.tar\.gz nor"):
        cifar.load("test")
    (place / "test_batch.bin").write_bytes(binary(*arrays["test"]))
    (place / "data_batch_1.bin").write_bytes(binary(*arrays["train"])[:-7])
    with pytest.raises(DataError, match="a file of train images is cut off"):
        cifar.load("train")
    (place / "data_batch_1.bin").write_bytes(binary(*arrays["train"])[: 3073 * 5])
    with pytest.raises(DataError, match="5 images of train, not 20"):
        cifar.load("train")
    with pytest.raises(DataError, match="no split 'validation'; it has train, test"):
        cifar.load("validation")


def test_a_draw_of_cifar_is_balanced_and_always_the_same(photographs):
    place, arrays = photographs
    for split, name in [("train", "data_batch_1.bin"), ("test", "test_batch.bin")]:
        (place / name).write_bytes(binary(*arrays[split]))
    cifar._decode.cache_clear()
    x, y = arrays["train"]
    whole = cifar.images(split="train")
    at = [int(name.rpartition("/")[2]) for name in whole.table["id"]]
    assert sorted(at) == list(range(len(y)))
    assert whole.labels.tolist() == [y[i] for i in at]
    assert np.array_equal(np.asarray(whole.picture(3)), x[at[3]].transpose(1, 2, 0))
    some, again = (cifar.images(13, seed=1, split="train") for _ in range(2))
    assert some.fingerprint == again.fingerprint != whole.fingerprint
    assert some.fingerprint != cifar.images(13, seed=2, split="train").fingerprint
    assert sorted(some.labels[:10].tolist()) == list(range(10)), "classes take turns"
    counts = np.bincount(some.labels, minlength=10)
    assert sorted(counts) == [1] * 7 + [2] * 3, "as even as 13 of ten classes can be"
    for n, message in [(11, "10 images of test, not 11"), (0, "at least 1"), (-1, "at least 1")]:
        with pytest.raises(DataError, match=message):
            cifar.images(n)
    before = cifar.fingerprint()
    content = bytearray((place / "test_batch.bin").read_bytes())
    content[7] ^= 1
    (place / "test_batch.bin").write_bytes(content)
    cifar._decode.cache_clear()
    assert cifar.fingerprint() != before, "of the same size, and read anew"
    content[0] = 11
    (place / "test_batch.bin").write_bytes(content)
    cifar._decode.cache_clear()
    with pytest.raises(DataError, match="a label of test is 11"):
        cifar.images(5)


def test_conflicts_are_recast_to_the_categories_that_cifar_shares(tmp_path):
    from vitlab.images import cue_conflict

    for name in ("cat/cat1-dog2.png", "boat/boat1-bottle2.png", "bear/bear1-cat1.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (9, 99, 199)).save(path)
    for kind in ("car", "truck"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / kind / f"{kind}3-airplane1.png")
    left = cifar.recast(cue_conflict(str(tmp_path)))
    names = [cifar.CLASSES[i] for i in left.labels]
    assert sorted(names) == ["automobile", "cat", "truck"]
    textures = [cifar.CLASSES[i] for i in left.table["texture"]]
    assert sorted(textures) == ["airplane", "airplane", "dog"]
    assert left.classes == "cifar-10"


def test_finished_weights_are_measured_again(photographs, monkeypatch, capsys):
    place, arrays = photographs
    for split, name in [("train", "data_batch_1.bin"), ("test", "test_batch.bin")]:
        (place / name).write_bytes(binary(*arrays[split]))
    cifar._decode.cache_clear()
    net = models.load("photos/vit-0", "cpu")
    x, y = cifar.load("test")
    right = (net.logits(x.float() / 255).argmax(1) == y).float().mean().item()
    known = models.zoo()
    few = {"photos/vit-0": known["photos/vit-0"] | {"test_images": 10, "accuracy": right}}
    monkeypatch.setattr(loop, "zoo", lambda: few)
    given = loop.digits(net.logits(x.float() / 255).argmax(1))
    monkeypatch.setattr(index, "answers", lambda: {"photos/vit-0": given})
    told = ("photos/vit-0", right, pytest.approx(right))
    assert list(loop.check(["photos/vit-0"])) == [(*told, 0)]
    another = str((int(given[0]) + 1) % 10) + given[1:]
    monkeypatch.setattr(index, "answers", lambda: {"photos/vit-0": another})
    assert list(loop.check(["photos/vit-0"])) == [(*told, 1)]
    assert cli.main(["zoo", "--check", "photos/*"]) == 0, "those that are not trained are left out"
    few["photos/vit-0"]["accuracy"] = right + 0.1
    assert cli.main(["zoo", "--check", "photos/vit-0"]) == 1
    assert "not as stated: photos/vit-0" in capsys.readouterr().err


PHOTO_ZOO = [name for name in models.zoo() if name.startswith("photos/")]


def test_the_photo_zoo_is_there():
    assert len(PHOTO_ZOO) >= 4


@pytest.mark.parametrize("name", PHOTO_ZOO)
def test_what_a_photo_network_is_said_to_reach_is_what_it_answered(name):
    given, right = index.answers()[name], index.answers()["cifar-10"]
    assert sorted(right) == sorted("0123456789" * 1000), "ten classes of a thousand"
    same = sum(a == b for a, b in zip(given, right, strict=True))
    assert models.zoo()[name]["accuracy"] == same / 10_000
    assert models.zoo()[name]["test_images"] == 10_000


@pytest.mark.parametrize("name", PHOTO_ZOO)
def test_a_photo_network_still_answers_so_on_the_committed_pictures(name, root):
    """They are every 250th test image, 5 rows of 8, as pixels of the JPEG edition."""
    sheet = torch.from_numpy(np.array(Image.open(root / "book" / "cifar-10.png")))
    pictures = sheet.view(5, 32, 8, 32, 3).permute(0, 2, 4, 1, 3).reshape(40, 3, 32, 32)
    answers = models.load(name, "cpu").logits(pictures.float() / 255).argmax(1)
    assert loop.digits(answers) == index.answers()[name][::250]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("randaugment", {"number": 2, "magnitude": 9}),
        ("erasing", {"share": 1.0, "colour": [0.5] * 3, "spread": [0.2] * 3}),
        ("random_convolution", {"colour": [0.5] * 3, "spread": [0.2] * 3, "sides": [1, 3, 5]}),
    ],
)
def test_an_augmentation_of_single_pictures_does_not_hang_on_the_batch(name, settings):
    images = torch.tensor([5, 3, 9, 7])
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def changed(places, epoch=0):
        batch = Batch(
            pixels[places], images[places], images[places], 0, epoch, 0, torch.Generator()
        )
        return augmentation.AUGMENTATIONS[name](batch, **settings).pixels

    together = changed([0, 1, 2, 3])
    assert not torch.equal(together, pixels)
    assert torch.equal(changed([2]), together[2:3])
    assert torch.equal(changed([3, 2, 1, 0]), together.flip(0))
    assert not torch.equal(changed([0, 1, 2, 3], epoch=1), together)


def test_erasing_touches_its_share_of_pictures_and_one_rectangle_of_each():
    pixels = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    order = torch.arange(400)
    batch = Batch(pixels, order, order, 0, 0, 0, torch.Generator())
    noise = {"colour": [0.5] * 3, "spread": [0.2] * 3}
    after = augmentation.erasing(batch, share=0.25, **noise).pixels
    other = (after - pixels).abs().amax(1) > 1e-5
    touched = other.any(2).any(1)
    assert 70 < touched.sum() < 130
    filled = torch.cat([after[i][:, other[i]] for i in touched.nonzero()[:, 0]], 1)
    assert filled.mean() == pytest.approx(0.5, abs=0.01)
    assert filled.std() == pytest.approx(0.2, abs=0.01)
    for mask in other[touched]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() >= 0.99 * rows * columns, "a rectangle"


def test_a_random_convolution_is_a_filter_of_its_own_for_each_picture():
    """Each picture's filter is found again from impulses, then laid over a picture by loops."""
    order = torch.arange(64)
    how = {"colour": [0.4, 0.5, 0.6], "spread": [0.2, 0.25, 0.3], "sides": [1, 3]}
    mean, std = (torch.tensor(how[key])[:, None, None] for key in ("colour", "spread"))

    def filtered(seen):
        """What of pictures as the network sees them is left, as it sees that."""
        batch = Batch(seen * std + mean, order, order, 0, 0, 0, torch.Generator())
        return (augmentation.random_convolution(batch, **how).pixels - mean) / std

    filters = torch.zeros(64, 3, 3, 3, 3)
    for channel in range(3):
        impulse = torch.zeros(64, 3, 5, 5)
        impulse[:, channel, 2, 2] = 1
        filters[:, :, channel] = filtered(impulse)[:, :, 1:4, 1:4].flip(-1, -2)
    sides = torch.where(filters[:, 0, 0, 0, 0].abs() > 1e-6, 3, 1)
    assert 20 < (sides == 3).sum() < 44
    for side in (1, 3):
        rim = (3 - side) // 2
        drawn = filters[sides == side][..., rim : 3 - rim, rim : 3 - rim]
        assert drawn.var() == pytest.approx(1 / (3 * side**2), rel=0.2)
    pictures = torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    left = filtered(pictures)
    padded = torch.zeros(64, 3, 7, 7)
    padded[:, :, 1:6, 1:6] = pictures
    for row, column in ((0, 0), (2, 3)):
        window = padded[:, None, :, row : row + 3, column : column + 3]
        expected = (filters * window).sum((2, 3, 4))
        torch.testing.assert_close(left[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_the_photo_zoos_networks_are_of_one_size():
    for name in (name for name in ARCHITECTURES if name.startswith("photo-")):
        size = sum(p.numel() for p in ARCHITECTURES[name]().parameters())
        assert 1.0e6 < size < 1.3e6, name

import io
import os
import shutil
import warnings
import zlib

import numpy as np
import pytest
import torch
from conftest import photograph
from PIL import Image, PngImagePlugin

from vitlab import images as data
from vitlab.images import contents, folders, voc
from vitlab.models import load
from vitlab.stimuli import scenes as stimuli


def test_stimuli_are_balanced_and_know_their_cues():
    images = data.load("stimuli", n=48)
    assert torch.bincount(images.labels).tolist() == [3] * 16
    assert (images.table["shape"] == images.table["texture"]).all()
    assert data.masks(images).shape == (48, 64, 64)
    assert images.table["id"].is_unique


def test_conflicts_use_every_shape_equally_often_and_repeat_no_image():
    table = data.cue_conflict("stimuli", 96).table
    assert table["shape"].value_counts().tolist() == [6] * 16
    assert (table["shape"] != table["texture"]).all()
    assert table["id"].is_unique
    assert data.cue_conflict("stimuli", 480).table["id"].is_unique
    pairs = data.cue_conflict("stimuli", 240).table[["shape", "texture"]]
    assert not pairs.duplicated().any()


def test_a_folder_of_wnids_has_imagenets_labels(photo_folder):
    images = data.load(photo_folder)
    assert images.classes == "imagenet"
    assert len(images) == 10
    assert set(images.table["label"]) == {0, 1}  # tench and goldfish, ImageNet's first classes
    assert images.picture(0).mode == "RGB"
    with pytest.raises(data.DataError, match="no object masks"):
        data.masks(images)


def test_a_subset_of_a_folder_is_the_same_every_time(photo_folder):
    first, again, other = (data.load(photo_folder, n=4, seed=s).table["id"] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    assert len(first) == 4


def test_cue_conflict_file_names_tell_shape_and_texture(tmp_path):
    photograph(tmp_path / "cat" / "cat7-car2.png", 0)
    photograph(tmp_path / "car" / "car1-car3.png", 1)
    images = data.cue_conflict(tmp_path)
    assert images.classes == "imagenet-16"
    names = images.categories
    rows = images.table.sort_values("id")
    assert [names[i] for i in rows["shape"]] == ["car", "cat"]
    assert [names[i] for i in rows["texture"]] == ["car", "car"]


def test_a_folder_without_cues_in_its_names_is_no_cue_conflict_set(photo_folder):
    with pytest.raises(data.DataError, match=r"cat7-car2\.png"):
        data.cue_conflict(photo_folder)


def test_decisions_are_mean_probabilities_over_member_classes():
    matrix = data.decision_matrix("imagenet", "imagenet-16")
    probabilities = torch.rand(5, 1000)
    decided = probabilities @ matrix
    wnids = data.imagenet_wnids()
    for k, members in enumerate(data.imagenet_16().values()):
        loop = torch.stack([probabilities[:, wnids.index(w)] for w in members]).mean(0)
        assert torch.allclose(decided[:, k], loop, atol=1e-6)
    assert sum(len(m) for m in data.imagenet_16().values()) == 207
    assert data.decision_matrix("stimuli", "stimuli") is None
    with pytest.raises(data.DataError, match="models=efficientnet-lite0"):
        data.decision_matrix("stimuli", "imagenet")


def test_people_decide_by_shape():
    people = data.human_decisions()
    assert len(people) == 16
    shape, texture = people["shape"].sum(), people["texture"].sum()
    assert shape / (shape + texture) == pytest.approx(0.959, abs=5e-4)  # as its source reports


def test_bad_folders_are_named(tmp_path, photo_folder):
    with pytest.raises(data.DataError, match="does not exist"):
        data.load(tmp_path / "nowhere")
    (tmp_path / "empty" / "n01440764").mkdir(parents=True)
    with pytest.raises(data.DataError, match="holds no images"):
        data.load(tmp_path / "empty")
    shutil.move(photo_folder / "n01440764", photo_folder / "tnech")
    with pytest.raises(data.DataError, match=r"neither ImageNet wnids nor .*: tnech \(nearest: t"):
        data.load(photo_folder)
    with pytest.raises(data.DataError, match="n_images must be at least 1"):
        data.load("stimuli", n=-3)
    with pytest.raises(data.DataError, match="unknown variant"):
        data.load("stimuli", "sylised")


def test_damaged_images_are_found_before_anything_is_computed(photo_folder):
    whole = next((photo_folder / "n01440764").glob("*.jpg"))
    good = whole.read_bytes()
    for content, message in [
        (good[: len(good) // 2], "is truncated"),
        (b"", r"is not an image \(0 bytes\)"),
        (b"<html>not found</html>" * 50, "is not an image"),
    ]:
        whole.write_bytes(content)
        with pytest.raises(data.DataError, match=f"{whole.name} {message}"):
            data.load(photo_folder)
    half_png = photo_folder / "n01443537" / "half.png"
    photograph(half_png, 3)
    whole.unlink()
    half_png.write_bytes(half_png.read_bytes()[:-20])
    with pytest.raises(data.DataError, match=r"half\.png"):
        data.load(photo_folder)


def test_grey_cmyk_and_transparent_pictures_come_as_rgb(tmp_path):
    folder = tmp_path / "n01440764"
    folder.mkdir()
    for mode, name in [
        ("L", "grey.png"),
        ("CMYK", "press.jpg"),
        ("RGBA", "clear.png"),
        ("P", "few.png"),
    ]:
        Image.new(mode, (20, 20)).save(folder / name)
    images = data.load(tmp_path)
    assert {np.asarray(images.picture(i)).shape for i in range(4)} == {(20, 20, 3)}


def one_class(tmp_path, name, picture, **how):
    (tmp_path / "n01440764").mkdir(exist_ok=True)
    picture.save(tmp_path / "n01440764" / name, **how)
    return tmp_path


@pytest.mark.parametrize("name", ["grey.png", "grey.ppm"])
def test_grey_of_16_bits_is_scaled(tmp_path, name):
    grey = np.linspace(0, 65535, 4096).reshape(64, 64).astype("uint16")
    file = tmp_path / "n01440764" / name
    file.parent.mkdir()
    if name.endswith("png"):
        Image.fromarray(grey).save(file)
    else:
        file.write_bytes(b"P5 64 64 65535\n" + grey.astype(">u2").tobytes())
    shown = np.asarray(data.load(tmp_path).picture(0))
    assert (shown == shown[..., :1]).all()
    assert abs(shown[..., 0] - grey / 257).max() <= 0.5


def test_what_is_transparent_is_seen_on_white(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    share = colours[..., 3:] / 255
    images = data.load(one_class(tmp_path, "rgba.png", Image.fromarray(colours)))
    expected = share * colours[..., :3] + (1 - share) * 255
    assert abs(np.asarray(images.picture(0)) - expected).max() <= 1
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    named = Image.new("RGB", (4, 4), (255, 0, 0))
    for picture, how in [
        (palette, {"transparency": 0}),
        (named, {"transparency": (255, 0, 0)}),
        (Image.new("LA", (4, 4), (7, 0)), {}),
    ]:
        images = data.load(one_class(tmp_path, "rgba.png", picture, **how))
        assert (np.asarray(images.picture(0)) == 255).all()
    deep = Image.fromarray(np.full((4, 4), 33000, np.uint16))
    images = data.load(one_class(tmp_path, "rgba.png", deep, transparency=33000))
    assert (np.asarray(images.picture(0)) == 255).all()
    images = data.load(one_class(tmp_path, "rgba.png", Image.new("RGBA", (4, 4), (1, 2, 3, 255))))
    assert np.asarray(images.picture(0))[0, 0].tolist() == [1, 2, 3]


def file_of(form, size=(90, 70), **how):
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, form, **how)
    return file.getvalue()


JPEGS = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 20, "subsampling": 0}]


@pytest.mark.parametrize("how", JPEGS, ids=str)
def test_a_jpeg_is_whole_by_its_picture_not_by_its_last_bytes(tmp_path, how):
    good = file_of("JPEG", comment=b"\xff\xd9 in a comment", **how)
    file = tmp_path / "n01440764" / "x.jpg"
    file.parent.mkdir()
    file.write_bytes(good)
    picture = np.asarray(data.load(tmp_path).picture(0))
    after = [b"MotionPhoto_Data" + bytes(9000), file_of("PNG"), file_of("JPEG", (20, 20)), b"\xff"]
    whole = [good + more for more in after]
    if "progressive" not in how:  # which may lack its last details without an end marker
        whole.append(good[:-2])
    for content in whole:
        file.write_bytes(content)
        assert (np.asarray(data.load(tmp_path).picture(0)) == picture).all()
    start = good.index(b"\xff\xda") + 40  # of the picture's data
    for place in np.linspace(start, len(good) - 30, 9).astype(int):
        for end in (b"", b"\xff\xd9"):
            if "progressive" in how and end and place > start + (len(good) - start) // 3:
                continue  # cut between two scans it would be whole, and coarser
            file.write_bytes(good[:place] + end)
            with pytest.raises(data.DataError, match=r"x\.jpg is truncated"):
                data.load(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "PPM", "WEBP"])
def test_a_damaged_file_is_read_or_named_before_anything_is_computed(tmp_path, form):
    good = file_of(form, (30, 20))
    draw = np.random.default_rng(0)
    file = tmp_path / "n01440764" / f"x.{form.lower()}"
    file.parent.mkdir()
    refused = 0
    for _ in range(30):
        content = bytearray(good)
        for place in draw.integers(0, min(len(good), draw.choice([12, 60, len(good)])), 3):
            content[place] = draw.integers(256)
        if draw.random() < 0.3:
            del content[draw.integers(len(good)) :]
        file.write_bytes(content)
        try:
            assert data.load(tmp_path).picture(0).mode == "RGB"
        except data.DataError:
            with pytest.raises(data.DataError, match=rf"{file.name} .*; replace or remove it"):
                data.load(tmp_path)
            refused += 1
    assert refused >= 5
    file.write_bytes(good[: len(good) // 2])
    with pytest.raises(data.DataError, match=file.name):
        data.load(tmp_path)


def png(side, rows, depth=8, kind=2, woven=0, size=1 << 30, palette=b""):
    """A PNG file whose checksums are right, whatever its rows hold; size: of its data's parts."""
    content = b"\x89PNG\r\n\x1a\n"
    about = side.to_bytes(4, "big") * 2 + bytes([depth, kind, 0, 0, woven])
    colours = [(b"PLTE", palette)] if palette else []
    packed = zlib.compress(rows, 9)
    data = [(b"IDAT", packed[k : k + size]) for k in range(0, len(packed), size)]
    for name, part in [(b"IHDR", about), *colours, *data, (b"IEND", b"")]:
        checksum = zlib.crc32(name + part).to_bytes(4, "big")
        content += len(part).to_bytes(4, "big") + name + part + checksum
    return content


# Of an interlaced PNG: where each pass begins and its steps (PNG specification, 8.2).
ADAM7 = [
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
]


@pytest.mark.parametrize("woven", [0, 1])
@pytest.mark.parametrize(
    ("kind", "channels", "depths"),
    [(0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16)), (3, 1, (1, 2, 4, 8)), (4, 2, (8, 16)),
     (6, 4, (8, 16))],
)  # fmt: skip
def test_a_png_is_whole_with_all_its_rows_and_no_less(kind, channels, depths, woven):
    palette = bytes(3) if kind == 3 else b""
    for depth in depths:
        for side in (1, 2, 3, 5, 8, 13, 40, 300):
            rows = [
                bytes(1 + -(-len(range(x, side, right)) * channels * depth // 8))
                for x, y, right, down in (ADAM7 if woven else [(0, 0, 1, 1)])
                for _ in range(y, side, down)
                if x < side
            ]

            def found(rows, size, depth=depth, side=side):
                content = png(side, b"".join(rows), depth, kind, woven, size, palette)
                return contents.problem("x.png", content)

            assert found(rows, 1) == found(rows, 1 << 30) == "", (depth, side)
            for fewer in {len(rows) - 1, len(rows) // 2} - {0}:
                assert found(rows[:fewer], 1 << 30) == "x.png is truncated", (depth, side)


def test_an_animated_png_is_whole_by_its_first_picture(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    for beside in (False, True):
        file = io.BytesIO()
        how = {"save_all": True, "append_images": frames[1:], "default_image": beside}
        frames[0].save(file, "PNG", **how)
        assert contents.problem("x.png", file.getvalue()) == ""


def test_what_pillow_warns_of_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    monkeypatch.setattr(contents, "as_rgb", lambda image: pytest.fail("it was decoded"))
    monkeypatch.setattr(contents.jpeg, "is_whole", lambda content: pytest.fail("it was decoded"))
    file = tmp_path / "n01440764" / "x.png"
    file.parent.mkdir()
    said = r"x\.png is too large: 90 x 70 are 6300 pixels, at most 5000 .*; save it with fewer"
    for form in ("PNG", "JPEG", "WEBP"):
        file.write_bytes(file_of(form))
        for action in ("ignore", "error"):
            with warnings.catch_warnings():
                warnings.simplefilter(action, Image.DecompressionBombWarning)
                with pytest.raises(
                    data.DataError, match=said if action == "ignore" else "is too large"
                ):
                    data.load(tmp_path)


def test_bombs_and_foreign_files_are_named(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("k", "x" * (2 << 20), zip=True)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    file = tmp_path / "n01440764" / "x.png"
    file.parent.mkdir()
    grey = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(grey, "TIFF")
    for content, message in [
        (png(20000, bytes(2501 * 20000), 1, 0), "is too large: .*400000000 pixels"),
        (png(10, bytes(310)[:150]), "cannot be read: image file is truncated"),
        (png(10, b""), "cannot be read: image file is truncated"),
        (png(10, b"\t" * 310), "cannot be read: unrecognized data"),
        (png(2, bytes(6), 8, 3), "cannot be read: AssertionError"),  # colours of no palette
        (file_of("PNG", pnginfo=texts), "cannot be read: .*too large"),
        (file_of("PNG", icc_profile=bytes(2 << 20)), "cannot be read: .*too large"),
        (b"P6\nxx 7\n255\n" + bytes(100), "cannot be read"),
        (script, "is not an image"),  # its reader would start Ghostscript
        (
            grey.getvalue(),
            "cannot be read: its pixels are floating point; save it with 8 or 16 bits",
        ),
    ]:
        file.write_bytes(content)
        with pytest.raises(data.DataError, match=rf"x\.png {message}"):
            data.load(tmp_path)


@pytest.mark.parametrize("read", [data.load, data.own])
def test_what_is_no_file_or_has_no_end_is_named(tmp_path, read):
    for name in ("n01440764", "n01443537"):
        photograph(tmp_path / name / "x.png", 0)
    odd = tmp_path / "n01440764" / "y.png"
    for make in (lambda: os.mkfifo(odd), lambda: odd.symlink_to("z"), lambda: odd.symlink_to(odd)):
        make()
        with pytest.raises(data.DataError, match=r"y\.png .*; replace or remove it"):
            read(tmp_path)
        odd.unlink()
    assert len(read(tmp_path)) == 2
    for target in (tmp_path, "."):
        loop = tmp_path / "n01440764" / "loop"
        loop.symlink_to(target)
        with pytest.raises(data.DataError, match=r"loop is a link to a folder that it lies in"):
            data.own(tmp_path)
        assert len(data.load(tmp_path)) == 2  # which looks into the class folders alone
        loop.unlink()


@pytest.mark.parametrize("read", [data.load, data.own])
@pytest.mark.parametrize("place", [b"n01440764/\xff.png", b"n\xff/x.png"])
def test_names_that_are_not_utf_8_are_told(tmp_path, read, place):
    photograph(tmp_path / "n01443537" / "x.png", 0)
    photograph(tmp_path / "x.png", 1)
    place = os.path.join(os.fsencode(tmp_path / "set"), place)
    os.makedirs(os.path.dirname(place))
    os.rename(tmp_path / "x.png", place)
    (tmp_path / "n01443537").rename(tmp_path / "set" / "n01443537")
    with pytest.raises(data.DataError, match=r"\\udcff.* is not UTF-8; rename it"):
        read(tmp_path / "set")


def test_what_is_left_out_is_said(tmp_path, capsys):
    photograph(tmp_path / "n01440764" / "x.png", 0)
    photograph(tmp_path / "__MACOSX" / "n01440764" / "x.png", 0)
    (tmp_path / "n01440764" / ".hidden").touch()
    (tmp_path / "README.md").touch()
    assert data.load(tmp_path).table["id"].tolist() == ["n01440764/x.png"]
    assert capsys.readouterr().out == ""
    left = ["n01440764/y.tif", "n01443537/y.GIF", "n01484850/y.jfif", "n01491361/images/y.png"]
    for file in left:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert data.load(tmp_path).table["id"].tolist() == ["n01440764/x.png"]
    said = capsys.readouterr().out
    assert all(os.path.dirname(file) in said for file in left)
    (tmp_path / "n01491361/images/y.png").unlink()
    photograph(tmp_path / "n01491361/images/y.png", 1)
    assert len(data.own(tmp_path)) == 2
    assert "n01484850/y.jfif" in capsys.readouterr().out


@pytest.mark.parametrize("read", [data.load, data.own])
def test_what_lies_loose_is_of_no_class_and_said(tmp_path, capsys, read):
    for name in ("n01440764", "n01443537"):
        photograph(tmp_path / name / "x.png", 0)
    before = read(tmp_path)
    assert capsys.readouterr().out == ""
    photograph(tmp_path / "cover.png", 1)
    (tmp_path / "zebra").mkdir()
    for name in ("noext", "notes.txt"):
        (tmp_path / "n01440764" / name).touch()
    images = read(tmp_path)
    assert images.table.equals(before.table)
    assert images.categories == before.categories
    [said] = capsys.readouterr().out.splitlines()
    for left in ("'cover.png'", "'zebra' (empty)", "'n01440764/noext'", "'n01440764/notes.txt'"):
        assert left in said


def test_a_folder_beside_loose_images_is_no_class_against_them(tmp_path, capsys):
    for name in ("1.png", "2.png", "thumbs/1.png"):
        photograph(tmp_path / name, 0)
    with pytest.raises(data.DataError, match="holds 1 images of 1 class"):
        data.own(tmp_path)
    assert "left out of" in capsys.readouterr().out
    (tmp_path / "labels.txt").write_text("1 cat\n2 dog\n")
    with pytest.raises(
        data.DataError, match=r"images \(1\.png, 2\.png\) and folders of images \(thumbs\): move"
    ):
        data.own(tmp_path)
    shutil.rmtree(tmp_path / "thumbs")
    assert data.own(tmp_path).categories == ("cat", "dog")


def test_names_and_classes_may_hold_spaces_and_any_character(photo_folder, tmp_path):
    flat = tmp_path / "flat"
    for i, name in enumerate(["my 1.png", "2.png", "3 4.png"]):
        photograph(flat / name, i)
    labels = flat / "labels.txt"
    labels.write_text("# mine\n# and yours\nmy 1.png  big cat\n2 ca\u2028t\n3 4 big cat\n")
    assert data.own(flat).categories == ("big cat", "ca\u2028t")
    assert data.own(flat).labels.tolist() == [1, 0, 0], "of 2.png, 3 4.png, my 1.png"
    photograph(flat / "3.png", 3)
    with pytest.raises(data.DataError, match=r"line 5: .* of the image '3 4' or '3'; write a tab"):
        data.own(flat)
    labels.write_text("my 1.png\tcat\n2\tdog\n3 4\tdog\n3\t4 big cats\n")
    assert data.own(flat).categories == ("4 big cats", "cat", "dog")
    labels.write_text("2 dog\n")
    with pytest.raises(data.DataError, match=r"lacks 3 4\.png.*a line for each image: its name, a"):
        data.own(flat)
    renamed(photo_folder, "my fish", "other")
    told = "my fish  great white shark\nother tench\nother fish 5\n"
    (photo_folder / "labels.txt").write_text(told)
    assert {*data.load(photo_folder).labels.tolist()} == {0, 2}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("between", [" ", "\t", "   ", " \t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_files_are_read_however_they_were_written(photo_folder, tmp_path, mark, between, end):
    renamed(photo_folder, "my fish", "other")
    text = mark + end.join(f"{a}{between}{b}" for a, b in [("my fish", 5), ("other", 7)])
    (photo_folder / "labels.txt").write_bytes(text.encode())
    assert {*data.load(photo_folder).labels.tolist()} == {5, 7}
    flat = tmp_path / "flat"
    for i in range(2):
        photograph(flat / f"{i}.jpg", i)
    text = mark + end.join(f"{a}{between}{b}" for a, b in [("0.jpg", "big cat"), ("1", "dog")])
    (flat / "labels.txt").write_bytes(text.encode())
    assert data.own(flat).categories == ("big cat", "dog")
    chosen = tmp_path / "list.txt"
    chosen.write_bytes((mark + end.join(["my fish/picture2.jpg", "# none", ""])).encode())
    assert data.load(photo_folder, subset=chosen).table["id"].tolist() == ["my fish/picture2.jpg"]


def test_text_files_that_contradict_or_are_no_text_are_named(photo_folder, tmp_path):
    labels = photo_folder / "labels.txt"
    labels.write_text("n01440764 n01440764\nn01443537 5\n")
    with pytest.raises(
        data.DataError, match=r"labels\.txt gives n01443537 class 5, by its name .* 1"
    ):
        data.load(photo_folder)
    renamed(photo_folder, "my fish", "other")
    labels.write_text("my fish 0\nother 1\nother 2\n")
    with pytest.raises(data.DataError, match=r"labels\.txt, line 3: 'other' has another label"):
        data.load(photo_folder)
    for content in ("my fish 0\n# é".encode("latin-1"), "my fish 0".encode("utf-16")):
        labels.write_bytes(content)
        with pytest.raises(data.DataError, match=r"labels\.txt is not text in UTF-8"):
            data.load(photo_folder)
    for i in range(2):
        photograph(tmp_path / "flat" / f"{i}.jpg", i)
    (tmp_path / "flat" / "labels.txt").write_text("0 cat\n1 dog\n0 dog\n")
    with pytest.raises(data.DataError, match="line 3: 0 is cat and dog"):
        data.own(tmp_path / "flat")


def test_numbers_that_may_count_from_one_are_not_guessed(photo_folder, capsys):
    renamed(photo_folder, "1", "2")
    with pytest.raises(data.DataError, match=r"are 1 to 2: .* cannot be told\. Say it by"):
        data.load(photo_folder)
    (photo_folder / "1").rename(photo_folder / "0")
    assert {*data.load(photo_folder).labels.tolist()} == {0, 2}
    assert "0 is tench, 2 great white shark" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"seed": None}, {"seed": "x"}, {"seed": 1.5}, {"seed": True}])
def test_a_seed_is_an_integer(photo_folder, wrong):
    for read in (data.load, data.own, data.cue_conflict):
        for where in ("stimuli", photo_folder):
            with pytest.raises(data.DataError, match=r"a seed is an integer, e\.g\. 0; got"):
                read(where, n=2, **wrong)
    same = [data.load("stimuli", n=2, seed=seed).fingerprint for seed in (1, np.int64(1))]
    assert same[0] == same[1]
    for n in (2.5, "3", True):
        with pytest.raises(data.DataError, match="n_images must be at least 1, got"):
            data.load("stimuli", n=n)


def renamed(photo_folder, tench, goldfish):
    (photo_folder / "n01440764").rename(photo_folder / tench)
    (photo_folder / "n01443537").rename(photo_folder / goldfish)
    return photo_folder


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1"),
        ("000", "001"),
        ("tench", "goldfish"),
        ("Tench", "Goldfish"),
        ("tench,_Tinca_tinca", "goldfish, Carassius auratus"),
    ],
)
def test_classes_are_told_by_index_or_name(photo_folder, names):
    images = data.load(renamed(photo_folder, *names))
    assert images.classes == "imagenet"
    of = dict(zip([name.split("/")[0] for name in images.table["id"]], images.table["label"],
                  strict=True))  # fmt: skip
    assert of == {names[0]: 0, names[1]: 1}


def test_the_names_of_imagenets_classes_are_those_of_the_wnids():
    # from ImageNet's own list, by hand
    for name, wnid in [
        ("great white shark", "n01484850"),
        ("Egyptian_cat", "n02124075"),
        ("toilet_tissue", "n15075141"),
    ]:
        (index,) = folders._names()[folders._plain(name)]
        assert data.imagenet_wnids()[index] == wnid


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("0", "1000"), r"neither ImageNet wnids nor .*: 1000"),
        (("0", "00"), "'0' and '00' .* are the same class"),
        (("tench", "goldfsh"), r"goldfsh \(nearest: goldfish"),
        (("n01440764", "n01443573"), r"n01443573 \(nearest: .*n01443537"),
        (("cat", "dgo"), r": dgo \(nearest: .*dog"),
        (("tench", "crane"), "'crane' .* 2 ImageNet classes: .* n02012849 or n03126707"),
        (("tench", "maillot"), "n03710637 or n03710721"),
        (("red thing", "blue thing"), r"labels\.txt in the folder can say"),
        (("tench", "n01443537"), r"2 ways, by wnids \(n01443537\) and by class names \(tench\)"),
        (
            ("dog", "7"),
            r"2 ways, by the 16 categories \(dog\) and by indices \(7\): name all in one",
        ),
        (("n01440764", "red thing"), r"names: red thing \(nearest: [^0-9]*\)\. A file"),
    ],
)
def test_class_folders_that_cannot_be_told_are_named(photo_folder, names, message):
    with pytest.raises(data.DataError, match=message):
        data.load(renamed(photo_folder, *names))


def test_a_name_with_a_line_break_leaves_an_error_in_one_line(photo_folder):
    def refused(message):
        with pytest.raises(data.DataError, match=message) as stopped:
            data.load(photo_folder)
        assert "\n" not in str(stopped.value)

    folder, labels = photo_folder / "new\nline", photo_folder / "labels.txt"
    shutil.move(photo_folder / "n01440764", folder)
    refused(r"class names: 'new\\nline'")
    labels.write_text("n01443537 n01443537\n")
    refused(r"lacks these class folders: 'new\\nline'")
    labels.unlink()
    shutil.move(folder, photo_folder / "n01440764")
    (photo_folder / "n01440764" / "a\nb.jpg").write_bytes(b"no image")
    refused(r"a\\nb\.jpg' is not an image")


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt"])
def test_a_file_in_the_folder_tells_the_classes(photo_folder, name):
    renamed(photo_folder, "my fish", "other")
    labels = photo_folder / name
    labels.write_text("# mine\nmy fish   n01440764\n\nother\t1\nunused 5\n")
    images = data.load(photo_folder)
    of = {id_.split("/")[0]: label for id_, label in images.table[["id", "label"]].values}
    assert of == {"my fish": 0, "other": 1}
    labels.write_text("my fish tench\nother\tgreat white shark\n")
    assert {*data.load(photo_folder).labels.tolist()} == {0, 2}
    for wrong in ("1000", "-1", "1.0", "crane", "tnech", ""):  # crane is the name of two classes
        labels.write_text(f"my fish n01440764\nother {wrong}\n")
        with pytest.raises(data.DataError, match=rf"{name}, line 2: 'other ?{wrong}'"):
            data.load(photo_folder)
    labels.write_text("my fish n01440764\n")
    with pytest.raises(data.DataError, match=r"lacks these class folders: other"):
        data.load(photo_folder)


def test_a_stray_classes_file_does_not_matter_where_the_names_tell(photo_folder):
    (photo_folder / "classes.txt").write_text("1 001.Black_footed_Albatross\n")
    assert len(data.load(photo_folder)) == 10


def test_a_flat_folder_is_told_by_its_file_names(tmp_path):
    photograph(tmp_path / "n01440764_tench.JPEG", 0)
    photograph(tmp_path / "n01443537_goldfish.JPEG", 1)
    (tmp_path / "README.md").touch()
    images = data.load(tmp_path)
    assert images.table["id"].tolist() == ["n01440764_tench.JPEG", "n01443537_goldfish.JPEG"]
    assert images.table["label"].tolist() == [0, 1]
    photograph(tmp_path / "holiday.JPEG", 2)
    with pytest.raises(data.DataError, match="holiday"):
        data.load(tmp_path)


def test_one_folder_between_is_gone_through(photo_folder, tmp_path):
    (tmp_path / "set").mkdir()
    photo_folder.rename(tmp_path / "set" / "val")
    images = data.load(tmp_path / "set")
    assert images.table["id"].tolist() == data.load(tmp_path / "set" / "val").table["id"].tolist()
    assert images.picture(0).size == (90, 70)


def test_a_list_of_ids_chooses_images(photo_folder, tmp_path, root):
    ids = data.load(photo_folder).table["id"].tolist()
    chosen = tmp_path / "list.txt"
    chosen.write_text("# why\n" + "\n".join([ids[7], ids[2], ids[4] + "  # good"]) + "\n")
    assert data.load(photo_folder, subset=chosen).table["id"].tolist() == [ids[2], ids[4], ids[7]]
    assert len(data.load(photo_folder, n=2, subset=chosen)) == 2
    chosen.write_text("\n".join([ids[0], "n01440764/nothing.jpg"]))
    with pytest.raises(data.DataError, match=r"1 of its 2 ids are not in .*n01440764/nothing\.jpg"):
        data.load(photo_folder, subset=chosen)
    with pytest.raises(data.DataError, match="500 of its 500 ids are not in"):
        data.load(photo_folder, subset="imagenet-sample-images-500")
    with pytest.raises(data.DataError, match="no known list; nearest: imagenet-sample-images-500"):
        data.load(photo_folder, subset="imagenet-sample")
    with pytest.raises(data.DataError, match="subset '' is no file and no known list"):
        data.load(photo_folder, subset="")
    with pytest.raises(data.DataError, match="stimuli have no lists"):
        data.load("stimuli", subset="imagenet-sample-images-500")


def test_the_colab_subset_is_500_different_photographs(root):
    lines = (root / "data_manifests" / "subsets" / "imagenet-sample-images-500.txt").read_text()
    ids = [line for line in lines.splitlines() if not line.startswith("#")]
    assert len(set(ids)) == 500
    assert ids == sorted(ids)
    assert {name.split("_")[0] for name in ids} <= set(data.imagenet_wnids())


def test_pictures_are_not_turned_by_their_exif_orientation(tmp_path):
    """As torchvision's ImageFolder, with which the published numbers were measured, reads them."""
    from torchvision.datasets import ImageFolder

    path = tmp_path / "n01440764" / "turned.jpg"
    photograph(path, 0, (90, 70))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    (picture, _), ours = ImageFolder(tmp_path)[0], data.load(tmp_path).picture(0)
    assert ours.size == picture.size == (90, 70)
    assert np.array_equal(ours, picture)


def test_a_set_that_is_not_here_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"imagenet-1k is not here.*image-net\.org"):
        data.load("imagenet-1k")
    with pytest.raises(data.DataError, match="nearest: imagenet-1k"):
        data.load("imagenet-1kk")


@pytest.mark.real
def test_the_real_cue_conflict_set_is_recognised(real):
    images = data.cue_conflict(real / "cue-conflict")
    assert len(images) == 1280
    assert (images.table["shape"] == images.table["texture"]).sum() == 80


@pytest.mark.real
def test_efficientnet_lite0_knows_real_photographs(real):
    images = data.load(real / "imagenet-samples", n=200)
    model = load("efficientnet-lite0")
    right = 0
    with torch.inference_mode():
        for first in range(0, 200, 50):
            chosen = range(first, first + 50)
            pixels = torch.stack([model.pixels(images.picture(i)) for i in chosen]).float() / 255
            right += int(
                (model.logits(pixels).argmax(1) == images.labels[first : first + 50]).sum()
            )
    # 75.5 % on ImageNet's validation set is what its authors report
    assert right / 200 > 0.68


def test_a_set_with_classes_of_its_own_serves_features_and_no_decisions(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    for i, species in enumerate(["001.Black_footed_Albatross", "002.Laysan_Albatross"] * 2):
        photograph(tmp_path / "cub-200/CUB_200_2011/images" / species / f"{i}.jpg", i)
    birds = data.load("cub-200")
    assert birds.classes == "own"
    assert birds.categories == ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert birds.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(data.DataError, match="cannot decide about own images"):
        data.decision_matrix("imagenet", birds.classes)


# --- fingerprints: the content ------------------------------------------------------------------


@pytest.fixture
def bitmaps(tmp_path, monkeypatch):
    """Cue-conflict images as bitmaps: another pixel leaves the number of bytes as it is."""
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(contents, "_SETTLED", 0)
    for i, name in enumerate(["cat/cat1-car1.bmp", "cat/cat2-dog1.bmp", "car/car1-cat1.bmp"]):
        photograph(tmp_path / "set" / name, i)
    return tmp_path / "set"


def other_pixel(folder):
    path = folder / "cat" / "cat1-car1.bmp"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def other_pixel_and_old_times(folder):
    path = folder / "cat" / "cat1-car1.bmp"
    times = path.stat()
    other_pixel(folder)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchanged(folder):
    first, second = folder / "cat" / "cat1-car1.bmp", folder / "cat" / "cat2-dog1.bmp"
    first.rename(folder / "kept")
    second.rename(first)
    (folder / "kept").rename(second)


CHANGES = [
    other_pixel,
    other_pixel_and_old_times,
    exchanged,
    lambda folder: photograph(folder / "cat" / "cat3-dog1.bmp", 7),
    lambda folder: (folder / "cat" / "cat1-car1.bmp").rename(folder / "cat" / "cat1-car2.bmp"),
    lambda folder: (folder / "cat" / "cat1-car1.bmp").rename(folder / "cat" / "cat1-dog1.bmp"),
    lambda folder: (folder / "cat" / "cat1-car1.bmp").rename(folder / "car" / "cat1-car1.bmp"),
    lambda folder: (folder / "cat" / "cat1-car1.bmp").unlink(),
]


@pytest.mark.parametrize("read", [data.load, data.own])
@pytest.mark.parametrize("change", CHANGES)
def test_another_content_is_another_fingerprint(bitmaps, read, change):
    before = read(bitmaps).fingerprint
    change(bitmaps)
    assert read(bitmaps).fingerprint != before


def moved(folder):
    return folder.rename(folder.with_name("elsewhere"))


def touched(folder):
    for path in folder.rglob("*"):
        os.utime(path)
    return folder


def copied(folder):
    return shutil.copytree(folder, folder.with_name("copy"))


@pytest.mark.parametrize("read", [data.load, data.own])
@pytest.mark.parametrize("change", [moved, touched, copied])
def test_the_same_content_is_the_same_fingerprint(bitmaps, read, change):
    before = read(bitmaps).fingerprint
    assert read(change(bitmaps)).fingerprint == before


def test_corrected_labels_are_another_fingerprint(photo_folder, tmp_path):
    renamed(photo_folder, "my fish", "other")
    labels = photo_folder / "labels.txt"
    found = set()
    for text in ("my fish 0\nother 1\n", "my fish 0\nother 2\n", "my fish 0\nother n01484850\n"):
        labels.write_text(text)
        found.add(data.load(photo_folder).fingerprint)
    assert len(found) == 2  # n01484850 is class 2
    for i in range(2):
        photograph(tmp_path / "flat" / f"{i}.jpg", i)
    found = set()
    for text in ("0 a\n1 b\n", "0 b\n1 a\n", "0 a\n1 c\n"):
        (tmp_path / "flat" / "labels.txt").write_text(text)
        found.add(data.own(tmp_path / "flat").fingerprint)
    assert len(found) == 3


def test_stimuli_are_known_by_their_scenes_and_by_the_code_that_draws_them(monkeypatch):
    first = data.load("stimuli", n=20)
    others = [
        data.load("stimuli", n=20, seed=1),
        data.load("stimuli", "stylised", n=20),
        data.load("stimuli", n=21),
        data.load("stimuli", n=20, held_out=True),
    ]
    assert len({images.fingerprint for images in [first, *others]}) == 5
    assert data.load("stimuli", n=20).fingerprint == first.fingerprint
    monkeypatch.setattr("vitlab.keys.house", lambda *names: f"changed {names}")
    assert data.load("stimuli", n=20).fingerprint != first.fingerprint


def test_files_are_read_once_until_they_change(bitmaps, monkeypatch, tmp_path):
    read: list[str] = []
    real = contents._read
    monkeypatch.setattr(contents, "_read", lambda path: read.append(path.name) or real(path))
    first = data.load(bitmaps)
    assert sorted(read) == ["car1-cat1.bmp", "cat1-car1.bmp", "cat2-dog1.bmp"]
    assert data.load(bitmaps).fingerprint == first.fingerprint
    assert data.load(bitmaps, n=2) is not None
    assert len(read) == 3
    other_pixel(bitmaps)
    data.load(bitmaps)
    assert read[3:] == ["cat1-car1.bmp"]
    (store,) = (tmp_path / "sets" / ".hashes").iterdir()
    whole = store.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"a", b"b"), b"{}", b"\xff\n\xfe"):
        store.write_bytes(damaged)
        read.clear()
        changed = data.load(bitmaps)
        assert len(read) == 3
        assert changed.fingerprint != first.fingerprint
        assert store.read_bytes() == whole  # made again


def test_a_file_that_was_just_written_is_not_trusted_to_stay(bitmaps, monkeypatch, tmp_path):
    """A second change within the clock's tick would leave size and times as they are."""
    monkeypatch.setattr(contents, "_SETTLED", 60e9)
    data.load(bitmaps)
    (store,) = (tmp_path / "sets" / ".hashes").iterdir()
    assert store.read_text().endswith("\n{}")


def test_a_data_folder_that_cannot_be_written_costs_only_time(bitmaps, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    before = data.load(bitmaps).fingerprint
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "file" / "sets"))
    assert data.load(bitmaps).fingerprint == before


# --- PASCAL VOC ---------------------------------------------------------------------------------


def test_voc_gives_photographs_and_the_masks_of_their_objects(tmp_path):
    place = tmp_path / "VOCdevkit" / "VOC2012"
    index = np.zeros((60, 80), np.uint8)
    index[10:30, 10:40], index[40:50, 50:70], index[8:10, 10:40] = 5, 12, 255
    (place / "ImageSets" / "Segmentation").mkdir(parents=True)
    (place / "SegmentationClass").mkdir()
    names = [f"2007_{i:06d}" for i in range(6)]
    (place / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n")
    for i, name in enumerate(names):
        photograph(place / "JPEGImages" / f"{name}.jpg", i, (80, 60))
        Image.fromarray(index).save(place / "SegmentationClass" / f"{name}.png")
    assert voc.folder(str(tmp_path)) == place
    assert voc.folder(str(place)) == place
    assert voc.folder(str(tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages")) is None
    assert voc.folder("imagenet-1k") is None
    images = voc.load(place, 4, seed=1, side=40)
    assert images.table["id"].tolist() == sorted(images.table["id"])
    assert set(images.table["id"]) < set(names)
    with Image.open(place / "JPEGImages" / f"{images.table['id'][2]}.jpg") as photo:
        small = photo.convert("RGB").resize((40, 40), Image.Resampling.BILINEAR)
    assert np.array_equal(images.picture(2), small)
    masks, void = voc.objects(place, names[0], 80)
    # 60 rows become 80, each the one that its middle lies in
    assert masks.shape == (2, 80, 80)
    rows = (2 * np.arange(80) + 1) * 60 // 160
    assert np.array_equal(masks[0].numpy(), (index == 5)[rows])
    assert np.array_equal(masks[1].numpy(), (index == 12)[rows])
    assert np.array_equal(void.numpy(), (index == 255)[rows])
    assert np.array_equal(images.mask(0), voc.objects(place, names[0], 40)[0].any(0).float())
    index[10, 10] = 0
    Image.fromarray(index).save(place / "SegmentationClass" / f"{images.table['id'][0]}.png")
    assert voc.load(place, 4, seed=1, side=40).fingerprint != images.fingerprint
    (place / "SegmentationClass" / f"{names[3]}.png").unlink()
    with pytest.raises(data.DataError, match=rf"lacks SegmentationClass/{names[3]}\.png"):
        voc.load(place, 6)


def test_a_stimulus_is_rendered_once_and_its_picture_is_ones_own(monkeypatch):
    images, rendered, draw = data.load("stimuli", n=4, seed=77), [], stimuli.draw
    noted = lambda scene: rendered.append(scene.id) or draw(scene)  # noqa: E731
    monkeypatch.setattr(stimuli, "draw", noted)
    first = images.picture(3)
    whole = first.tobytes()
    first.paste("red", (0, 0, 64, 64))
    assert images.picture(3).tobytes() == whole != first.tobytes()
    assert len(rendered) == 1

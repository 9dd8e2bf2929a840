"""Manifests, and downloads against a server on this machine that misbehaves on request."""

import bz2
import errno
import gzip
import hashlib
import http.server
import io
import lzma
import multiprocessing
import os
import re
import stat
import subprocess
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import photograph

from vitlab import cli
from vitlab import images as data
from vitlab.images import catalogue, download, fetch
from vitlab.images.download import DownloadError
from vitlab.images.errors import DataError

# An entry of a paper's file that names no data set.
NO_SET = {
    "robustness benchmarks of the paper (list not read; ImageNet variants and adversarial attacks)"
}


# --- manifests ---------------------------------------------------------------------------------


def test_every_data_set_that_a_paper_names_has_a_manifest(root):
    covered = {(paper, name) for m in catalogue.manifests().values() for name in m.named
               for paper in m.papers}  # fmt: skip
    entries = {
        (path.stem, entry["name"])
        for path in (root / "book" / "papers").glob("*.yml")
        for entry in yaml.safe_load(path.read_text()).get("datasets") or []
    }
    assert len(entries) > 100
    assert {name for _, name in entries - covered} == NO_SET
    named = {name for m in catalogue.manifests().values() for name in m.named}
    assert named <= {name for _, name in entries}  # and none names what no paper does


def test_every_manifest_says_licence_access_and_the_way_by_hand():
    known = catalogue.manifests()
    assert len(known) > 50
    for m in known.values():
        assert m.licence
        assert m.by_hand
        assert m.citation
        assert all(url.startswith(("https://", "http://")) for f in m.files for url in f.urls)
        if m.images:
            assert not Path(m.images).is_absolute()
            assert ".." not in m.images
        if m.size_gb is not None and m.files and all(f.bytes for f in m.files):
            assert sum(f.bytes for f in m.files) == pytest.approx(1e9 * m.size_gb, rel=0.05)
    assert known["imagenet-1k"].access == "form"
    assert known["jft-300m"].state == "gone"


ARCHIVE = {"name": "a.zip", "urls": ["u"], "hash": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "licence: must be text"),
        ({"what": " "}, "what: must be text"),
        ({"access": "free"}, "access: 'free' is none of open, form, gone"),
        ({"classes": 16}, "classes: 16 is none of imagenet, imagenet-16, own, none"),
        ({"licens": "x"}, "licens: unknown; nearest: licence"),
        ({"name": "other"}, "name: 'other' is not the file's name"),
        ({"size_gb": "big"}, "size_gb: must be a number, not 'big'"),
        ({"size_gb": -1}, "size_gb: must be a number, not -1"),
        ({"count": 1.5}, "count: must be a whole number, not 1.5"),
        ({"papers": "bai2021"}, "papers: must be a list"),
        ({"named": ["ImageNet-A", 1]}, "named[1]: must be text, not 1"),
        ({"files": ["a.zip"]}, "files[0] must be a mapping"),
        ({"files": [{"name": "a.zip"}]}, "files[0].urls: missing"),
        ({"files": [ARCHIVE, {**ARCHIVE, "url": "u"}]}, "files[1].url: unknown; nearest: urls"),
        ({"files": [{**ARCHIVE, "hash": "md5:12"}]}, "files[0].hash: 'md5:12' is neither md5:"),
        ({"files": [{**ARCHIVE, "urls": []}]}, "files[0].urls: needs an address"),
        ({"files": [{**ARCHIVE, "name": "a/b.zip"}]}, "files[0].name: 'a/b.zip' is a path"),
        ({"files": [{**ARCHIVE, "into": "../x"}]}, "files[0].into: '../x' leads out"),
        ({"images": "/etc"}, "images: '/etc' leads out"),
        ({"access": "form"}, "files: a set whose access is form is not downloaded"),
        ({"citation": ...}, "citation: missing"),
    ],
)
def test_a_faulty_manifest_is_named_with_its_field(root, tmp_path, change, message):
    good = yaml.safe_load((root / "data_manifests" / "imagenet-a.yml").read_text())
    path = tmp_path / "imagenet-a.yml"
    given = {key: value for key, value in {**good, **change}.items() if value is not ...}
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(DataError) as error:
        catalogue.read(path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["- a list", "", "a: [", "just text"])
def test_a_file_that_is_no_manifest_is_named(tmp_path, text):
    path = tmp_path / "imagenet-a.yml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(str(path))):
        catalogue.read(path)


def test_what_an_editor_leaves_beside_manifests_is_none(cache):
    write_manifest(cache)
    (cache.parent / "manifests" / ".#small.yml").symlink_to("nobody@host")
    (cache.parent / "manifests" / "._small.yml").write_bytes(b"\0\5\x16\7")
    assert [*catalogue.manifests()] == ["small"]


# --- a server that misbehaves ------------------------------------------------------------------


class Server:
    """Serves `files` (path -> bytes); the attributes say what goes wrong."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []  # send only so many bytes in the first answers
        self.after_cut: dict[str, bytes] = {}  # what the files become once one was cut
        self.ranges = True
        self.tags = True
        self.lengths = True
        self.tag = ""  # the same for every file, if given
        self.kind = "application/octet-stream"
        self.statuses: list[int] = []  # answers before the first good one
        self.asked: list[tuple[str, str | None]] = []  # path, Range
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                if outer.statuses:
                    return self.send_error(outer.statuses.pop(0))
                if self.path not in outer.files:
                    return self.send_error(404)
                body = outer.files[self.path]
                tag = outer.tag or f'"{hashlib.md5(body).hexdigest()}"'
                start = 0
                if wanted and outer.ranges and self.headers.get("If-Range", tag) == tag:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.send_header("Content-Length", "0")
                        return self.end_headers()
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Type", outer.kind)
                if outer.lengths:
                    self.send_header("Content-Length", str(len(body) - start))
                if outer.tags:
                    self.send_header("ETag", tag)
                self.end_headers()
                end = len(body)
                if outer.cuts:
                    end = start + outer.cuts.pop(0)
                    outer.files |= outer.after_cut
                self.wfile.write(body[start:end])
                self.close_connection = True

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    it = Server()
    yield it
    it.http.shutdown()
    it.http.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder of sets, manifests of its own, and no waiting between attempts."""
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.delenv("VITLAB_OFFLINE", raising=False)
    (tmp_path / "manifests").mkdir()
    monkeypatch.setattr(catalogue, "manifests_folder", lambda: tmp_path / "manifests")
    monkeypatch.setattr(download, "_pause", lambda _: 0.0)
    monkeypatch.setattr(download, "_CHUNK", 1000)
    catalogue._manifests.cache_clear()
    yield tmp_path / "sets"
    catalogue._manifests.cache_clear()


def write_manifest(cache: Path, name: str = "small", **changes) -> None:
    given = {
        "name": name, "purpose": "tests", "what": "three pictures", "homepage": "http://x",
        "licence": "unknown", "access": "open", "size_gb": None, "files": [], "layout": "wnids",
        "classes": "imagenet", "mapping": "wnids", "citation": "none", "by_hand": "Ask for it.",
        "papers": [], "named": [],
    }  # fmt: skip
    path = cache.parent / "manifests" / f"{name}.yml"
    path.write_text(yaml.safe_dump({**given, **changes}))
    catalogue._manifests.cache_clear()


def pictures(folder: Path) -> dict[str, bytes]:
    """Three small photographs in two class folders: name -> bytes."""
    for i, name in enumerate(["n01440764/a.png", "n01440764/b.png", "n01443537/c.png"]):
        photograph(folder / name, i)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.glob("*/*"))}


def tarred(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def small(cache, server, tmp_path) -> bytes:
    """The set "small" on the server, with its hash in the manifest; its archive."""
    archive = tarred(pictures(tmp_path / "pictures"))
    server.files["/small.tar"] = archive
    entry = {"name": "small.tar", "urls": [f"{server.url}/small.tar"], "hash": sha256(archive)}
    write_manifest(cache, files=[entry], count=3)
    return archive


def left(cache: Path) -> set[str]:
    """What lies in the folder of sets, but for locks and records."""
    names = {p.name for p in cache.iterdir()} - {".locks", "hashes.json", ".hashes"}
    return names - ({".downloads"} if not any((cache / ".downloads").iterdir()) else set())


# --- downloads ---------------------------------------------------------------------------------


def offered(cache: Path, server: Server, content: bytes, name: str = "small.tar", **more) -> None:
    """The set "small" is this file on the server; its hash is published unless `more` says so."""
    server.files[f"/{name}"] = content
    entry = {"name": name, "urls": [f"{server.url}/{name}"], "hash": sha256(content)}
    write_manifest(cache, files=[{**entry, **more}])


def test_an_open_set_is_fetched_checked_and_loaded_by_name(cache, server, small, capsys):
    assert catalogue.manifest("small").state == "can be fetched"
    assert not catalogue.available("small")
    with pytest.raises(DataError, match="vitlab data fetch small"):
        catalogue.path("small")
    images = data.load("small")
    assert "not here: fetching it (size unknown)" in capsys.readouterr().out
    assert images.name == "small"
    assert images.table["label"].tolist() == [0, 0, 1]
    assert catalogue.manifest("small").state == "here"
    assert fetch.verify("small") == []
    assert left(cache) == {"small"}
    data.load("small")
    assert len(server.asked) == 1  # what is here is not asked for again


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        ({"cuts": [5000, 3000]}, [None, "bytes=5000-", "bytes=8000-"]),
        ({"cuts": [5000], "ranges": False}, [None, "bytes=5000-"]),  # sent from the start again
        ({"cuts": [5000], "tags": False}, [None, None]),  # it may be another version: all anew
        ({"cuts": [5000], "changes": True}, [None, "bytes=5000-"]),
        ({"cuts": [5000], "changes": True, "tags": False}, [None, None]),
        # Only the hash can tell two versions with one tag apart.
        ({"cuts": [5000], "changes": True, "tag": '"fixed"'}, [None, "bytes=5000-", None]),
        ({"statuses": [503, 429, 500]}, [None] * 4),
    ],
)
def test_a_transfer_that_fails_on_the_way_ends_with_the_right_file(
    cache, server, small, monkeypatch, faults, asked
):
    waits: list[int] = []
    monkeypatch.setattr(download, "_pause", lambda n: waits.append(n) or 0.0)
    for name, value in faults.items():
        setattr(server, name, value)
    if faults.get("changes"):
        server.files["/small.tar"], server.after_cut = small[::-1], {"/small.tar": small}
    fetch.fetch("small")
    assert [wanted for _, wanted in server.asked] == asked
    assert fetch.verify("small") == []
    if "statuses" in faults:
        assert waits == [1, 2, 3]


def test_the_next_run_goes_on_from_the_part_that_is_kept(cache, server, small, monkeypatch):
    server.cuts = [5000]
    monkeypatch.setattr(download, "_pause", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch("small")
    assert (cache / ".downloads" / "small" / "small.tar.part").stat().st_size == 5000
    assert not catalogue.available("small")
    fetch.fetch("small")
    assert server.asked[-1][1] == "bytes=5000-"
    assert fetch.verify("small") == []


PAGE = b"  \n<!DOCTYPE html><html>Please log in</html>" + b" " * 9000


@pytest.mark.parametrize(
    ("faults", "message", "requests"),
    [
        ({"statuses": [503] * 9}, r"503 Service Unavailable \(5 times in a row", 5),
        ({"statuses": [403]}, "403", 1),
        ({"body": PAGE}, "sent a web page instead of the file", 1),
        ({"kind": "text/html; charset=utf-8"}, "sent a web page instead of the file", 1),
        ({"length": 1}, r"has \d+ bytes, the published one has 1", 1),
        ({"body": b"something else"}, "does not match the known hash", 1),
    ],
)
def test_what_the_server_gives_instead_of_the_file_is_refused(
    cache, server, small, faults, message, requests
):
    offered(cache, server, small, bytes=faults.get("length"))
    server.files["/small.tar"] = faults.get("body", small)
    server.statuses, server.kind = faults.get("statuses", []), faults.get("kind", server.kind)
    with pytest.raises(DownloadError, match=message):
        fetch.fetch("small")
    assert not catalogue.available("small")
    assert len(server.asked) == requests


def test_pauses_double_up_to_half_a_minute():
    assert [download._pause(n) for n in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_wrong_file_is_refused_and_the_good_one_stays(cache, server, small):
    fetch.fetch("small")
    before = fetch.tree(cache / "small")
    server.files["/small.tar"] = tarred({"n01440764/evil.png": b"x"})
    with pytest.raises(DownloadError) as error:
        fetch.fetch("small", again=True)
    assert f"expected {sha256(small)}" in str(error.value)
    assert f"got {sha256(server.files['/small.tar']).removeprefix('sha256:')}" in str(error.value)
    assert "write the new one in small.yml" in str(error.value)
    assert fetch.tree(cache / "small") == before
    assert left(cache) == {".downloads", "small"}
    assert not list((cache / ".downloads" / "small").glob("*.tar"))


def test_a_file_without_a_published_hash_is_recorded_and_compared_ever_after(
    cache, server, small, tmp_path
):
    offered(cache, server, small, hash=None)
    fetch.fetch("small")
    recorded = yaml.safe_load((cache / "hashes.json").read_text())["small"]
    assert recorded["small.tar"] == sha256(small)
    server.files["/small.tar"] = tarred({"n01440764/other.png": b"x"})
    with pytest.raises(DownloadError, match=r"to accept a new version, remove 'small' from .*json"):
        fetch.fetch("small", again=True)
    (cache / "hashes.json").unlink()
    fetch.fetch("small", again=True)
    assert [p.name for p in (cache / "small").rglob("*.png")] == ["other.png"]


def test_the_content_is_what_counts_where_an_archive_is_packed_anew(cache, server, small, tmp_path):
    content = {f"top-1/{name}": body for name, body in pictures(tmp_path / "pictures").items()}
    tree = fetch.tree(tmp_path / "pictures")
    entry = {
        "name": "top.zip", "urls": [f"{server.url}/top.zip"], "hash": None, "only": "top-1",
    }  # fmt: skip
    write_manifest(cache, "top", files=[entry], tree=tree)
    server.files["/top.zip"] = zipped({**content, "top-2/not wanted.png": b"x"})
    fetch.fetch("top")
    assert {p.name for p in (cache / "top").iterdir()} == {"n01440764", "n01443537"}
    server.files["/top.zip"] = zipped(dict(reversed(content.items())))  # other bytes, same files
    fetch.fetch("top", again=True)
    server.files["/top.zip"] = zipped({**content, "top-1/n01440764/a.png": b"another"})
    with pytest.raises(DownloadError, match=f"expected tree {tree}"):
        fetch.fetch("top", again=True)
    assert fetch.verify("top") == []


def test_the_digest_of_a_folder_is_that_of_gits_blobs(tmp_path):
    pictures(tmp_path)
    (tmp_path / "empty.txt").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")
                   if ".git" not in p.parts)  # fmt: skip
    names = [n for n in names if not n.startswith(".git")]
    blobs = subprocess.run(
        ["git", "hash-object", *names], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    lines = "".join(f"{name} {blob}\n" for name, blob in zip(names, blobs, strict=True))
    assert len(names) == 4
    assert fetch.tree(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_mirrors_are_tried_in_order(cache, server, small):
    urls = [f"{server.url}/gone.tar", f"{server.url}/wrong.tar", f"{server.url}/small.tar"]
    server.files["/wrong.tar"] = b"something else"
    entry = {"name": "small.tar", "urls": urls, "hash": sha256(small)}
    write_manifest(cache, files=[entry])
    fetch.fetch("small")
    assert [path for path, _ in server.asked] == ["/gone.tar", "/wrong.tar", "/small.tar"]
    del server.files["/small.tar"]
    with pytest.raises(DownloadError) as error:
        fetch.fetch("small", again=True)
    for url, reason in zip(urls, ["404", "does not match the known hash", "404"], strict=True):
        assert any(url in line and reason in line for line in str(error.value).splitlines())


# --- archives ----------------------------------------------------------------------------------


def entry_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def members(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry)
    return out.getvalue()


def linked_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("a")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../out")
    return out.getvalue()


TARS = [
    (members(entry_of("../out.txt")), "leads out"),
    (members(entry_of("a/../../out.txt")), "leads out"),
    (members(entry_of("/tmp/vitlab-out.txt")), "leads out"),
    (members(entry_of("a", tarfile.SYMTYPE, "../../out")), "unsafe"),
    (members(entry_of("a", tarfile.SYMTYPE, "/etc")), "unsafe"),
    (members(entry_of("a", tarfile.LNKTYPE, "../out.txt")), "leads out"),
    (members(entry_of("a", tarfile.FIFOTYPE)), "is a device"),
    (members(entry_of("a", tarfile.CHRTYPE)), "is a device"),
    (
        members(entry_of("b", tarfile.DIRTYPE), entry_of("a", tarfile.SYMTYPE, "b"),
                entry_of("a/x.txt")),
        "goes through a link",
    ),
    (members(entry_of("b.txt"), entry_of("a", tarfile.SYMTYPE, "b.txt"), entry_of("a")),
     "goes through a link"),
]  # fmt: skip
ZIPS = [
    (zipped({"../out.txt": b"x"}), "leads out"),
    (zipped({"a/../../out.txt": b"x"}), "leads out"),
    (zipped({"/tmp/vitlab-out.txt": b"x"}), "leads out"),
    (zipped({"..\\out.txt": b"x"}), "leads out"),
    (linked_zip(), "is a link or a device"),
    (b"no zip at all", "damaged"),
    (zipped({"a.txt": b"x" * 999})[:-40], "damaged"),
    (zipped({}), "holds nothing"),
]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [*(("bad.tar", *case) for case in TARS), *(("bad.zip", *case) for case in ZIPS)],
)
def test_no_archive_writes_outside_of_its_folder(tmp_path, name, content, message):
    (tmp_path / "in").mkdir()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DownloadError, match=message):
        download.unpack(tmp_path / name, tmp_path / "in")
    assert {p.name for p in tmp_path.iterdir()} == {"in", name}
    assert not Path("/tmp/vitlab-out.txt").exists()


GOOD = tarred({f"{i}.txt": str(i).encode() * 700 for i in range(9)})
CRC = bytearray(gzip.compress(GOOD))
CRC[-5] ^= 1
HEADER = bytearray(GOOD)  # of the fourth member
HEADER[3 * (512 + 1024) + 10] ^= 1
PAX = b"1000000 comment=" + b"x" * 999_983 + b"\n"


def pax(n: int) -> bytes:
    """An archive whose first member has n extended headers of about a million bytes."""
    entry = entry_of("pax", tarfile.XHDTYPE)
    entry.size = len(PAX)
    padded = PAX + bytes(-len(PAX) % 512)
    return n * (entry.tobuf(tarfile.USTAR_FORMAT) + padded) + GOOD


def many_headers() -> bytes:
    entry = entry_of("pax", tarfile.XHDTYPE)
    entry.size = 11
    return 5000 * (entry.tobuf(tarfile.USTAR_FORMAT) + b"11 a=bcdef\n".ljust(512, b"\0")) + GOOD


def of_an_unknown_method() -> bytes:
    content = bytearray(zipped({"a.txt": b"x"}))
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + place] = 77
    return bytes(content)


DAMAGED = {
    "checksum.tar.gz": bytes(CRC),
    "without-end.tar.gz": gzip.compress(GOOD)[:-8],
    "length.tar.gz": gzip.compress(GOOD)[:-4] + b"\1\0\0\0",
    "half.tar.gz": gzip.compress(GOOD)[:100],
    "garbage.tar.gz": gzip.compress(GOOD) + b"garbage",
    "checksum.tar": bytes(HEADER),
    "between-members.tar": GOOD[: 3 * (512 + 1024)],
    "within-a-member.tar": GOOD[: 3 * (512 + 1024) + 900],
    "xz.tar": lzma.compress(GOOD)[:-20],
    "bz2.tar": bz2.compress(GOOD)[:-20],
    "empty.tar": b"",
    "empty.zip": b"",
    "large-header.tar.gz": gzip.compress(pax(3)),
    "many-headers.tar.gz": gzip.compress(many_headers()),
    "method.zip": of_an_unknown_method(),
    "a-file-for-a-folder.zip": zipped({"a": b"x", "a/b": b"x"}),
    "a-file-for-a-folder.tar": tarred({"a": b"x", "a/b": b"x"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_told_whatever_a_library_raises(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(DownloadError, match=name.replace(".", r"\.")):
        download.unpack(tmp_path / name, tmp_path / "in")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_whole_archive_is_unpacked_however_it_is_packed(tmp_path, pack):
    (tmp_path / "in").mkdir()
    (tmp_path / "good.tar").write_bytes(pack(GOOD))
    download.unpack(tmp_path / "good.tar", tmp_path / "in")
    assert len(list((tmp_path / "in").iterdir())) == 9


@pytest.mark.parametrize("name", ["checksum.tar.gz", "method.zip", "within-a-member.tar"])
def test_a_damaged_archive_leaves_nothing_behind(cache, server, name):
    offered(cache, server, DAMAGED[name], name, hash=None)
    with pytest.raises(DownloadError, match="damaged"):
        fetch.fetch("small")
    assert left(cache) == {".downloads"}
    assert not (cache / ".downloads" / "small" / name).exists()


def test_a_file_that_nothing_shows_to_be_whole_is_refused(cache, server, small):
    server.lengths = False
    offered(cache, server, small, hash=None)
    with pytest.raises(DownloadError, match="nothing would show that the file is whole"):
        fetch.fetch("small")
    offered(cache, server, small, hash=None, bytes=len(small))
    server.cuts = [400]
    assert fetch.fetch("small").is_dir(), "broken off, and gone on with: its length is known"
    assert fetch.verify("small") == []


@pytest.mark.parametrize("note", ["", "[]", '{"url"'])
def test_a_lost_note_of_a_transfer_costs_only_time(cache, server, small, note):
    server.cuts = [2000] * 20
    server.ranges = False
    with pytest.raises(DownloadError, match="broke off"):
        fetch.fetch("small")
    [path] = (cache / ".downloads" / "small").glob("*.part.json")
    path.write_text(note)
    server.cuts = []
    assert fetch.fetch("small").is_dir()


@pytest.mark.parametrize("text", ["", "[]", '{"small": 1}', '{"small": {'])
def test_damaged_records_of_hashes_are_named(cache, server, small, text):
    offered(cache, server, small, hash=None)
    fetch.fetch("small")
    (cache / "hashes.json").write_text(text)
    with pytest.raises(DataError, match=r"hashes\.json.*delete it"):
        fetch.verify("small")


def test_a_process_killed_amid_the_last_renames_loses_no_set(cache, server, small):
    place = fetch.fetch("small")
    place.rename(place.with_name(".old-small"))
    server.files.clear()
    assert fetch.fetch("small") == place
    assert fetch.verify("small") == []


def test_links_that_stay_inside_are_kept(tmp_path):
    (tmp_path / "in").mkdir()
    content = io.BytesIO(members(entry_of("d", tarfile.DIRTYPE), entry_of("d/b.txt")))
    with tarfile.open(fileobj=content, mode="a") as tar:
        tar.addfile(entry_of("a", tarfile.SYMTYPE, "d/b.txt"))
        tar.addfile(entry_of("c", tarfile.LNKTYPE, "d/b.txt"))
    (tmp_path / "good.tar").write_bytes(content.getvalue())
    download.unpack(tmp_path / "good.tar", tmp_path / "in")
    assert (tmp_path / "in" / "a").is_symlink()
    assert (tmp_path / "in" / "c").stat().st_nlink == 2


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_stopped_before_it_is_written(tmp_path, kind):
    (tmp_path / "in").mkdir()
    bomb = tmp_path / f"bomb.{kind}"
    zeros = {f"{i}.bin": b"\0" * 1_000_000 for i in range(5)}
    bomb.write_bytes(
        zipped(zeros, zipfile.ZIP_DEFLATED) if kind == "zip" else gzip.compress(tarred(zeros))
    )
    assert bomb.stat().st_size < 50_000
    with pytest.raises(DownloadError, match="unpacks to more than"):
        download.unpack(bomb, tmp_path / "in", cap=3_500_000)
    assert sum(p.stat().st_size for p in (tmp_path / "in").iterdir()) <= 3_500_000


def test_an_archive_that_escapes_leaves_no_set_behind(cache, server, small, tmp_path):
    bad = tarred({"n01440764/a.png": b"x", "../../../escaped.txt": b"x"})
    offered(cache, server, bad, hash=None)
    with pytest.raises(DownloadError, match="leads out"):
        fetch.fetch("small")
    assert not list(tmp_path.parent.rglob("escaped.txt"))
    assert left(cache) == {".downloads"}
    server.files["/small.tar"] = small  # mended by the publisher: nothing bad was remembered
    fetch.fetch("small")
    assert fetch.verify("small") == []


# --- disk, processes, kills --------------------------------------------------------------------


def full_disk(monkeypatch, module, from_byte: int) -> None:
    """Writing fails as on a full disk once `from_byte` bytes were written by `module`."""
    written = 0
    real = open

    def limited(path, mode="r", *rest, **more):
        file = real(path, mode, *rest, **more)
        if "b" not in mode or not ({"w", "a"} & set(mode)):
            return file
        write = file.write

        class Limited:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, content):
                nonlocal written
                written += len(content)
                if written > from_byte:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(content)

        return Limited()

    monkeypatch.setattr(module, "open", limited, raising=False)


def test_a_disk_that_fills_up_while_downloading_loses_nothing(cache, server, small, monkeypatch):
    fetch.fetch("small")
    before = fetch.tree(cache / "small")
    with monkeypatch.context() as context:
        full_disk(context, download, 6000)
        with pytest.raises(DownloadError, match=r"the disk of .* is full; nothing that was whole"):
            fetch.fetch("small", again=True)
    assert fetch.tree(cache / "small") == before
    part = cache / ".downloads" / "small" / "small.tar.part"
    assert 0 < part.stat().st_size <= 6000
    asked = len(server.asked)
    fetch.fetch("small", again=True)
    assert server.asked[asked:] == [("/small.tar", f"bytes={6000}-")]


def test_a_disk_that_fills_up_while_unpacking_leaves_the_old_set(
    cache, server, small, tmp_path, monkeypatch
):
    offered(cache, server, zipped(pictures(tmp_path / "pictures")), "small.zip")
    fetch.fetch("small")
    before = fetch.tree(cache / "small")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(download.shutil, "copyfileobj", full)
        with pytest.raises(DownloadError, match="is full"):
            fetch.fetch("small", again=True)
    assert fetch.tree(cache / "small") == before
    assert left(cache) == {".downloads", "small"}
    asked = len(server.asked)
    fetch.fetch("small", again=True)
    assert len(server.asked) == asked  # the download was whole and is used


def test_too_little_room_is_said_before_the_download(cache, server, small, monkeypatch):
    write_manifest(
        cache,
        files=[{"name": "small.tar", "urls": [f"{server.url}/small.tar"], "hash": sha256(small)}],
        size_gb=4_000_000,
    )
    with pytest.raises(
        DownloadError, match=r"not enough room to download and unpack small: 8000000"
    ):
        fetch.fetch("small")
    assert server.asked == []


def fetching(answers: multiprocessing.SimpleQueue) -> None:
    answers.put(str(fetch.fetch("small")))


@pytest.fixture
def start():
    """Start a process that fetches the set "small" as this one would."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def begin():
        process = context.Process(target=fetching, args=[answers], daemon=True)
        process.start()
        return process, answers

    return begin


def test_two_processes_that_fetch_the_same_set_download_it_once(
    cache, server, small, start, monkeypatch
):
    real = download._stream
    monkeypatch.setattr(download, "_stream", lambda *a: (time.sleep(1), real(*a)))
    for process, answers in [start(), start()]:
        process.join(60)
        assert process.exitcode == 0
        assert answers.get() == str(cache / "small")
    assert len(server.asked) == 1
    assert fetch.verify("small") == []


def test_a_process_killed_while_it_unpacks_leaves_no_half_set(
    cache, server, small, start, monkeypatch
):
    with monkeypatch.context() as context:
        context.setattr(download, "_check_parent", lambda *_: time.sleep(60))
        process, _ = start()
        deadline = time.monotonic() + 60
        while not (cache / ".small.new").exists():
            assert time.monotonic() < deadline
            assert process.is_alive()
            time.sleep(0.05)
        process.kill()
        process.join()
    assert not catalogue.available("small")
    fetch.fetch("small")
    assert len(server.asked) == 1  # the archive was whole and is used
    assert fetch.verify("small") == []
    assert left(cache) == {"small"}


# --- sets that are not downloaded --------------------------------------------------------------


def test_a_gated_set_is_explained_and_never_asked_for(cache, server, tmp_path):
    write_manifest(cache, "gated", access="form", licence="secret terms", images="val")
    for attempt in (fetch.fetch, catalogue.path, catalogue.check, data.load):
        with pytest.raises(DataError, match=r"secret terms.*Ask for it\. Then put the folder at"):
            attempt("gated")
    assert server.asked == []
    assert catalogue.table().set_index("name").loc["gated", "state"] == "by hand: form"
    pictures(tmp_path / "mine" / "val")
    cache.mkdir(exist_ok=True)
    (cache / "gated").symlink_to(tmp_path / "mine")
    assert catalogue.path("gated") == cache / "gated"
    assert catalogue.table().set_index("name").loc["gated", "state"] == "here"
    assert len(data.load("gated")) == 3
    assert fetch.verify("gated") == []  # records what is there
    (tmp_path / "mine" / "val" / "n01440764" / "a.png").unlink()
    assert "expected tree" in fetch.verify("gated")[0]


def test_a_set_that_is_gone_or_needs_a_browser_says_so(cache):
    write_manifest(cache, "lost", access="gone", homepage=None)
    write_manifest(cache, "drive")
    with pytest.raises(DataError, match="is no longer given out, or never was"):
        fetch.fetch("lost")
    with pytest.raises(DataError, match="cannot be fetched by a program"):
        fetch.fetch("drive")
    assert [m.state for m in catalogue.manifests().values()] == ["by hand", "gone"]


def test_the_offline_switch_keeps_from_the_network(cache, server, small, monkeypatch):
    monkeypatch.setenv("VITLAB_OFFLINE", "1")
    for attempt in (fetch.fetch, data.load):
        with pytest.raises(DataError, match="VITLAB_OFFLINE"):
            attempt("small")
    with pytest.raises(DataError, match="not here"):
        catalogue.check("small")
    assert server.asked == []


def test_what_is_missing_or_changed_is_found_by_verify(cache, server, small):
    place = fetch.fetch("small")
    (place / "n01443537" / "c.png").write_bytes(b"changed")
    (problem,) = fetch.verify("small")
    assert "expected tree" in problem
    (place / "n01443537" / "c.png").unlink()
    count, tree = fetch.verify("small")
    assert count == "2 images are here, 3 belong to it"
    assert "write the new one in small.yml" in tree


def test_sets_without_labels_or_with_their_own(cache, tmp_path):
    write_manifest(cache, "odd", classes="none")
    write_manifest(cache, "birds", classes="own", mapping="200 species")
    pictures(cache / "odd" / "part")
    pictures(cache / "birds")
    assert data.load("odd/part").classes == "new"
    assert data.load("odd/part").name == "odd/part"
    with pytest.raises(DataError, match=r"no folder 'prat'.*nearest: part"):
        data.load("odd/prat")
    assert data.load("birds").classes == "own"


def test_the_command_line(cache, server, small, capsys):
    write_manifest(cache, "gated", access="form")
    assert cli.main(["data", "path", "small"]) == 2
    assert "vitlab data fetch small" in capsys.readouterr().err
    assert cli.main(["data", "info", "smal"]) == 2
    assert "unknown image set 'smal'; nearest: small" in capsys.readouterr().err
    assert cli.main(["data", "fetch", "gated"]) == 2
    assert cli.main(["data", "fetch", "small"]) == 0
    assert cli.main(["data", "path", "small"]) == 0
    assert capsys.readouterr().out.split() == [str(cache / "small")] * 2
    assert cli.main(["data", "verify", "small"]) == 0
    assert cli.main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "small: all there" in out
    (row,) = [line for line in out.splitlines() if line.startswith("small ")]
    assert "here" in row
    assert "by hand: form" in out
    assert cli.main(["data", "info", "small"]) == 0
    assert sha256(small) in capsys.readouterr().out
    next((cache / "small").rglob("*.png")).unlink()
    assert cli.main(["data", "verify", "small"]) == 1
    server.statuses = [403]
    assert cli.main(["data", "fetch", "small", "--again"]) == 1


@pytest.mark.real
def test_the_real_cue_conflict_images_have_the_pinned_digest(real, root):
    pinned = catalogue.read(root / "data_manifests" / "cue-conflict.yml")
    assert fetch.tree(real / "cue-conflict") == pinned.tree

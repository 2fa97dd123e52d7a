"""Downloads go on where they broke off, and what is not what it should be never takes a file's place."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backline.packs import download as module
from backline.packs.download import Unavailable, download, file_name, listed_checksum, recorded_checksum, size
from backline.packs.official import OFFICIAL, find
from tests.support.file_server import FileServer, file_server

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["a.th"] = CONTENT
        yield running


def get(server: FileServer, file: Path, sha256: str = CHECKSUM) -> list[float]:
    shares: list[float] = []
    assert download(server.url("a.th"), file, len(CONTENT), sha256, shares.append) == CHECKSUM
    return shares


@pytest.mark.parametrize("known", [CHECKSUM, CHECKSUM[:8], ""])
def test_a_file_comes_whole_and_what_it_was_is_kept(server: FileServer, tmp_path: Path, known: str) -> None:
    file = tmp_path / "deep" / "a.th"
    assert recorded_checksum(file) == ""
    shares = get(server, file, known)
    assert file.read_bytes() == CONTENT
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert recorded_checksum(file) == CHECKSUM
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.th", "a.th.sha256"]


def test_what_broke_off_goes_on_where_it_was(server: FileServer, tmp_path: Path) -> None:
    server.breaks_after = 1_000_000
    get(server, tmp_path / "a.th")
    assert (tmp_path / "a.th").read_bytes() == CONTENT
    assert server.asked == [("a.th", None), ("a.th", "bytes=1000000-"), ("a.th", "bytes=2000000-")]


def test_what_breaks_off_for_good_goes_on_the_next_time(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.th.part").write_bytes(CONTENT[:2_500_000])
    server.breaks_after = 0
    with pytest.raises(Unavailable, match="broke off at 2500000 of 3000000 bytes: ask again"):
        get(server, tmp_path / "a.th")
    server.breaks_after = None
    get(server, tmp_path / "a.th")
    assert server.asked[-1] == ("a.th", "bytes=2500000-")


def test_a_server_that_knows_no_ranges_begins_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.th.part").write_bytes(b"x" * 2_500_000)
    server.knows_ranges = False
    get(server, tmp_path / "a.th")
    assert (tmp_path / "a.th").read_bytes() == CONTENT


def test_a_file_that_has_changed_meanwhile_begins_again(server: FileServer, tmp_path: Path) -> None:
    server.files["a.th"], server.tags["a.th"], server.breaks_after = b"y" * len(CONTENT), '"old"', 1_000_000
    file = tmp_path / "a.th"
    module._continue(server.url("a.th"), tmp_path / "a.th.part", len(CONTENT), lambda share: None)
    server.files["a.th"], server.tags["a.th"], server.breaks_after = CONTENT, '"new"', None
    get(server, file, "")
    assert file.read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.th", "a.th.sha256"]


def test_something_else_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=rf"gave something else \(sha256 {CHECKSUM[:12]}"):
        get(server, tmp_path / "a.th", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_looked_at_and_not_asked_for(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.th").write_bytes(CONTENT)
    get(server, tmp_path / "a.th", CHECKSUM[:8])
    assert server.asked == []
    with pytest.raises(Unavailable, match=r"is something else .*: remove it"):
        get(server, tmp_path / "a.th", "0" * 64)
    assert (tmp_path / "a.th").read_bytes() == CONTENT


def test_a_full_disk_is_told_before(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE", 1 << 60)
    with pytest.raises(Unavailable, match=r"GB left for a file of 0.0 GB: make room"):
        get(server, tmp_path / "a.th")
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/a.th", "https://x/", "https://x/..", "https://x/%2e%2e", "https://x/a%00b", "a.th"],
)
def test_what_is_no_address_of_a_file_is_refused(url: str) -> None:
    with pytest.raises(Unavailable, match="no address of a file"):
        file_name(url)


def test_what_cannot_be_had_says_why(server: FileServer) -> None:
    with pytest.raises(Unavailable, match="answers 404"):
        size(server.url("b.th"))
    server.files["empty.th"] = b""
    with pytest.raises(Unavailable, match="does not say how long it is"):
        size(server.url("empty.th"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        size("http://127.0.0.1:1/a.th")


def test_a_publishers_list_is_read_and_believed_only_where_it_lists_checksums(server: FileServer) -> None:
    server.files["checksum.json"] = b'{"2stems": "' + CHECKSUM.encode() + b'", "4stems": "?", "5stems": 3}'
    assert listed_checksum(server.url("checksum.json"), "2stems") == CHECKSUM
    for key in ("4stems", "5stems", "6stems"):
        with pytest.raises(Unavailable, match=f"does not list a SHA-256 of {key}"):
            listed_checksum(server.url("checksum.json"), key)


def test_the_table_is_sound() -> None:
    assert len({each.name for each in OFFICIAL}) == len({each.file for each in OFFICIAL}) == len(OFFICIAL)
    for each in OFFICIAL:
        assert not each.url or file_name(each.url) == each.file
        assert each.url.startswith("https://") or not each.url
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}|", each.sha256)
        assert bool(each.importer) != bool(each.command)
        assert each.license
        assert each.source


def test_a_mirror_is_known_by_the_files_name() -> None:
    found, url = find("https://mirror.example/here/955717e8-8726e21a.th")
    assert (found.name, url) == ("htdemucs", "https://mirror.example/here/955717e8-8726e21a.th")
    with pytest.raises(Unavailable, match=r"model.th is no official checkpoint: .*955717e8-8726e21a.th"):
        find("https://mirror.example/model.th")
    with pytest.raises(Unavailable, match=r"'htdemux': use an address, or encodec, "):
        find("htdemux")
    with pytest.raises(Unavailable, match="give its address instead of its name"):
        find("hcodec")

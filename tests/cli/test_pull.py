"""`backline packs pull`: terms first, then a verified download, then a pack."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backline.packs import official
from backline.packs.registry import PackRegistry
from tests.cli.test_commands import Backline
from tests.support.file_server import FileServer, file_server
from tests.support.spleeter_checkpoint import references, write_archive, write_tensorflow


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("deezer")
    return write_archive(folder / "5stems.tar.gz", write_tensorflow(folder / "model", references(5))).read_bytes()


@pytest.fixture
def server(archive: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """Stands for the addresses of the table, and has this test's user's packs elsewhere."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with file_server() as running:
        running.files["5stems.tar.gz"] = archive
        running.files["checksum.json"] = json.dumps({"5stems": hashlib.sha256(archive).hexdigest()}).encode()
        running.files["hubert_fairseq_large_ll60k.pth"] = b"HuBERT"
        table = [
            replace(
                each,
                url=each.url and running.url(each.file),
                index=each.index and running.url("checksum.json"),
            )
            for each in official.OFFICIAL
        ]
        monkeypatch.setattr(official, "OFFICIAL", table)
        yield running


def test_after_agreement_a_verified_download_becomes_a_pack(
    backline: Backline, server: FileServer, archive: bytes, tmp_path: Path
) -> None:
    server.breaks_after = len(archive) * 2 // 3  # it goes on by itself
    said = backline("packs", "pull", "spleeter-5stems", "--yes")
    assert said.code == 0, said.err
    for text in ("Spleeter, 5 stems", "licence: MIT", hashlib.sha256(archive).hexdigest(), "deezer/spleeter"):
        assert text in said.out
    assert "unverified" not in said.out + said.err
    (entry,) = [entry for entry in PackRegistry().entries() if entry.name == "spleeter-5stems"]
    assert entry.folder == tmp_path / "data" / "backline" / "packs" / "spleeter-5stems"
    assert entry.spec is not None
    assert [port.name for port in entry.spec.ports] == ["vocals", "drums", "bass", "other", "piano"]


def test_without_agreement_nothing_is_downloaded(backline: Backline, server: FileServer, tmp_path: Path) -> None:
    said = backline("packs", "pull", "spleeter-5stems")
    assert said.code == 1
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("5stems*"))


def test_a_file_that_is_not_the_published_one_makes_no_pack(
    backline: Backline, server: FileServer, tmp_path: Path
) -> None:
    server.files["5stems.tar.gz"] = server.files["5stems.tar.gz"][:-1] + b"x"
    said = backline("packs", "pull", "spleeter-5stems", "--yes")
    assert said.code == 1
    assert "gave something else" in said.err
    assert not list(tmp_path.rglob("pack.toml"))


def test_where_no_checksum_is_published_the_first_download_is_the_measure(
    backline: Backline, server: FileServer, tmp_path: Path
) -> None:
    name = "hubert_fairseq_large_ll60k.pth"
    said = backline("packs", "pull", "hubert-large", "--yes", "--folder", tmp_path / "kept")
    assert said.code == 0, said.err
    checksum = hashlib.sha256(b"HuBERT").hexdigest()
    assert f"unverified: sha256 {checksum} is kept" in said.err
    assert f"backline packs import hafm --hubert {tmp_path / 'kept' / name}" in said.out

    (tmp_path / "kept" / name).unlink()
    said = backline("packs", "pull", "hubert-large", "--yes", "--folder", tmp_path / "kept")
    assert said.code == 0, said.err
    assert f"sha256: {checksum} (of the first download here)" in said.out
    assert "unverified" not in said.out + said.err

    (tmp_path / "kept" / name).unlink()
    server.files[name] = b"Hubert"
    said = backline("packs", "pull", "hubert-large", "--yes", "--folder", tmp_path / "kept")
    assert said.code == 1
    assert "gave something else" in said.err


def test_another_address_is_taken_for_the_same_file_only(backline: Backline, server: FileServer) -> None:
    said = backline("packs", "pull", server.url("5stems.tar.gz"), "--yes")
    assert said.code == 0, said.err
    said = backline("packs", "pull", server.url("any.th"), "--yes")
    assert said.code == 1
    assert "any.th is no official checkpoint" in said.err

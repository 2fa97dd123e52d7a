"""corpus.json is the work of a stranger: read whole and checked, or refused with a reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backline.corpus.corpus import Corpus
from backline.corpus.manifest import CorpusError, read_manifest, safe_name
from tests.support.corpora import noises, write_corpus, write_song


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    song = write_song(tmp_path, "Song", noises("vocals", "drums", seconds=0.1), failing={"silence": ((0.0, 0.05),)})
    write_corpus(tmp_path, song, write_song(tmp_path, "Other", noises("bass", seconds=0.1)))
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    said = json.loads((folder / "corpus.json").read_text())
    edit(said)
    (folder / "corpus.json").write_text(json.dumps(said))


def test_what_is_written_is_read(corpus: Path) -> None:
    song = read_manifest(corpus).songs[0]
    assert (song.id, song.title, song.samples, song.licence) == ("song", "Song", 4_800, "")
    assert [(stem.name, stem.label, stem.channels, stem.separator) for stem in song.stems] == [
        ("vocals", "vocals", 2, ""),
        ("drums", "drums", 2, ""),
    ]
    assert song.failing == {"silence": ((0.0, 0.05),)}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["songs"][0].update(id="../../etc"), r"\$.songs\[0\].id"),
        (lambda c: c["songs"][0].update(id="/etc"), r"\$.songs\[0\].id"),
        (lambda c: c["songs"][0].update(id="con"), "'con' is no name that a file may have"),
        (lambda c: c["songs"][0].update(id="other"), "two songs have the id 'other'"),
        (lambda c: c["songs"][0]["stems"][0].update(name="../x"), r"stems\[0\].name"),
        (lambda c: c["songs"][0]["stems"][0].update(name="drums"), "two stems of song 'song' have the name 'drums'"),
        (lambda c: c["songs"][0]["stems"][0].update(path="/etc/passwd"), "unknown field `path`"),
        (lambda c: c["songs"][0]["stems"][0].update(channels=10**9), "channels"),
        (lambda c: c["songs"][0]["stems"][0].update(scale=0), "scale"),
        (lambda c: c["songs"][0].update(samples=10**30), "samples"),
        (lambda c: c["songs"][0].update(samples=True), "samples"),
        (lambda c: c["songs"][0].update(split="exam"), "split"),
        (lambda c: c["songs"][0].update(title="a\nb"), "title"),
        (lambda c: c["songs"][0].update(stems=[]), "stems"),
        (lambda c: c["songs"][0]["failing"].update(silence=[[0, 1, 2]]), "failing"),
        (lambda c: c["songs"][0]["failing"].update(silence=[[-1, 1]]), "failing"),
        (lambda c: c.update(format=2), "format"),
        (lambda c: c.pop("seed"), "seed"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(
    corpus: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(corpus, edit)
    with pytest.raises(CorpusError, match=said):
        Corpus.open(corpus)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": NaN}', "\ud800"])
def test_what_is_no_manifest_is_refused(corpus: Path, text: str) -> None:
    (corpus / "corpus.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorpusError, match="damaged"):
        Corpus.open(corpus)


def test_what_is_no_file_is_refused_and_nobody_waits(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="backline data prepare"):
        Corpus.open(tmp_path)
    os.mkfifo(tmp_path / "corpus.json")
    with pytest.raises(CorpusError, match="no plain file"):
        Corpus.open(tmp_path)


def test_names_of_files_are_safe() -> None:
    assert safe_name("../../Étude № 7 (live)") == "tude-7-live"
    assert safe_name("con") == "con-1"
    assert safe_name("☃") == "song"
    assert len(safe_name("a" * 500)) == 40

"""A Spleeter from its checkpoint on the command line: imported, shown, rendered with, played live, and for a corpus."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.corpus.corpus import Corpus
from tests.cli.test_commands import Backline
from tests.support.spleeter_checkpoint import references, write_tensorflow

RATE = 44_100
TRACKS = ["bass", "drums", "other", "piano", "vocals"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tensorflow(tmp_path_factory.mktemp("deezer") / "5stems", references(5))


@pytest.fixture
def packs(backline: Backline, checkpoint: Path, tmp_path: Path) -> Path:
    said = backline("packs", "import", "spleeter", checkpoint, "-o", tmp_path / "packs" / "five", "--window", 128)
    assert said.code == 0, said.err
    assert "pack spleeter-5stems written to" in said.out
    return tmp_path / "packs"


@pytest.fixture
def song(tmp_path: Path) -> Path:
    file = tmp_path / "songs" / "song.wav"
    file.parent.mkdir()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal((3 * RATE, 2)), RATE, subtype="FLOAT")
    return file


def test_what_it_plays_is_shown(backline: Backline, packs: Path) -> None:
    said = backline("packs", "show", "spleeter-5stems", "--packs", packs)
    assert said.code == 0, said.err
    assert "vocals (the vocals of the mixture), drums" in said.out
    assert "chunk: 1.48608 s" in said.out


@pytest.mark.slow
def test_a_song_is_rendered_to_stems_that_sum_to_it(
    backline: Backline, packs: Path, song: Path, tmp_path: Path
) -> None:
    said = backline("render", song, "-o", f"{tmp_path}/stems/", "-p", "spleeter-5stems", "--packs", packs)
    assert said.code == 0, said.err
    stems = {path.stem: soundfile.read(path)[0] for path in (tmp_path / "stems").iterdir()}
    assert sorted(stems) == TRACKS
    assert np.abs(sum(stems.values()) - soundfile.read(song)[0]).max() < 1e-4
    assert min(np.abs(stem).max() for stem in stems.values()) > 0.005


@pytest.mark.slow
@pytest.mark.paced
def test_a_song_is_played_live(backline: Backline, packs: Path, song: Path, tmp_path: Path) -> None:
    said = backline(
        *("live", "--input", song, "--output", f"{tmp_path}/stems/", "--pack", "spleeter-5stems", "--packs", packs),
        *("--jitter-buffer", 2.0),
    )
    assert said.code == 0, said.err
    assert sorted(path.stem for path in (tmp_path / "stems").iterdir()) == TRACKS


@pytest.mark.slow
def test_songs_are_separated_for_a_corpus(backline: Backline, packs: Path, song: Path, tmp_path: Path) -> None:
    said = backline(
        *("data", "prepare", song.parent, "-o", tmp_path / "corpus", "--split", "test", "--jobs", 1),
        *("--separator", "spleeter-5stems", "--packs", packs, "--device", "cpu"),
    )
    assert said.code == 0, said.err
    (entry,) = Corpus.open(tmp_path / "corpus").songs("test")
    assert sorted(set(entry.labels.values())) == sorted([*TRACKS, "mix"])

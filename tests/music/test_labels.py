"""What is written beside a song is what was composed, readable by the field's tools."""

import json
from pathlib import Path
from struct import unpack

import mir_eval
import numpy as np
import pytest
import soundfile

from backline.music.labels import beats, write_song
from backline.music.midi import TICKS, midi_file
from backline.music.piece import ChordSpan, Note, Piece, Section
from backline.music.songs import Song
from backline.music.theory import Chord, Key, Metre
from backline.music.world import MEZZO, PARTS, Band

NOISE = np.random.default_rng(0).normal(0, 0.1, (5, 48_000)).astype(np.float32)


@pytest.fixture
def song() -> Song:
    """Two bars of 6/8 at 90 quarter notes a minute, 4 s in all: C, then G7; one sung note, one of the bass."""
    chords = (ChordSpan(0, 3, Chord(0, "maj")), ChordSpan(3, 3, Chord(7, "7")))
    parts: dict[str, tuple[Note, ...]] = dict.fromkeys(PARTS, ()) | {"bass": (Note(1.5, 1.5, 36, 90),)}
    piece = Piece(
        7, Key(0, "major"), 90.0, Metre(6, 8), 2, Band(pad=None), MEZZO, (Section("verse", 0, 2),), chords,
        (Note(3, 0.75, 67, 80, "la"),), parts,
    )  # fmt: skip
    return Song(piece, 12_000, NOISE[0], NOISE[1:].sum(0), dict(zip(PARTS, NOISE[1:], strict=True)))


def test_mir_eval_reads_chords_sections_and_beats(song: Song, tmp_path: Path) -> None:
    write_song(song, tmp_path)
    spans, chords = mir_eval.io.load_labeled_intervals(tmp_path / "chords.lab")
    np.testing.assert_allclose(spans, [[0, 2], [2, 4]])
    assert chords == ["C:maj", "G:7"]
    mir_eval.chord.encode_many(chords)
    assert mir_eval.io.load_labeled_intervals(tmp_path / "sections.lab")[1] == ["verse"]
    times, numbers = mir_eval.io.load_labeled_events(tmp_path / "beats.lab")
    np.testing.assert_allclose(times, [0, 1, 2, 3])
    assert numbers == ["1", "2", "1", "2"]


def test_the_json_holds_everything_in_seconds(song: Song, tmp_path: Path) -> None:
    write_song(song, tmp_path)
    labels = json.loads((tmp_path / "labels.json").read_text())
    facts = {"seed": 7, "style": "plain", "key": "C major", "tempo": 90, "metre": "6/8", "bars": 2, "seconds": 4}
    assert facts.items() <= labels.items()
    assert labels["downbeats"] == [0, 2]
    assert labels["notes"]["vocal"] == [{"begin": 2, "end": 2.5, "pitch": 67, "velocity": 80, "syllable": "la"}]
    assert labels["notes"]["bass"] == [{"begin": 1, "end": 2, "pitch": 36, "velocity": 90}]


def test_audio_files_hold_the_mix_and_the_stems_that_play(song: Song, tmp_path: Path) -> None:
    paths = write_song(song, tmp_path)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert {path.stem for path in tmp_path.glob("*.flac")} == {"mix", "vocal", "accompaniment", "bass"}
    mix, rate = soundfile.read(tmp_path / "mix.flac")
    assert rate == 12_000
    np.testing.assert_allclose(mix, song.mix, atol=2**-22)


def test_the_midi_file_holds_tempo_metre_and_notes(song: Song) -> None:
    midi = midi_file(song.piece)
    kind, tracks, ticks = unpack(">HHH", midi[8:14])
    assert (midi[:4], kind, tracks, ticks) == (b"MThd", 1, 5, TICKS)  # no pad: conductor, three players, singer
    chunks, rest = [], midi[14:]
    while rest:
        assert rest[:4] == b"MTrk"
        length = unpack(">I", rest[4:8])[0]
        chunks.append(rest[8 : 8 + length])
        rest = rest[8 + length :]
    assert len(chunks) == tracks
    assert b"\xff\x51\x03" + (666_667).to_bytes(3, "big") in chunks[0]
    assert b"\xff\x58\x04\x06\x03" in chunks[0]
    # 720 ticks of rest (0x85 0x50 as a variable-length quantity), note on, as many of sound, note off.
    assert b"\x85\x50\x91\x24\x5a\x85\x50\x81\x24\x00" in chunks[2]


def test_beats_of_four_four_number_the_bar(song: Song) -> None:
    object.__setattr__(song.piece, "metre", Metre(4))
    assert [number for _, number in beats(song.piece)] == [1, 2, 3, 4, 1, 2, 3, 4]

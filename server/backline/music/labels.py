"""Writes a song as files: audio, stems, a MIDI file, and what is true of it as JSON and as .lab files.

The .lab files are what the field's tools (mir_eval, Sonic Visualiser) read: tab-separated seconds and a label, chords
in the notation of Harte et al. (ISMIR 2005).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from backline.music.midi import midi_file
from backline.music.piece import Note, Piece
from backline.music.songs import Song
from backline.whole_file import whole_file


def write_song(song: Song, folder: Path) -> list[Path]:
    """Writes mix, vocal, accompaniment and every stem that plays as FLAC, labels and notes; the paths, audio first."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {"mix": song.mix, "vocal": song.vocal, "accompaniment": song.accompaniment}
    sounds |= {part: stem for part, stem in song.stems.items() if song.piece.parts[part]}
    written = []
    for name, sound in sounds.items():
        written.append(folder / f"{name}.flac")
        coded = io.BytesIO()  # libsndfile would not say that a disk is full
        soundfile.write(coded, sound, song.sample_rate, subtype="PCM_24", format="FLAC")
        with whole_file(written[-1]) as fresh:
            fresh.write_bytes(coded.getvalue())
    texts = {
        "labels.json": json.dumps(labels(song), indent=1) + "\n",
        "chords.lab": _lab(chord_spans(song.piece)),
        "sections.lab": _lab(section_spans(song.piece)),
        "beats.lab": "".join(f"{second:.6f}\t{number}\n" for second, number in beats(song.piece)),
    }
    for name, text in texts.items():
        with whole_file(folder / name) as fresh:
            fresh.write_text(text, encoding="utf-8")
        written.append(folder / name)
    with whole_file(folder / "notes.mid") as fresh:
        fresh.write_bytes(midi_file(song.piece))
    return [*written, folder / "notes.mid"]


def labels(song: Song) -> dict[str, Any]:
    """Everything that is true of a song, times in seconds. Notes are as written: the singer glides, drums ring on."""
    piece = song.piece
    return {
        "seed": piece.seed,
        "style": piece.style,
        **({"tune": piece.tune} if piece.tune else {}),
        "key": piece.key.name,
        "tempo": piece.tempo,
        "metre": piece.metre.name,
        "bars": piece.bars,
        "seconds": piece.seconds,
        "sample_rate": song.sample_rate,
        "programmes": {
            "drums": piece.band.kit,
            **{part: getattr(piece.band, part) for part in ("bass", "comp", "pad")},
        },
        "sections": [_span(*span) for span in section_spans(piece)],
        "chords": [_span(*span) for span in chord_spans(piece)],
        "beats": [second for second, _ in beats(piece)],
        "downbeats": [second for second, number in beats(piece) if number == 1],
        "notes": {
            "vocal": [_note(note, piece) | {"syllable": note.syllable} for note in piece.melody],
            **{part: [_note(note, piece) for note in notes] for part, notes in piece.parts.items()},
        },
    }


def chord_spans(piece: Piece) -> list[tuple[float, float, str]]:
    """(begin, end, chord) in seconds and Harte's notation, without gaps."""
    second = piece.seconds_per_beat
    return [(span.start * second, (span.start + span.length) * second, span.chord.harte) for span in piece.chords]


def section_spans(piece: Piece) -> list[tuple[float, float, str]]:
    """(begin, end, name) in seconds, without gaps."""
    bar = piece.beats_per_bar * piece.seconds_per_beat
    return [(s.first_bar * bar, (s.first_bar + s.bars) * bar, s.name) for s in piece.sections]


def beats(piece: Piece) -> list[tuple[float, int]]:
    """(seconds, number within the bar, from 1) of each beat as one taps it: two to a bar of 6/8."""
    pulse = piece.metre.pulse
    per_bar = round(piece.beats_per_bar / pulse)
    positions = np.arange(round(piece.beats / pulse))
    return [(float(tap * pulse * piece.seconds_per_beat), int(tap % per_bar) + 1) for tap in positions]


def _lab(spans: list[tuple[float, float, str]]) -> str:
    return "".join(f"{begin:.6f}\t{end:.6f}\t{label}\n" for begin, end, label in spans)


def _span(begin: float, end: float, label: str) -> dict[str, Any]:
    return {"begin": round(begin, 6), "end": round(end, 6), "label": label}


def _note(note: Note, piece: Piece) -> dict[str, Any]:
    begin, length = note.start * piece.seconds_per_beat, note.length * piece.seconds_per_beat
    return {"begin": round(begin, 6), "end": round(begin + length, 6), "pitch": note.pitch, "velocity": note.velocity}

"""A piece as a standard MIDI file: one track for each part and the singer, with tempo, metre and key."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from backline.music.piece import Note, Piece
from backline.music.world import PARTS

TICKS = 480  # to the quarter note
_DRUM_CHANNEL = 9
_VOICE_CHANNEL, _VOICE_PROGRAMME = 4, 53  # General MIDI's "Voice Oohs"
# Sharps of the major keys from C upwards by semitones; flats are negative.
_SHARPS = (0, -5, 2, -3, 4, -1, -6, 1, -4, 3, -2, 5)


def midi_file(piece: Piece) -> bytes:
    """The piece as a file of format 1: the first track holds tempo, metre and key."""
    metre, minor = piece.metre, piece.key.mode == "minor"
    sharps = _SHARPS[(piece.key.tonic + (3 if minor else 0)) % 12]
    conductor = [
        (0, b"\xff\x51\x03" + round(60_000_000 / piece.tempo).to_bytes(3, "big")),
        (0, b"\xff\x58\x04" + bytes([metre.numerator, metre.denominator.bit_length() - 1, 24, 8])),
        (0, b"\xff\x59\x02" + pack(">bB", sharps, minor)),
    ]
    tracks = [_track("conductor", conductor, piece)]
    for channel, part in enumerate(PARTS):
        programme = piece.band.kit if part == "drums" else getattr(piece.band, part)
        if programme is not None:
            midi_channel = _DRUM_CHANNEL if part == "drums" else channel
            tracks.append(_track(part, _events(piece.parts[part], midi_channel, programme), piece))
    tracks.append(_track("vocal", _events(piece.melody, _VOICE_CHANNEL, _VOICE_PROGRAMME), piece))
    return b"MThd" + pack(">IHHH", 6, 1, len(tracks), TICKS) + b"".join(tracks)


def _events(notes: Sequence[Note], channel: int, programme: int) -> list[tuple[int, bytes]]:
    """(tick, message) in time; ends come before starts of the same tick, so that a repeated note sounds again."""
    events = [(0, 0, bytes([0xC0 | channel, programme]))]
    for note in notes:
        start, end = round(note.start * TICKS), round((note.start + note.length) * TICKS)
        events.append((start, 2, bytes([0x90 | channel, note.pitch, note.velocity])))
        events.append((max(end, start + 1), 1, bytes([0x80 | channel, note.pitch, 0])))
    return [(tick, message) for tick, _, message in sorted(events)]


def _track(name: str, events: Sequence[tuple[int, bytes]], piece: Piece) -> bytes:
    """A track chunk from messages in time, as long as the piece."""
    body = b"\x00\xff\x03" + bytes([len(name)]) + name.encode()
    position = 0
    for tick, message in events:
        body += _length(tick - position) + message
        position = tick
    body += _length(max(0, piece.beats * TICKS - position)) + b"\xff\x2f\x00"
    return b"MTrk" + pack(">I", len(body)) + body


def _length(ticks: int) -> bytes:
    """A MIDI variable-length quantity: seven bits a byte, the highest bit set on all but the last."""
    septets = [ticks & 0x7F]
    while ticks := ticks >> 7:
        septets.append(0x80 | ticks & 0x7F)
    return bytes(reversed(septets))

"""What a CLAP host tells a plugin at a sample of a block: parameters, notes, MIDI, the transport."""

from __future__ import annotations

import ctypes

from tests.plugin import clap_abi as abi

Event = abi.ParamValueEvent | abi.NoteEvent | abi.MidiEvent | abi.TransportEvent


def parameter(identifier: int, value: float, time: int = 0, space: int = abi.CORE_SPACE) -> abi.ParamValueEvent:
    return abi.ParamValueEvent(
        _header(abi.ParamValueEvent, abi.PARAM_VALUE, time, space), identifier, None, -1, -1, -1, -1, value
    )


def note(kind: int, key: int, velocity: float = 0.8, channel: int = 0, time: int = 0) -> abi.NoteEvent:
    return abi.NoteEvent(_header(abi.NoteEvent, kind, time), -1, 0, channel, key, velocity)


def midi(message: bytes, time: int = 0, port: int = 0) -> abi.MidiEvent:
    return abi.MidiEvent(_header(abi.MidiEvent, abi.MIDI, time), port, (ctypes.c_uint8 * 3)(*message))


def transport(song_position: float, tempo: float = 120.0, playing: bool = True, time: int = 0) -> abi.TransportEvent:
    """Four-four time; `song_position` in quarter notes."""
    flags = abi.HAS_TEMPO | abi.HAS_BEATS | abi.HAS_SECONDS | abi.HAS_SIGNATURE | (abi.IS_PLAYING if playing else 0)
    bar = int(song_position // 4)
    return abi.TransportEvent(
        _header(abi.TransportEvent, abi.TRANSPORT, time),
        flags,
        song_pos_beats=round(song_position * abi.BEATTIME_FACTOR),
        song_pos_seconds=round(song_position * 60 / tempo * abi.SECTIME_FACTOR),
        tempo=tempo,
        bar_start=4 * bar * abi.BEATTIME_FACTOR,
        bar_number=bar,
        tsig_num=4,
        tsig_denom=4,
    )


def _header(kind: type[ctypes.Structure], number: int, time: int, space: int = abi.CORE_SPACE) -> abi.EventHeader:
    return abi.EventHeader(ctypes.sizeof(kind), time, space, number, 0)

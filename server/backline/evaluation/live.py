"""Plays whole recordings through a pack's stream as an engine would, chunk by chunk, as fast as it goes.

    stream = load_stream(read_pack(folder))
    bands = play(stream, [Take(song.vocal, seed=1, transports=(song_transport(song.piece),))], 24_000, setting)

What comes out lies under what went in: sample 0 answers sample 0, and the end is cut or filled to the same length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from backline.engine.timeline import OutputTimeline
from backline.models.rows import sounding, whole_chunks
from backline.models.stream import ChunkInput, ChunkOutput, Notes, SessionConfig, Stream, StreamSpec, Transport
from backline.music.piece import Piece

Sound = NDArray[np.float32]  # [sample]

SONG_RATE = 24_000  # Hz, for streams that play at any rate
SILENCE_LIMIT_SECONDS = 120  # of input past a recording's end within which a stream must have answered all of it


@dataclass(frozen=True)
class Setting:
    """How a session plays."""

    chunk_seconds: Fraction
    visibility_seconds: float
    transport: bool = True  # whether the host tells the beat
    key: bool = False  # whether the user tells the key, to packs that take one
    notes: bool = False  # whether the user holds the chords on a keyboard, for packs that take notes
    parameters: Mapping[str, float] = field(default_factory=dict)  # the others are the pack's defaults


@dataclass(frozen=True)
class Take:
    """One recording that a session of its own accompanies."""

    voice: Sound
    seed: int
    transports: tuple[Transport, ...] = ()  # by `at_seconds`
    key: int = 0  # what a pack's parameter of that name is to be where it is told; 0 is unknown
    notes: tuple[tuple[float, bytes], ...] = ()  # seconds and MIDI messages, in order: the chords as they are held


def default_setting(spec: StreamSpec) -> Setting:
    """The setting that a session gets which asks for nothing."""
    chunk = spec.default_chunk_seconds
    return Setting(chunk, spec.visibility(chunk))


def check_setting(spec: StreamSpec, setting: Setting) -> None:
    """Refuses what an engine would refuse.

    Raises:
        ValueError: names the value and the range.
    """
    chunk, quantum = setting.chunk_seconds, spec.chunk_quantum_seconds
    if not 0 < chunk <= spec.maximum_chunk_seconds or chunk % quantum:
        raise ValueError(
            f"chunk is {float(chunk):g} s: use multiples of {float(quantum):g} s up to "
            f"{float(spec.maximum_chunk_seconds):g} s"
        )
    if not spec.minimum_visibility_seconds <= setting.visibility_seconds <= spec.latest_visibility(chunk):
        raise ValueError(
            f"visibility is {setting.visibility_seconds:g} s: use {spec.minimum_visibility_seconds:g} s to "
            f"{spec.latest_visibility(chunk):g} s with chunks of {float(chunk):g} s"
        )
    known = {parameter.name: parameter for parameter in spec.parameters}
    for name, value in setting.parameters.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r} in this pack: use {', '.join(known) or 'none'}")
        known[name].check(value)


def song_rate(spec: StreamSpec) -> int:
    """Hz at which to render songs for a stream, so that nothing that it plays is resampled."""
    return spec.output_rate or SONG_RATE


def piece_transport(piece: Piece, at_seconds: float = 0.0) -> Transport:
    """What a host says that plays `piece` from its beginning, begun at `at_seconds` of the session."""
    metre = piece.metre
    return Transport(at_seconds, True, piece.tempo, numerator=metre.numerator, denominator=metre.denominator)


def piece_take(piece: Piece, voice: Sound, seed: int) -> Take:
    """The voice of a piece, with what a host knows of it."""
    key = 1 + piece.key.tonic + 12 * (piece.key.mode == "minor")
    return Take(voice, seed, (piece_transport(piece),), key, tuple(held_chords(piece)))


def held_chords(piece: Piece) -> Iterator[tuple[float, bytes]]:
    """Seconds and MIDI messages of somebody who holds the piece's chords around middle C, each until the next."""
    before: list[int] = []
    for span in piece.chords:
        pitches = [48 + span.chord.root, *(60 + pitch for pitch in span.chord.pitch_classes[1:])]
        offs = b"".join(bytes([0x80, pitch, 0]) for pitch in before)
        yield float(span.start) * piece.seconds_per_beat, offs + b"".join(bytes([0x90, p, 80]) for p in pitches)
        before = pitches


def play(
    stream: Stream,
    takes: Sequence[Take],
    sample_rate: int,
    setting: Setting,
    on_seconds: Callable[[float], None] = lambda seconds: None,
) -> list[Sound]:
    """What the stream's first port plays to each take, mixed to mono: [take][sample], each as long as its voice.

    As `play_ports`, of which it is a part.
    """
    port = stream.spec.ports[0].name
    return [sounds[port] for sounds in play_ports(stream, takes, sample_rate, setting, on_seconds)]


def play_ports(
    stream: Stream,
    takes: Sequence[Take],
    sample_rate: int,
    setting: Setting,
    on_seconds: Callable[[float], None] = lambda seconds: None,
) -> list[dict[str, Sound]]:
    """What every port plays to each take, mixed to mono: [take], by port [sample], each as long as its voice.

    Args:
        sample_rate: of voices and results, Hz.
        on_seconds: told how many seconds have been played since it was told before; takes of a batch add up.
    Raises:
        RuntimeError: the stream does not come to an end.
    """
    played: list[dict[str, Sound]] = []
    for first in range(0, len(takes), stream.capacity):
        players: list[_Player] = []
        try:
            for take in takes[first : first + stream.capacity]:
                players.append(_Player(stream, take, sample_rate, setting))
            while playing := [player for player in players if not player.done]:
                for player, answer in zip(
                    playing, whole_chunks(stream, [one.next_input() for one in playing]), strict=True
                ):
                    player.hear(sounding(answer))
                on_seconds(float(len(playing) * setting.chunk_seconds))
        finally:
            for player in players:
                stream.close(player.row)
        played += [player.sounds() for player in players]
    return played


class _Player:
    """One open session: what it has been given and what it has answered."""

    def __init__(self, stream: Stream, take: Take, sample_rate: int, setting: Setting) -> None:
        spec = stream.spec
        self._stream, self._take, self._rate = stream, take, sample_rate
        self._input_rate, self._output_rate = spec.input_rate or sample_rate, spec.output_rate or sample_rate
        voice = at_rate(take.voice, sample_rate, self._input_rate)
        self._voice = np.repeat(voice[np.newaxis], spec.input_channels or 1, axis=0)  # [channel, sample]
        self._transports = take.transports if setting.transport else ()
        self._parameters = {entry.name: entry.default for entry in spec.parameters} | dict(setting.parameters)
        if setting.key and take.key and "key" in self._parameters:
            self._parameters["key"] = take.key
        self._notes = deque(take.notes if setting.notes and spec.takes_notes else ())
        self._fed, self._chunks, self._chunk_seconds = 0, 0, setting.chunk_seconds
        channels = [port.channels or len(self._voice) for port in spec.ports]
        self._port_ends = np.cumsum(channels)  # in the timeline, which holds the channels of all ports
        self._timeline = OutputTimeline(sum(channels))
        self._length = -(-len(take.voice) * self._output_rate // sample_rate)  # of the output, in its own samples
        # What is final, in place from the start: a long session then grows by nothing but what the stream itself keeps.
        self._sounds = {port.name: np.full(self._length, np.float32(0)) for port in spec.ports}
        self.row = stream.open(
            SessionConfig(
                sample_rate=sample_rate,
                channels=len(self._voice),
                chunk_seconds=setting.chunk_seconds,
                visibility_seconds=setting.visibility_seconds,
                seed=take.seed,
                parameters=self._parameters,
                offline=True,
            )
        )

    @property
    def done(self) -> bool:
        return self._timeline.committed >= self._length

    def next_input(self) -> ChunkInput:
        """The input that the next chunk needs, with silence after the recording's end."""
        required = max(self._fed, self._stream.required_input(self.row))
        audio = self._voice[:, self._fed : required]
        audio = np.pad(audio, ((0, 0), (0, required - self._fed - audio.shape[1])))
        self._fed = required
        heard = max(required, 1) / self._input_rate
        transport = max(
            (transport for transport in self._transports if transport.at_seconds < heard),
            key=lambda transport: transport.at_seconds,
            default=None,
        )
        notes = []
        while self._notes and self._notes[0][0] < required / self._input_rate:
            seconds, data = self._notes.popleft()
            notes.append(Notes(int(seconds * self._input_rate), data))
        return ChunkInput(self.row, audio, transport, self._parameters, notes=tuple(notes))

    def hear(self, output: ChunkOutput) -> None:
        start = self._timeline.committed
        if output.audio:
            self._timeline.lay(output.position, np.concatenate(output.audio))
        final = self._timeline.commit()[:, : max(0, self._length - start)]
        for sound, played in zip(self._sounds.values(), np.split(final, self._port_ends[:-1]), strict=True):
            sound[start : start + played.shape[1]] = played.mean(axis=0)
        self._chunks += 1
        late = self._chunks * self._chunk_seconds - Fraction(self._length, self._output_rate)
        if not self.done and late > SILENCE_LIMIT_SECONDS:
            raise RuntimeError(
                f"the stream has not answered all of its input after {SILENCE_LIMIT_SECONDS} s of silence: its chunks "
                "do not advance"
            )

    def sounds(self) -> dict[str, Sound]:
        length = len(self._take.voice)
        return {port: at_rate(sound, self._output_rate, self._rate, length) for port, sound in self._sounds.items()}


def at_rate(sound: Sound, rate_in: int, rate_out: int, length: int | None = None) -> Sound:
    """[sample] at another rate; cut or filled with silence to `length` where that is given."""
    if rate_in != rate_out:
        sound = soxr.resample(sound, rate_in, rate_out).astype(np.float32)
    if length is None:
        return sound
    return np.pad(sound[:length], (0, max(0, length - len(sound))))

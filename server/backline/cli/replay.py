"""Plays a session again from its event log (engine/event_log.py): what each chunk obeyed, given to it at its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backline.cli.audio_files import change_rate, read_audio
from backline.cli.console import UserError
from backline.engine.event_log import ChunkLine, DamagedLog, EventLog, read_log
from backline_client import Client, Control, Frames, Notes, Take, Text, Transport

if TYPE_CHECKING:
    from backline.cli.paced import Audio
    from backline_client import Change, SessionOptions


def opened_log(path: Path) -> EventLog:
    """The log in a file.

    Raises:
        UserError: there is none, or not all of one.
    """
    try:
        return read_log(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except DamagedLog as error:
        raise UserError(str(error)) from None


def played_audio(log: EventLog, path: Path) -> Audio:
    """What the session heard [channel, sample], from its file.

    Raises:
        UserError: the file is another one.
    """
    audio, rate = read_audio(path)
    audio = change_rate(audio, rate, log.header.open.sample_rate)[:, : log.end.samples]
    channels = log.header.open.channels
    found = f"{audio.shape[0]} channels and {audio.shape[1]} samples"
    if audio.shape != (channels, log.end.samples):
        raise UserError(
            f"{path} is not what this session heard: it has {found} at {log.header.open.sample_rate} Hz, the session "
            f"heard {channels} channels and {log.end.samples} samples"
        )
    heard = np.where(np.isfinite(audio), audio, np.float32(0))
    if hashlib.sha256(heard.T.astype("<f4", order="C").tobytes()).hexdigest() != log.end.audio:
        raise UserError(
            f"{path} is not what this session heard: it sounds otherwise. Give the file that it was played with"
        )
    return audio


def check_pack(log: EventLog, client: Client) -> None:
    """Raises UserError where the server's pack is another one than the session's."""
    name, digest = log.header.pack, log.header.digest
    if digest and (found := client.pack(name).digest) != digest:
        raise UserError(
            f"the session was played by another {name!r} (sha256 {digest[:12]}..., here {found[:12]}...): install that "
            "version of the pack"
        )


def session_options(log: EventLog) -> SessionOptions:
    """What the session had been granted."""
    opening = log.header.open
    options: SessionOptions = {
        "chunk_seconds": opening.chunk_seconds, "visibility_seconds": opening.visibility_seconds, "seed": opening.seed,
        "parameters": opening.parameters, "texts": opening.texts, "task": opening.task, "client_name": "backline",
        "want_frames": True,
    }  # fmt: skip
    if opening.channel_layout:
        options["channel_layout"] = opening.channel_layout
    if opening.inputs:
        options["inputs"] = dict(opening.inputs)
    return options


def changes_of(log: EventLog) -> Iterator[Change]:
    """All that happened in the session, where it was first obeyed. Positions from its first sample."""
    start = log.end.start
    for chunk in log.chunks:
        yield from _changes(chunk, start)
    for take in log.takes:
        yield Take(take.position - start, take.heard_from - start, take.skipped)


def _changes(chunk: ChunkLine, start: int) -> Iterator[Change]:
    at = chunk.chunk - start
    for name, value in chunk.controls.items():
        yield Control(name, value, at)
    for name, text in chunk.texts.items():
        yield Text(name, text, at)
    if (told := chunk.transport) is not None:
        yield Transport(
            told.tempo, told.position - start, told.playing, told.numerator, told.denominator, told.song_position,
            told.bar_start, told.loop, after=at,
        )  # fmt: skip
    for position, data in chunk.notes:
        yield Notes(position - start, bytes.fromhex(data), after=at)


class TokenCheck:
    """Holds the tokens of a replay against those of the session, chunk by chunk."""

    def __init__(self, log: EventLog) -> None:
        self._expected = log.tokens
        self.chunks = self.frames = 0  # that were the same
        self.differs = ""  # where the first did not

    def take(self, frames: Frames) -> None:
        """The tokens of the next chunk. A live session may have played more, ahead of its end."""
        if self.differs or self.chunks >= len(self._expected):
            return
        expected = self._expected[self.chunks]
        digest = hashlib.sha256(frames.codes.astype("<i4").tobytes()).hexdigest()[:32]
        if (digest, frames.take, frames.first_frame) == (expected.tokens, expected.take, expected.first):
            self.chunks += 1
            self.frames += len(frames.codes)
        else:
            self.differs = f"from frame {expected.first} of take {expected.take} on"

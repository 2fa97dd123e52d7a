"""Writes the event logs of sessions (engine/event_log.py), each on a thread of its own: nobody who plays waits."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from backline.engine.audience import News
from backline.engine.event_log import (
    FILE_BYTES,
    VERSION,
    ChunkLine,
    EndLine,
    Header,
    Line,
    Opening,
    TakeLine,
    TokensLine,
    TransportLine,
    WarningLine,
    written,
)
from backline.engine.events import ChunkBegan, Failed, Finished, Frames, InputBlock, OutputBlock, TakeBegan, Warned
from backline.engine.session import Session
from backline.engine.timeline import zero_non_finite
from backline.models.stream import Audio, Transport

WAITING = 8_192  # events that may wait for the thread: beyond, the disk is too slow, and the log breaks off
END_SECONDS = 5.0  # that the end of a session waits for that of its log

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a log goes. All on the log's thread."""

    def line(self, text: str) -> None: ...

    def audio(self, audio: Audio) -> None:
        """The next of the input [channel, sample]."""
        ...

    def close(self) -> None: ...


class SessionLog:
    """The log of one session: a listener (engine/audience.py), from before its first block."""

    def __init__(self, session: Session, digest: str, sinks: Sequence[Sink]) -> None:
        self.ended = threading.Event()  # the last line is out
        self._sinks = list(sinks)
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._ports = [port.name for port in session.ports]
        self._audio, self._output = hashlib.sha256(), [hashlib.sha256() for _ in self._ports]
        self._start: int | None = None
        self._samples = self._late = self._bytes = 0
        self._broken = ""
        self._header = header_of(session, digest)
        session.listen(self)
        self._thread = threading.Thread(target=self._run, name=f"log-{session.id}", daemon=True)
        self._thread.start()

    def __call__(self, news: News) -> None:
        """Any thread; never waits."""
        if self._news.qsize() > WAITING:
            self._broken = "the log could not be written fast enough"
        elif not self._broken:
            self._news.put(news)

    def finish(self) -> None:
        """The session is over, however it has ended. Never waits."""
        self._news.put(None)

    def wait(self) -> None:
        """Waits, a little, for the last line of a session that has ended."""
        self.ended.wait(END_SECONDS)

    def _run(self) -> None:
        try:
            self._write(self._header)
            end = "broken off"
            while (news := self._news.get()) is not None:
                if isinstance(news, Finished | Failed):
                    end = "closed" if isinstance(news, Finished) else f"failed: {news.error}"[:500]
                    break
                self._take(news)
            output = {port: hashed.hexdigest() for port, hashed in zip(self._ports, self._output, strict=True)}
            self._write(
                EndLine(
                    self._broken or end, self._start or 0, self._samples, self._audio.hexdigest(), output, self._late
                )
            )
        except Exception:
            log.warning("the event log of a session broke off", exc_info=True)
        finally:
            for sink in self._sinks:
                sink.close()
            self.ended.set()

    def _take(self, news: News) -> None:
        match news:
            case InputBlock():
                self._hear(news.position, news.audio)
            case OutputBlock():
                self._output[news.port].update(interleaved(news.audio))
            case Frames():
                digest = hashlib.sha256(news.codes.astype("<i4").tobytes()).hexdigest()[:32]
                self._write(TokensLine(digest, news.take, news.first_frame, len(news.codes)))
            case ChunkBegan():
                self._write(chunk_line(news))
            case TakeBegan():
                self._write(TakeLine(news.number, news.position, news.heard_from, news.skipped))
            case Warned():
                self._late = news.count if news.code == "late_output" else self._late
                self._write(WarningLine(news.code, news.count, news.position))

    def _hear(self, position: int, audio: Audio) -> None:
        if self._start is None:
            self._start = position
        missing = position - self._start - self._samples
        if missing > 0:
            self._keep(np.zeros((audio.shape[0], missing), np.float32))
        self._keep(zero_non_finite(audio)[0])

    def _keep(self, audio: Audio) -> None:
        self._samples += audio.shape[1]
        self._audio.update(interleaved(audio))
        for sink in self._sinks:
            sink.audio(audio)

    def _write(self, line: Line) -> None:
        text = written(line)
        self._bytes += len(text) + 1
        if self._bytes > FILE_BYTES - 4096 and not isinstance(line, EndLine):
            self._broken = "the log has become too long"
            return
        for sink in self._sinks:
            sink.line(text)


class LineSink:
    """Gives the lines to a function, and passes the audio over."""

    def __init__(self, give: Callable[[str], None]) -> None:
        self.line = give

    def audio(self, audio: Audio) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class LogFolder:
    """Where a server keeps the logs of all its sessions: for its user's eyes only."""

    folder: Path
    with_audio: bool = False

    def sink(self, session: Session) -> FileSink:
        """The files of one session. Raises OSError: they cannot be made."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = self.folder / f"{moment}-{session.stream_name}-{session.id}.jsonl"
        config = session.config
        return FileSink(path, (config.sample_rate, config.channels) if self.with_audio else None)


class FileSink:
    """A file of lines, and beside it one of audio where its rate and channels are given."""

    def __init__(self, path: Path, sound: tuple[int, int] | None) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
        self._sound = None
        if sound is not None:
            import soundfile

            beside = path.with_suffix(".wav")
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._sound = soundfile.SoundFile(beside, "w", *sound, subtype="FLOAT", format="RF64")

    def line(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()

    def audio(self, audio: Audio) -> None:
        if self._sound is not None:
            self._sound.write(audio.T)

    def close(self) -> None:
        self._file.close()
        if self._sound is not None:
            self._sound.close()


def interleaved(audio: Audio) -> bytes:
    """[channel, sample] as the hashes take it."""
    return audio.T.astype("<f4", order="C", copy=False).tobytes()


def header_of(session: Session, digest: str) -> Header:
    """The first line of a session's log."""
    config = session.config
    opening = Opening(
        sample_rate=config.sample_rate,
        channels=config.channels,
        chunk_seconds=float(config.chunk_seconds),
        visibility_seconds=config.visibility_seconds,
        seed=config.seed,
        parameters=dict(config.parameters),
        texts=dict(config.texts),
        task=config.task,
        channel_layout="" if config.channel_layout is None else config.channel_layout.value,
        inputs=[(group.name, group.channels) for group in config.inputs],
    )
    return Header(VERSION, session.stream_name, digest, opening)


def chunk_line(began: ChunkBegan) -> ChunkLine:
    """What a chunk has brought into force."""
    applied = began.applied
    transport = None if applied.transport is None else _transport_line(*applied.transport)
    notes = [(position, data.hex()) for position, data in applied.notes]
    return ChunkLine(began.position, began.take, dict(applied.controls), dict(applied.texts), transport, notes)


def _transport_line(position: int, told: Transport) -> TransportLine:
    return TransportLine(
        position,
        told.playing,
        told.tempo,
        told.numerator,
        told.denominator,
        told.song_position,
        told.bar_start,
        told.loop,
    )

"""Plays a session as a host does: a block in and a block out every turn, at one latency; notes when output came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backline_client import (
    AlignedOutput,
    BacklineError,
    Block,
    ConnectionFailed,
    Frames,
    Link,
    LogLine,
    Marked,
    Session,
    SessionEnded,
    TokenReader,
)
from backline_protos.v1 import backline_pb2 as pb

Audio = NDArray[np.float32]  # [channel, sample]
FADE_SECONDS = 0.005  # where output is missing
MARK_SECONDS = 1.0  # between two markers
STOOD_SECONDS = 0.5  # behind time, that whoever plays a file has been stopped: it goes on from there
JITTER_BUFFER_SECONDS = 0.02  # that demo and soak hold back, as a client in Python on a busy machine should
INPUT = "input"  # name under which the delayed input itself comes back beside the ports


@dataclass
class Measured:
    """What came when. An output's delay is from the moment of the input it belongs under to its arrival."""

    latency_samples: int  # D: output p is played with input p + D
    positions: list[int] = field(default_factory=list)  # of each output block of the first port
    delays: list[float] = field(default_factory=list)  # seconds, of each of them
    underrun_samples: int = 0  # played as silence
    marked: list[float] = field(default_factory=list)  # seconds from a marker's sample to its return
    totals: pb.Closed = field(default_factory=pb.Closed)

    def delay_percentile(self, percent: float) -> float:
        """Seconds; not a number if nothing came."""
        return float(np.percentile(self.delays, percent)) if self.delays else float("nan")

    def marked_percentile(self, percent: float) -> float:
        """The same of the markers."""
        return float(np.percentile(self.marked, percent)) if self.marked else float("nan")


class Host:
    """One host around one session. `turn` may be called from an audio callback, always from the same thread."""

    def __init__(
        self,
        session: Session,
        sample_rate: int,
        channels: int,
        *,
        start: int = 0,
        latency_samples: int | None = None,
        feed: TokenFeed | None = None,
        tokens: Callable[[Frames], None] | None = None,
        on_link: Callable[[Link], None] = lambda link: None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            start: position of the first block.
            latency_samples: at which it plays; None: what the session needs.
            feed: tokens that are sent in place of the blocks.
            tokens: is told those that come, on another thread.
            on_link: called on a thread of its own when the server is lost, and when it is there again.
            log: takes the lines of the session's event log, where that was asked for; on the receiver's thread.
        """
        self._log = log
        latency = session.latency_samples if latency_samples is None else latency_samples
        self.measured = Measured(latency)
        self._session, self._feed, self._tokens = session, feed, tokens
        self._rate = sample_rate
        self._position = start
        self._begun = False
        self._start = 0.0  # monotonic seconds of sample 0
        self._failure: BacklineError | None = None
        ports = [*session.ready.ports, pb.OutputPort(name=INPUT, channels=channels)]
        self._output = AlignedOutput(ports, latency, start=start, fade_samples=round(FADE_SECONDS * sample_rate))
        self._on_link = on_link
        self._mark_at = start
        self._receiver = threading.Thread(target=self._receive, name="receiver", daemon=True)

    def turn(self, block: Audio) -> dict[str, Audio]:
        """Sends the block [channel, sample] just captured; gives what is heard meanwhile, per port and INPUT."""
        if self._failure is not None:
            raise self._failure
        if not self._begun:
            self._start = time.monotonic() - (self._position + block.shape[1]) / self._rate
            self._receiver.start()
            self._begun = True
        try:
            if self._feed is not None:
                self._feed.send(self._session, self._position + block.shape[1])
            else:
                if self._position >= self._mark_at:
                    self._session.mark(self._position)
                    self._mark_at = self._position + round(MARK_SECONDS * self._rate)
                self._session.send(block, self._position)
        except SessionEnded as error:
            text = "the server has ended the session: it is shutting down, start `backline serve` again"
            raise ConnectionFailed(text, error.status) from error
        return self.turn_alone(block)

    def turn_alone(self, block: Audio) -> dict[str, Audio]:
        """As `turn` where the server is lost: nothing is sent, and only what has come is heard, and INPUT."""
        end = self._position + block.shape[1]
        self._output.push(Block(INPUT, self._position, block, committed=end, sequence=0))
        heard = self._pulled(block.shape[1])
        self._position = end
        return heard

    def finish(self) -> dict[str, Audio]:
        """Closes the session; gives what is heard after the last turn, as much as the latency."""
        if self._feed is not None:
            self._feed.send(self._session, None)
        self.measured.totals = self._session.close()
        if self._begun:
            self._receiver.join()
        if self._failure is not None:
            raise self._failure
        return self.tail()

    def tail(self) -> dict[str, Audio]:
        """What is heard after the last turn of what has come so far, as much as the latency."""
        return self._pulled(self.measured.latency_samples)

    def _pulled(self, count: int) -> dict[str, Audio]:
        heard = self._output.pull(self._position, count)
        self.measured.underrun_samples = self._output.underrun_samples
        return heard

    def _receive(self) -> None:
        first_port = next((port.name for port in self._session.ready.ports), None)
        try:
            for event in iter(self._session.receive_event, None):
                match event:
                    case Block():
                        self._output.push(event)
                        if event.port == first_port:
                            self.measured.positions.append(event.position)
                            self.measured.delays.append(self._since(event.position))
                    case Frames() if self._tokens is not None:
                        self._tokens(event)
                    case Marked():
                        self.measured.marked.append(self._since(event.position))
                    case LogLine() if self._log is not None:
                        self._log(event.line)
                    case Link():
                        self._on_link(event)
        except BacklineError as error:
            self._failure = error

    def _since(self, position: int) -> float:
        """Seconds since an input sample was captured."""
        return time.monotonic() - self._start - position / self._rate


class TokenFeed:
    """The frames of a token file, each as soon as its time has been lived through."""

    def __init__(self, file: TokenReader, sample_rate: int) -> None:
        """`sample_rate`: of the session."""
        self._frames, self._sent = file.blocks(1), 0
        self._of = file.header.rate / sample_rate  # frames of a sample

    def send(self, session: Session, position: int | None) -> None:
        """Those that are complete by a sample; None: all that are left."""
        due = None if position is None else max(0, int(position * self._of) - self._sent)
        if codes := list(islice(self._frames, due)):
            session.frames(np.concatenate(codes))
            self._sent += len(codes)


class Turning(Protocol):
    """What a sound card, or the clock, turns: a `Host`, or what plays as one."""

    def turn(self, block: Audio) -> dict[str, Audio]: ...

    def turn_alone(self, block: Audio) -> dict[str, Audio]: ...


def play_paced(host: Turning, blocks: Iterable[Audio], rate: int, hear: Callable[[dict[str, Audio]], None]) -> None:
    """Gives the host each block when its last sample would have been captured, and `hear` what is heard.

    A process that was stopped goes on where it was, as a sound card does: nothing comes in a rush.
    """
    start, position = time.monotonic(), 0
    for block in blocks:
        position += block.shape[1]
        ahead = start + position / rate - time.monotonic()
        if ahead < -STOOD_SECONDS:
            start -= ahead
        time.sleep(max(0.0, ahead))
        hear(host.turn(block))


def in_blocks(audio: Audio, block_size: int) -> Iterable[Audio]:
    """[channel, sample] in blocks of at most `block_size` samples."""
    for start in range(0, audio.shape[1], block_size):
        yield audio[:, start : start + block_size]


class Recording:
    """Keeps what is heard, per port."""

    def __init__(self) -> None:
        self._pieces: list[dict[str, Audio]] = []

    def hear(self, ports: dict[str, Audio]) -> None:
        self._pieces.append(ports)

    def aligned(self, latency_samples: int) -> dict[str, Audio]:
        """Everything heard, moved back under the input it belongs to: as long as the input, if it was finished."""
        names = self._pieces[0] if self._pieces else {}
        return {
            name: np.concatenate([piece[name] for piece in self._pieces], axis=1)[:, latency_samples:] for name in names
        }

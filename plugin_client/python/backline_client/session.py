"""One open stream: the half that sends and knows the session's state, shared by `Session` and `AsyncSession`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import grpc
import numpy as np
from numpy.typing import ArrayLike

from backline_client.endpoint import Endpoint
from backline_client.errors import BacklineError, SessionEnded, from_rpc
from backline_client.wire import (
    Change,
    Control,
    Event,
    Frames,
    Incoming,
    Notes,
    Outgoing,
    Take,
    Text,
    Transport,
    fields,
)
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub


class SessionCall:
    """The call of one session. Any thread may use any member; no public one waits.

    A thread of its own reads the call and hands each event to `deliver`, and None when the call has ended. What the
    server does not take yet is kept in memory: a live client is paced by its audio, an offline one by its file.
    """

    def __init__(
        self,
        stub: BacklineStub,
        endpoint: Endpoint,
        opening: pb.Open,
        timeout: float,
        deliver: Callable[[Event | None], None],
    ) -> None:
        """Returns when the server is ready for audio; raises BacklineError if it is not within `timeout` seconds."""
        self._endpoint = endpoint
        self._deliver = deliver
        self._requests: queue.SimpleQueue[pb.ClientMessage | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._frames_sent = 0
        self._input_ended = False
        self._cancelled = False
        self._error: BacklineError | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._requests.put(pb.ClientMessage(open=opening))
        self._call = stub.Stream(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="backline-session", daemon=True)
        self._reader.start()
        if not self._ready.wait(timeout):
            self.cancel()
            raise BacklineError(f"the server at {endpoint} did not open the session within {timeout:g} s: is it stuck?")
        if self._error is not None:
            self._requests.put(None)
            raise self._error
        # A server that names no limit takes blocks of the size that was asked for.
        self._outgoing = Outgoing(opening.channels, self.ready.max_block or opening.block_size)

    @property
    def ready(self) -> pb.Ready:
        """What the server granted: session id, seed, ports, chunk, visibility, parameters."""
        return self._incoming.ready

    @property
    def ledger(self) -> pb.Ledger:
        """The newest itemised latency."""
        return self._incoming.ledger

    @property
    def latency_samples(self) -> int:
        """Play output p together with input p + this."""
        return int(self.ledger.latency_samples)

    @property
    def warnings(self) -> dict[str, pb.Warning]:
        """The newest warning of each code."""
        return self._incoming.warnings

    @property
    def totals(self) -> pb.Closed | None:
        """The server's sums, once the session has ended in order."""
        return self._incoming.totals

    @property
    def position(self) -> int:
        """Where the next block starts."""
        return self._outgoing.position

    def send(self, audio: ArrayLike, position: int | None = None) -> None:
        """Sends input [channel, sample] (a vector for mono), by default right after the last.

        Raises:
            ValueError: the array is not audio with the session's channels.
            BacklineError: the session has failed or is closed.
        """
        with self._sending:
            for block in self._outgoing.blocks(audio, position):
                self._put(pb.ClientMessage(audio=block))

    def transport(self, transport: Transport) -> None:
        """Sets tempo and beat, by default from the next block on."""
        self.change(transport)

    def control(self, parameter: str, value: float, position: int | None = None) -> None:
        """Sets a parameter, by default as soon as possible."""
        self.change(Control(parameter, value, position))

    def text(self, name: str, text: str, position: int | None = None) -> None:
        """Sets a text, by default as soon as possible; an event `Text` tells from where on it is in force."""
        self.change(Text(name, text, position))

    def midi(self, position: int, data: bytes) -> None:
        """Plays whole MIDI 1.0 channel messages at a sample position, to a pack that takes notes."""
        self.change(Notes(position, data))

    def midi_live(self, position: int, data: bytes) -> int:
        """As `midi`, for what is played meanwhile: where that position has been sent already, it comes with the next
        block. Returns where it lies, so that a render of the same gives the same.
        """
        with self._sending:
            notes = Notes(max(position, self.position), data)
            self._put(pb.ClientMessage(midi=notes.message()))
        return notes.position

    def take(self, position: int | None = None) -> None:
        """Begins another take, as if the session were opened anew; by default where the next block starts."""
        self.change(Take(self.position if position is None else position))

    def frames(self, codes: ArrayLike) -> None:
        """Sends codec frames [frame, codebook], which follow on those before, to a pack that takes some."""
        array = np.asarray(codes, np.int64)
        with self._sending:
            self._put(pb.ClientMessage(frames=Frames(self._frames_sent, array).message()))
            self._frames_sent += len(array)

    def change(self, change: Change) -> None:
        """Sends anything that may happen in a session beside its audio."""
        with self._sending:
            self._put(pb.ClientMessage(**fields(change, self.position)))

    def end_input(self) -> None:
        """Says that no more input comes; output that is still due can be received until the session ends."""
        with self._sending:
            if not self._input_ended:
                self._input_ended = True
                self._requests.put(pb.ClientMessage(close=pb.Close()))
                self._requests.put(None)

    def cancel(self) -> None:
        """Ends the session at once; what is due is lost."""
        self._input_ended = self._cancelled = True
        self._call.cancel()
        self._requests.put(None)

    def _close(self, timeout: float) -> pb.Closed:
        self.end_input()
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the server at {self._endpoint} was not done within {timeout:g} s of closing")
        if self._error is not None:
            raise self._error
        return self.totals or pb.Closed()

    def _put(self, message: pb.ClientMessage) -> None:
        if self._error is not None:
            raise self._error
        if self._input_ended or self._ended.is_set():
            raise SessionEnded("the session is closed: open a new one to send more", grpc.StatusCode.CANCELLED)
        self._requests.put(message)

    def _read(self) -> None:
        """Turns messages into events until the call ends; the only reader of the call."""
        try:
            for message in self._call:
                if message.WhichOneof("message") == "ready":
                    self._incoming = Incoming(message.ready)
                    self._ready.set()
                    continue
                event = self._incoming.event(message) if self._ready.is_set() else None
                if event is not None:
                    self._deliver(event)
            if not self._ready.is_set():
                self._error = BacklineError(f"the server at {self._endpoint} ended the call before it was ready")
        except grpc.RpcError as error:
            self._error = from_rpc(error, self._endpoint, established=self._ready.is_set())
        finally:
            self._ended.set()
            self._deliver(None)
            self._ready.set()

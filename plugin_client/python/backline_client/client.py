"""The client for threads: `Client` makes calls, `Session` is one open stream."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Unpack
from weakref import WeakSet

import grpc
import numpy as np
from numpy.typing import ArrayLike

from backline_client.endpoint import Endpoint
from backline_client.errors import ConnectionFailed, from_rpc
from backline_client.rendering import RenderCall
from backline_client.session import FAREWELL_SECONDS, RECONNECT_SECONDS, SessionCall
from backline_client.unix_socket import foreign_socket, socket_path
from backline_client.wire import (
    DEFAULT_ADDRESS,
    RENDER_BLOCK,
    Block,
    Change,
    Control,
    Event,
    Frames,
    Rendering,
    SessionOptions,
    Transport,
    as_audio,
    open_message,
)
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub


class Client:
    """A connection to the server at `address` ("host:port" or "unix:/path"). Any thread may use it.

    Nothing is sent before the first call, so a missing server shows there, as `ConnectionFailed`; and so does a socket
    of another user, to which nothing is sent.

        Client("studio.example:50505", key=Path("key").read_text().strip(), ca="studio-ca.pem")
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        key: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """
        Args:
            key: an access key, as `backline access add` prints it. It is sent over TLS only, and shown nowhere.
            ca: PEM file of the authority that signed the server's certificate; without it, those that gRPC knows.
            certificate: PEM file of this client's own certificate and private key, where the server asks for one.
            timeout: seconds for opening a session (a pack may have to be loaded) and for every small call.

        Any of the three means TLS.

        Raises:
            ValueError, OSError: the key is none, or a file cannot be read.
        """
        self.address = address
        self.timeout = timeout
        self._endpoint = Endpoint(address, key, ca, certificate)
        self._channel = self._endpoint.channel()
        self._calls = BacklineStub(self._channel)
        self._sessions: WeakSet[SessionCall] = WeakSet()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _stub(self) -> BacklineStub:
        """The way to every call. A socket is looked at before each: gRPC connects to whatever lies there by then."""
        path = socket_path(self.address)
        problem = None if path is None else foreign_socket(path)
        if problem is not None:
            text = f"the socket {path} is not to be trusted, and nothing was sent: {problem}"
            raise ConnectionFailed(text, grpc.StatusCode.UNAVAILABLE)
        return self._calls

    def close(self) -> None:
        """Ends the connection and every session on it."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        for session in list(self._sessions):
            session.cancel()  # without effect where it has ended
        for session in list(self._sessions):
            session.ended(max(0.0, deadline - time.monotonic()))
        self._channel.close()

    def open(
        self,
        pack: str,
        sample_rate: int,
        channels: int,
        *,
        block_size: int = RENDER_BLOCK,
        offline: bool = False,
        reconnect_seconds: float = RECONNECT_SECONDS,
        **options: Unpack[SessionOptions],
    ) -> Session:
        """Opens a session and returns when the server is ready for audio.

        Args:
            pack: name of the pack, see `packs`.
            sample_rate: of the audio sent and received, in Hz.
            channels: of the audio sent.
            block_size: samples per channel of the largest block that will be sent.
            offline: nothing is dropped and the server works as fast as it can; otherwise it keeps time.
            reconnect_seconds: for which a session that keeps time looks for its server where the connection breaks off;
                events `Link` tell of it. 0: it fails at once.
            options: see `SessionOptions`.
        """
        opening = open_message(pack, sample_rate, channels, block_size, offline, options)
        opening.lease_seconds = 0.0 if offline else reconnect_seconds
        session = Session(lambda: self._stub, self._endpoint, opening, self.timeout)
        self._sessions.add(session)
        return session

    def render(
        self,
        pack: str,
        audio: ArrayLike,
        sample_rate: int,
        *,
        transport: Iterable[Transport] = (),
        controls: Iterable[Control] = (),
        changes: Iterable[Change] = (),
        progress: Callable[[float], None] | None = None,
        **options: Unpack[SessionOptions],
    ) -> Rendering:
        """The output of every port for `audio` [channel, sample], as long as the input.

        Args:
            pack: name of the pack.
            audio: float [channel, sample], or a vector for mono.
            sample_rate: of `audio` and of the result, in Hz.
            transport: tempo and beat, each from its position on.
            controls: parameter changes, each from its position on.
            changes: what else happens: `Text`, `Notes`, `Frames`.
            progress: called with the share that is done, 0 to 1.
            options: see `SessionOptions`.
        """
        samples, told = as_audio(audio), [*transport, *controls, *changes]
        call = self._begin_render(pack, [samples], sample_rate, len(samples), told, options)
        return collected(call, samples.shape[1], progress)

    def render_blocks(
        self,
        pack: str,
        blocks: Iterable[ArrayLike | Frames],
        sample_rate: int,
        channels: int,
        *,
        transport: Iterable[Transport] = (),
        controls: Iterable[Control] = (),
        changes: Iterable[Change] = (),
        **options: Unpack[SessionOptions],
    ) -> RenderCall:
        """As `render`, for signals of any length: takes the input in blocks, and gives the output in blocks.

            with client.render_blocks("stems", blocks, 48_000, channels=2) as rendering:
                for block in rendering:
                    files[block.port].write(block.audio)

        Args:
            blocks: float [channel, sample], of any lengths, and the `Frames` of a pack that takes some; asked for on
                another thread, as the server takes them.
            channels: of every block.

        Raises:
            BacklineError: the server refused, or is not there. Returns when it is ready for audio.
        """
        told = [*transport, *controls, *changes]
        call = self._begin_render(pack, blocks, sample_rate, channels, told, options)
        _ = call.ready
        return call

    def _begin_render(
        self,
        pack: str,
        blocks: Iterable[ArrayLike | Frames],
        sample_rate: int,
        channels: int,
        changes: Iterable[Change],
        options: SessionOptions,
    ) -> RenderCall:
        opening = open_message(pack, sample_rate, channels, RENDER_BLOCK, True, options)
        return RenderCall(self._stub, self._endpoint, opening, blocks, changes)

    def round_trip_seconds(self, calls: int = 20) -> float:
        """Of the way to the server and back: the 95th percentile of small calls."""
        taken = []
        for _ in range(calls):
            begin = time.perf_counter()
            self.stats()
            taken.append(time.perf_counter() - begin)
        return float(np.percentile(taken, 95))

    def advise(
        self,
        pack: str,
        sample_rate: int,
        channels: int,
        *,
        block_size: int = RENDER_BLOCK,
        round_trip_seconds: float,
        latency_seconds: float = 0.0,
        tempo: float = 0.0,
        **options: Unpack[SessionOptions],
    ) -> pb.Advice:
        """Which chunk and visibility a session should ask for, whether it is safe, and why.

        Args:
            round_trip_seconds: as measured.
            latency_seconds: after which output may be heard at most; 0: as soon as its input is sung.
            tempo: quarter notes per minute; what plays ahead then does so by whole beats.
        """
        request = pb.AdviseRequest(
            open=open_message(pack, sample_rate, channels, block_size, False, options),
            round_trip_seconds=round_trip_seconds,
            latency_seconds=latency_seconds,
            tempo=tempo,
        )
        advice: pb.Advice = self._ask(self._stub.Advise, request)
        return advice

    def packs(self) -> list[pb.Pack]:
        """Every pack that the server knows, damaged ones included."""
        return list(self._ask(self._stub.ListPacks, pb.ListPacksRequest()).packs)

    def pack(self, name: str) -> pb.Pack:
        """One pack, with its ports, parameters and latency."""
        found: pb.Pack = self._ask(self._stub.GetPack, pb.GetPackRequest(name=name))
        return found

    def load_pack(self, name: str) -> pb.Pack:
        """Makes the pack resident, so that its sessions open at once."""
        loaded: pb.Pack = self._ask(self._stub.LoadPack, pb.LoadPackRequest(name=name))
        return loaded

    def unload_pack(self, name: str, *, close_sessions: bool = False) -> None:
        """Frees the pack's memory; refused while it has sessions unless `close_sessions`."""
        self._ask(self._stub.UnloadPack, pb.UnloadPackRequest(name=name, close_sessions=close_sessions))

    def sessions(self) -> list[pb.Session]:
        """The sessions that are open on the server, of every client."""
        return list(self._ask(self._stub.ListSessions, pb.ListSessionsRequest()).sessions)

    def close_session(self, session: str) -> None:
        """Ends any session by its id."""
        self._ask(self._stub.CloseSession, pb.CloseSessionRequest(id=session))

    def stats(self) -> pb.Stats:
        """Load, timing and memory of the server."""
        stats: pb.Stats = self._ask(self._stub.GetStats, pb.GetStatsRequest())
        return stats

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self._endpoint) from None


def collected(call: RenderCall, samples: int, progress: Callable[[float], None] | None) -> Rendering:
    """All that `call` answers to an input of `samples`, each port as a whole; `progress` is told the share done."""
    with call:
        rendering = Rendering(call.ready, samples)
        for event in call.events():
            rendering.take(event)
            if progress is not None:
                progress(rendering.progress)
    return rendering


class Session(SessionCall):
    """One open stream, made by `Client.open`.

    Threads: any thread may send, set the transport, control or close; one thread at a time receives. What is not
    received is kept, so a session that only sends grows. As a context manager it closes in order, or cancels the
    call where the body raised.
    """

    def __init__(self, stub: Callable[[], BacklineStub], endpoint: Endpoint, opening: pb.Open, timeout: float) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: the call has ended
        super().__init__(stub, endpoint, opening, timeout, self._events.put)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self.cancel()
        elif not self._cancelled:
            self.close()

    def receive(self, timeout: float | None = None) -> Block | None:
        """The next block of output; None when the session has ended.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            BacklineError: the session has failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self.receive_event(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if event is None or isinstance(event, Block):
                return event

    def receive_event(self, timeout: float | None = None) -> Event | None:
        """As `receive`, but also frames, ledgers, warnings and the closing totals."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no output within {timeout:g} s") from None
        if event is None:
            self._events.put(None)  # for the next call
            if self._error is not None:
                raise self._error
        return event

    def __iter__(self) -> Iterator[Block]:
        """Blocks of output until the session ends."""
        return iter(self.receive, None)

    def close(self, timeout: float = 60.0) -> pb.Closed:
        """Ends the input and waits until the server has sent all that is due, which can still be received.

        Raises:
            TimeoutError: the server was not done within `timeout` seconds.
            BacklineError: the session has failed.
        """
        return self._close(timeout)

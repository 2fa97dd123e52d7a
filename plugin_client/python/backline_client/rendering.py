"""One offline call: blocks of any signal up as the server takes them, its output down, neither of them ever whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import grpc
from numpy.typing import ArrayLike

from backline_client.endpoint import Endpoint
from backline_client.errors import BacklineError, from_rpc
from backline_client.wire import CHANGES_AHEAD, Block, Change, Event, Frames, Incoming, Outgoing, fields
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub


class RenderCall:
    """A rendering in progress, made by `Client.render_blocks`: iterate for its output.

    Each port's blocks follow each other from position 0 to the input's end. The input is asked for on a thread of the
    call's own, no faster than the server takes it, and the server waits for whoever iterates, so that memory is the
    same for a minute and for a day. As a context manager it ends the call, however far it has come.
    """

    def __init__(
        self,
        stub: BacklineStub,
        endpoint: Endpoint,
        opening: pb.Open,
        blocks: Iterable[ArrayLike | Frames],
        changes: Iterable[Change],
    ) -> None:
        """Begins the call and does not wait. One thread uses it; any may cancel."""
        self._endpoint = endpoint
        self._incoming: Incoming | None = None
        self._failure: Exception | None = None  # of what the input comes from
        self._begun = threading.Event()
        requests = self._requests(opening, blocks, changes)
        self._call = stub.Render(requests)
        self._begun.set()

    def __enter__(self) -> RenderCall:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    @property
    def ready(self) -> pb.Ready:
        """What the server granted: session id, seed, ports, chunk, visibility, parameters. Waits for it.

        Raises:
            BacklineError: the server refused, or is not there.
        """
        return self._opened().ready

    @property
    def warnings(self) -> dict[str, pb.Warning]:
        """The newest warning of each code."""
        return self._opened().warnings

    @property
    def totals(self) -> pb.Closed:
        """The server's sums, once all output has come."""
        return self._opened().totals or pb.Closed()

    def events(self) -> Iterator[Event]:
        """Blocks of output, frames where they were asked for, warnings, and totals at the end.

        Raises:
            BacklineError: the server failed or went away.
            Exception: whatever the input's blocks raised.
        """
        incoming = self._opened()
        while (message := self._next()) is not None:
            event = incoming.event(message)
            if event is not None:
                yield event

    def __iter__(self) -> Iterator[Block]:
        """Blocks of output alone."""
        return (event for event in self.events() if isinstance(event, Block))

    def cancel(self) -> None:
        """Ends the call; no effect on one that has ended. Otherwise the server would go on working for nobody."""
        self._call.cancel()

    def _opened(self) -> Incoming:
        if self._incoming is None:
            message = self._next()
            if message is None or message.WhichOneof("message") != "ready":
                raise BacklineError(f"the server at {self._endpoint} ended the call before it was ready")
            self._incoming = Incoming(message.ready)
        return self._incoming

    def _next(self) -> pb.RenderResponse | None:
        """The next message; None after the last one."""
        try:
            return next(self._call, None)
        except grpc.RpcError as error:
            if self._failure is not None:
                raise self._failure from None
            raise from_rpc(error, self._endpoint, established=self._incoming is not None) from None

    def _requests(
        self, opening: pb.Open, blocks: Iterable[ArrayLike | Frames], changes: Iterable[Change]
    ) -> Iterator[pb.RenderRequest]:
        """A whole render: the session, what happens in it, then its audio. A thread of gRPC's."""
        try:
            yield pb.RenderRequest(open=opening)
            told = [(_begins(change), pb.RenderRequest(**fields(change, 0))) for change in changes]
            told.sort(key=lambda change: change[0])
            sent = min(CHANGES_AHEAD, len(told))  # of very many, the rest goes with its audio
            yield from (message for _, message in told[:sent])
            outgoing = Outgoing(opening.channels, opening.block_size)
            for samples in blocks:
                if isinstance(samples, Frames):
                    yield pb.RenderRequest(frames=samples.message())
                    continue
                for block in outgoing.blocks(samples):
                    while sent < len(told) and told[sent][0] < block.position + opening.block_size:
                        yield told[sent][1]
                        sent += 1
                    yield pb.RenderRequest(audio=block)
        except Exception as error:  # gRPC would print it, and tell whoever iterates nothing of it
            self._failure = error
            self._begun.wait()
            self._call.cancel()


def _begins(change: Change) -> int:
    """The sample that a change is sent before; codec frames, whose rate only the pack knows, come first."""
    return 0 if isinstance(change, Frames) else change.position or 0

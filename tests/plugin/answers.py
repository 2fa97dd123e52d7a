"""A server that says what a test wants of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from backline.service.server import CHANNEL_OPTIONS
from backline_protos.v1 import backline_pb2 as pb

PASSTHROUGH = pb.Pack(name="passthrough", ports=[pb.OutputPort(name="main", channels=2)])


class Answers:
    """A server of one pack, or of none, whose Stream ends as the test says; it writes down when it was asked."""

    def __init__(
        self,
        end: Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]],
        pack: pb.Pack | None = PASSTHROUGH,
        advice: pb.Advice | None = None,
    ) -> None:
        self.streams: list[float] = []
        self.openings: list[pb.Open] = []
        self.unary = 0
        self.asked: list[pb.AdviseRequest] = []
        self._end, self._pack, self._advice = end, pack, advice
        self._lock = threading.Lock()

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        opening = pb.ClientMessage.FromString(next(requests)).open
        with self._lock:
            self.streams.append(time.monotonic())
            self.openings.append(opening)
        yield from self._end(requests, context)

    def pack(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self.unary += 1
        if self._pack is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such pack")
        return self._pack.SerializeToString()

    def advise(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(pb.AdviseRequest.FromString(request))
        if self._advice is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "a server of before there was advice")
        return self._advice.SerializeToString()


def ready() -> bytes:
    return pb.ServerMessage(
        ready=pb.Ready(session="s", ports=[pb.OutputPort(name="main", channels=2)], max_block=8192, chunk_seconds=0.01)
    ).SerializeToString()


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4), options=CHANNEL_OPTIONS)
    handlers = {
        "Stream": grpc.stream_stream_rpc_method_handler(answers.stream),
        "GetPack": grpc.unary_unary_rpc_method_handler(answers.pack),
        "Advise": grpc.unary_unary_rpc_method_handler(answers.advise),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("backline.v1.Backline", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)

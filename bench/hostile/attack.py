"""Does on the wire what a case says, and says what is wrong with the server's answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from backline_protos.v1 import backline_pb2 as pb
from hostile.cases import SERVICE, STREAM, Call, Cancel, Case, Connection, End, Ready, Send, Wait

LIMIT_SECONDS = 20.0  # for any call, besides what its own pauses take
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a channel of its own is a connection of its own
]


@dataclass
class Outcome:
    """How a call ended. No status: it is no call of gRPC's."""

    call: Call | Connection
    status: grpc.StatusCode | None = None
    details: str = ""
    last: bytes | None = None  # of the server's messages
    seconds: float = 0.0
    timed_out: bool = False


def attack(address: str, case: Case, channel: grpc.Channel) -> list[Outcome]:
    """All calls of a case at once; `channel` serves those that need none of their own."""
    with ThreadPoolExecutor(len(case.calls)) as threads:
        return list(threads.map(lambda call: _do(address, call, channel), case.calls))


def problems(outcome: Outcome) -> list[str]:
    """What no call may see, whatever it sends."""
    call, status, details = outcome.call, outcome.status, outcome.details
    if isinstance(call, Connection):
        return []
    if outcome.timed_out:
        return [f"had not ended after {outcome.seconds:.1f} s"]
    found = []
    said = f"{status.name if status else None}: {details[:300]}"
    if status in (
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.ABORTED,
    ):
        found.append(said)
    if status is grpc.StatusCode.FAILED_PRECONDITION and call.method != SERVICE + "UnloadPack":
        found.append(f"blames a sound pack: {said}")
    if "metadata size" in details and not call.metadata:
        found.append(f"the status got lost: {said}")
    if call.method == STREAM and call.reads and not isinstance(call.actions[-1], Cancel) and outcome.last is not None:
        last = pb.ServerMessage.FromString(outcome.last)
        kind = last.WhichOneof("message")
        if status is grpc.StatusCode.OK and kind != "closed":
            found.append(f"ended in order, and the last message is {kind}")
        if status not in (grpc.StatusCode.OK, None) and kind == "error":
            error = (last.error.status, last.error.message)
            if error != (status.value[0], details):
                found.append(f"says {error[0]}: {error[1][:100]} and ends with {said}")
    return found


def _do(address: str, call: Call | Connection, channel: grpc.Channel) -> Outcome:
    outcome = Outcome(call)
    begin = time.monotonic()
    if isinstance(call, Connection):
        _connect(address, call)
    elif call.own_channel:
        with grpc.insecure_channel(address, options=OPTIONS) as own:
            _Doing(own, call, outcome).finish()
    else:
        _Doing(channel, call, outcome).finish()
    outcome.seconds = time.monotonic() - begin
    return outcome


def _connect(address: str, connection: Connection) -> None:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), LIMIT_SECONDS) as plain:
        plain.sendall(connection.data)
        plain.settimeout(connection.wait or 0.001)
        plain.recv(1_000)


class _Doing:
    """One call under way: gRPC's threads send and end it, a thread of ours reads."""

    def __init__(self, channel: grpc.Channel, call: Call, outcome: Outcome) -> None:
        self._call, self._outcome = call, outcome
        self._started, self._moved, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._rpc: Any = channel.stream_stream(call.method)(
            self._act(), timeout=call.deadline, metadata=call.metadata or None
        )
        self._rpc.add_done_callback(lambda _: self._end())
        self._started.set()

    def finish(self) -> None:
        """Waits for the call's end, and ends it where it has none."""
        reader = threading.Thread(target=self._read, daemon=True)
        if self._call.reads:
            reader.start()
        limit = LIMIT_SECONDS + self._call.own_seconds
        if not self._ended.wait(limit):
            self._outcome.timed_out = True
            self._rpc.cancel()
        if self._call.reads:
            reader.join(2.0)
        self._outcome.status, self._outcome.details = self._rpc.code(), self._rpc.details() or ""

    def _act(self) -> Iterator[bytes]:
        """The client's messages, each at its time."""
        self._started.wait()
        for action in self._call.actions:
            match action:
                case Send(data):
                    yield data
                case Wait(seconds):
                    self._ended.wait(seconds)
                case Ready():
                    if self._call.reads:
                        self._moved.wait(LIMIT_SECONDS)
                case End():
                    return
                case Cancel():
                    self._rpc.cancel()
            if self._ended.is_set():
                return

    def _end(self) -> None:
        self._ended.set()
        self._moved.set()

    def _read(self) -> None:
        with suppress(grpc.RpcError):  # its status is read at the end
            for answer in self._rpc:
                self._outcome.last = answer
                self._moved.set()
                if self._call.pause:
                    time.sleep(self._call.pause)

"""An Open goes straight from the servicer to its session, in few steps."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import TypeAlias

import grpc

from backline.service.server import start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, eventually, held, opening

Name: TypeAlias = "tuple[str, str]"  # module, function
# Where the Open's way begins on each thread that it comes to: the event loop's, the one that opens, the model's.
BEGINNINGS = {"Servicer.Stream", "Engine.open_session", "Resident.call.<locals>.task"}
END = ("backline.engine.session", "Session.__init__")


class Way:
    """Which functions of engine/ and service/ an Open runs through until its session is made, and who calls whom.

    Counted are functions with a name: no lambda or comprehension, and no property, which is read like a field. What a
    constructor does to make its object is its own matter; so is what an engine's thread does by itself.
    """

    def __init__(self) -> None:
        self.functions: dict[Name, None] = {}  # in their order
        self.steps: dict[Name, None] = {}  # those that call others; the rest are checks, figures and constructors
        self.watching = False

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """A profiler, for `threading.setprofile`."""
        if not self.watching or event != "call" or not is_ours(frame) or is_property(named(frame)):
            return
        if named(frame) == END:
            self.watching = False
        callers = ours_from(frame)
        begun = [index for index, (_, name) in enumerate(callers) if name in BEGINNINGS]
        if begun and not any(name.endswith("__init__") for _, name in callers[1 : begun[0] + 1]):
            way = callers[begun[0] :: -1]
            self.functions.update(dict.fromkeys(way))
            self.steps.update(dict.fromkeys(way[:-1]))


def is_ours(frame: FrameType) -> bool:
    code = frame.f_code
    module: str = frame.f_globals.get("__name__", "")
    written = not code.co_name.startswith("<") and code.co_filename != "<string>"  # dataclasses write their own
    return written and module.startswith(("backline.engine.", "backline.service."))


def named(frame: FrameType) -> Name:
    return frame.f_globals["__name__"], frame.f_code.co_qualname


def ours_from(frame: FrameType | None) -> list[Name]:
    """Of ours that are at work, the innermost first."""
    found = []
    while frame is not None:
        if is_ours(frame):
            found.append(named(frame))
        frame = frame.f_back
    return found


def is_property(name: Name) -> bool:
    found: object = sys.modules[name[0]]
    for part in name[1].split("."):
        found = vars(found).get(part) if isinstance(found, type) else getattr(found, part, None)
    return isinstance(found, property)


def test_the_open_of_a_resident_pack_takes_at_most_twelve_steps() -> None:
    way, before = Way(), threading.getprofile()
    threading.setprofile(way.note)
    try:
        with (
            start_server(load=["passthrough"], device="cpu") as server,
            grpc.insecure_channel(server.address, options=OPTIONS) as channel,
        ):
            stub = BacklineStub(channel)
            for way.watching in (False, True):  # whatever is imported or compiled, the first has seen to
                call = stub.Stream(held(opening()))
                assert next(call).WhichOneof("message") == "ready"
                call.cancel()
                assert eventually(lambda: not stub.ListSessions(pb.ListSessionsRequest()).sessions)
    finally:
        threading.setprofile(before)
    assert next(iter(way.functions)) == ("backline.service.servicer", "Servicer.Stream")
    assert list(way.functions)[-1] == END
    assert ("backline.engine.engine", "Engine.open_session") in way.steps
    assert len(way.steps) <= 12, list(way.steps)
    assert len(way.functions) <= 39, list(way.functions)

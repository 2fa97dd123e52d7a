"""The console without a browser: its WebSocket carries what gRPC carries, and strangers are turned away."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

pytest.importorskip("uvicorn")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from backline.doors.console import live
from backline.doors.console.door import ConsoleDoor
from backline.doors.watched import HEARD, waiting_events
from backline.engine.engine import Engine
from backline.engine.limits import MESSAGE_BYTES, OTHER_BYTES
from backline.engine.session import Session
from backline.service.server import RunningServer, start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, block, blocks, client, eventually, held, noise, opening

STREAM = "/backline.v1.Backline/Stream"
IDLE_SECONDS = 2.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
AUDIO = noise(2, 512)
# One pixel, as somebody else's picture.
PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000") + b"\0" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack whose card is written by a stranger."""
    from tests.service.conftest import make_pack

    folder = tmp_path_factory.mktemp("packs")
    make_pack(folder / "strange", {"ports": ["vocals", "drums"]})
    card = "# Strange\n\n![a picture](one.png) <script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n| a |\n|--:|\n"
    (folder / "strange" / "README.md").write_text(card)
    (folder / "strange" / "one.png").write_bytes(PIXEL)
    return folder


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[tuple[RunningServer, ConsoleDoor]]:
    door = ConsoleDoor("127.0.0.1:0", names=["studio.example"])
    with start_server(
        packs=[folder],
        device="cpu",
        max_sessions=8,
        drain_seconds=0.1,
        idle_seconds=IDLE_SECONDS,
        doors=[door],
        metrics="127.0.0.1:0",
    ) as server:
        assert eventually(lambda: door.port > 0)
        yield server, door


@pytest.fixture(scope="module")
def server(opened: tuple[RunningServer, ConsoleDoor]) -> RunningServer:
    return opened[0]


@pytest.fixture(scope="module")
def door(opened: tuple[RunningServer, ConsoleDoor]) -> ConsoleDoor:
    return opened[1]


@pytest.fixture
def stub(server: RunningServer) -> Iterator[BacklineStub]:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        yield BacklineStub(channel)


def joined(door: ConsoleDoor, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{door.port}{STREAM}", max_size=None, compression=None, **options)


class Heard(Answer):
    """All that one WebSocket said, and what it closed with."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.code, self.reason = 0, ""
        super().__init__(self._messages(websocket))

    def _messages(self, websocket: ClientConnection) -> Iterator[pb.ServerMessage]:
        try:
            while True:
                data = websocket.recv(timeout=20)
                assert isinstance(data, bytes)
                yield pb.ServerMessage.FromString(data)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise AssertionError("it closed without a word") from closed
            self.code, self.reason = closed.rcvd.code, closed.rcvd.reason


def played(door: ConsoleDoor, messages: Iterable[Any]) -> Heard:
    with joined(door) as websocket:
        for message in messages:
            websocket.send(message.SerializeToString())
        return Heard(websocket)


def ask(
    door: ConsoleDoor, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", door.port, timeout=20)
    with contextlib.closing(connection):
        data = None if body is None else json.dumps(body).encode()
        usual = {} if body is None else {"content-type": "application/json"}
        connection.request(
            method, path, data, {**usual, **{key.replace("_", "-"): value for key, value in headers.items()}}
        )
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()


# ---- the stream ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "fields"),
    [("passthrough", {"parameters": {"gain": 0.5}}), ("strange", {}), ("passthrough", {"sample_rate": 44_100})],
)
def test_a_websocket_plays_what_grpc_plays(
    door: ConsoleDoor, stub: BacklineStub, pack: str, fields: dict[str, Any]
) -> None:
    audio = noise(2, 48_000)
    wanted = opening(pack=pack, seed=7, **fields)

    def messages() -> Iterator[Any]:
        change = pb.Control(parameter="gain", value=0.25, position=20_000)
        return client(wanted, change, *blocks(audio, [512, 100, 7]), pb.Close())

    here, there = played(door, messages()), Answer(stub.Stream(messages()))
    assert (here.code, there.status) == (1_000, grpc.StatusCode.OK)
    assert here.of("closed")[0].samples_out == there.of("closed")[0].samples_out == audio.shape[1]
    for port in range(len(there.ready.ports)):
        assert np.array_equal(here.port(port), there.port(port))
    assert here.port().any()


BAD: dict[str, tuple[list[Any], str]] = {
    "a frame of text": (["hello"], "a frame of text: send each ClientMessage"),
    "bytes that are no message": ([b"\xff\xff\xff"], "3 bytes that are no message of the contract"),
    "an empty frame": ([b""], "first message is missing|begin with Open"),
    "audio first": (list(client(block(AUDIO))), "the first message is audio: begin with Open"),
    "a second Open": (list(client(opening(), opening())), "a second Open"),
    "time going backwards": (list(client(opening(), block(AUDIO, 512), block(AUDIO, 511))), "position 511 goes back"),
    "a large message without audio": ([b"\x2a" + bytes(OTHER_BYTES)], "only one that carries audio"),
    "an oversized block": (list(client(opening(), block(noise(2, 513)))), "block of 513 samples"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_frames_end_with_status_and_remedy(
    server: RunningServer, door: ConsoleDoor, stub: BacklineStub, case: str
) -> None:
    frames, remedy = BAD[case]
    with Bystander(server.address):
        with joined(door) as websocket:
            for frame in frames:
                websocket.send(frame if isinstance(frame, bytes | str) else frame.SerializeToString())
            heard = Heard(websocket)
        assert heard.messages[-1].error.status == INVALID
        assert any(words in heard.messages[-1].error.message for words in remedy.split("|"))
        assert heard.code == 4_000 + INVALID
        assert heard.messages[-1].error.message.startswith(heard.reason.encode()[:100].decode("utf-8", "ignore"))
        assert eventually(lambda: len(stub.ListSessions(pb.ListSessionsRequest()).sessions) == 1)


def test_a_huge_frame_is_not_taken(server: RunningServer, door: ConsoleDoor) -> None:
    with Bystander(server.address), joined(door) as websocket:
        with contextlib.suppress(ConnectionClosed):
            websocket.send(next(client(opening())).SerializeToString())
            websocket.send(bytes(MESSAGE_BYTES + 1))
        heard = Heard(websocket)
        assert heard.code == 1_009  # too big, by the protocol


def test_a_socket_that_says_nothing_is_told_so_and_leaves(server: RunningServer, door: ConsoleDoor) -> None:
    with Bystander(server.address), joined(door) as websocket:
        heard = Heard(websocket)
        assert heard.messages[-1].error.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert "no Open came within 2 s" in heard.reason


@pytest.mark.parametrize("way", ["reset", "gone", "takes nothing"])
def test_a_client_that_vanishes_leaves_its_seat(
    server: RunningServer, door: ConsoleDoor, stub: BacklineStub, way: str
) -> None:
    def names() -> list[str]:
        return [session.client_name for session in stub.ListSessions(pb.ListSessionsRequest()).sessions]

    # A short queue, so that it takes nothing from the network that nobody asks for.
    with Bystander(server.address), joined(door, max_queue=1, close_timeout=0.1) as websocket:
        # Small buffers, so that what is not taken does not fit into them.
        websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        websocket.send(next(client(opening(client_name=way, block_size=48_000))).SerializeToString())
        assert eventually(lambda: way in names())
        match way:
            case "reset":
                websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                websocket.socket.close()
            case "gone":
                websocket.socket.shutdown(socket.SHUT_WR)
            case _:
                websocket.socket.settimeout(1.0)
                with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
                    for message in client(*blocks(noise(2, 48_000 * 60), [48_000])):
                        websocket.send(message.SerializeToString())
        assert eventually(lambda: way not in names(), 4 * IDLE_SECONDS + 5.0)


def test_a_slow_browser_is_a_slow_client(server: RunningServer, door: ConsoleDoor) -> None:
    """Its session pauses, its output is whole, and nobody else hears of it."""
    audio = noise(2, 48_000 * 20)
    with Bystander(server.address), joined(door, max_queue=1) as websocket:
        messages = client(opening(block_size=4_800), *blocks(audio, [4_800]), pb.Close())

        def send() -> None:
            for message in messages:
                websocket.send(message.SerializeToString())

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        time.sleep(IDLE_SECONDS / 2)  # in which it takes nothing
        heard = Heard(websocket)
        sender.join(10)
        assert heard.code == 1_000
        assert np.array_equal(heard.port(), audio)


# ---- calls ---------------------------------------------------------------------------------------------------


def test_calls_over_http_answer_as_those_over_grpc(door: ConsoleDoor, stub: BacklineStub) -> None:
    status, _, body = ask(door, "POST", "/backline.v1.Backline/GetPack", {"name": "strange"})
    assert status == 200
    assert json_format.Parse(body, pb.Pack()) == stub.GetPack(pb.GetPackRequest(name="strange"))

    for name, code, words in (("none", 404, "no pack 'none'"), (5, 400, "no GetPackRequest in JSON")):
        status, _, body = ask(door, "POST", "/backline.v1.Backline/GetPack", {"name": name})
        told = json.loads(body)
        assert (status, words in told["message"]) == (code, True), told
    assert told["code"] == "invalid_argument"


def test_a_call_in_protobuf(door: ConsoleDoor, stub: BacklineStub) -> None:
    connection = HTTPConnection("127.0.0.1", door.port, timeout=20)
    with contextlib.closing(connection):
        request = pb.GetPackRequest(name="passthrough").SerializeToString()
        connection.request("POST", "/backline.v1.Backline/GetPack", request, {"content-type": "application/proto"})
        answer = pb.Pack.FromString(connection.getresponse().read())
    assert answer == stub.GetPack(pb.GetPackRequest(name="passthrough"))


def test_parameters_of_any_live_session_are_seen_and_set(door: ConsoleDoor, stub: BacklineStub) -> None:
    with joined(door) as websocket:
        websocket.send(next(client(opening(mode=pb.MODE_LIVE, client_name="singer"))).SerializeToString())
        ready = pb.ServerMessage.FromString(websocket.recv(timeout=10)).ready

        def live() -> dict[str, Any]:
            _, _, body = ask(door, "GET", "/live.json")
            return next((each for each in json.loads(body)["sessions"] if each["id"] == ready.session), {})

        assert eventually(lambda: live().get("parameters") == {"gain": 1.0})
        path = f"/sessions/{ready.session}/control"
        assert ask(door, "POST", path, {"parameter": "gain", "value": 0.5})[0] == 200
        for position in range(0, 9_600, 480):
            websocket.send(next(client(block(noise(2, 480), position))).SerializeToString())
        assert eventually(lambda: live()["parameters"] == {"gain": 0.5})
        assert eventually(lambda: bool(live()["chunk_latencies"]))
        found = live()
        assert found["client_name"] == "singer"
        assert [item["name"] for item in found["ledger"]["items"]] == [item.name for item in ready.ledger.items]
        for body, code in (({"parameter": "volume", "value": 1}, 404), ({"parameter": "gain", "value": 7}, 400)):
            assert ask(door, "POST", path, body)[0] == code
        assert ask(door, "POST", f"/sessions/{ready.session}/text", {"name": "prompt", "text": "x"})[0] == 404
        assert ask(door, "POST", "/sessions/none/control", {"parameter": "gain", "value": 1})[0] == 404
        websocket.send(next(client(pb.Close())).SerializeToString())
        assert Heard(websocket).code == 1_000


def test_sessions_cost_nothing_more_once_no_page_looks(
    door: ConsoleDoor, stub: BacklineStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GONE_SECONDS", 0.2)
    sessions: list[Session] = []
    open_session = Engine.open_session

    def seen(*arguments: Any, **more: Any) -> Session:
        sessions.append(open_session(*arguments, **more))
        return sessions[-1]

    monkeypatch.setattr(Engine, "open_session", seen)
    call = stub.Stream(held(opening()))
    next(call)
    assert eventually(lambda: ask(door, "GET", "/live.json")[0] == 200 and bool(sessions[0]._audience.listeners))
    assert eventually(lambda: not sessions[0]._audience.listeners)
    call.cancel()


def test_what_waits_for_a_look_is_bounded_however_large_its_blocks_are() -> None:
    def one(channels: int, block_size: int, chunk: float) -> Any:
        config = SimpleNamespace(channels=channels, sample_rate=192_000, chunk_seconds=chunk)
        return SimpleNamespace(config=config, block_size=block_size, ports=[SimpleNamespace(channels=channels)])

    assert waiting_events(one(2, 512, 0.01)) == HEARD
    assert waiting_events(one(64, 65_536, 4.0)) == 4


def test_a_render_is_not_steered(door: ConsoleDoor) -> None:
    with joined(door) as websocket:
        websocket.send(next(client(opening())).SerializeToString())
        ready = pb.ServerMessage.FromString(websocket.recv(timeout=10)).ready
        assert eventually(lambda: ready.session in ask(door, "GET", "/live.json")[2].decode())
        status, _, body = ask(door, "POST", f"/sessions/{ready.session}/control", {"parameter": "gain", "value": 0})
        assert (status, "only live sessions are steered" in body.decode()) == (400, True)


# ---- the page ------------------------------------------------------------------------------------------------


def test_a_card_shows_its_pictures_and_runs_nothing(door: ConsoleDoor) -> None:
    status, _, body = ask(door, "GET", "/packs/strange/card")
    text = body.decode()
    assert status == 200
    assert '<img src="/packs/strange/one.png" alt="a picture"' in text
    assert "<table>" in text
    assert "style=" not in text
    assert "<script" not in text
    assert 'href="javascript' not in text
    status, headers, body = ask(door, "GET", "/packs/strange/one.png")
    assert (status, headers["content-type"], body) == (200, "image/png", PIXEL)
    for path in (
        "/packs/strange/pack.toml",
        "/packs/strange/..%2Fpack.toml",
        "/packs/strange/two.png",
        "/packs/no/card",
        "/none",
    ):
        assert ask(door, "GET", path)[0] == 404, path


def test_every_file_of_the_page_is_served_and_asks_for_nothing_elsewhere(door: ConsoleDoor) -> None:
    from backline.doors.console.app import PAGE

    for path in PAGE.iterdir():
        status, headers, body = ask(door, "GET", f"/{path.name}")
        assert (status, body) == (200, path.read_bytes())
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert set(re.findall(rb"(?:https?|wss?)://[^\s\"]+", body)) <= {b"http://www.w3.org/2000/svg"}, path
    assert ask(door, "GET", "/")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:8090"}, 200),
        ({"host": "studio.example"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8090"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
        ({"host": "localhost:1", "origin": "http://localhost:2"}, 403),
        ({"host": "localhost:1", "origin": "http://evil.example"}, 403),
        ({"host": "localhost:1", "origin": "null"}, 403),
    ],
)
def test_only_pages_of_its_own_may_ask(door: ConsoleDoor, headers: dict[str, str], status: int) -> None:
    assert ask(door, "GET", "/live.json", **headers)[0] == status
    assert ask(door, "POST", "/backline.v1.Backline/GetStats", {}, **headers)[0] == status
    handshake = (
        f"GET {STREAM} HTTP/1.1\r\nhost: {headers.get('host', f'127.0.0.1:{door.port}')}\r\nupgrade: websocket\r\n"
        "connection: upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
    ) + "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name == "origin")
    with socket.create_connection(("127.0.0.1", door.port), 10) as plain:
        plain.sendall(f"{handshake}\r\n".encode())
        answer = plain.recv(64).decode()
    assert answer.startswith("HTTP/1.1 101" if status == 200 else "HTTP/1.1 403"), answer


def test_what_is_refused_or_not_there_is_counted_by_its_status(server: RunningServer, door: ConsoleDoor) -> None:
    def counted() -> dict[str, int]:
        with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=10) as answer:
            found = re.findall(r'backline_errors_total{door="http",kind="(\d+)"} (\d+)', answer.read().decode())
        return {kind: int(count) for kind, count in found}

    before = counted()
    assert ask(door, "GET", "/nothing")[0] == 404
    assert ask(door, "POST", "/on-card/nobody/scene/2")[0] == 404  # nothing plays on the server's sound card
    assert ask(door, "GET", "/live.json", host="evil.example")[0] == 403
    assert ask(door, "GET", "/live.json")[0] == 200
    after = counted()
    assert {kind: after[kind] - before.get(kind, 0) for kind in ("403", "404")} == {"403": 1, "404": 2}


def test_a_form_of_another_page_is_no_call(door: ConsoleDoor) -> None:
    status, _, body = ask(door, "POST", "/backline.v1.Backline/GetStats", {}, content_type="text/plain")
    assert (status, "content of type text/plain" in body.decode()) == (400, True)


def test_a_request_without_end_is_refused(door: ConsoleDoor) -> None:
    status, _, body = ask(door, "POST", "/backline.v1.Backline/GetPack", {"name": "x" * OTHER_BYTES})
    assert (status, "send less" in body.decode()) == (400, True)


def test_another_machine_needs_a_name() -> None:
    with pytest.raises(OSError, match=r"reached from other machines: .*--http-name"), ConsoleDoor("0.0.0.0:0")(None):  # type: ignore[arg-type]
        pass
    with pytest.raises(OSError, match="use HOST:PORT"), ConsoleDoor("8090")(None):  # type: ignore[arg-type]
        pass


def test_a_port_that_is_taken_is_named(door: ConsoleDoor) -> None:
    taken = f"127.0.0.1:{door.port}"
    with pytest.raises(OSError, match=f"cannot serve a page at {taken}"), ConsoleDoor(taken)(None):  # type: ignore[arg-type]
        pass


def test_a_stop_ends_open_sockets() -> None:
    door = ConsoleDoor("127.0.0.1:0")
    with ExitStack() as stack:
        with start_server(device="cpu", drain_seconds=0.1, doors=[door]):
            assert eventually(lambda: door.port > 0)
            websocket = stack.enter_context(joined(door))
            websocket.send(next(client(opening())).SerializeToString())
            websocket.recv(timeout=10)
        assert Heard(websocket).code == 1_012


def test_a_name_of_no_open_stream_is_refused(door: ConsoleDoor) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{door.port}/elsewhere"):
        pass

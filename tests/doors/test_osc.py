"""The OSC door over real sockets: what controllers of others hear, and what strangers' bytes do to those who play."""

import json
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pythonosc import slip
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from backline.doors import live
from backline.doors.addresses import OWNERS, row_of, table
from backline.doors.osc import OscDoor
from backline.doors.packets import PACKET_BYTES
from backline.doors.peers import BURST
from backline.service.server import RunningServer, start_server
from backline_client import Client, Session, SessionEnded
from tests.support.everything import CHORDS
from tests.support.osc import Controller, bundle, fuzzed, message, unpacked

README = Path(__file__).parents[2] / "README.md"
RATE, BLOCK = 48_000, 256
LIBLO = shutil.which("oscsend") and shutil.which("oscdump")


@contextmanager
def playing(server: RunningServer, pack: str = "passthrough", **options: Any) -> Iterator[Session]:
    """A gRPC client's session that a thread plays in real time."""
    ended = threading.Event()
    with Client(server.address) as client, client.open(pack, RATE, 2, block_size=BLOCK, **options) as session:

        def play() -> None:
            start, silence = time.monotonic(), np.full((2, BLOCK), 0.25, np.float32)
            number = 0
            while not ended.is_set():
                number += 1
                time.sleep(max(0.0, start + number * BLOCK / RATE - time.monotonic()))
                try:
                    session.send(silence)
                except SessionEnded:  # a controller has closed it
                    return

        def listen() -> None:
            for _ in session:
                pass

        threads = [threading.Thread(target=play), threading.Thread(target=listen, daemon=True)]
        for thread in threads:
            thread.start()
        try:
            yield session
        finally:
            ended.set()
            threads[0].join()


# ---- from load to close --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_plain_controller_drives_a_session_on_the_servers_card_from_load_to_close(controller: Controller) -> None:
    assert "passthrough" in controller.ask("/packs")
    assert controller.ask("/pack/passthrough/load") == ["resident"]
    name, session = controller.ask("/open", "passthrough", "band", "tempo", 90, "seed", 7, "set/gain", 0.5)
    assert name == "band"
    assert controller.ask("/sessions") == ["band"]
    assert controller.ask("/session/band/id") == controller.ask(
        f"/session/{session}/id", answer=f"/session/{session}/id"
    )
    assert controller.ask("/session/band/seed") == ["7"]
    assert controller.ask("/session/band/client") == ["band"]
    assert controller.ask("/session/band/parameter/gain") == [0.5]
    controller.ask_until("/session/band/transport/tempo", lambda values: values == [90.0])
    controller.send_message("/session/band/normalised/gain", 1.0)
    controller.ask_until("/session/band/parameter/gain", lambda values: values == [1.0])
    controller.send_message("/session/band/transport/tempo", 120.0)
    controller.send_message("/session/band/transport/position", 4.0)
    controller.ask_until("/session/band/transport/position", lambda values: 4.0 < values[0] < 60.0)
    assert 1 <= controller.ask("/session/band/beat")[0] <= 4
    for level in ("input", "output/main"):
        controller.ask_until(f"/session/band/level/{level}", lambda values: abs(values[0] + 12.04) < 0.01)
    assert controller.ask("/session/band/latency")[0] > 0
    controller.ask_until("/session/band/chunks", lambda values: values[0] > 10)
    assert "no pack" in controller.ask("/session/band/pack", "nothing", answer="/error")[1]
    assert controller.ask("/open", "passthrough", "again", "jitter_buffer", 1.0) == controller.ask(
        "/session/again/name"
    ) + controller.ask("/session/again/id")
    assert controller.ask("/session/again/pack", "passthrough") == ["passthrough"]  # opened anew, under its name
    for name in ("again", "band"):
        assert controller.ask(f"/session/{name}/close") == ["closed"]
    controller.ask_until("/sessions", lambda values: values == [])
    assert controller.ask("/pack/passthrough/unload") == ["available"]


@pytest.mark.slow
def test_a_set_list_on_the_servers_card_is_played_scene_by_scene(controller: Controller, tmp_path: Path) -> None:
    scenes = tmp_path / "set.toml"
    scenes.write_text(
        '[[scene]]\nname = "soft"\nparameters = { gain = 0.5 }\n[[scene]]\nname = "loud"\ntempo = 240\n'
        '[[scene]]\nname = "broken"\nvisibility = -9\n'
    )
    controller.ask("/open", "passthrough", "band", "scenes", str(scenes), "jitter_buffer", 1.0)
    controller.ask_until("/scene", lambda values: values == ["soft"])
    first = controller.ask("/session/band/id")
    assert controller.ask("/scene", 2) == ["loud"]
    controller.ask_until("/session/band/id", lambda values: values != first)
    assert controller.ask("/session/band/parameter/gain") == [1.0]
    controller.ask_until("/session/band/transport/tempo", lambda values: values == [240.0])
    controller.send_message("/session/band/transport/tempo", 480.0)
    assert "visibility is -9 s" in controller.ask("/scene/next", answer="/error")[1]
    assert controller.ask("/scene") == ["loud"]
    assert controller.ask("/session/band/seed", 2**40) == [str(2**40)]
    assert controller.ask("/session/band/transport/tempo") == [480.0]  # which was said in between, and is kept
    [drawn] = controller.ask("/session/band/next_take")
    assert controller.ask("/session/band/seed") == [drawn] != [str(2**40)]
    assert controller.ask("/session/band/close") == ["closed"]
    controller.ask_until("/sessions", lambda values: values == [])


@pytest.mark.slow
def test_a_controller_is_learned_by_osc_and_leads_its_parameter(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyboard of tests/support/card turns its knob 21 all the time."""
    controller.ask("/open", "passthrough", "led", "midi_in", "Knobs", "map", "cc1=gain", "jitter_buffer", 1.0)
    controller.ask_until("/session/led/midi/map", lambda values: values == ["cc1=gain"])
    assert controller.ask("/session/led/parameter/gain") == [1.0]
    assert "has no parameter 'bass'" in controller.ask("/session/led/learn", "bass", answer="/error")[1]
    assert controller.ask("/session/led/learn", "gain") == ["cc21=gain"]
    controller.ask_until("/session/led/midi/map", lambda values: values == ["cc1=gain", "cc21=gain"])
    controller.ask_until("/session/led/parameter/gain", lambda values: values[0] not in (0.0, 1.0))
    assert controller.ask("/session/led/midi/newest")[0].startswith("cc21 = ")
    assert controller.ask("/session/led/close") == ["closed"]
    monkeypatch.setattr(live, "LEARN_SECONDS", 0.5)
    controller.ask("/open", "passthrough", "still", "midi_in", "DAW")  # where nobody moves anything
    assert "no controller has moved yet" in controller.ask("/session/still/learn", "gain", answer="/error")[1]
    assert controller.ask("/session/still/close") == ["closed"]
    controller.ask("/open", "passthrough", "unled")
    assert "no MIDI leads this session" in controller.ask("/session/unled/learn", "gain", answer="/error")[1]
    assert controller.ask("/session/unled/midi/map") == []
    assert controller.ask("/session/unled/close") == ["closed"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "words"), [("open", "the sound card does not open (busy)"), ("unplugged 200", "was it unplugged?")]
)
def test_a_card_that_fails_is_told_in_its_own_words(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, fails: str, words: str
) -> None:
    monkeypatch.setenv("CARD_FAILS", fails)
    controller.ask("/subscribe", "/sessions")
    controller.send_message("/open", ["passthrough", "lost"])
    address, said, status = controller.await_("/error")
    assert address == ("/open" if fails == "open" else "/session/lost")
    assert words in said
    assert status == "RESOURCE_EXHAUSTED"
    controller.ask_until("/sessions", lambda values: values == [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "send a pack"),
        (["passthrough", "a/b"], "no short name"),
        (["passthrough", "x", "tempo"], "has no value"),
        (["passthrough", "x", "output", "x.wav"], "no option 'output'"),
        ([3], "send a string"),
    ],
)
def test_open_says_what_it_takes(controller: Controller, arguments: list[Any], words: str) -> None:
    assert words in controller.ask("/open", *arguments, answer="/error")[1]


# ---- the table -----------------------------------------------------------------------------------------------


def test_the_readmes_table_is_that_of_the_addresses() -> None:
    assert table() in README.read_text(), "print it with `python -m backline.doors.addresses`, and paste it"


def rows() -> list[tuple[str, str, str, str]]:
    """Address, types, use and description of every row of the README's table."""
    text = README.read_text()
    return re.findall(r"^\| `(/[^`]+)` \| (\S*) *\| ([a-z, ]+) \| (.*) \|$", text, re.MULTILINE)


ON_CARD = {"/open", "/scene/next", "/session/<session>/next_take", "/session/<session>/learn"}
ARGUMENTS: dict[str, list[Any]] = {"/subscribe": ["/server/*"], "/pack/<pack>/unload": ["close"]}
VALUES: dict[str, Any] = {"parameter/<parameter>": 0.25, "normalised/<parameter>": 0.75, "text/<text>": "a cello"}
VALUES |= {"transport/tempo": 77.0, "transport/position": 33.0, "name": "renamed"}


def test_every_address_of_the_readmes_table_is_answered_as_it_says(
    server: RunningServer, controllers: Callable[[], Controller]
) -> None:
    controller = controllers()
    assert [row[0] for row in rows()] == [row_of(owner, entry) for owner, all_ in OWNERS.items() for entry in all_]
    controller.ask("/pack/everything/load")
    with Client(server.address) as client, client.open("everything", RATE, 3, block_size=3_840) as session:
        name = controller.name_of(session.ready.session)
        stand_for = {"session": name, "pack": "everything", "parameter": "depth", "text": "prompt", "port": "main"}
        stand_for["part"] = "queue"

        def play() -> None:
            for _ in range(2):  # chunks
                session.send(np.zeros((3, 3_840), np.float32))
                session.frames(np.zeros((2, 2), np.int64))

        play()
        last = [row for row in rows() if row[0].endswith(("/close", "/unload"))]
        for row, types, use, description in [*(row for row in rows() if row not in last), *reversed(last)]:
            address = re.sub("<([a-z]+)>", lambda found: stand_for[found[1]], row)
            says_no = "says so" in description
            if row in ON_CARD or use == "told":
                continue  # needs a card: above; and what is only told is asked below
            if says_no:
                assert controller.ask(address, answer="/error")[2] == "UNIMPLEMENTED", row
            elif row.endswith("/chord"):
                controller.ask_until(address, lambda values: play() or values[0] in CHORDS)  # type: ignore[misc]
            elif row.endswith("/beat"):
                controller.send_message(f"/session/{name}/transport/play", [])
                play()
                controller.ask_until(f"/session/{name}/transport/playing", lambda values: values == [True])
            if says_no:
                continue
            if "read" in use or types:
                values = controller.ask(address, *ARGUMENTS.get(row, []))
                tags = controller.tags[address].replace("F", "T")
                expected = types[0] * len(values) if types.endswith("*") else types
                assert tags == (expected if row not in ("/session/<session>/parameter/<parameter>",) else "f"), row
            else:
                controller.send_message(address, [])  # does, and says nothing: an error would fail the next answer
            if use == "read, set" and (value := VALUES.get(row.partition("<session>/")[2])) is not None:
                controller.send_message(address, value)
                if row.endswith("/name"):
                    stand_for["session"] = name = value
                    address = f"/session/{value}/name"
                controller.ask_until(address, lambda values, value=value: play() or values[0] >= value)  # type: ignore[misc]
            if row.endswith("/close"):
                session.close()  # waits until it has ended, or the unloading would end it
        assert controller.ask("/error", answer="/error")[0] == "/error"


# ---- whom it answers -----------------------------------------------------------------------------------------


def test_answers_go_to_the_port_that_asked_and_news_to_all_who_subscribed(
    server: RunningServer, controllers: Callable[[], Controller]
) -> None:
    asking, silent, one, other = (controllers() for _ in range(4))
    with playing(server) as session:
        name = asking.name_of(session.ready.session)
        for subscriber in (one, other):
            subscriber.ask("/subscribe", f"/session/{name}/parameter/*")
            assert subscriber.await_(f"/session/{name}/parameter/gain") == [1.0]
        asking.send_message(f"/session/{name}/parameter/gain", 0.5)
        for subscriber in (one, other):
            assert subscriber.await_(f"/session/{name}/parameter/gain") == [0.5]
        assert silent.hear(0.05) == []
        one.ask("/unsubscribe")
        asking.send_message(f"/session/{name}/parameter/gain", 0.25)
        assert other.await_(f"/session/{name}/parameter/gain") == [0.25]
        assert one.hear(0.05) == []


@pytest.mark.parametrize("framing", ["slip", "sizes"])
def test_tcp_speaks_both_framings(server: RunningServer, door: OscDoor, framing: str) -> None:
    def frame(packet: bytes) -> bytes:
        return slip.encode(packet) if framing == "slip" else struct.pack(">i", len(packet)) + packet

    with socket.create_connection(("127.0.0.1", door.port), 10) as connection, connection.makefile("rb") as stream:

        def next_packet() -> bytes:
            if framing == "sizes":
                return stream.read(struct.unpack(">i", stream.read(4))[0])
            data = stream.read(1)
            while len(data) < 2 or not data.endswith(slip.END):
                data += stream.read(1)
            return slip.decode(data)

        connection.sendall(frame(message("/server/device")) + frame(bundle(1, message("/ping"), message("/nonsense"))))
        said = [unpacked(next_packet())[0] for _ in range(3)]
        assert [each.address for each in said] == ["/server/device", "/ping", "/error"]
        assert said[0].params == ["cpu"]
        connection.sendall(b"\xc0\xdb\xc0" if framing == "slip" else b"\x7f\xff\xff\xff")  # no packet ever
        assert unpacked(next_packet())[0].address == "/error"
        assert stream.read(1) == b""  # and it is closed


@pytest.mark.skipif(not LIBLO, reason="oscsend and oscdump are not installed (Debian: apt install liblo-tools)")
def test_liblos_tools_drive_a_session_from_load_to_close(
    server: RunningServer, door: OscDoor, controllers: Callable[[], Controller]
) -> None:
    controller = controllers()

    def send(address: str, types: str = "", *values: object) -> None:
        words = ["oscsend", "127.0.0.1", str(door.port), address, *([types] if types else []), *map(str, values)]
        subprocess.run(words, check=True, timeout=20)

    send("/pack/passthrough/load")
    controller.ask_until("/pack/passthrough/state", lambda values: values == ["resident"])
    with playing(server) as session:
        name = controller.name_of(session.ready.session)
        send(f"/session/{name}/parameter/gain", "f", 0.25)
        controller.ask_until(f"/session/{name}/parameter/gain", lambda values: values == [0.25])
        send(f"/session/{name}/normalised/gain", "d", 0.5)
        controller.ask_until(f"/session/{name}/parameter/gain", lambda values: values == [0.5])
        send(f"/session/{name}/transport/tempo", "i", 96)
        send(f"/session/{name}/transport/play")
        controller.ask_until(f"/session/{name}/transport/playing", lambda values: values == [True])
        controller.ask_until(f"/session/{name}/transport/tempo", lambda values: values == [96.0])
        send(f"/session/{name}/close")
        controller.ask_until("/sessions", lambda values: values == [])


@pytest.mark.skipif(not LIBLO, reason="oscsend and oscdump are not installed (Debian: apt install liblo-tools)")
def test_liblos_dump_reads_what_a_subscriber_is_told(
    server: RunningServer, controllers: Callable[[], Controller]
) -> None:
    """A relay stands between: oscdump only listens, and a subscription is the port's that asked."""
    controller = controllers()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True) as dump:
        try:
            time.sleep(0.5)  # until it listens: it says nothing about it
            controller.ask("/subscribe", "/server/*")
            packet = controller.receive(10)
            controller._sock.sendto(packet, ("127.0.0.1", port))
            assert dump.stdout is not None
            told = {each.address for each in unpacked(packet)}
            read = {dump.stdout.readline().split()[1] for _ in told}
            assert read == told
        finally:
            dump.terminate()


# ---- strangers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.paced
def test_ten_thousand_fuzzed_datagrams_leave_a_playing_session_in_time(
    server: RunningServer, door: OscDoor, controllers: Callable[[], Controller]
) -> None:
    controller, senders = controllers(), [controllers() for _ in range(8)]
    with playing(server, jitter_buffer_seconds=0.2) as session:
        name = controller.name_of(session.ready.session)
        addresses = [f"/session/{name}/{path}" for path in ("parameter/gain", "transport/tempo", "level/input", "*")]
        addresses += ["/packs", "/subscribe", "/ping", "/error", "/server/load", "/sessions", "/pack/passthrough/state"]
        start = time.monotonic()
        for number, packet in enumerate(fuzzed(10_000, 3, addresses)):
            if number % 20 == 0:  # some 2,000 a second
                time.sleep(max(0.0, start + number / 2_000 - time.monotonic()))
            sender = senders[number % len(senders)]
            sender._sock.sendto(packet, ("127.0.0.1", door.port))
        time.sleep(1.1)  # until those who sent too much are heard again
        assert controller.ask("/server/version")
        assert controller.ask_until("/sessions", lambda values: bool(values))
        totals = session.close()
    assert totals.late_chunks == 0
    assert totals.chunks > 400


def test_connections_that_say_nothing_or_nonsense_harm_nobody(
    server: RunningServer, door: OscDoor, controllers: Callable[[], Controller]
) -> None:
    silent = [socket.create_connection(("127.0.0.1", door.port), 10) for _ in range(8)]
    for sent in (b"GET", b"\x16\x03\x01\x02\x00", b"POST / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 9_000, b"\0\0\0\0"):
        with socket.create_connection(("127.0.0.1", door.port), 10) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            while connection.recv(4_096):
                pass
    assert controllers().ask("/server/device") == ["cpu"]
    for each in silent:
        each.close()


def test_a_port_that_is_taken_is_told(server: RunningServer, door: OscDoor) -> None:
    with (
        pytest.raises(OSError, match="cannot listen for OSC at"),
        start_server(device="cpu", doors=[OscDoor(f"127.0.0.1:{door.port}", [], announce=False)]) as _,
    ):
        pass


# ---- OSCQuery ------------------------------------------------------------------------------------------------

VALUE = {"type": ["number", "string", "boolean", "null"]}
NODE: dict[str, Any] = {
    "$id": "node",
    "type": "object",
    "required": ["FULL_PATH"],
    "additionalProperties": False,
    "properties": {
        "FULL_PATH": {"type": "string", "pattern": "^/[^ #*,?\\[\\]{}]*$"},
        "CONTENTS": {
            "type": "object",
            "propertyNames": {"pattern": "^[^ #*,/?\\[\\]{}]+$"},
            "additionalProperties": {"$ref": "node"},
        },
        "TYPE": {"type": "string", "pattern": "^[ifsbhdtScrmTFNI\\[\\]]+$"},
        "ACCESS": {"enum": [0, 1, 2, 3]},
        "VALUE": {"type": "array", "items": VALUE},
        "RANGE": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"MIN": {"type": "number"}, "MAX": {"type": "number"}, "VALS": {"type": "array"}},
                "additionalProperties": False,
            },
        },
        "UNIT": {"type": "array", "items": {"type": "string"}},
        "DESCRIPTION": {"type": "string"},
    },
    "dependentRequired": {"VALUE": ["TYPE"], "RANGE": ["TYPE"], "UNIT": ["TYPE"], "TYPE": ["ACCESS", "DESCRIPTION"]},
}
HOST_INFO = {
    "type": "object",
    "required": ["NAME", "OSC_PORT", "OSC_IP", "OSC_TRANSPORT", "EXTENSIONS"],
    "properties": {
        "NAME": {"type": "string"},
        "OSC_IP": {"type": "string", "format": "ipv4"},
        "OSC_PORT": {"type": "integer", "minimum": 1, "maximum": 65_535},
        "OSC_TRANSPORT": {"enum": ["UDP", "TCP"]},
        "EXTENSIONS": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
    "additionalProperties": False,
}


def get(door: OscDoor, target: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{door.port}{target}", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.read()
        return json.loads(body) if body else answer.status


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("CONTENTS", {}).values():
        yield from nodes(below)


def test_the_oscquery_document_is_what_the_proposal_says(server: RunningServer, door: OscDoor) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with playing(server) as session, Controller(door.port) as controller:
        name = controller.name_of(session.ready.session)
        document = get(door, "/")
        jsonschema.Draft202012Validator(NODE).validate(document)
        jsonschema.Draft202012Validator(HOST_INFO).validate(get(door, "/?HOST_INFO"))
        assert get(door, "/?HOST_INFO")["OSC_PORT"] == door.port
        found = {node["FULL_PATH"]: node for node in nodes(document)}
        for path, node in found.items():
            for attribute in ("VALUE", "RANGE", "UNIT"):
                assert len(node.get(attribute, node.get("TYPE", ""))) == len(node.get("TYPE", "")), path
        for path in (
            path for path, node in found.items() if "VALUE" in node
        ):  # one source: each answers by OSC as well
            controller.ask(path)
        gain = found[f"/session/{name}/parameter/gain"]
        assert (gain["TYPE"], gain["ACCESS"], gain["VALUE"]) == ("f", 3, [1.0])
        assert gain["RANGE"] == [{"MIN": 0.0, "MAX": 1.0}]
        assert found[f"/session/{name}/latency"]["UNIT"] == ["s"]
        assert get(door, f"/session/{name}/parameter/gain") == gain
        assert get(door, f"/session/{name}/parameter/gain?VALUE") == {"VALUE": [1.0]}
        assert get(door, f"/session/{name}/parameter/gain?CONTENTS") == 204
        for target, status in [("/nothing", 404), ("/packs?COLOUR", 400)]:
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(door, target)
            assert refused.value.code == status


@contextmanager
def listening(door: OscDoor, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{door.port}/", **options) as socket:
        yield socket


def command(socket: ClientConnection, command: str, address: Any) -> None:
    socket.send(json.dumps({"COMMAND": command, "DATA": address}))


def told(socket: ClientConnection) -> tuple[str, list[Any]]:
    """The next message that is told: each has a frame of its own."""
    packet = socket.recv(timeout=20)
    assert isinstance(packet, bytes)
    assert packet.startswith(b"/")
    [said] = unpacked(packet)
    return said.address, list(said.params)


def test_a_websocket_is_told_what_it_listens_to_until_it_ignores_it(server: RunningServer, door: OscDoor) -> None:
    assert get(door, "/?HOST_INFO")["EXTENSIONS"]["LISTEN"] is True
    with playing(server) as session, Controller(door.port) as controller, listening(door) as socket:
        name = controller.name_of(session.ready.session)
        gain, tempo = (f"/session/{name}/{path}" for path in ("parameter/gain", "transport/tempo"))
        for address in (gain, tempo):
            command(socket, "LISTEN", address)
            assert told(socket)[0] == address
        for value in (0.5, 0.25):
            controller.send_message(gain, value)
            assert told(socket) == (gain, [value])
        command(socket, "IGNORE", gain)
        controller.send_message(gain, 1.0)
        controller.ask_until(gain, lambda values: values == [1.0])
        controller.send_message(tempo, 90.0)
        assert told(socket) == (tempo, [90.0])  # and nothing of the gain before
        socket.send(message(gain, 0.75))  # what is sent in binary is OSC
        controller.ask_until(gain, lambda values: values == [0.75])


def test_a_websocket_hears_what_is_wrong_and_has_its_limits(server: RunningServer, door: OscDoor) -> None:
    with listening(door) as socket:
        for text, words in [
            ("LISTEN", "no JSON"),
            ("[" * 9_000, "no JSON"),
            ("[1]", "send LISTEN or IGNORE"),
            ('{"COMMAND": "PATH_ADDED", "DATA": "/packs"}', "send LISTEN or IGNORE"),
            ('{"COMMAND": "LISTEN"}', "without an address"),
            ('{"COMMAND": "LISTEN", "DATA": "/nothing"}', "no such address"),
            ('{"COMMAND": "LISTEN", "DATA": "/ping"}', "no such address that can be read"),
            ('{"COMMAND": "LISTEN", "DATA": "/session/no/chord"}', "there is no session"),
        ]:
            socket.send(text)
            address, [_, why, _] = told(socket)
            assert address == "/error"
            assert words in why
        for _ in range(2 * int(BURST)):
            command(socket, "IGNORE", "/packs")
        assert "too many messages a second" in told(socket)[1][1]
        socket.send(["{", " " * PACKET_BYTES, "}"])  # in pieces that are short enough
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
        assert socket.close_code == 1009


@pytest.mark.parametrize(
    ("origin", "host", "let_in"),
    [
        (None, "127.0.0.1", True),
        ("http://127.0.0.1", "127.0.0.1", True),
        ("http://evil.example", "127.0.0.1", False),
        ("null", "localhost", False),
        (None, "evil.example", False),
        (None, "backline-studio.local", True),
    ],
)
def test_a_page_of_another_site_neither_listens_nor_reads(
    server: RunningServer, door: OscDoor, origin: str | None, host: str, let_in: bool
) -> None:
    origins = "" if origin is None else f"Origin: {origin}\r\n"
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for further, status in [(upgrade, 101), ("", 200)]:
        with socket.create_connection(("127.0.0.1", door.port), 10) as connection:
            connection.sendall(f"GET /packs HTTP/1.1\r\nHost: {host}\r\n{origins}{further}\r\n".encode())
            assert connection.recv(64).startswith(f"HTTP/1.1 {status if let_in else 403} ".encode())


def test_controllers_find_it_by_zeroconf(card: None) -> None:
    zeroconf = pytest.importorskip("zeroconf")
    door = OscDoor("127.0.0.1:0", [])
    with start_server(device="cpu", doors=[door]), zeroconf.Zeroconf(interfaces=["127.0.0.1"]) as network:
        assert door.opened.wait(20)
        for kind in ("_oscjson._tcp.local.", "_osc._udp.local."):
            found = threading.Event()

            def changed(zeroconf: Any, name: str, state_change: Any, found: threading.Event = found, **_: Any) -> None:
                if f" {door.port}." in name:
                    found.set()

            browser = zeroconf.ServiceBrowser(network, kind, handlers=[changed])
            assert found.wait(20), kind
            browser.cancel()
            name = next(name for name in network.cache.names() if name.endswith(kind) and f" {door.port}." in name)
            info = network.get_service_info(kind, name, 10_000)
            assert info is not None
            assert info.port == door.port
            assert info.parsed_addresses() == ["127.0.0.1"]

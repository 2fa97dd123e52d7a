"""The plugin's own client of the wire: its codec against the generated one, its calls against real servers.

The program behind it is plugin_client/tests/net_test.cpp.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.service.server import start_server
from backline.service.unix_socket import user_sockets
from backline_client import Client
from backline_protos.v1 import backline_pb2 as pb
from tests.plugin.native import SANITIZER_OPTIONS, build
from tests.plugin.server_process import server_process
from tests.support.other_user import UID, listener_of_another_user

KINDS: dict[str, Any] = {
    "c": pb.ClientMessage,
    "s": pb.ServerMessage,
    "l": pb.ListPacksRequest,
    "L": pb.ListPacksResponse,
    "g": pb.GetPackRequest,
    "p": pb.Pack,
    "a": pb.AdviseRequest,
    "A": pb.Advice,
}
# What a plugin has no use for, by message: it passes over these fields.
UNUSED = {
    "ClientMessage": {"marker", "credit", "frames"},
    "ServerMessage": {"frames", "marker", "log"},
    "Open": {"want_frames", "task", "want_audio", "want_log"},
    "Resume": {"last_sequence"},
    "Take": {"number"},
    "Transport": {"after"},
    "Midi": {"after"},
    "Ready": {"task"},
    "Pack": {"frame_rate", "latency", "resident_bytes", "sessions", "license", "codebooks", "tokenizer", "digest"},
    "Codebook": {"size", "rate", "track"},
    "Task": {"description", "ports", "takes"},
}
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=20),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=200),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
}


# ---- the codec -------------------------------------------------------------------------------------------------------


class Codec:
    """The program's reader and writer: each message goes through both."""

    def __init__(self, program: Path) -> None:
        environment = {**os.environ, **SANITIZER_OPTIONS}
        self._process = subprocess.Popen(
            [program, "codec"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def again(self, kind: str, data: bytes) -> bytes | None:
        """The message as the program writes it after having read it; None where it refuses to read it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(kind.encode() + len(data).to_bytes(4, "little") + data)
        self._process.stdin.flush()
        head = self._process.stdout.read(5)
        assert len(head) == 5, f"the program has ended with {self._process.wait()}"
        size = int.from_bytes(head[1:], "little", signed=True)
        return None if size < 0 else self._process.stdout.read(size)

    def end(self) -> int:
        self._process.communicate()
        return self._process.returncode


@pytest.fixture(scope="module")
def program(plugins: Path) -> Path:
    return build(plugins, "", "net_test") / "net_test"


@pytest.fixture(scope="module")
def sanitized_program(plugins: Path) -> Path:
    return build(plugins, "address", "net_test") / "net_test"


@contextlib.contextmanager
def running_codec(program: Path) -> Iterator[Codec]:
    codec = Codec(program)
    yield codec
    assert codec.end() == 0


@pytest.fixture(scope="module")
def codec(program: Path) -> Iterator[Codec]:
    with running_codec(program) as codec:
        yield codec


@pytest.fixture(scope="module")
def sanitized_codec(sanitized_program: Path) -> Iterator[Codec]:
    with running_codec(sanitized_program) as codec:
        yield codec


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_list(value: Any) -> bool:
    return hasattr(value, "extend")


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Any:
    """A message with any of its fields, of any value."""
    message = getattr(pb, descriptor.name)()
    fields = list(descriptor.fields)
    oneof = next((group for group in descriptor.oneofs if len(group.fields) > 1), None)
    if oneof is not None:
        fields = [draw(st.sampled_from(list(oneof.fields)))]
    for field in fields:
        if oneof is None and draw(st.booleans()):
            continue
        value = getattr(message, field.name)
        if is_map(field):
            kind = SCALARS[field.message_type.fields_by_name["value"].type]
            value.update(draw(st.dictionaries(st.text(max_size=8), kind, max_size=4)))
        elif is_list(value) and field.message_type is not None:
            value.extend(draw(st.lists(messages(field.message_type), max_size=3)))
        elif field.message_type is not None:
            part = draw(messages(field.message_type))
            if oneof is not None or part.ByteSize():
                value.CopyFrom(part)
                value.SetInParent()
        elif is_list(value):
            value.extend(draw(st.lists(SCALARS[field.type], max_size=5)))
        else:
            setattr(message, field.name, draw(SCALARS[field.type]))
    return message


@st.composite
def any_messages(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    return kind, draw(messages(KINDS[kind].DESCRIPTOR))


def without_unused(message: Any) -> Any:
    """The message as a plugin sees it."""
    kept = type(message)()
    kept.CopyFrom(message)
    for name in UNUSED.get(message.DESCRIPTOR.name, ()):
        kept.ClearField(name)
    for field, value in kept.ListFields():
        if field.message_type is None or is_map(field):
            continue
        for part in value if is_list(value) else [value]:
            seen = without_unused(part)
            part.Clear()
            part.MergeFrom(seen)
    return kept


def serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def same_message(kind: str, written: bytes | None, expected: bytes) -> bool:
    """Whether these bytes are that message and no more; a map's entries may come in any order."""
    if written is None or len(written) != len(expected):
        return False
    return serialized(KINDS[kind].FromString(written)) == serialized(KINDS[kind].FromString(expected))


def test_units(program: Path) -> None:
    subprocess.run([program, "units"], check=True, timeout=60)


@settings(max_examples=400, deadline=None)
@given(any_messages())
def test_every_field_is_read_and_written_as_the_generated_code_does_it(codec: Codec, drawn: tuple[str, Any]) -> None:
    kind, message = drawn
    assert same_message(kind, codec.again(kind, serialized(message)), serialized(without_unused(message)))


@settings(max_examples=200, deadline=None)
@given(any_messages(), st.data())
def test_a_message_cut_short_is_refused_where_the_generated_code_refuses_it(
    codec: Codec, drawn: tuple[str, Any], data: st.DataObject
) -> None:
    kind, message = drawn
    whole = serialized(without_unused(message))
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        expected = serialized(KINDS[kind].FromString(part))
    except DecodeError:
        assert codec.again(kind, part) is None
    else:
        assert same_message(kind, codec.again(kind, part), expected)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A message with some bytes altered, taken out or put in, or no message at all."""
    kind, message = draw(any_messages())
    data = bytearray(serialized(message))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return kind, bytes(data)


def check_damaged(codec: Codec, kind: str, data: bytes) -> None:
    once = codec.again(kind, data)
    if once is not None:
        assert codec.again(kind, once) == once


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_damaged_input_is_refused_or_read_but_never_ends_the_program(codec: Codec, drawn: tuple[str, bytes]) -> None:
    check_damaged(codec, *drawn)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None)
@given(damaged())
def test_damaged_input_makes_no_access_beyond_it(sanitized_codec: Codec, drawn: tuple[str, bytes]) -> None:
    check_damaged(sanitized_codec, *drawn)


def test_lists_without_an_end_are_refused(codec: Codec) -> None:
    pack = b"\x0a\x00"  # an empty one
    assert codec.again("L", pack * 4096) == pack * 4096
    assert codec.again("L", pack * 4097) is None


# ---- calls -----------------------------------------------------------------------------------------------------------


class Answer:
    """What the program printed: `name value` lines, and the status that the call ended with."""

    def __init__(self, program: Path, *arguments: object) -> None:
        command = [str(program), *map(str, arguments)]
        environment = {**os.environ, **SANITIZER_OPTIONS}
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stdout}{done.stderr[-4000:]}"
        self._read(done.stdout)

    def _read(self, said: str) -> None:
        self.lines = [line.partition(" ")[::2] for line in said.splitlines()]
        code, _, self.message = self.of("status")[-1].partition(" ")
        self.code = int(code)

    def of(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """One that nobody listens at, and nobody can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def free_port() -> int:
    with closed_port() as port:
        return port


@pytest.fixture(scope="module", params=["tcp4", "tcp6", "unix"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's address, of each kind."""
    where = {"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": f"unix:{tmp_path_factory.mktemp('net')}/socket"}
    if request.param == "tcp6" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with start_server(where[request.param], device="cpu", load=["passthrough"], drain_seconds=0.1) as server:
        yield server.address


def test_packs_are_listed_and_told(program: Path, served: str) -> None:
    with Client(served) as client:
        names, pack = [pack.name for pack in client.packs()], client.pack("passthrough")
    listed = Answer(program, "packs", served)
    assert (listed.code, listed.of("pack")) == (0, names)
    told = Answer(program, "pack", served, "passthrough")
    assert told.code == 0
    assert told.of("port") == [f"{port.name} {port.channels}" for port in pack.ports]
    assert told.of("parameter") == [
        f"{each.name} {each.minimum:g} {each.default_value:g} {each.maximum:g}" for each in pack.parameters
    ]
    assert told.of("visibility") == [
        f"{pack.minimum_visibility_seconds:g} {pack.default_visibility_seconds:g} {pack.lookahead_seconds:g}"
    ]


@pytest.mark.parametrize(
    ("rate", "channels", "block", "blocks"), [(48_000, 2, 128, 400), (96_000, 6, 8_192, 60), (8_000, 1, 1, 800)]
)
def test_a_streams_blocks_come_back_bit_for_bit(
    program: Path, served: str, rate: int, channels: int, block: int, blocks: int
) -> None:
    answer = Answer(program, "echo", served, "passthrough", rate, channels, block, blocks)
    assert (answer.code, answer.message) == (0, "")
    assert answer.of("received") == [str(4 * channels * block * blocks)]


def test_what_the_server_refuses_comes_with_its_words(program: Path, served: str) -> None:
    unknown = Answer(program, "pack", served, "pölka")
    assert unknown.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "no pack 'pölka'" in unknown.message
    assert "passthrough" in unknown.message
    rate = Answer(program, "echo", served, "passthrough", 4_000, 2, 128, 10)
    assert rate.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "sample rate is 4000 Hz: use 8000 to 192000" in rate.message


@pytest.mark.paced
def test_a_session_that_is_silent_for_long_stays(program: Path, served: str) -> None:
    answer = Answer(program, "hold", served, 4_000, 2_000, 600, 2_000)  # asks for a sign of life every 0.6 s
    assert (answer.of("connected"), answer.code) == (["1"], 0)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_missing_server_is_named(program: Path, tmp_path: Path, kind: str) -> None:
    with closed_port() as port:
        address = f"127.0.0.1:{port}" if kind == "tcp" else f"unix:{tmp_path}/socket"
        answer = Answer(program, "packs", address)
    assert answer.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert answer.message.startswith(f"there is no server at {address} (")
    assert "backline serve" in answer.message


@pytest.mark.parametrize("state", [None, "/state"])
@pytest.mark.parametrize("runtime", [None, "", "relative", "/some one", "/" + 200 * "x", f"/run/user/{os.geteuid()}"])
@pytest.mark.parametrize("home", [None, "/home/me"])
def test_the_plugin_looks_where_the_server_may_be(
    program: Path, monkeypatch: pytest.MonkeyPatch, runtime: str | None, state: str | None, home: str | None
) -> None:
    monkeypatch.delenv("BACKLINE_ADDRESS", raising=False)
    for variable, value in (("XDG_RUNTIME_DIR", runtime), ("XDG_STATE_HOME", state), ("HOME", home)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    answer = Answer(program, "places")
    assert answer.of("place") == [f"unix:{path}" for path in user_sockets()]
    assert answer.of("address")[-1] == "127.0.0.1:50505"


def test_another_users_socket_gets_no_byte_and_loopback_comes_next(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener_of_another_user() as listener:
        address = f"unix:{listener.path}"
        monkeypatch.delenv("BACKLINE_ADDRESS", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(listener.path.parent))
        assert Answer(program, "places").of("address") == [address, "127.0.0.1:50505"]
        answer = Answer(program, "echo", address, "passthrough", 48_000, 2, 512, 100)
    assert answer.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert answer.message == f"the socket at {address} is another user's (uid {UID}): nothing was sent"
    assert listener.received == 0


class Held(Answer):
    """An open session in a process of its own, up to the moment at which it is ready."""

    def __init__(self, program: Path, *arguments: object) -> None:
        self._process = subprocess.Popen([program, "hold", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def ended(self) -> Held:
        said, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        self._read(said)
        return self


@pytest.mark.slow
@pytest.mark.paced
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_server_that_ends_or_hangs_is_noticed(program: Path, tmp_path: Path, kind: str, how: signal.Signals) -> None:
    address = f"127.0.0.1:{free_port()}" if kind == "tcp" else f"unix:{tmp_path}/socket"
    with server_process(address) as server:
        held = Held(program, address, 60_000, 2_000, 1_000, 3_000)
        server.send_signal(how)
        try:
            answer = held.ended()
        finally:
            server.send_signal(signal.SIGCONT)
    if how == signal.SIGTERM:  # it closes its sessions in order
        assert (answer.code, answer.message) == (0, "")
        return
    assert answer.of("lost") == ["1"]
    assert answer.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert address in answer.message
    assert ("no sign of life" in answer.message) == (how == signal.SIGSTOP)


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        (b"", "did not answer within 500 ms"),
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "speaks no gRPC"),
        (bytes(range(256)) * 100, "speaks no gRPC"),
    ],
)
def test_what_is_no_server_of_ours_is_told_apart(program: Path, says: bytes, remedy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer_once() -> None:
            with contextlib.suppress(OSError):
                taken, _ = listening.accept()
                with taken:
                    taken.sendall(says)
                    while taken.recv(65_536):
                        pass

        thread = threading.Thread(target=answer_once, daemon=True)
        thread.start()
        answer = Answer(program, "hold", f"127.0.0.1:{port}", 10_000, 500, 500, 1_000)
        thread.join(10)
    assert answer.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert remedy in answer.message
    assert "is it a Backline server?" in answer.message


@contextlib.contextmanager
def foreign_server(behaviour: Any) -> Iterator[str]:
    """A gRPC server whose Stream sends the bytes that `behaviour` yields."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
    method = grpc.stream_stream_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("backline.v1.Backline", {"Stream": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)


@pytest.mark.parametrize(("count", "size"), [(1, 0), (20_000, 3), (3, 20_000_000), (200, 65_531)])
def test_messages_of_any_size_and_number_come_through(program: Path, count: int, size: int) -> None:
    def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(size)

    with foreign_server(behaviour) as address:
        answer = Answer(program, "pull", address)
    assert (answer.code, answer.of("messages"), answer.of("bytes")) == (0, [str(count)], [str(count * size)])


@pytest.mark.parametrize("after", [0, 3])
def test_a_status_comes_with_its_message_after_any_number_of_messages(program: Path, after: int) -> None:
    words = "♪ 100% of 'it': «ü»"

    def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(after):
            yield b"x"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, words)

    with foreign_server(behaviour) as address:
        answer = Answer(program, "pull", address)
    assert answer.of("messages") == [str(after)]
    assert (answer.code, answer.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], words)


def test_a_message_beyond_every_measure_ends_the_call(program: Path) -> None:
    def behaviour(_: Iterator[bytes], __: grpc.ServicerContext) -> Iterator[bytes]:
        yield bytes((64 << 20) + 1)

    with foreign_server(behaviour) as address:
        answer = Answer(program, "pull", address)
    assert answer.code == grpc.StatusCode.INTERNAL.value[0]
    assert "64 MiB" in answer.message


def test_a_method_that_the_server_lacks_is_unimplemented(program: Path) -> None:
    with foreign_server(lambda requests, context: iter(())) as address:
        answer = Answer(program, "packs", address)
    assert answer.code == grpc.StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.slow
def test_calls_are_clean_under_the_address_sanitizer(sanitized_program: Path, address: str) -> None:
    subprocess.run([sanitized_program, "units"], check=True, timeout=60, env={**os.environ, **SANITIZER_OPTIONS})
    assert Answer(sanitized_program, "packs", address).code == 0
    assert Answer(sanitized_program, "echo", address, "passthrough", 48_000, 2, 300, 300).code == 0
    assert Answer(sanitized_program, "echo", address, "polka", 48_000, 2, 300, 300).code == 5
    with closed_port() as port:
        assert Answer(sanitized_program, "packs", f"127.0.0.1:{port}").code == 14
    assert Answer(sanitized_program, "hold", address, 200).code == 0  # leaves in the midst of it

"""OSC packets as they come: whatever the bytes are, messages or one error, soon."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc import slip

from backline.doors import packets
from backline.doors.packets import BadPacket, Message, SizePrefixed, Slip, framing_of, read
from tests.support.osc import bundle, fuzzed, message, tag_at, unpacked

VALUES = st.lists(
    st.one_of(
        st.tuples(st.just("i"), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just("h"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("f"), st.floats(width=32, allow_nan=False)),
        st.tuples(st.just("d"), st.floats(allow_nan=False)),
        st.tuples(st.just("s"), st.text("abc é/*", max_size=9)),
        st.tuples(st.just("T"), st.booleans()),
        st.tuples(st.just("N"), st.none()),
    ),
    max_size=6,
)


@given(VALUES)
def test_what_is_written_is_read_again(values: list[tuple[str, object]]) -> None:
    types, given_values = "".join(tag for tag, _ in values), tuple(value for _, value in values)
    packet = packets.write("/a/b", given_values, types)  # type: ignore[arg-type]
    assert read(packet) == [Message("/a/b", given_values)]  # type: ignore[arg-type]
    assert tuple(unpacked(packet)[0].params) == given_values


def test_bundles_keep_order_and_time_tags() -> None:
    inner = bundle(tag_at(2_000_000_000.25), message("/b", 2))
    found = read(bundle(1, message("/a", 1), inner, message("/c", 3)))
    assert found == [Message("/a", (1,)), Message("/b", (2,), 2_000_000_000.25), Message("/c", (3,))]


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "begin neither"),
        (b"hello\0\0\0", "begin neither"),
        (bundle(1) + struct.pack(">i", -4), "-4 bytes"),  # python-osc reads these for ever
        (bundle(1) + struct.pack(">i", 0), "0 bytes"),
        (bundle(1) + struct.pack(">i", 400) + message("/a"), "400 bytes"),
        (b"#bundle\0\0\0", "time tag"),
        (message("/a", b"blob"), "type 'b'"),
        (message("/a", *range(9_000)), "at most 16384"),
        (message("/a", 1)[:-2], "no OSC"),
        (bundle(1, *[message("/a")] * 300), "more than 256"),
    ],
)
def test_what_is_no_osc_is_named(packet: bytes, words: str) -> None:
    with pytest.raises(BadPacket, match=words):
        read(packet)


def test_bundles_may_be_nested_as_deep_as_anybody_does() -> None:
    packet = message("/a")
    for _ in range(packets.DEPTH):
        packet = bundle(1, packet)
    assert read(packet) == [Message("/a", ())]
    with pytest.raises(BadPacket, match="deep"):
        read(bundle(1, packet))


def test_ten_thousand_fuzzed_packets_are_messages_or_one_error() -> None:
    whole = 0
    for packet in fuzzed(10_000, 1, ["/session/1/parameter/gain", "/packs", "/subscribe"]):
        with contextlib.suppress(BadPacket):
            whole += bool(read(packet))
    assert 1_000 < whole < 9_000


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.data())
@pytest.mark.parametrize("framing", [Slip, SizePrefixed])
def test_a_stream_is_cut_into_its_packets_wherever_it_is_torn(
    framing: type[Slip | SizePrefixed], sent: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(framing().frame(packet) for packet in sent)
    receiving, received = framing(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += receiving.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


def test_a_streams_first_byte_tells_its_framing() -> None:
    packet = message("/a")
    assert isinstance(framing_of(SizePrefixed().frame(packet)[0]), SizePrefixed)
    assert isinstance(framing_of(slip.encode(packet)[0]), Slip)
    assert isinstance(framing_of(packet[0]), Slip)


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        (SizePrefixed(), b"\x7f\0\0\0"),
        (SizePrefixed(), b"\xff\xff\xff\xff"),
        (Slip(), b"a" * 40_000),
        (Slip(), b"\xc0\xdb\xc0"),
    ],
)
def test_a_stream_that_can_be_no_osc_ends(framing: Slip | SizePrefixed, data: bytes) -> None:
    with pytest.raises(BadPacket):
        framing.feed(data)


def test_many_messages_are_few_packets_that_a_network_carries_whole() -> None:
    messages = [message("/session/1/level", index) for index in range(200)]
    sent = list(packets.bundled(messages))
    assert [each.dgram for packet in sent for each in unpacked(packet)] == messages
    assert max(map(len, sent)) <= packets.DATAGRAM_BYTES
    assert len(sent) < 8

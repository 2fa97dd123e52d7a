"""The threaded client against a real server: what goes through passthrough comes back, bit for bit."""

import threading

import grpc
import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import (
    Audio,
    BacklineError,
    Block,
    Client,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    SessionEnded,
    Take,
    TimedOut,
    Transport,
)
from backline_client.wire import Control
from backline_protos.v1 import backline_pb2 as pb

RATE = 48_000


def noise(channels: int, samples: int) -> Audio:
    return np.random.default_rng(samples).uniform(-1, 1, (channels, samples)).astype(np.float32)


def joined(blocks: list[Block], channels: int, samples: int) -> Audio:
    audio = np.zeros((channels, samples), np.float32)
    for block in blocks:
        audio[:, block.position : block.end] = block.audio
    return audio


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 255, 4_097, 30_000])
def test_a_rendering_is_as_long_as_its_input(client: Client, channels: int, samples: int) -> None:
    audio = noise(channels, samples)
    shares: list[float] = []
    outputs = client.render("passthrough", audio, RATE, progress=shares.append, seed=5)
    assert list(outputs) == ["main"]
    np.testing.assert_array_equal(outputs["main"], audio)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert outputs.ready.seed == 5
    assert outputs.totals.samples_in == samples


def test_a_session_gives_back_what_was_sent_whatever_the_blocks(client: Client) -> None:
    audio = noise(2, 9_000)
    with client.open("passthrough", RATE, 2, offline=True) as session:
        for start, end in [(0, 1), (1, 100), (100, 8_500), (8_500, 9_000)]:
            session.send(audio[:, start:end])
        assert session.position == 9_000
        session.end_input()
        blocks = list(session)
    np.testing.assert_array_equal(joined(blocks, 2, 9_000), audio)
    assert [block.sequence for block in blocks] == list(range(len(blocks)))
    assert session.totals is not None
    assert session.totals.samples_out == 9_000


def test_output_can_be_received_after_closing(client: Client) -> None:
    with client.open("passthrough", RATE, 1, offline=True) as session:
        session.send(noise(1, 5_000)[0])  # a vector is mono
        assert session.close().samples_in == 5_000
    np.testing.assert_array_equal(joined(list(session), 1, 5_000), noise(1, 5_000))
    assert session.receive() is None


def test_positions_may_start_anywhere(client: Client) -> None:
    with client.open("passthrough", RATE, 1, offline=True) as session:
        session.send(noise(1, 2_000), position=-700)
        session.end_input()
        blocks = list(session)
    assert blocks[0].position == -700
    np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks], axis=1), noise(1, 2_000))


def test_an_open_session_is_listed_and_can_be_closed_by_id(client: Client) -> None:
    with client.open("passthrough", RATE, 2, client_name="singer") as session:
        session.transport(Transport(tempo=96.0, numerator=3))
        session.send(noise(2, 64))
        mine = [entry for entry in client.sessions() if entry.id == session.ready.session]
        assert [(entry.client_name, entry.sample_rate, entry.channels) for entry in mine] == [("singer", RATE, 2)]
        client.close_session(session.ready.session)
        session.cancel()


def test_ready_says_what_was_granted(client: Client) -> None:
    with client.open("passthrough", RATE, 2, block_size=512, jitter_buffer_seconds=0.02) as session:
        items = {item.name: item.seconds for item in session.ledger.items}
        assert items["jitter_buffer"] == pytest.approx(0.02)
        assert items["capture"] == pytest.approx(512 / RATE)
        assert session.latency_samples >= 512 + 0.02 * RATE
        assert [port.channels for port in session.ready.ports] == [2]
        session.cancel()


def test_packs_load_and_unload(client: Client) -> None:
    assert "passthrough" in [pack.name for pack in client.packs()]
    assert client.load_pack("passthrough").state == client.pack("passthrough").state
    client.unload_pack("passthrough", close_sessions=True)
    assert client.load_pack("passthrough").name == "passthrough"
    assert client.stats().resident_bytes > 0


def test_a_missing_server_is_said_so_with_what_to_do() -> None:
    client = Client("127.0.0.1:1", timeout=10.0)
    for call in (
        client.packs,
        lambda: client.open("passthrough", RATE, 1),
        lambda: client.render("x", noise(1, 9), RATE),
    ):
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1.*`backline serve`") as failure:
            call()
        assert failure.value.status is grpc.StatusCode.UNAVAILABLE


def test_refusals_keep_the_servers_status_and_message(client: Client) -> None:
    with pytest.raises(NotFound, match="no-such-pack") as failure:
        client.open("no-such-pack", RATE, 2)
    assert failure.value.status is grpc.StatusCode.NOT_FOUND
    with pytest.raises(NotFound, match="no-such-pack"):
        client.render("no-such-pack", noise(1, 100_000), RATE)
    with pytest.raises(InvalidRequest, match="rate"):
        client.open("passthrough", 1, 2)


def test_a_failure_during_a_session_reaches_whoever_sends_or_receives(client: Client) -> None:
    session = client.open("passthrough", RATE, 1)
    session.control("no-such-parameter", 1.0)
    with pytest.raises(BacklineError, match="no-such-parameter"):
        session.receive(timeout=10.0)
    with pytest.raises(BacklineError, match="no-such-parameter"):
        session.send(noise(1, 10))
    with pytest.raises(BacklineError, match="no-such-parameter"):
        session.close()


def test_a_failure_that_nobody_has_seen_leaves_the_with_block(client: Client) -> None:
    with pytest.raises(BacklineError, match="no-such-parameter"), client.open("passthrough", RATE, 1) as session:
        session.control("no-such-parameter", 1.0)


def test_a_closed_session_takes_no_more(client: Client) -> None:
    with client.open("passthrough", RATE, 1) as session:
        session.close()
        with pytest.raises(SessionEnded):
            session.send(noise(1, 10))


@pytest.mark.parametrize("audio", [np.zeros((3, 10), np.float32), np.zeros((2, 10), np.int16), np.zeros((1, 2, 3))])
def test_what_is_no_audio_is_refused_before_it_is_sent(client: Client, audio: Audio) -> None:
    with client.open("passthrough", RATE, 2) as session:
        with pytest.raises(ValueError, match="audio"):
            session.send(audio)
        session.cancel()


def test_receive_gives_up_in_time(client: Client) -> None:
    with client.open("passthrough", RATE, 1) as session:
        with pytest.raises(TimeoutError):
            session.receive(timeout=0.01)
        session.cancel()


def test_one_thread_sends_while_another_receives(client: Client) -> None:
    audio = noise(1, 20_000)
    blocks: list[Block] = []
    with client.open("passthrough", RATE, 1, offline=True) as session:
        receiver = threading.Thread(target=lambda: blocks.extend(session))
        receiver.start()
        for start in range(0, 20_000, 500):
            session.send(audio[:, start : start + 500])
        session.close()
        receiver.join(timeout=10.0)
    np.testing.assert_array_equal(joined(blocks, 1, 20_000), audio)


def test_a_session_that_is_not_used_ends_with_an_error_of_its_own() -> None:
    with start_server(device="cpu", idle_seconds=0.2) as server, Client(server.address) as client:
        session = client.open("passthrough", RATE, 1)
        with pytest.raises(TimedOut, match=r"the client has sent nothing for 0\.2 s: open a new session") as raised:
            session.receive(timeout=10.0)
        assert raised.value.status is grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(TimedOut):
            session.send(noise(1, 10))


def test_a_rendering_may_have_any_number_of_changes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may wait in a session, in no order: each goes with its audio, and none comes late."""
    monkeypatch.setattr("backline_client.rendering.CHANGES_AHEAD", 500)
    monkeypatch.setattr("backline.engine.changes.PENDING_CHANGES", 10_000)
    samples = 15_000
    audio = np.ones((1, samples), np.float32)
    controls = [Control("gain", (position % 97) / 96, position) for position in reversed(range(samples))]
    outputs = client.render("passthrough", audio, RATE, controls=controls, chunk_seconds=0.01)
    starts = np.arange(samples) // 480 * 480
    np.testing.assert_array_equal(outputs["main"][0], np.float32(starts % 97 / 96))
    assert not outputs.warnings


def test_a_loop_begins_takes_and_gives_back_every_sample(client: Client) -> None:
    audio = noise(2, 3 * RATE)
    loop = Transport(120.0, loop=(0.0, 2.0))
    outputs = client.render("passthrough", audio, RATE, transport=[loop], new_takes=True)
    assert outputs.takes == [Take(at, at, number=at // RATE) for at in (RATE, 2 * RATE)]
    np.testing.assert_array_equal(outputs["main"], audio)


def test_a_take_can_be_asked_for(client: Client) -> None:
    audio = noise(1, RATE)
    with client.open("passthrough", RATE, 1, offline=True) as session:
        session.send(audio[:, :9_000])
        session.take()
        session.send(audio[:, 9_000:])
        session.end_input()
        events = list(iter(lambda: session.receive_event(10.0), None))
    assert [event for event in events if isinstance(event, Take)] == [Take(9_000, 9_000, number=1)]
    np.testing.assert_array_equal(joined([e for e in events if isinstance(e, Block)], 1, RATE), audio)


def test_a_session_can_ask_for_what_is_advised(client: Client) -> None:
    trip = client.round_trip_seconds(5)
    assert 0 < trip < 5
    advice = client.advise("passthrough", RATE, 2, round_trip_seconds=0.01, latency_seconds=0.0)
    assert advice.verdict == pb.VERDICT_SAFE
    assert advice.visibility_seconds < 0
    assert "network 10 ms" in advice.reason
    with client.open(
        "passthrough", RATE, 2,
        chunk_seconds=advice.chunk_seconds, visibility_seconds=advice.visibility_seconds,
    ) as session:  # fmt: skip
        assert session.ready.visibility_seconds == advice.visibility_seconds
    with pytest.raises(InvalidRequest, match="round trip is -1 s"):
        client.advise("passthrough", RATE, 2, round_trip_seconds=-1.0)
    with pytest.raises(NotFound):
        client.advise("none", RATE, 2, round_trip_seconds=0.0)

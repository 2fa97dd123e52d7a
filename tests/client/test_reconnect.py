"""A session that keeps time survives its network and its server: by itself, sample by sample, and within bounds."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backline.packs.pack import write_pack
from backline.service.server import RunningServer, start_server
from backline_client import (
    Audio,
    Block,
    Client,
    ConnectionFailed,
    Dry,
    Event,
    Link,
    Marked,
    Session,
    Take,
)
from backline_client.upstream import Upstream
from backline_protos.v1 import backline_pb2 as pb
from tests.support.network import Network, Weather
from tests.support.wire import eventually

RATE, CHUNK, BLOCK = 48_000, 480, 256
PORTS = ("low", "high")
BUFFER = 50.0  # seconds: nothing that a test does comes too late


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    config = {"name": "two", "version": "1", "family": "passthrough", "description": "a test", "license": "none"}
    write_pack(folder / "two", {**config, "passthrough": {"ports": list(PORTS), "clicks": True}}, {})
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with start_server(packs=[folder], device="cpu", drain_seconds=0.1) as server:
        yield server


def noise(samples: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-1, 1, (2, samples)).astype(np.float32)


def opened(client: Client, **options: Any) -> Session:
    usual: dict[str, Any] = {"block_size": BLOCK, "chunk_seconds": CHUNK / RATE, "jitter_buffer_seconds": BUFFER}
    return client.open("two", RATE, 2, **{**usual, **options})


def heard(events: list[Event]) -> dict[str, Audio]:
    """Each port's output; its blocks follow on each other."""
    pieces: dict[str, list[Audio]] = {port: [] for port in PORTS}
    ends = dict.fromkeys(PORTS, 0)
    for event in events:
        if isinstance(event, Block):
            assert event.position == ends[event.port]
            ends[event.port] = event.end
            pieces[event.port].append(event.audio)
    return {port: np.concatenate(found, axis=1) for port, found in pieces.items() if found}


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def drained(session: Session) -> list[Event]:
    return list(iter(session.receive_event, None))


def blocks(audio: Audio) -> Iterator[Audio]:
    for start in range(0, audio.shape[1], BLOCK):
        yield audio[:, start : start + BLOCK]


def play(session: Session, audio: Audio, each: Callable[[int], None] = lambda block: None) -> list[Event]:
    """Plays with changes, notes and markers among it; all that was said."""
    for index, block in enumerate(blocks(audio)):
        each(index)
        at = session.position
        if index % 3 == 0:
            session.control("gain", (index % 8) / 8, at + 100)
        if index % 4 == 0:
            session.midi(at + 9, b"\x90\x3c\x40")
        if index % 5 == 0:
            session.mark(at)
        session.send(block)
    session.close(30)
    return drained(session)


@pytest.mark.parametrize("seed", range(3))
def test_wherever_the_network_breaks_nothing_is_lost_or_doubled(server: RunningServer, seed: int) -> None:
    """At any piece of bytes, either way: what was on its way is lost."""
    audio, drawn, left = noise(100 * BLOCK, seed), random.Random(seed), itertools.count()
    with Client(server.address) as client:
        whole = play(opened(client), audio)
    with Network(server.address) as network, Client(network.address) as client:
        session = opened(client)
        network.swallow = lambda: drawn.random() < 0.08 and next(left) < 12
        cut = play(session, audio)
    links = of(cut, Link)
    assert any(link.up and link.resumed for link in links)
    assert not any(link.up and not link.resumed for link in links)
    for port in PORTS:
        np.testing.assert_array_equal(heard(cut)[port], heard(whole)[port])
    assert of(cut, Marked) == of(whole, Marked)
    assert len(of(cut, Marked)) == 20
    assert [block.sequence for block in of(cut, Block)] == list(range(len(of(cut, Block))))
    assert not of(cut, Dry)


def test_a_far_and_restless_network_that_is_cut_loses_nothing(server: RunningServer) -> None:
    audio = noise(60 * BLOCK)
    with Network(server.address, Weather(round_trip=0.02, jitter=0.002)) as network, Client(network.address) as client:

        def each(index: int) -> None:
            if index in (10, 40):
                network.cut()
            if index in (20, 50):
                network.mend()

        events = play(opened(client), audio, each)
    assert len([link for link in of(events, Link) if link.resumed]) >= 1
    assert heard(events)["low"].shape[1] == audio.shape[1]


def test_a_server_that_is_another_one_gets_a_session_like_it(folder: Path) -> None:
    """Same pack, seed, values; from the present on."""
    events: list[Event] = []
    with Network("127.0.0.1:1") as network, Client(network.address) as client:  # noqa: SIM117
        with start_server(packs=[folder], device="cpu", drain_seconds=0.1) as server:
            network.target = server.address
            session = opened(client, seed=11)
            session.control("gain", 0.5, 0)
            session.send(noise(BLOCK))
            first = session.ready.session
            network.cut()
            session.send(noise(BLOCK))
            with start_server(packs=[folder], device="cpu", drain_seconds=0.1) as other:
                network.target = other.address
                network.mend()
                while not (events and isinstance(events[-1], Link) and events[-1].up):
                    events.append(session.receive_event(20))  # type: ignore[arg-type]
                assert not events[-1].resumed
                assert session.ready.session != first
                assert session.ready.seed == 11
                begins = session.position
                session.send(np.ones((2, 4 * CHUNK), np.float32))
                session.close(20)
                rest = drained(session)
    after = of(rest, Block)
    assert after[0].position == begins
    assert {block.audio.max() for block in after if block.audio.shape[1]} == {0.5}


def test_a_server_that_stays_away_ends_the_session_after_its_patience(server: RunningServer) -> None:
    for patience in (0.3, 0.0):
        with Network(server.address) as network, Client(network.address) as client:
            session = opened(client, reconnect_seconds=patience)
            session.send(noise(2 * CHUNK))
            assert session.receive(20) is not None
            network.cut()
            with pytest.raises(ConnectionFailed):
                drained(session)
            with pytest.raises(ConnectionFailed):
                session.send(noise(BLOCK))


def test_a_session_that_is_cancelled_leaves_no_lease_behind(server: RunningServer) -> None:
    with Client(server.address) as client:
        session = opened(client, client_name="fickle")
        session.send(noise(BLOCK))
        session.cancel()
        with pytest.raises(RuntimeError), opened(client, client_name="fickle"):
            raise RuntimeError
        opened(client, client_name="fickle")  # ended by its client's end
    with Client(server.address) as client:
        assert eventually(lambda: not [each for each in client.sessions() if each.client_name == "fickle"], 5)


def test_a_client_that_dies_frees_its_place_after_the_lease(folder: Path) -> None:
    with (
        start_server(packs=[folder], device="cpu", lease_seconds=0.5, drain_seconds=0.1) as server,
        Network(server.address) as network,
        Client(network.address) as client,
        Client(server.address) as near,
    ):
        session = opened(client)
        network.cut()
        assert eventually(lambda: [each.state for each in near.sessions()] == ["detached"], 5)
        assert near.stats().sessions_detached == 1
        assert all(0.0 <= each.lease_left_seconds <= 0.5 for each in near.sessions())
        assert eventually(lambda: not near.sessions(), 5)
        session.cancel()


def test_a_session_that_has_missed_too_much_is_ended_and_another_one_opened(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to its lease, in which it would hold a place."""
    monkeypatch.setattr("backline_client.session.LONGEST_GAP_SECONDS", 0.5)
    with Network(server.address) as network, Client(network.address) as client, Client(server.address) as near:

        def there() -> dict[str, str]:
            return {each.id: each.state for each in near.sessions() if each.client_name == "late"}

        session = opened(client, client_name="late")
        session.send(noise(4 * CHUNK))
        assert session.receive(20) is not None
        first = session.ready.session
        network.cut()
        assert eventually(lambda: there() == {first: "detached"}, 5)
        session.send(noise(RATE))
        network.mend()
        events: list[Event] = []
        while not (events and isinstance(events[-1], Link) and events[-1].up):
            events.append(session.receive_event(20))  # type: ignore[arg-type]
        assert not events[-1].resumed
        assert session.ready.session != first
        assert list(there()) == [session.ready.session]
        begins = session.position
        session.send(np.ones((2, 4 * CHUNK), np.float32))
        session.close(20)
        after = of(drained(session), Block)
    assert after[0].position == begins  # nothing of the one before comes among it
    assert {block.audio.max() for block in after if block.audio.shape[1]} == {1.0}


def test_within_the_latency_nothing_is_skipped_and_beyond_it_the_session_goes_on_at_the_present(
    server: RunningServer,
) -> None:
    """Positions stay contiguous, and what was not computed is told."""
    for away, skips in ((0.5, False), (3.0, True)):
        events: list[Event] = []
        with Network(server.address) as network, Client(network.address) as client:
            session = opened(client, jitter_buffer_seconds=1.0)
            session.send(np.ones((2, 4 * CHUNK), np.float32))
            while not (events and isinstance(events[-1], Block) and events[-1].end == 4 * CHUNK):
                events.append(session.receive_event(20))  # type: ignore[arg-type]
            network.cut()
            while not isinstance(events[-1], Link):
                events.append(session.receive_event(20))  # type: ignore[arg-type]
            present = session.position + round(away * RATE)
            while session.position < present:
                session.send(np.full((2, min(BLOCK, present - session.position)), 0.5, np.float32))
            network.mend()
            while not (isinstance(events[-1], Link) and events[-1].up):
                events.append(session.receive_event(20))  # type: ignore[arg-type]
            assert events[-1].resumed
            session.send(np.ones((2, 4 * CHUNK), np.float32))
            session.close(30)
            events += drained(session)
        takes = [take for take in of(events, Take) if take.skipped]
        covered = np.full(present + 4 * CHUNK, -1.0)  # -1: nothing was said of it
        for event in events:
            if isinstance(event, Dry):
                covered[event.position : event.position + event.samples] = 0.0
            elif isinstance(event, Block) and event.port == "low":
                assert (covered[event.position : event.end] == -1.0).all()
                covered[event.position : event.end] = event.audio[0]
        assert not (covered == -1.0).any()
        assert (covered[: 4 * CHUNK] == 1.0).all()
        assert (covered[present + CHUNK :] == 1.0).all()  # beyond the fade in
        if skips:
            assert [take.position for take in takes] == [present]
            assert session.dropped_samples == present - 4 * CHUNK
            assert (covered[4 * CHUNK : present] == 0.0).all()
        else:
            assert not takes
            assert (covered[4 * CHUNK : present] == 0.5).all()


# ---- what waits -----------------------------------------------------------------------------------------


def audio_message(index: int) -> pb.ClientMessage:
    return pb.ClientMessage(audio=pb.AudioBlock(sequence=index, position=index * 10))


def taken(upstream: Upstream, first: pb.ClientMessage, received: int | None, count: int) -> list[pb.ClientMessage]:
    """What a call gets after its first message."""
    requests = upstream.requests(first)
    assert next(requests) is first
    if received is None:
        upstream.begin()
    else:
        upstream.go_on(received)
    return [next(requests) for _ in range(count)]


def sequences(messages: list[pb.ClientMessage]) -> list[int]:
    return [message.audio.sequence for message in messages]


def test_a_call_gets_what_the_server_has_not() -> None:
    upstream, hello = Upstream(1_000), pb.ClientMessage()
    for index in range(6):
        upstream.put(audio_message(index), 10)
    assert sequences(taken(upstream, hello, None, 4)) == [0, 1, 2, 3]
    assert sequences(taken(upstream, hello, 2, 4)) == [2, 3, 4, 5]
    assert sequences(taken(upstream, hello, 2, 2)) == [2, 3]
    upstream.put(audio_message(6), 10)
    assert sequences(taken(upstream, hello, 4, 3)) == [4, 5, 6]
    assert upstream.dropped_samples == 0


def test_what_waits_is_bounded_and_the_oldest_goes_first_and_is_counted() -> None:
    upstream, hello = Upstream(50), pb.ClientMessage()
    for index in range(100):
        upstream.put(audio_message(index), 10)
        if index % 10 == 0:
            upstream.put(pb.ClientMessage(marker=pb.Marker(id=index)))
    assert upstream.dropped_samples == 950
    found = taken(upstream, hello, None, 15)
    assert [message.marker.id for message in found if message.HasField("marker")] == list(range(0, 100, 10))
    assert [entry.audio.sequence for entry in found if entry.HasField("audio")] == [95, 96, 97, 98, 99]
    for index in range(100, 110):  # what was taken goes uncounted
        upstream.put(audio_message(index), 10)
    assert sequences(taken(upstream, hello, 15, 5)) == [105, 106, 107, 108, 109]


def test_of_a_session_without_audio_the_newest_messages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline_client.upstream.KEPT_MESSAGES", 20)
    upstream, hello = Upstream(50), pb.ClientMessage()
    for index in range(100):
        upstream.put(pb.ClientMessage(marker=pb.Marker(id=index)))
    taken(upstream, hello, None, 100)
    for index in range(100, 105):
        upstream.put(pb.ClientMessage(marker=pb.Marker(id=index)))
    found = taken(upstream, hello, 98, 7)  # of which the server has 98: it goes on with the 99th
    assert [message.marker.id for message in found] == list(range(98, 105))
    assert len(upstream._sent) <= 20


def test_blocks_that_grow_are_bounded_too() -> None:
    upstream = Upstream(50)
    for size in [*[1] * 50, *range(10, 50, 10)]:
        upstream.put(audio_message(0), size)
        assert upstream._samples <= 50


def test_whoever_is_too_far_behind_skips_audio_and_nothing_else() -> None:
    upstream, hello = Upstream(10_000), pb.ClientMessage()
    for index in range(10):
        upstream.put(audio_message(index), 10)
    upstream.put(pb.ClientMessage(text=pb.Text(name="query", text="bass")))
    requests = upstream.requests(hello)
    next(requests)
    upstream.go_on(0, skip_to=80)
    take, *rest = [next(requests) for _ in range(4)]
    assert (take.take.position, take.take.skipped) == (80, True)
    assert sequences(rest[:2]) == [8, 9]
    assert rest[2].text.text == "bass"
    assert upstream.dropped_samples == 80


def test_a_call_whose_session_is_given_up_says_so_and_takes_nothing_of_the_next_ones() -> None:
    upstream, hello = Upstream(1_000), pb.ClientMessage()
    upstream.put(audio_message(0), 10)
    given_up = upstream.requests(hello)
    next(given_up)
    upstream.give_up()
    assert next(given_up).close.discard
    new = upstream.requests(hello)
    assert list(given_up) == []
    next(new)
    upstream.start_over([], 0)
    assert sequences([next(new)]) == [0]


def test_an_old_call_takes_nothing_more() -> None:
    upstream, hello = Upstream(1_000), pb.ClientMessage()
    old = upstream.requests(hello)
    next(old)
    upstream.begin()
    got: list[object] = []
    waits = threading.Thread(target=lambda: got.extend(old))
    waits.start()
    new = upstream.requests(hello)
    waits.join(10)
    assert not waits.is_alive()
    assert got == []
    next(new)
    upstream.go_on(0)
    upstream.put(audio_message(0), 10)
    assert sequences([next(new)]) == [0]


def test_the_weather_is_as_it_was_ordered() -> None:
    weather = Weather(round_trip=0.1, jitter=0.02, down_share=0.02, seed=3)
    delays = list(itertools.islice(weather.delays(0), 20_000))
    assert min(delays) >= 0.05
    assert np.mean(delays) == pytest.approx(0.07, abs=0.003)
    assert max(delays) > 0.2
    cuts = list(itertools.islice(weather.cuts(), 2_000))
    assert max(down for _, down in cuts) <= 5.0
    assert sum(down for _, down in cuts) / sum(up + down for up, down in cuts) == pytest.approx(0.02, abs=0.002)


def test_a_client_that_was_asleep_goes_on_where_it_was(folder: Path) -> None:
    """To its server it was idle, as a laptop is whose lid was closed."""
    with (
        start_server(packs=[folder], device="cpu", idle_seconds=0.3, drain_seconds=0.1) as server,
        Client(server.address) as client,
        Client(server.address) as watcher,
    ):
        session, audio = opened(client), noise(4 * CHUNK)
        session.send(audio[:, : 2 * CHUNK])
        assert eventually(lambda: watcher.stats().sessions_detached == 1)
        session.send(audio[:, 2 * CHUNK :])
        session.close()
        events = drained(session)
    assert [(link.up, link.resumed) for link in of(events, Link)] == [(False, False), (True, True)]
    for port in PORTS:
        np.testing.assert_array_equal(heard(events)[port], audio)

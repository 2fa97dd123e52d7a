"""A client that neither sends nor takes its output gives its place to others; one that has a reason keeps it."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from backline.engine.errors import Idle
from backline.service.idle import OFFLINE_FACTOR, IdleWatch
from backline.service.server import RunningServer, start_server
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub
from tests.support.wire import OPTIONS, Answer, Bystander, block, client, eventually, held, noise, opening

LIMIT = 30.0

# ---- by a clock that the tests turn --------------------------------------------------------------------


class TurnedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be turned on."""

    turned = 0.0

    def time(self) -> float:
        return super().time() + self.turned

    async def turn(self, seconds: float) -> None:
        """Lets so much time pass, and everything happen that is due by then."""
        self.turned += seconds
        for _ in range(5):
            await asyncio.sleep(0)


class Watched:
    """A client that is watched, and the loop's clock."""

    def __init__(self) -> None:
        self.waits = True  # for the client
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        self.turn = loop.turn
        self.watch = IdleWatch(LIMIT, lambda: self.waits)
        self._task = asyncio.create_task(self.watch.run_out())

    @property
    def ended(self) -> Idle | None:
        return self._task.result() if self._task.done() else None


def by_turned_clock(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        runner.run(story)


def test_silence_ends_after_the_limit_and_says_why() -> None:
    async def story() -> None:
        client = Watched()
        await client.turn(LIMIT - 1)
        assert client.ended is None
        await client.turn(1.1)
        assert client.ended is not None
        assert not client.ended.untaken
        assert "the client has sent nothing for 30 s: open a new session when there is audio, or " in str(client.ended)

    by_turned_clock(story())


def test_whatever_the_client_does_gives_it_all_of_the_limit_again() -> None:
    async def story() -> None:
        client = Watched()
        for doing in range(10):
            await client.turn(LIMIT - 1)
            if doing % 2:
                client.watch.stir()
            else:
                with client.watch.taking():
                    pass
        await client.turn(LIMIT - 1)
        assert client.ended is None
        await client.turn(2)
        assert client.ended is not None

    by_turned_clock(story())


def test_a_client_that_is_stopped_may_be_silent_for_ever() -> None:
    async def story() -> None:
        client = Watched()
        client.watch.stopped = True
        for _ in range(100):
            await client.turn(LIMIT + 1)
        assert client.ended is None
        client.watch.stopped = False
        for _ in range(2):
            await client.turn(LIMIT + 1)
        assert client.ended is not None

    by_turned_clock(story())


def test_a_client_that_waits_for_the_server_is_not_idle() -> None:
    async def story() -> None:
        client = Watched()
        client.waits = False
        for _ in range(100):
            await client.turn(LIMIT + 1)
        assert client.ended is None
        client.waits = True
        await client.turn(LIMIT - 1)
        assert client.ended is None  # the server's time is not the client's
        await client.turn(2)
        assert client.ended is not None

    by_turned_clock(story())


@pytest.mark.parametrize("stopped", [False, True])
def test_a_client_that_takes_nothing_is_idle_whatever_it_sends_or_says(stopped: bool) -> None:
    async def story() -> None:
        client = Watched()
        client.watch.stopped = stopped
        await client.turn(LIMIT - 1)
        with client.watch.taking():  # from here on it is its turn
            for _ in range(29):
                client.watch.stir()
                await client.turn(1)
                assert client.ended is None
            await client.turn(2)
        assert client.ended is not None
        assert client.ended.untaken
        assert "the client has taken no output for 30 s" in str(client.ended)

    by_turned_clock(story())


# ---- through a server ----------------------------------------------------------------------------------

SOON = 0.25  # seconds
LIVE = {"mode": pb.MODE_LIVE}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with start_server(device="cpu", idle_seconds=SOON, max_sessions=6, drain_seconds=0.1) as server:
        yield server


@pytest.fixture
def stub(server: RunningServer) -> Iterator[BacklineStub]:
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        yield BacklineStub(channel)


def names(stub: BacklineStub) -> list[str]:
    return sorted(session.client_name for session in stub.ListSessions(pb.ListSessionsRequest()).sessions)


def test_a_client_that_opens_and_sends_nothing_is_ended(server: RunningServer, stub: BacklineStub) -> None:
    with Bystander(server.address):
        answer = Answer(stub.Stream(held(opening(**LIVE, client_name="silent"))))
        assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "the client has sent nothing for 0.25 s" in answer.details
        assert answer.messages[-1].error.message == answer.details
        assert eventually(lambda: names(stub) == ["bystander"])


def test_a_client_that_stops_sending_is_ended_after_it_has_got_its_output(stub: BacklineStub) -> None:
    audio = noise(2, 960)
    answer = Answer(
        stub.Stream(held(opening(**LIVE, jitter_buffer_seconds=5), block(audio[:, :480]), block(audio[:, 480:], 480)))
    )
    assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert np.array_equal(answer.port(), audio)


def test_a_call_without_an_open_is_ended(stub: BacklineStub) -> None:
    for call in (stub.Stream, stub.Render):
        answer = Answer(call(held()))
        assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "no Open came within 0.25 s" in answer.details


def test_stopped_clients_and_bounces_stay_while_silent_ones_go(server: RunningServer, stub: BacklineStub) -> None:
    stopped = pb.Transport(tempo=120, playing=False)
    calls = [
        stub.Stream(held(opening(**LIVE, client_name="stopped"), block(noise(2, 480)), stopped)),
        stub.Stream(held(opening(client_name="bounce"), block(noise(2, 480)))),
    ]
    assert eventually(lambda: names(stub) == ["bounce", "stopped"])
    for _ in range(2):  # one after the other
        answer = Answer(stub.Stream(held(opening(**LIVE))))
        assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert names(stub) == ["bounce", "stopped"]
    bounce = Answer(calls[1])
    assert bounce.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert f"nothing for {OFFLINE_FACTOR * SOON:g} s" in bounce.details
    assert names(stub) == ["stopped"]
    calls[0].cancel()
    assert eventually(lambda: names(stub) == [])


def test_a_client_that_plays_again_after_a_stop_is_watched_again(stub: BacklineStub) -> None:
    stop, go = (pb.Transport(tempo=120, playing=playing) for playing in (False, True))
    answer = Answer(stub.Stream(held(opening(**LIVE), stop, go)))
    assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("mode", [pb.MODE_LIVE, pb.MODE_OFFLINE])
def test_clients_that_never_read_give_their_places_back(
    server: RunningServer, stub: BacklineStub, mode: pb.Mode
) -> None:
    """All places but the bystander's, five times as much audio as may wait for any of them."""
    audio = noise(8, 4_096)
    ended = threading.Event()

    def messages() -> Iterator[pb.ClientMessage]:
        yield from client(
            opening(mode=mode, channels=8, block_size=4_096, chunk_seconds=0.05, jitter_buffer_seconds=60)
        )
        index = 0
        while not ended.is_set():
            yield pb.ClientMessage(audio=block(audio, index * 4_096, index))
            index += 1

    with Bystander(server.address):
        calls = [stub.Stream(messages()) for _ in range(5)]
        assert eventually(lambda: len(names(stub)) == 6)
        assert eventually(lambda: names(stub) == ["bystander"])
        again = stub.Stream(held(opening(**LIVE)))
        assert next(again).WhichOneof("message") == "ready"  # there is a place
        again.cancel()
        ended.set()
        for call in calls:  # whoever wakes up gets what was on its way, and the reason
            answer = Answer(call)
            assert answer.status is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "the client has taken no output for" in answer.details


def test_a_client_that_sends_and_reads_slowly_is_left_alone(stub: BacklineStub) -> None:
    """A message each two fifths of the limit, for several limits."""
    pause = threading.Event()

    def messages() -> Iterator[pb.ClientMessage]:
        yield from client(opening(**LIVE, jitter_buffer_seconds=60))
        for index in range(8):
            pause.wait(0.4 * SOON)
            yield pb.ClientMessage(audio=block(noise(2, 480), index * 480, index))

    answer = Answer(stub.Stream(messages()))
    assert answer.status is grpc.StatusCode.OK, answer.details
    assert answer.port().shape[1] == 8 * 480

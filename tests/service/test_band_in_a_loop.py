"""The pack that ships in a DAW's loop, through a real server: in time, seamless, and every pass the same."""

import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import Client, Transport
from tests.support.clock import TurnedClock

RATE, TEMPO, PASSES = 44_100, 120.0, 4
LOOP = 4 * RATE  # samples: two bars


@pytest.mark.slow
def test_a_loop_of_two_bars_is_played_alike_on_every_pass() -> None:
    time = np.arange(LOOP) / RATE
    pitch = 220 * 2 ** (np.array([0, 4, 7, 5, 2, 7, 4, 0])[(time * 2).astype(int) % 8] / 12)
    phrase = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (np.sin(4 * np.pi * time) > -0.7)
    song = np.tile(phrase, PASSES)[None].astype(np.float32)
    clock = TurnedClock()
    with start_server(clock=clock) as server, Client(server.address, timeout=280.0) as client:
        with client.open("default", RATE, 1, block_size=2_048, seed=3, new_takes=True) as session:
            latency, position = session.latency_samples, 0
            session.transport(Transport(TEMPO, song_position=8.0, bar_start=8.0, loop=(8.0, 16.0)))
            heard, due = np.zeros(song.shape[1], np.float32), 0
            sizes = [2_048, 32, 441, 1_024, 2_048]
            while position < song.shape[1]:
                block = song[:, position : position + sizes[position % len(sizes)]]
                clock.turn(block.shape[1] / RATE)
                session.send(block)
                position += block.shape[1]
                while due < min(position - latency, song.shape[1]):  # it comes before the clock is turned further
                    output = session.receive(60.0)
                    assert output is not None
                    assert output.position == due
                    heard[output.position : output.end] = output.audio[0]
                    due = output.end
            session.end_input()
            while (output := session.receive(60.0)) is not None:
                assert output.position == due
                heard[output.position : output.end] = output.audio[0]
                due = output.end
            assert session.totals is not None
            assert session.totals.late_chunks == 0
        clock.release()
    assert due == song.shape[1]
    fade = RATE // 100 + 1
    first, *later = heard.reshape(PASSES, LOOP)
    assert np.abs(first).max() > 0.01, "nobody plays"
    for number, each in enumerate(later, 1):  # the last one hears that nothing follows
        end = 3 * RATE if number == PASSES - 1 else LOOP
        np.testing.assert_array_equal(each[fade:end], first[fade:end], err_msg=f"pass {number}")

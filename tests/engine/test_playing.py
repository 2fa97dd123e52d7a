"""What goes through the engine comes back at its place, in full, and the same every time."""

from fractions import Fraction

import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.engine.events import OutputBlock
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import Audio
from tests.support.playing import open_session, play, running, settle, write_blocks
from tests.support.streams import GainStream


def noise(channels: int, count: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, count)).astype(np.float32)


def smooth(channels: int, count: int, rate: int) -> Audio:
    """Sines far below every Nyquist frequency, so that resampling there and back changes nothing."""
    time = np.arange(count) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * (440 + 100 * c) * time + c) for c in range(channels)]).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("block", [1, 64, 441, 4096])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_passthrough_gives_every_bit_back_in_its_place(rate: int, block: int, channels: int) -> None:
    stream = PassthroughStream(PassthroughConfig(latency_samples=333))
    audio = noise(channels, min(3_000 if block == 1 else 20_011, rate))
    with running(echo=stream) as engine:
        heard = play(
            engine, "echo", audio, block, start=-77, sample_rate=rate, chunk_seconds=Fraction(1, 50),
            visibility_seconds=0.02,
        )  # fmt: skip
    assert heard.blocks()[0].position == -77
    assert np.array_equal(heard.audio(), audio)
    assert heard.finished().totals.samples_out == heard.finished().totals.samples_in == audio.shape[1]


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("block", [100, 4096])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_at_its_own_rate_answers_exactly_under_the_input(rate: int, block: int, channels: int) -> None:
    audio = smooth(channels, rate // 2 + 13, rate)
    with running(gain=GainStream(rate=24_000, channels=channels, look_ahead=100)) as engine:
        heard = play(engine, "gain", audio, block, sample_rate=rate)
    output = heard.audio()
    assert output.shape == audio.shape
    edge = rate // 50  # of the signal: a sine that begins suddenly is not band-limited
    np.testing.assert_allclose(output[:, edge:-edge], audio[:, edge:-edge], atol=2e-5)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_an_impulse_comes_back_at_exactly_its_position(rate: int) -> None:
    at = rate // 100 * 17  # a moment that the model's rate has a sample at, too
    audio = np.zeros((1, rate // 2), np.float32)
    audio[0, at] = 1.0
    with running(gain=GainStream(rate=24_000)) as engine:
        heard = play(engine, "gain", audio, 512, start=1_000, sample_rate=rate)
    assert int(np.abs(heard.audio()[0]).argmax()) == at


@pytest.mark.parametrize(
    ("rate", "model_rate"), [(48_000, 24_000), (44_100, 24_000), (24_000, 24_000), (16_000, 24_000)]
)
@pytest.mark.parametrize("look_ahead", [0, 500])
def test_output_is_emitted_exactly_when_its_last_needed_input_has_come(
    rate: int, model_rate: int, look_ahead: int
) -> None:
    stream = GainStream(rate=model_rate, look_ahead=look_ahead)
    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain", channels=1, sample_rate=rate, offline=False)
        to_model = session.take.input.delay_seconds * model_rate
        needed = int(0.08 * model_rate) + look_ahead + round(to_model)  # model samples, from 1
        last = (needed - 1) * rate // model_rate + 1  # the client's samples that let these out
        write_blocks(session, np.zeros((1, last - 1), np.float32), 256)
        settle(engine)
        assert not stream.calls
        session.write(last - 1, np.zeros((1, 1), np.float32))
        heard.wait(lambda: len(heard.blocks()) == 1)
        first = heard.blocks()[0]
        expected = int(0.08 * rate) - round(session.take.output.delay_seconds * rate)
        assert (first.position, first.audio.shape[1]) == (0, expected)


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
def test_block_sizes_do_not_change_a_bit(rate: int) -> None:
    audio = noise(2, 30_000)
    outputs = []
    with running(gain=GainStream(look_ahead=77)) as engine:
        for block in (1_000, 64, 4_096, 337):
            session, heard = open_session(engine, "gain", block, sample_rate=rate)
            session.control("gain", 0.5, position=9_000)
            session.control("gain", 2.0, position=20_000)
            write_blocks(session, audio, block)
            session.close_input()
            heard.finished()
            outputs.append((heard.audio().tobytes(), list(session.take.changes.log)))
    assert all(output == outputs[0] for output in outputs)


def test_ports_and_channels_stay_together() -> None:
    stream = PassthroughStream(PassthroughConfig(ports=("a", "b", "c")))
    audio = noise(2, 9_999)
    with running(echo=stream) as engine:
        heard = play(engine, "echo", audio, 500, chunk_seconds=Fraction(1, 100), visibility_seconds=0.01)
        assert [port.channels for port in heard.session.ports] == [2, 2, 2]  # type: ignore[union-attr]
    for port in range(3):
        assert np.array_equal(heard.audio(port), audio)
    sequences = [event.sequence for event in heard.events if isinstance(event, OutputBlock)]
    assert sequences == list(range(len(sequences)))


def test_the_middle_of_stereo_is_a_mono_models_input_and_mono_is_copied_for_a_stereo_one() -> None:
    with running(mono=GainStream(rate=None, channels=1), stereo=GainStream(rate=None, channels=2)) as engine:
        audio = noise(1, 8_000)
        mixed = play(engine, "mono", np.repeat(audio, 2, axis=0), 1_000).audio()
        assert np.array_equal(mixed, audio)
        copied = play(engine, "stereo", audio, 1_000).audio()
        assert np.array_equal(copied, np.repeat(audio, 2, axis=0))


@pytest.mark.parametrize("length", [0, 1, 100, 3_839, 3_840, 3_841, 50_000])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_output_is_exactly_as_long_as_the_input(length: int, rate: int) -> None:
    with running(gain=GainStream(look_ahead=1_000)) as engine:
        heard = play(engine, "gain", noise(2, length), 4_096, sample_rate=rate)
    assert heard.finished().totals.samples_out == length
    assert sum(block.audio.shape[1] for block in heard.blocks()) == length


@pytest.mark.parametrize("visibility", [-0.5, -0.08, 0.0, 0.04])
def test_a_model_that_plays_ahead_keeps_to_the_inputs_length_offline(visibility: float) -> None:
    with running(gain=GainStream()) as engine:
        heard = play(engine, "gain", noise(2, 20_000), 1_000, visibility_seconds=visibility)
    assert heard.audio().shape[1] == 20_000


def test_a_model_that_plays_ahead_starts_with_the_first_block() -> None:
    with running(gain=GainStream()) as engine:
        session, heard = open_session(engine, "gain", visibility_seconds=-0.5, offline=False)
        session.write(0, noise(2, 10))
        heard.wait(lambda: len(heard.blocks()) == 7)  # chunks of 80 ms from -0.5 s on need nothing
        assert session.ledger.latency_samples == 0
        settle(engine)
        assert len(heard.blocks()) == 7


def test_sessions_of_one_model_share_its_calls() -> None:
    stream = GainStream(capacity=8)
    with running(gain=stream) as engine:
        players = [open_session(engine, "gain") for _ in range(8)]
        audio = [noise(2, 10_000, seed) for seed in range(8)]

        def write_all() -> None:  # on the engine thread: it sees all of them ready at once
            for (session, _), given in zip(players, audio, strict=True):
                write_blocks(session, given, 4_096)
                session.close_input()

        engine.resident("gain").call(write_all)
        for _, heard in players:
            heard.finished()
        assert max(len(call) for call in stream.calls) == 8
        for given, (_, heard) in zip(audio, players, strict=True):
            assert np.array_equal(play(engine, "gain", given, 4_096).audio(), heard.audio())


def test_codec_frames_come_in_order() -> None:
    with running(gain=GainStream()) as engine:
        heard = play(engine, "gain", noise(2, 48_000), 4_096)
    assert [frames.first_frame for frames in heard.frames()] == list(range(13))
    assert heard.frames()[3].codes.tolist() == [[4, 4]]


def test_an_engine_can_be_used_as_its_documentation_says() -> None:
    engine = Engine()
    engine.add_stream("passthrough", PassthroughStream(PassthroughConfig()))
    assert engine.stats().sessions == 0
    engine.shutdown(drain_seconds=0.0)

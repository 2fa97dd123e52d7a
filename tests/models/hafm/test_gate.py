"""The gate: silence answers silence, a playing transport is obeyed to the bit, and cuts make no difference."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from backline.models.hafm.gate import FADE_IN, FADE_OUT, GATE, HOLD, Gate
from backline.models.hafm.grid import Grid
from backline.models.hafm.load import load, tiny_random
from backline.models.hafm.stream import HafmStream
from backline.models.stream import Transport
from tests.support.hafm import Player, play, session

RATE, HOP = 24_000, 480  # of voice and band; samples in a frame of the voice
PLAYING = Transport(0.0, playing=True, tempo=120.0)


def noise(seconds: float, dbfs: float, seed: int = 0) -> np.ndarray:
    """[1, sample] white noise."""
    samples = np.random.default_rng(seed).standard_normal((1, round(seconds * RATE)))
    return (10 ** (dbfs / 20) * samples).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros((1, round(seconds * RATE)), np.float32)


def gains(
    voice: np.ndarray,
    chunk: float = 0.4,
    visibility: float = 0.4,
    transports: Sequence[Transport] = (),
    level: float = GATE.default,
    latency: int = 0,
) -> np.ndarray:
    """[sample] what the gate makes of a band that plays 1 throughout, put out later by `latency` samples.

    Every chunk gets the newest transport before the end of what it hears, as from the engine.
    """
    grid = Grid.of(chunk, visibility)
    gate = Gate(grid, HOP, RATE)
    played, fed, chunks = 0, 0, int(voice.shape[1] / RATE / chunk)
    out = []
    for number in range(chunks):
        end = max(0, int((number * grid.chunk + grid.visibility) * 50)) * HOP
        known = [one for one in transports if one.at_seconds * RATE < max(1, end)]
        gate.hear(voice[:, fed:end], known[-1] if known else None, level)
        fed = end
        until = max(0, int((number + 1) * grid.chunk * RATE) - latency)
        out.append(gate.apply(np.ones((1, until - played), np.float32), played))
        played = until
    return np.concatenate(out, axis=1)[0]


def sounding(gain: np.ndarray) -> float:
    """Seconds until the gate is shut for good."""
    open_at = np.flatnonzero(gain)
    return (open_at[-1] + 1) / RATE if len(open_at) else 0.0


@pytest.mark.parametrize(("chunk", "visibility"), [(0.4, 0.4), (0.8, 0.8), (0.8, 0.0), (0.04, 0.0), (3.2, 3.2)])
def test_silence_is_answered_by_exact_zeros_within_two_seconds(chunk: float, visibility: float) -> None:
    gain = gains(np.concatenate([noise(3.2, -20), silence(6.4)], axis=1), chunk, visibility)
    assert gain[round(3.1 * RATE)] == 1
    assert 3.2 < sounding(gain) <= 5.2


def test_the_gate_shuts_after_hold_lag_and_fade() -> None:
    voice = np.concatenate([noise(1, -20), silence(5)], axis=1)
    expected = 1 + (HOLD - 1 + FADE_OUT) * 0.02
    assert sounding(gains(voice)) == pytest.approx(expected, abs=0.001)
    assert sounding(gains(voice, visibility=-0.6)) == pytest.approx(expected + 1.0, abs=0.001)


@pytest.mark.parametrize("visibility", [0.4, 0.0, -2.0])
def test_nothing_sounds_before_anybody_sings(visibility: float) -> None:
    assert not gains(silence(4), visibility=visibility).any()


def test_who_plays_ahead_begins_when_the_voice_has_been_heard() -> None:
    gain = gains(noise(6, -20), chunk=0.4, visibility=-2.0)
    assert not gain[: round(2.4 * RATE)].any()
    assert (gain[round(2.4 * RATE) + FADE_IN * HOP :] == 1).all()


@pytest.mark.parametrize("visibility", [0.4, 0.0, -2.0])
def test_where_the_transport_plays_no_bit_is_touched(visibility: float) -> None:
    band = noise(0.4, -10)
    gate = Gate(Grid.of(0.4, visibility), HOP, RATE)
    for number in range(20):
        heard = silence(0.4) if number * 0.4 + visibility > 0 else silence(0)
        gate.hear(heard, PLAYING, GATE.default)
        assert gate.apply(band, number * 9600).tobytes() == band.tobytes()


def test_a_transport_that_starts_opens_and_one_that_stops_shuts() -> None:
    standing, started, stopped = (
        Transport(at, playing=playing, tempo=120.0) for at, playing in ((0.0, False), (2.0, True), (4.0, False))
    )
    gain = gains(silence(8), transports=[standing, started, stopped])
    assert not gain[: 2 * RATE].any()
    assert (gain[2 * RATE + FADE_IN * HOP : 4 * RATE] == 1).all()
    assert sounding(gain) == pytest.approx(4 + FADE_OUT * 0.02, abs=0.001)


@pytest.mark.parametrize("lag", [Fraction(0), Fraction(1, 5), Fraction(9, 5)])
@pytest.mark.parametrize("latency", [0, 777])
def test_cuts_make_no_difference(lag: Fraction, latency: int) -> None:
    """Chunks of equal lag, a voice that comes and goes at odd moments, a transport that starts and, later, stops."""
    parts = [noise(0.713, -60), noise(1.317, -30, 1), noise(3.1, -62, 2), noise(0.05, -40, 3), silence(11.32)]
    voice = np.concatenate(parts, axis=1)
    transports = [Transport(8.013, playing=True, tempo=96.0), Transport(12.911, playing=False, tempo=96.0)]
    whole = gains(voice, 3.2, float(Fraction(16, 5) - lag), transports, latency=latency)
    assert 0.2 < np.mean(whole > 0) < 0.8
    for chunk in (Fraction(1, 25), Fraction(2, 5), Fraction(4, 5)):
        cut = gains(voice, float(chunk), float(chunk - lag), transports, latency=latency)
        common = min(len(cut), len(whole))
        assert common > 12 * RATE
        np.testing.assert_array_equal(cut[:common], whole[:common])


def test_fades_have_no_steps_and_are_as_long_as_they_say() -> None:
    voice = np.concatenate([silence(1), noise(1, -20), silence(2), noise(1, -20), silence(3)], axis=1)
    gain = gains(voice).astype(np.float64)
    steepest = 1.5 / HOP  # of a smooth fade, in one frame's samples
    changes = np.diff(gain)
    assert changes.max() == pytest.approx(steepest / FADE_IN, rel=0.01)
    assert changes.min() == pytest.approx(-steepest / FADE_OUT, rel=0.01)
    assert np.abs(np.diff(changes)).max() < 6 / (FADE_IN * HOP) ** 2 + 1e-6  # the curve bends, it has no corners
    assert np.sum(changes > 0) == pytest.approx(2 * FADE_IN * HOP, rel=0.05)


def test_the_band_comes_back_with_the_voice_even_amid_a_fade() -> None:
    shut = 1 + (HOLD + FADE_OUT // 2) * 0.02  # half way down
    voice = np.concatenate([noise(1, -20), silence(shut - 1), noise(1.4, -20)], axis=1)
    gain = gains(voice)
    at = round(shut * RATE)
    assert 0.2 < gain[at] < 0.8
    assert (gain[at + FADE_IN * HOP : at + RATE] == 1).all()


@pytest.mark.parametrize(("dbfs", "heard"), [(-60.0, False), (-55.0, False), (-40.0, True), (-45.0, True)])
def test_a_noise_floor_is_silence_and_quiet_singing_is_not(dbfs: float, heard: bool) -> None:
    assert gains(noise(4, dbfs)).any() == heard
    after = gains(np.concatenate([noise(1, -20), noise(7, dbfs, 1)], axis=1))
    assert (after[-1] > 0) == heard


def test_an_offset_is_no_voice() -> None:
    assert not gains(silence(3) + np.float32(0.1)).any()


def test_a_rest_between_phrases_is_played_through() -> None:
    gain = gains(np.concatenate([noise(1, -20), silence(0.7), noise(1.1, -20)], axis=1))
    assert (gain[FADE_IN * HOP :] == 1).all()


def test_the_level_is_the_users_to_set() -> None:
    assert (gains(silence(4), level=-120.0) == 1).all()
    assert gains(noise(4, -60), level=-70.0)[-1] == 1
    assert not gains(noise(4, -40), level=-30.0).any()


# ---- in the stream


@pytest.fixture(scope="module")
def stream() -> HafmStream:
    return load(*tiny_random(), "cpu")


def test_a_stream_answers_silence_with_silence_and_its_codes_go_on(stream: HafmStream) -> None:
    spec = stream.spec
    settings = session(float(spec.default_chunk_seconds), spec.default_visibility_seconds)
    player = Player(stream, settings, noise(0.8, -20))
    play([player], 8)
    stream.close(player.row)
    band = player.audio()[0]
    assert np.abs(band[: round(0.8 * RATE)]).max() > 1e-3
    assert not band[round(2.8 * RATE) :].any()
    assert len(player.codes()) == 8 * 75 * spec.default_chunk_seconds


def test_a_stream_whose_transport_plays_is_that_without_a_gate(stream: HafmStream) -> None:
    heard = []
    for level in (GATE.default, -120.0):
        player = Player(stream, session(parameters={"gate": level}), silence(2), transport=PLAYING)
        play([player], 6)
        stream.close(player.row)
        heard.append(player.audio())
    assert np.abs(heard[0][:, -9600:]).max() > 1e-3
    np.testing.assert_array_equal(heard[0], heard[1])

"""The down-mix: each voice at its level wherever it lies, by the layout; the same however the audio is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.downmix import Downmix
from backline.engine.errors import BadInput
from backline.models.stream import Audio, ChannelLayout
from tests.support.playing import play, running
from tests.support.streams import GainStream

RATE = 24_000
SETTLED = RATE // 2  # samples after which the averages have seen enough
HALF = np.float32(np.sqrt(0.5))
FIVE_ONE, SEVEN_ONE = ChannelLayout.SURROUND_5_1, ChannelLayout.SURROUND_7_1


def voice(seed: int, seconds: float = 2.0) -> Audio:
    """[sample]: a sung vowel of ten harmonics with a little breath."""
    random = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    pitch = 110.0 * 2.0 ** random.uniform(0.0, 1.5)
    tone = sum(np.sin(2 * np.pi * k * pitch * time + random.uniform(0, 6)) / k for k in range(1, 11))
    return np.asarray(0.1 * tone + 0.01 * random.standard_normal(len(time)), np.float32)


def mixed(audio: Audio, wanted: int = 1, layout: ChannelLayout | None = None, block: int | None = None) -> Audio:
    """The whole of `audio` [channel, sample], in blocks of `block`."""
    mix = Downmix(layout, len(audio), wanted, RATE)
    step = block or audio.shape[1]
    return np.concatenate([mix.process(audio[:, at : at + step]) for at in range(0, audio.shape[1], step)], axis=1)


def level(signal: Audio, of: Audio) -> float:
    """By how many dB `of` is louder in `signal` than by itself, whatever its sign, once settled."""
    signal, of = signal[..., SETTLED:].astype(float), of[..., SETTLED:].astype(float)
    return float(20 * np.log10(max(abs((signal * of).sum() / (of * of).sum()), 1e-9)))


def silence(channels: int, samples: int) -> Audio:
    return np.zeros((channels, samples), np.float32)


def placed(channels: int, **at: Audio) -> Audio:
    """Voices at channels, `c3=voice`; silence elsewhere."""
    audio = silence(channels, len(next(iter(at.values()))))
    for name, sound in at.items():
        audio[int(name[1:])] += sound
    return audio


@pytest.mark.parametrize(
    "places",
    [(1.0, 1.0), (1.0, -1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 0.95), (-0.9, 1.0)],
    ids=["middle", "out of phase", "left", "right", "nearly middle", "nearly out of phase"],
)
def test_a_voice_is_heard_at_its_level_wherever_it_lies(places: tuple[float, float]) -> None:
    sung = voice(1)
    audio = np.stack([place * sung for place in places]).astype(np.float32)
    assert abs(level(mixed(audio)[0], sung)) < 1.0


def test_the_middle_of_stereo_is_itself_bit_for_bit() -> None:
    sung = voice(2)
    np.testing.assert_array_equal(mixed(np.stack([sung, sung]))[0], sung)


@pytest.mark.parametrize("spread", [1.0, -1.0], ids=["in phase", "out of phase"])
def test_a_voice_in_wide_reverb_keeps_its_level(spread: float) -> None:
    random = np.random.default_rng(5)
    tail = np.exp(-np.arange(RATE // 2) / (RATE / 8)) * random.standard_normal((2, RATE // 2))
    dry = (0.1 * random.standard_normal(2 * RATE)).astype(np.float32)  # a whisper: its reverb is unlike itself
    wet = np.stack([np.convolve(dry, response)[: len(dry)] for response in tail])
    wet *= 0.7 * np.std(dry) / np.std(wet)
    audio = (np.stack([dry, spread * dry]) + wet).astype(np.float32)
    assert abs(level(mixed(audio)[0], dry)) < 2.0
    both = 10 * np.log10(np.mean(mixed(audio)[0, SETTLED:] ** 2) / np.mean(audio[:, SETTLED:] ** 2))
    assert abs(both) < 1.5


def test_two_singers_at_the_two_sides_are_both_heard_at_their_levels() -> None:
    one, other = voice(10), voice(11)
    duet = mixed(np.stack([one, other]))[0]
    assert abs(level(duet, one)) < 1.0
    assert abs(level(duet, other)) < 1.0


def test_unrelated_noise_keeps_its_energy() -> None:
    noise = np.random.default_rng(3).standard_normal((2, 2 * RATE)).astype(np.float32)
    energy = np.mean(mixed(noise)[0, SETTLED:] ** 2) / np.mean(noise[:, SETTLED:] ** 2) / 2
    assert abs(10 * np.log10(energy)) < 1.0


def test_a_voice_that_moves_is_soon_at_its_level_again_and_never_clicks() -> None:
    parts = [(1.0, 1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0), (1.0, 0.0)]
    sung = voice(4, seconds=1.0)
    pieces = np.concatenate([np.stack([left * sung, right * sung]) for left, right in parts], axis=1)
    heard = mixed(pieces.astype(np.float32))[0]
    for number in range(len(parts)):
        part = heard[number * RATE + RATE // 2 : (number + 1) * RATE]
        assert abs(20 * np.log10(np.std(part) / np.std(sung[RATE // 2 :]))) < 1.5, parts[number]
    # Where the voice does not jump itself, the mix takes no step beyond what a turn over one frame of 10 ms makes.
    steps = np.abs(np.diff(heard)) / np.abs(np.diff(sung)).max()
    seams = np.arange(1, len(parts)) * RATE - 1
    assert np.delete(steps, seams).max() < 2.2


def test_an_out_of_phase_voice_is_heard_from_its_second_frame_on() -> None:
    sung = voice(6)
    heard = mixed(np.stack([sung, -sung]))[0]
    frame = RATE // 100
    assert np.std(heard[2 * frame : 10 * frame]) > 0.9 * np.std(sung[2 * frame : 10 * frame])


def test_silence_before_a_voice_changes_nothing_and_mixes_to_silence() -> None:
    sung = voice(7)
    audio = np.concatenate([silence(2, 3 * RATE), np.stack([sung, sung])], axis=1)
    heard = mixed(audio)[0]
    np.testing.assert_array_equal(heard, audio[0])


@pytest.mark.parametrize("wanted", [1, 2])
@pytest.mark.parametrize(("channels", "layout"), [(6, None), (6, FIVE_ONE), (8, None), (8, SEVEN_ONE)])
def test_in_surround_the_centre_voice_is_at_its_level_and_the_lfe_is_not_heard(
    channels: int, layout: ChannelLayout | None, wanted: int
) -> None:
    sung, rumble = voice(8), voice(9)
    heard = mixed(placed(channels, c2=sung, c3=rumble), wanted, layout)
    power = 10 * np.log10(np.sum(heard.astype(float) ** 2) / np.sum(sung.astype(float) ** 2))
    assert abs(power) < 1.0  # in stereo: -3 dB on each side
    np.testing.assert_array_equal(mixed(placed(channels, c3=rumble), wanted, layout), silence(wanted, len(rumble)))


def test_surround_to_stereo_has_the_coefficients_of_bs775() -> None:
    audio = np.eye(8, dtype=np.float32)  # sample n sounds on channel n alone
    expected = [[1, 0, HALF, 0, HALF, 0, HALF, 0], [0, 1, HALF, 0, 0, HALF, 0, HALF]]
    np.testing.assert_array_equal(mixed(audio, 2), np.array(expected, np.float32))
    np.testing.assert_array_equal(mixed(audio[:6, :6], 2), np.array(expected, np.float32)[:, :6])


@pytest.mark.parametrize("place", [0, 1, 4, 5, 6, 7])
def test_each_side_and_surround_is_heard_in_mono(place: int) -> None:
    sung = voice(place)
    expected = 0.0 if place < 2 else -3.0
    assert abs(level(mixed(placed(8, **{f"c{place}": sung}))[0], sung) - expected) < 1.0


def test_discrete_six_are_six_microphones() -> None:
    sung = voice(12)
    for place in range(6):
        alone = mixed(placed(6, **{f"c{place}": sung}), 1, ChannelLayout.DISCRETE)[0]
        assert abs(level(alone, sung)) < 1.0, place
    all_six = mixed(np.stack([sung] * 6), 1, ChannelLayout.DISCRETE)[0]
    np.testing.assert_allclose(all_six, sung, rtol=1e-5)
    singers = [voice(20 + place) for place in range(6)]
    choir = mixed(np.stack(singers), 2, ChannelLayout.DISCRETE)
    for singer in singers:
        assert abs(level(choir[0], singer)) < 1.5
    assert len(choir) == 1  # for the model it is repeated


@given(
    channels=st.sampled_from([2, 3, 5, 6, 8]),
    wanted=st.sampled_from([1, 2]),
    seed=st.integers(0, 100),
    block=st.integers(1, 700),
)
@settings(max_examples=40, deadline=None)
def test_the_mix_does_not_depend_on_the_blocks(channels: int, wanted: int, seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    audio = (random.standard_normal((channels, 2_500)) * random.uniform(-1, 1, (channels, 1))).astype(np.float32)
    audio[:, 700:1_300] = 0.0
    np.testing.assert_array_equal(mixed(audio, wanted, block=block), mixed(audio, wanted))


@pytest.mark.parametrize(("channels", "layout"), [(2, FIVE_ONE), (6, SEVEN_ONE), (6, ChannelLayout.STEREO)])
def test_a_layout_of_another_number_of_channels_is_refused(channels: int, layout: ChannelLayout) -> None:
    with pytest.raises(BadInput, match=f"layout {layout.value} has"):
        Downmix(layout, channels, channels, RATE)


@pytest.mark.parametrize("block", [64, 1_000, 4_096])
def test_a_session_is_heard_so_whatever_its_blocks_and_gaps_are(block: int) -> None:
    sung = voice(30, seconds=1.0)
    audio = placed(6, c0=0.3 * sung, c1=-0.3 * sung, c2=sung)
    with running(mono=GainStream(rate=None), stereo=GainStream(rate=None, channels=2)) as engine:
        for name, wanted in (("mono", 1), ("stereo", 2)):
            played = play(engine, name, audio, block, sample_rate=RATE).audio()
            np.testing.assert_array_equal(played, mixed(audio, wanted))

"""The resampler: flat, free of aliases, exactly delayed, and blind to how its input is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from backline.kernels.resample import Audio, PhaseResponse, Resampler, _phase_table

PAIRS = [
    (48000, 24000), (24000, 48000), (44100, 24000), (24000, 44100), (48000, 44100), (44100, 48000),
    (16000, 24000), (96000, 24000), (24000, 192000), (192000, 8000), (8000, 192000), (44101, 24000), (24000, 44101),
]  # fmt: skip
PHASES: list[PhaseResponse] = ["linear", "minimum"]


def sine(frequency: float, rate: int, count: int, delay: int = 0) -> Audio:
    """[1, sample], with the phase at sample `delay` that an undelayed one has at 0."""
    return np.sin(2 * np.pi * frequency * (np.arange(count) - delay) / rate).astype(np.float32)[None]


def settled(resampler: Resampler, output: Audio) -> slice:
    """The part of the output that saw no edge of the input."""
    taps = resampler._table.shape[1]
    return slice(taps * resampler.rate_out // resampler.rate_in + 1, output.shape[1])


def decibels(ratio: float) -> float:
    return float(20 * np.log10(max(ratio, 1e-12)))


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.35, 0.43])
def test_a_sine_in_the_pass_band_comes_back_exactly_delayed(rate_in: int, rate_out: int, share: float) -> None:
    frequency = share * min(rate_in, rate_out)
    resampler = Resampler(rate_in, rate_out, 1)
    output = resampler.process(sine(frequency, rate_in, rate_in // 5))
    expected = sine(frequency, rate_out, output.shape[1], resampler.delay_out)
    error = np.abs(output - expected)[:, settled(resampler, output)].max()
    assert decibels(float(error)) < -105  # in amplitude and in phase: the delay is exact


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("share", [0.501, 0.52, 0.6, 0.9])
def test_what_would_alias_is_gone(rate_in: int, rate_out: int, phase: PhaseResponse, share: float) -> None:
    frequency = min(share * rate_out, 0.499 * rate_in)
    if frequency < 0.501 * rate_out:
        pytest.skip("the input holds nothing above the output's band")
    resampler = Resampler(rate_in, rate_out, 1, phase)
    output = resampler.process(sine(frequency, rate_in, rate_in // 5))
    assert decibels(float(np.abs(output[:, settled(resampler, output)]).max())) < -110


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] < pair[1]])
@pytest.mark.parametrize("phase", PHASES)
def test_upsampling_leaves_no_images(rate_in: int, rate_out: int, phase: PhaseResponse) -> None:
    resampler = Resampler(rate_in, rate_out, 1, phase)
    output = resampler.process(sine(0.4 * rate_in, rate_in, rate_in))
    inside = output[0, settled(resampler, output)]
    spectrum = np.abs(np.fft.rfft(inside * signal.windows.blackmanharris(len(inside))))
    frequencies = np.fft.rfftfreq(len(inside), 1 / rate_out)
    images = spectrum[frequencies > 0.5 * rate_in].max() / spectrum.max()
    assert decibels(images) < -90  # the measuring window's own side lobes are at -92


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 24000), (24000, 48000), (44100, 24000), (24000, 44100)])
def test_a_filtered_noise_equals_scipy_with_the_same_filter(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out, 1)
    up, down = resampler._up, resampler._down
    _, table = _phase_table(up, down, "linear")
    prototype = table[:, ::-1].T.reshape(-1)  # interleaved phases: the filter at `up` times the input's rate
    noise = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    expected = signal.upfirdn(prototype.astype(np.float64), noise.astype(np.float64), up, down)
    output = resampler.process(noise[None])[0]
    np.testing.assert_allclose(output, expected[: len(output)], atol=3e-6)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@pytest.mark.parametrize("block", [1, 64, 333, 4096])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_blocks_do_not_change_a_bit(rate_in: int, rate_out: int, block: int, channels: int) -> None:
    noise = np.random.default_rng(block).standard_normal((channels, 6000)).astype(np.float32)
    whole = Resampler(rate_in, rate_out, channels).process(noise)
    resampler = Resampler(rate_in, rate_out, channels)
    parts = [resampler.process(noise[:, i : i + block]) for i in range(0, 6000, block)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


@given(
    rate_in=st.integers(8000, 192000), rate_out=st.integers(8000, 192000), phase=st.sampled_from(PHASES),
    cuts=st.lists(st.integers(0, 700), min_size=1, max_size=8),
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_any_rates_and_any_split_give_the_same(
    rate_in: int, rate_out: int, phase: PhaseResponse, cuts: list[int]
) -> None:
    noise = np.random.default_rng(0).standard_normal((2, sum(cuts))).astype(np.float32)
    whole = Resampler(rate_in, rate_out, 2, phase).process(noise)
    resampler = Resampler(rate_in, rate_out, 2, phase)
    at, parts = 0, []
    for cut in cuts:
        announced = resampler.output_count(cut)
        parts.append(resampler.process(noise[:, at : at + cut]))
        assert parts[-1].shape[1] == announced
        at += cut
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert whole.shape[1] == -(-sum(cuts) * rate_out // rate_in)


@given(rate_in=st.integers(8000, 192000), rate_out=st.sampled_from([24000, 44100, 48000]), count=st.integers(1, 500))
@settings(max_examples=25, deadline=None)
def test_exactly_the_needed_input_lets_the_wanted_output_out(rate_in: int, rate_out: int, count: int) -> None:
    resampler = Resampler(rate_in, rate_out, 1)
    resampler.process(np.zeros((1, 17), np.float32))
    needed = resampler.input_needed(count)
    assert resampler.output_count(needed) >= count
    assert needed == 0 or resampler.output_count(needed - 1) < count


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_an_impulse_peaks_at_the_declared_delay(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out, 1)
    at_in = 10 * resampler._down  # a moment that both rates have a sample at
    impulse = np.zeros((1, at_in + 20_000), np.float32)
    impulse[0, at_in] = 1.0
    output = resampler.process(impulse)
    assert int(np.abs(output).argmax()) == 10 * resampler._up + resampler.delay_out


def test_linear_phase_costs_64_samples_of_the_lower_rate_and_minimum_phase_a_few() -> None:
    assert Resampler(48000, 24000, 1).latency_seconds * 24000 == 64
    assert Resampler(24000, 48000, 1).latency_seconds * 24000 == 64
    assert Resampler(48000, 24000, 1).delay_in == 128.0
    assert float(Resampler(48000, 24000, 1, "minimum").latency_seconds) < 0.0002


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 24000), (24000, 44100)])
def test_minimum_phase_has_the_same_magnitude_and_its_declared_delay_at_low_frequencies(
    rate_in: int, rate_out: int
) -> None:
    for share in (0.002, 0.2, 0.4):
        frequency = share * min(rate_in, rate_out)
        resampler = Resampler(rate_in, rate_out, 1, "minimum")
        output = resampler.process(sine(frequency, rate_in, rate_in))
        time = np.arange(output.shape[1])[-rate_out // 2 :]  # whole periods
        inside = output[0, time].astype(np.float64)
        basis = np.exp(-2j * np.pi * frequency * (time - resampler.delay_out) / rate_out)
        response = 2j * np.mean(inside * basis)
        assert abs(abs(response) - 1) < 3e-4
        if share == 0.002:
            assert abs(np.angle(response) / (2 * np.pi * frequency)) * rate_out < 0.01  # samples


def test_equal_rates_copy_without_delay() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    resampler = Resampler(48000, 48000, 2)
    assert resampler.delay_out == 0
    copy = resampler.process(noise)
    assert np.array_equal(copy, noise)
    assert not np.shares_memory(copy, noise)


def test_reset_forgets_everything() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    resampler = Resampler(44100, 24000, 1)
    first = resampler.process(noise)
    resampler.reset()
    assert np.array_equal(resampler.process(noise), first)


def test_a_constant_stays_that_constant() -> None:
    for rate_in, rate_out in PAIRS:
        resampler = Resampler(rate_in, rate_out, 1)
        output = resampler.process(np.full((1, 9000), 0.5, np.float32))
        np.testing.assert_allclose(output[:, settled(resampler, output)], 0.5, atol=2e-7)


def test_impossible_rates_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot resample from 0 to 48000 Hz"):
        Resampler(0, 48000, 2)
    with pytest.raises(ValueError, match="with 2 channels"):
        Resampler(44100, 48000, 2).process(np.zeros((1, 5), np.float32))

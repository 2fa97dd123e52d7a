"""Diffusion: the identities of its schedule, and samplers against denoisers whose answers are known."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from backline.nn.diffusion import (
    LEAST_TIME,
    Denoiser,
    clean_and_noise,
    guided,
    noisy,
    repaint,
    sample,
    schedule,
    shares,
    velocity,
)

SHAPE = (2, 3, 4, 7)  # row, track, channel, frame


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def ideal(clean: Tensor) -> Denoiser:
    """One that knows the only clean signal that there is."""

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        alpha, beta = shares(times)
        noise = (z - alpha * clean) / beta.clamp(min=1e-6)
        return velocity(clean, noise, times)

    return denoise


@pytest.mark.parametrize("frames", [1, 7])
def test_clean_and_noise_come_back_from_what_is_noisy_and_its_velocity(frames: int) -> None:
    clean, noise, times = torch.randn(SHAPE), torch.randn(SHAPE), torch.rand(2, 3, frames)
    found = clean_and_noise(noisy(clean, noise, times), velocity(clean, noise, times), times)
    assert torch.allclose(found[0], clean, atol=1e-5)
    assert torch.allclose(found[1], noise, atol=1e-5)


def test_the_velocity_is_the_derivative_along_the_angle() -> None:
    clean, noise, times = (torch.randn(SHAPE, dtype=torch.float64) for _ in range(3))
    times = torch.rand(2, 3, 7, dtype=torch.float64)
    step = 1e-6
    along = (noisy(clean, noise, times + step) - noisy(clean, noise, times - step)) / (2 * step * torch.pi / 2)
    assert torch.allclose(along, velocity(clean, noise, times), atol=1e-6)


def test_the_schedule_keeps_the_variance() -> None:
    alpha, beta = shares(torch.linspace(0, 1, 11).expand(1, 1, -1))
    assert torch.allclose(alpha**2 + beta**2, torch.ones_like(alpha), atol=1e-6)
    assert (alpha[..., 0].item(), beta[..., 0].item()) == (1, 0)


@pytest.mark.parametrize("steps", [1, 2, 8, 50, 250])
def test_a_schedule_falls_from_noise_to_clean(steps: int) -> None:
    times = schedule(steps)
    assert (len(times), times[0], times[-1]) == (steps + 1, 1, 0)
    assert all(earlier > later for earlier, later in pairwise(times))
    assert times[-2] >= LEAST_TIME - 1e-6


def test_from_fifty_steps_on_the_schedule_is_the_published_one() -> None:
    assert schedule(250)[:-1] == pytest.approx(torch.linspace(1, 0.02, 250).tolist())


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="use 1 or more"):
        schedule(0)


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 250])
def test_an_ideal_denoiser_leads_to_the_signal_in_any_number_of_steps(steps: int) -> None:
    clean = torch.randn(SHAPE)
    assert torch.allclose(sample(ideal(clean), torch.randn(SHAPE), steps), clean, atol=1e-4)


def test_of_gaussian_signals_samples_have_the_variance() -> None:
    """The best denoiser of signals of variance s^2 is known, and DDIM follows its path: what comes out is s * noise."""
    deviation = 0.3

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        alpha, beta = shares(times)
        clean = alpha * deviation**2 / (alpha**2 * deviation**2 + beta**2) * z
        return velocity(clean, beta * z + alpha * ((alpha * z - clean) / beta.clamp(min=1e-6)), times)

    noise = torch.randn(SHAPE, dtype=torch.float64)
    assert torch.allclose(sample(denoise, noise, 200), deviation * noise, atol=0.02)


@pytest.mark.parametrize("frames", [1, 7], ids=["whole tracks", "frames"])
def test_what_is_known_is_told_as_clean_and_comes_out_unchanged(frames: int) -> None:
    clean, given = torch.randn(SHAPE), torch.randn(SHAPE)
    known = torch.rand(2, 3, frames) < 0.5
    told: list[tuple[Tensor, Tensor]] = []

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        told.append((z, times))
        return ideal(clean)(z, times)

    found = sample(denoise, torch.randn(SHAPE), 4, known, given)
    held = known[:, :, None].expand(SHAPE)
    assert torch.equal(found[held], given[held])
    assert torch.allclose(found[~held], clean[~held], atol=1e-4)
    assert len(told) == 4
    for (z, times), time in zip(told, schedule(4), strict=False):
        assert torch.equal(z[held], given[held])
        assert torch.equal(times, time * (~known))


def test_the_noise_of_what_is_known_does_not_matter() -> None:
    clean, known, noise = torch.randn(SHAPE), torch.rand(2, 3, 7) < 0.5, torch.randn(SHAPE)
    other = torch.where(known[:, :, None], torch.randn(SHAPE), noise)
    denoise = ideal(0.5 * clean)
    assert torch.equal(sample(denoise, noise, 3, known, clean), sample(denoise, other, 3, known, clean))


def test_a_past_that_is_given_is_as_noisy_as_the_rest() -> None:
    clean, given, noise = (torch.randn(SHAPE) for _ in range(3))
    known = torch.tensor([True, False, False])[None, :, None].expand(2, -1, 1)
    told: list[tuple[Tensor, Tensor]] = []

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        told.append((z, times))
        return ideal(clean)(z, times)

    found = sample(denoise, noise, 4, known, given, past=3)
    assert torch.allclose(found[..., :3], given[..., :3], atol=1e-5)
    assert torch.equal(found[:, 0], given[:, 0])
    assert torch.allclose(found[:, 1:, :, 3:], clean[:, 1:, :, 3:], atol=1e-4)
    for (z, times), time in zip(told, schedule(4), strict=False):
        assert times.shape == (2, 3, 1)
        wanted = noisy(given, noise, torch.full((2, 3, 1), time))
        assert torch.allclose(z[:, 1:, :, :3], wanted[:, 1:, :, :3], atol=1e-5)


@pytest.mark.parametrize("repeats", [1, 3])
def test_repaint_keeps_what_is_known_and_finds_the_rest(repeats: int) -> None:
    clean, given = torch.randn(SHAPE), torch.randn(SHAPE)
    known = torch.tensor([True, False, False])[None, :, None].expand(2, -1, 1)
    asked: list[float] = []

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        asked.append(times.unique().item())
        return ideal(clean)(z, times)

    found = repaint(denoise, lambda: torch.randn(SHAPE), 5, known, given, repeats)
    assert torch.equal(found[:, 0], given[:, 0])
    assert torch.allclose(found[:, 1:], clean[:, 1:], atol=1e-4)
    assert asked == pytest.approx([*(time for time in schedule(5)[:-2] for _ in range(repeats)), schedule(5)[-2]])


def test_noise_that_repaint_adds_again_keeps_the_time() -> None:
    """Of signals without variance all that is left is the noise, whose deviation tells the time."""
    heard: list[float] = []

    def denoise(z: Tensor, times: Tensor) -> Tensor:
        heard.append((z.std() / shares(times)[1].max()).item())
        return ideal(torch.zeros_like(z))(z, times)

    shape = (64, 3, 16, 16)
    repaint(denoise, lambda: torch.randn(shape), 4, torch.zeros(64, 3, 1, dtype=torch.bool), torch.zeros(shape), 3)
    assert heard == pytest.approx([1.0] * 10, abs=0.02)


def test_guidance_leads_away_from_no_condition() -> None:
    asked: list[int] = []

    def network(z: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        asked.append(len(z))
        return z + condition[..., None]

    z, times, condition = torch.randn(SHAPE), torch.rand(2, 3, 1), torch.randn(SHAPE[:3])
    for scale in (1.0, 0.0, 2.5):
        found = guided(network, condition, scale)(z, times)
        assert torch.allclose(found, z + scale * condition[..., None], atol=1e-5)
    assert asked == [2, 4, 4]

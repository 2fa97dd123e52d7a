"""Whole files by a network: what is given, what is heard of whom, and windows that nobody hears."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backline.codecs.vae import whole
from backline.codecs.vae.whole import Sound, by_blocks, decoded, encoded
from backline.models.mge.config import TINY, MgeConfig
from backline.models.mge.network import MgeNetwork
from backline.models.mge.offline import OfflinePlayer, Sampling
from backline.models.mge.tasks import MIXTURE, SOURCE, SUBMIXTURE, TASKS
from backline.nn.diffusion import noise_at, shares, windows
from tests.support.toy_mge import CHANNELS, DIMENSION, HOP, Named, ToyVae

PAPER_LIKE = replace(TINY.network, condition=DIMENSION, norm="group", time="token")
STREAMED = replace(TINY.network, condition=DIMENSION)
READER = Named()


def alive(config: MgeConfig) -> MgeNetwork:
    torch.manual_seed(0)
    network = MgeNetwork(config)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network.eval()


def played(config: MgeConfig | None = None) -> OfflinePlayer:
    return OfflinePlayer(alive(config or MgeConfig(STREAMED, 8)), ToyVae(), READER)


def noise(samples: int, seed: int = 0) -> Sound:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


class Telling(MgeNetwork):
    """Knows the answer: what is noisy is that share of what is given, frame by frame; notes what it is asked."""

    def __init__(self, share: float, task: str, by_frame: bool = True) -> None:
        super().__init__(MgeConfig(STREAMED if by_frame else PAPER_LIKE, 8))
        self.share, self.given = share, TASKS[task].given
        self.asked_of: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, noisy: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        self.asked_of.append((noisy.clone(), times, condition))
        alpha, beta = shares(times)
        clean = torch.zeros_like(noisy) if self.given is None else self.share * noisy[:, self.given, None]
        return alpha * (noisy - alpha * clean) / beta.clamp(min=1e-6) - beta * clean


def told(share: float, task: str, by_frame: bool = True) -> OfflinePlayer:
    return OfflinePlayer(Telling(share, task, by_frame), ToyVae(), READER)


def heard_by(player: OfflinePlayer) -> list[tuple[Tensor, Tensor, Tensor]]:
    assert isinstance(player.network, Telling)
    return player.network.asked_of


@pytest.mark.parametrize("frames", [1, 5, 8, 9, 20, 61])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_windows_play_every_frame_once(frames: int, overlap: float) -> None:
    found = list(windows(frames, 8, overlap))
    assert [begun for _, _, begun in found] == [0, *(stop for _, stop, _ in found[:-1])]
    assert found[-1][1] == frames
    for start, stop, begun in found:
        assert start <= begun < stop
        assert stop - start == min(frames, 8)
        assert begun == 0 or begun - start >= round(8 * overlap)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_is_clean_and_the_prompt_where_the_task_asks(task: str) -> None:
    player, sound = told(0.5, task), noise(20 * HOP)
    calls = {
        "extract": lambda: player.extract(sound, "the bass"),
        "impute": lambda: player.impute(sound, ["the bass"], Sampling(1)),
        "accompany": lambda: player.accompany(sound, "a band", Sampling(1)),
        "generate": lambda: player.generate(2.0, "a song", Sampling(1)),
    }
    calls[task]()
    given, latents = TASKS[task].given, ToyVae().encode(torch.from_numpy(sound)[None])[0]
    for (noisy, times, condition), (start, stop, _) in zip(heard_by(player), windows(20, 8, 0.25), strict=True):
        assert [track for track in range(3) if condition[0, track].any()] == [TASKS[task].asked]
        assert [track for track in range(3) if not times[0, track].any()] == ([] if given is None else [given])
        if given is not None:
            torch.testing.assert_close(noisy[0, given], latents[:, start:stop], atol=1e-5, rtol=0)


@pytest.mark.parametrize("by_frame", [True, False], ids=["a time for every frame", "one time"])
def test_a_source_and_the_rest_come_from_the_whole_file(by_frame: bool) -> None:
    sound = noise(20 * HOP - 37)
    vae = ToyVae()
    source, rest = told(0.5, "extract", by_frame).extract(sound, "the bass", Sampling(3))
    wanted = 0.5 * decoded(vae, encoded(vae, sound, 20))[: len(sound)]
    assert source.dtype == rest.dtype == np.float32
    for found in (source, rest):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_past_of_all_tracks_is_clean_or_as_noisy_as_the_rest() -> None:
    sound = noise(20 * HOP)
    for by_frame in (True, False):
        player = told(0.5, "extract", by_frame)
        player.extract(sound, "the bass", Sampling(1))
        _, second, *_ = heard_by(player)
        noisy, times, _ = second
        if by_frame:
            assert (times[0, SOURCE] == torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])).all()
            torch.testing.assert_close(noisy[0, SOURCE, :, :2], 0.5 * noisy[0, MIXTURE, :, :2], atol=1e-5, rtol=0)
        else:
            assert times.shape == (1, 3, 1)
            assert times[0, SOURCE] == 1


def test_what_joins_in_hears_all_before_it() -> None:
    """Equation 4: everything given and made, summed as sound and encoded again."""
    player, sound = told(0.5, "impute"), noise(8 * HOP)
    vae = ToyVae()
    first, second = player.impute(sound, ["drums", "bass"], Sampling(1))
    np.testing.assert_allclose(first, 0.5 * decoded(vae, encoded(vae, sound, 8)), atol=1e-4)
    given = heard_by(player)[1][0][0, SUBMIXTURE]
    torch.testing.assert_close(given, encoded(vae, sound + first, 8), atol=1e-4, rtol=0)
    np.testing.assert_allclose(second, 0.5 * decoded(vae, encoded(vae, sound + first, 8)), atol=1e-4)


def test_a_seed_says_what_is_played() -> None:
    player = played()
    first, again, other = (player.generate(1.5, "a song", Sampling(2, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_the_same_prompt_twice_is_not_the_same_part_twice() -> None:
    player = played()
    starts = [noise_at(0, stream, (3, CHANNELS), 0, 4) for stream in (0, 1)]
    assert not torch.allclose(*starts)
    first, second = player.impute(np.zeros(8 * HOP, np.float32), ["bass", "bass"], Sampling(1))
    assert not np.allclose(first, second, atol=1e-3)


def test_a_frames_noise_is_the_same_whatever_is_asked_for() -> None:
    whole = noise_at(5, 0, (3, CHANNELS), 0, 40)
    torch.testing.assert_close(noise_at(5, 0, (3, CHANNELS), 17, 23), whole[..., 17:23], atol=0, rtol=0)
    assert whole.std().item() == pytest.approx(1, abs=0.1)
    assert len(whole.unique()) == whole.numel()


@pytest.mark.parametrize("samples", [1, HOP - 1, 3 * HOP, 8 * HOP, 31 * HOP + 5])
@pytest.mark.parametrize("config", [MgeConfig(STREAMED, 8), MgeConfig(PAPER_LIKE, 8)], ids=["streamed", "paper"])
def test_answers_are_as_long_as_the_file(config: MgeConfig, samples: int) -> None:
    source, rest = played(config).extract(noise(samples), "the bass")
    assert (len(source), len(rest)) == (samples, samples)
    assert np.isfinite(source).all()


def test_a_network_that_sees_whole_windows_gets_them() -> None:
    seen: list[int] = []
    player = played(MgeConfig(PAPER_LIKE, 8))
    player.network.dit.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[-1]))
    player.extract(noise(3 * HOP), "the bass")
    player.extract(noise(19 * HOP), "the bass")
    assert set(seen) == {8}


def test_a_file_shorter_than_a_window_is_followed_by_silence() -> None:
    """Which is not where the latents' mean lies."""
    player, sound = played(MgeConfig(PAPER_LIKE, 8)), noise(3 * HOP)
    player.network.mean.fill_(0.5)
    short, _ = player.extract(sound, "the bass")
    whole, _ = player.extract(np.pad(sound, (0, 5 * HOP)), "the bass")
    np.testing.assert_allclose(short, whole[: 3 * HOP], atol=1e-5)


def test_guidance_leads_elsewhere() -> None:
    player, sound = played(), noise(8 * HOP)
    plain, guided = (player.extract(sound, "the bass", Sampling(1, scale))[0] for scale in (1.0, 3.0))
    assert not np.allclose(plain, guided, atol=1e-3)


class Reaching(ToyVae):
    """Latents and sounds that hear two frames before and one after."""

    reach, decode_reach = (2 * HOP - 30, HOP), (2, 1)

    def encode(self, audio: Tensor) -> Tensor:
        return self._spread(super().encode(audio))

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(self._spread(latents))

    def _spread(self, latents: Tensor) -> Tensor:
        taps = torch.tensor([0.1, 0.3, 1.0, 0.5]).expand(CHANNELS, 1, -1)
        return nn.functional.conv1d(nn.functional.pad(latents, (2, 1)), taps, groups=CHANNELS)


def test_blocks_are_the_same_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, sound = Reaching(), noise(20 * HOP - 13)
    latents = encoded(vae, sound, 20)
    back = decoded(vae, latents)
    monkeypatch.setattr(whole, "BLOCK", 3)
    torch.testing.assert_close(encoded(vae, sound, 20), latents, atol=1e-5, rtol=0)
    np.testing.assert_allclose(decoded(vae, latents), back, atol=1e-5)


def test_blocks_hear_no_more_than_they_need() -> None:
    asked: list[tuple[int, int]] = []

    def block(start: int, stop: int) -> Tensor:
        asked.append((start, stop))
        return torch.arange(start, stop)

    assert by_blocks(block, 600, 3, 2, 1).tolist() == list(range(600))
    assert asked == [(0, 258), (253, 514), (509, 600)]


@pytest.mark.parametrize("sound", [np.zeros(0, np.float32), np.zeros((2, 500), np.float32)], ids=["none", "stereo"])
def test_what_is_no_mono_sound_is_refused(sound: Sound) -> None:
    with pytest.raises(ValueError, match="give mono samples, at least one"):
        played().extract(sound, "the bass")


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        Sampling(overlap=1.0)
    with pytest.raises(ValueError, match="ask for more"):
        played().generate(0.0, "a song")
    with pytest.raises(ValueError, match="use 1 or more"):
        played().extract(noise(500), "the bass", Sampling(0))

"""DuoTok's renderers: sizes, what a latent frame is told, whole tracks, tracks hop by hop, what a pack carries."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.renderer import (
    OVERLAP,
    PAPER,
    SMALL,
    TINY,
    Renderer,
    RendererConfig,
    RendererNetwork,
    Tokens,
    packed,
    read_renderers,
)
from backline.codecs.duotok.windowed import Asked, Pace, WindowedRenderer
from backline.codecs.vae.config import OobleckConfig
from backline.nn.diffusion import noise_at
from backline.nn.tables import TableError
from backline.packs.quantized import quantize, restore
from tests.support.toy_renderer import (
    CODE_DIM,
    ENTRIES,
    QUICK,
    SLOW,
    toy_network,
    toy_renderer,
    toy_tokens,
    toy_vae,
    vectors,
)

EAR_VAE = OobleckConfig(48_000, 2, 128, strides=(2, 2, 4, 6, 10), latent_channels=64)


def parameters(config: RendererConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in RendererNetwork(config).parameters())


def test_the_papers_has_about_400_million_parameters_and_plays_in_ear_vae() -> None:
    assert round(parameters(PAPER) / 1e6) == 413
    assert PAPER.fitted(EAR_VAE, PAPER.code_dim) == PAPER
    assert PAPER.window_frames * EAR_VAE.hop == 30 * EAR_VAE.sample_rate
    assert PAPER.tokens_of(PAPER.window_frames) == 30 * 25


def test_the_small_one_has_less_than_six_million() -> None:
    assert round(parameters(SMALL) / 1e6, 1) == 5.7
    assert (SMALL.code_dim, SMALL.tokens_of(SMALL.window_frames)) == (64, 128)


def test_sizes_are_fitted_to_a_vae_and_keep_their_window() -> None:
    quick = SMALL.fitted(EAR_VAE, 16)
    assert (quick.tokens, quick.frames, quick.network.context, quick.network.channels) == (1, 2, 16, 64)
    assert quick.window_frames == 256  # 5.12 s again
    assert quick.fitted(SLOW, 64).window_frames == SMALL.window_frames
    with pytest.raises(ValueError, match=r"7\.8125 latent frames a second"):
        SMALL.fitted(OobleckConfig(), 64)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tracks": 3}, "1 track"),
        ({"condition": 4}, "no condition"),
        ({"norm": "group"}, 'norm "frame"'),
        ({"context": 13}, "multiple of 2"),
        ({"context": 0}, "multiple of 2"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(TINY, network=replace(TINY.network, **changes))


def test_a_latent_frame_is_told_its_tokens() -> None:
    tokens = torch.tensor([[3, 1, 4, 1]])
    two = toy_network()
    assert torch.equal(two.context(vectors(tokens))[0, :, 1], vectors(tokens)[0, 2:].flatten())
    half = toy_network(TINY.fitted(QUICK, CODE_DIM))
    half.code_mean.fill_(2.0)
    half.code_deviation.fill_(4.0)
    told = half.context(vectors(tokens))
    assert told.shape == (1, CODE_DIM, 8)
    assert torch.allclose(told[0, :, 4:6], ((vectors(tokens)[0, 2] - 2) / 4)[:, None].expand(-1, 2))


# ---- whole tracks ----


@pytest.mark.parametrize("config", [SLOW, QUICK])
@pytest.mark.parametrize("count", [1, 7, 32, 75])
def test_a_track_is_as_long_as_its_tokens(config: OobleckConfig, count: int) -> None:
    renderer = toy_renderer(toy_vae(config))
    heard: list[float] = []
    sound = renderer.render(toy_tokens(count), steps=1, progress=heard.append)
    assert sound.shape == (2, count * 8_000 // 25)
    assert heard[-1] == 1.0
    assert heard == sorted(heard)
    assert not np.allclose(sound[0], sound[1])  # stereo


def test_windows_go_on_from_what_was_said() -> None:
    """What the first window says stays; and the second one hears it."""
    renderer, tokens = toy_renderer(), toy_tokens(64)

    def latents(tokens: Tokens) -> Tensor:
        return renderer.latents(tokens, steps=2, seed=0, overlap=OVERLAP, progress=lambda share: None)

    whole = latents(tokens)
    first = latents(tokens[:32])
    torch.testing.assert_close(whole[:, :16], first)
    other = toy_tokens(64, seed=1)
    other[32:] = tokens[32:]
    assert not torch.allclose(latents(other)[:, 16:20], whole[:, 16:20], atol=1e-3)


def test_tokens_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        toy_renderer().render(np.zeros(0, np.int64))


def test_another_vae_is_refused() -> None:
    with pytest.raises(ValueError, match="50 frames a second: use the VAE that the network was trained with"):
        Renderer(toy_network(), toy_vae(QUICK), vectors)


# ---- hop by hop ----


def slowly(renderer: Renderer, tokens: Tokens, pace: Pace, hops: int, seed: int, steps: int) -> NDArray[np.float64]:
    """What a stream plays, the slow and obvious way: each window is cut from the whole track, decoded with all that was
    said before it, and laid over the others with weights that sum to one.
    """
    network, vae, config = renderer.network, renderer.vae, renderer.network.config
    samples, window = vae.hop, config.window_frames
    context = renderer.context(tokens[None])
    said = torch.zeros(1, 1, config.network.channels, hops * pace.hop + pace.guard)
    total = np.zeros((vae.channels, said.shape[-1] * samples + pace.fade))
    rising = np.sin(0.5 * np.pi * (np.arange(pace.fade) + 0.5) / pace.fade) ** 2
    for hop in range(hops):
        stop = (hop + 1) * pace.hop + pace.guard
        start = max(0, stop - window)
        known = torch.arange(start, stop) < stop - pace.hop - pace.guard
        noise = noise_at(seed, 0, (1, config.network.channels), start, stop)[None]
        cut = said[..., start:stop]
        said[..., start:stop] = renderer.told(noise, context[..., start:stop], known[None, None], cut, steps)
        sound = vae.sound(network.unnormed(said[0, ..., :stop]))[0].numpy()
        at = slice(hop * pace.hop * samples, (hop + 1) * pace.hop * samples + pace.fade)
        kept = np.array(sound[:, at], np.float64)
        if hop:
            kept[:, : pace.fade] *= rising
        kept[:, -pace.fade :] *= rising[::-1]
        total[:, at] += kept
    return total[:, : hops * pace.hop * samples]


def streamed(
    renderer: WindowedRenderer, tokens: Tokens, pace: Pace, hops: int, seed: int, steps: int
) -> NDArray[np.float32]:
    state, sounds, given = renderer.begin(pace, seed), [], 0
    for _ in range(hops):
        needed = renderer.needs(state)
        ((state, sound),) = renderer.step([Asked(0, state, tokens[given : given + needed], steps)])
        given += needed
        sounds.append(sound)
    return np.concatenate(sounds, axis=1)


@pytest.mark.parametrize(
    ("config", "pace"),
    [(SLOW, Pace(2, 3, 640)), (SLOW, Pace(3, 5, 100)), (SLOW, Pace(7, 4, 1280)), (QUICK, Pace(12, 8, 160))],
)
def test_the_stream_is_what_windows_of_the_whole_say(config: OobleckConfig, pace: Pace) -> None:
    renderer = toy_renderer(toy_vae(config))
    wide = replace(renderer.network.config, window_frames=32 if config is QUICK else 16)
    renderer = Renderer(toy_network(wide), renderer.vae, vectors, precision="float32")
    tokens = toy_tokens(400)
    played = streamed(WindowedRenderer(renderer), tokens, pace, 9, 5, 4)
    with torch.inference_mode():
        wanted = slowly(renderer, tokens, pace, 9, 5, 4)
    assert played.shape == wanted.shape
    np.testing.assert_allclose(played, wanted, atol=1e-5)
    assert np.abs(wanted).max() > 0.01


def test_in_bfloat16_the_stream_is_nearly_the_same() -> None:
    vae = toy_vae()
    exact = toy_renderer(vae)
    halved = Renderer(toy_network(TINY.fitted(vae, CODE_DIM)), vae, vectors, precision="bfloat16")
    tokens, pace = toy_tokens(60), Pace(2, 3, 640)
    a, b = (streamed(WindowedRenderer(each), tokens, pace, 4, 0, 4) for each in (exact, halved))
    np.testing.assert_allclose(a, b, atol=0.1 * float(np.abs(a).max()))
    with torch.inference_mode():
        wanted = slowly(halved, tokens, pace, 4, 0, 4)
    np.testing.assert_allclose(b, wanted, atol=5e-3)


def test_rows_know_nothing_of_each_other_and_may_be_out_of_step() -> None:
    renderer = WindowedRenderer(toy_renderer())
    renderer.batches = True  # as on a GPU
    alone = WindowedRenderer(toy_renderer())
    slow, quick = Pace(3, 4, 64), Pace(2, 3, 64)
    rows = [(slow, 1), (slow, 2), (quick, 1), (slow, 1)]
    texts = [toy_tokens(200, seed) for seed in range(len(rows))]
    states = [renderer.begin(pace, seed) for pace, seed in rows]
    given, heard = [0] * len(rows), [[] for _ in rows]
    for moment in range(6):
        asked = []
        for row, state in enumerate(states):
            if row == 1 and moment in (0, 3):  # waits
                continue
            needed = renderer.needs(state)
            asked.append(Asked(row, state, texts[row][given[row] : given[row] + needed], 2))
            given[row] += needed
        for it, (state, sound) in zip(asked, renderer.step(asked), strict=True):
            states[it.row] = state
            heard[it.row].append(sound)
    for row, (pace, seed) in enumerate(rows):
        expected = streamed(alone, texts[row], pace, len(heard[row]), seed, 2)
        np.testing.assert_allclose(np.concatenate(heard[row], axis=1), expected, atol=1e-5)


def test_a_step_changes_no_state() -> None:
    renderer = WindowedRenderer(toy_renderer())
    state = renderer.begin(Pace(2, 3, 640), seed=3)
    ((state, _),) = renderer.step([Asked(0, state, toy_tokens(renderer.needs(state)))])
    asked = Asked(0, state, toy_tokens(renderer.needs(state), 1))
    ((_, once),) = renderer.step([asked])
    ((_, again),) = renderer.step([asked])
    np.testing.assert_array_equal(once, again)


def test_live_a_hop_has_the_guard_that_the_decoder_reaches_into() -> None:
    vae = toy_vae()
    renderer = WindowedRenderer(toy_renderer(vae))
    pace = renderer.pace(hop_seconds=0.2)
    assert (pace.hop, pace.guard, pace.fade) == (2, vae.decode_reach[1] + 1, 320)
    assert renderer.pace(hop_seconds=30).hop == TINY.window_frames - pace.guard - vae.decode_reach[0]


@pytest.mark.parametrize(
    ("pace", "told"),
    [(Pace(0, 3, 1), "multiples of 1"), (Pace(12, 3, 1), "at most for both"), (Pace(2, 3, 2_000), "use 1 to 1280")],
)
def test_a_pace_that_does_not_fit_is_refused(pace: Pace, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        WindowedRenderer(toy_renderer()).begin(pace)


def test_too_few_tokens_are_refused() -> None:
    renderer = WindowedRenderer(toy_renderer())
    state = renderer.begin(Pace(2, 3, 640))
    with pytest.raises(ValueError, match=r"give \[10\]"):
        renderer.step([Asked(0, state, toy_tokens(9))])


# ---- what a pack carries ----


def test_a_pack_carries_both_in_int8() -> None:
    networks = {role: toy_network(SMALL, seed) for seed, role in enumerate(ROLES)}
    table, tensors = packed(networks)
    read = read_renderers(table, restore(quantize(tensors)))
    assert tuple(read) == ROLES
    noisy, context = torch.randn(1, 1, 32, 8), torch.randn(1, 128, 8)
    for role, network in networks.items():
        for name, value in network.state_dict().items():
            torch.testing.assert_close(read[role].state_dict()[name], value, atol=0.02, rtol=0.01)
        again = read[role](noisy, torch.full((1, 1, 1), 0.5), context)
        assert again.shape == noisy.shape
    sizes = sum(tensor.numel() * tensor.element_size() for tensor in quantize(tensors).values())
    assert sizes < 2 * 6e6  # of both
    alone, _ = packed({"accompaniment": networks["accompaniment"]})
    assert alone == table


def test_all_that_does_not_fit_is_told_at_once() -> None:
    table, tensors = packed({role: toy_network() for role in ROLES}, torch.float32)
    broken = dict(tensors)
    del broken["renderer.vocals.dit.out.weight"]
    broken["renderer.vocals.mean"] = torch.zeros(5)
    broken["renderer.accompaniment.deviation"] = torch.tensor(torch.nan)
    broken["renderer.drums.mean"] = torch.zeros(4)
    with pytest.raises(ValueError) as error:
        read_renderers(table, broken)
    for told in (
        "renderer.vocals.dit.out.weight [4, 8] is missing",
        "renderer.vocals.mean is [5], must be [4]",
        "renderer.accompaniment.deviation holds numbers that are not finite",
        "renderer.drums.mean is of no track",
    ):
        assert told in str(error.value)
    with pytest.raises(ValueError, match=r"renderer\.vocals\.code_deviation must be more than 0"):
        read_renderers(table, {**tensors, "renderer.vocals.code_deviation": torch.tensor(0.0)})
    with pytest.raises(ValueError, match="give the renderer of a track"):
        read_renderers(table, {})
    with pytest.raises(TableError, match="window_frames"):
        read_renderers({**table, "window_frames": -1}, tensors)


def test_tokens_that_no_table_holds_are_the_tables_to_refuse() -> None:
    with pytest.raises(IndexError):
        toy_renderer().render(np.array([ENTRIES]))

"""Whole recordings in the paper's layout: one clip, and clip after clip beyond the trained length."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.models.hafm.band import Sampling, Tokens
from backline.models.hafm.interleaved.config import PAPER, TINY, StageConfig, without_semantic
from backline.models.hafm.interleaved.layout import paper
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.interleaved.player import StagePlayer
from backline.models.hafm.load import build, tiny_random
from backline.models.hafm.offline import generate, generate_sliding, holding, slide
from backline.models.hafm.stream import HafmStream
from tests.support.hafm import Player, play, session, voice

GREEDY = Sampling(guidance=1.0, temperature=0.0)


@pytest.fixture(scope="module")
def stream() -> HafmStream:
    return build(*tiny_random(), "cpu", "float32")


def network(config: StageConfig) -> StageNetwork:
    torch.manual_seed(0)
    built = StageNetwork(config).eval().requires_grad_(False)
    for parameter in (*built.conditions.values(), built.prediction, built.heads, built.transformer.bias):
        parameter.normal_(std=0.5)
    return built


def slid_slowly(
    built: StageNetwork, tokens: dict[str, Tokens], length: Fraction, clip: Fraction, hop: Fraction
) -> Tokens:
    """The oracle: the whole network for every single token, the likeliest taken."""
    config = built.config
    predictions = torch.zeros(1, config.quantizers, int(length * config.rate), dtype=torch.int64)
    done = Fraction(0)
    while done < length:
        end = min(done + hop, length)
        start = max(Fraction(0), end - clip)
        conditions = [
            torch.from_numpy(tokens[s.name])[None, :, int(start * s.rate) : int(end * s.rate)] for s in config.sources
        ]
        for frame in range(int(done * config.rate), int(end * config.rate)):
            for quantizer in range(config.quantizers):
                targets = predictions[:, :, int(start * config.rate) : int(end * config.rate)]
                logits = built(conditions, targets, paper(config, end - start))
                at = frame - int(start * config.rate)
                predictions[0, quantizer, frame] = logits[0, quantizer, at].argmax()
        done = end
    return predictions[0].numpy()


@pytest.mark.parametrize("clock", [False, True])
def test_sliding_is_the_paper_layout_of_every_hops_clip(clock: bool) -> None:
    config = replace(TINY.coarse, chunk_clock=clock)
    built = network(config)
    length, clip, hop = Fraction(5, 25), Fraction(3, 25), Fraction(1, 25)
    random = np.random.default_rng(0)
    tokens = {s.name: random.integers(0, 500, (1, int(length * 50))) for s in config.sources}
    player = StagePlayer(built, 1, 0, "float32")
    got = slide(player, 0, tokens, length, clip, hop, 0, GREEDY)
    np.testing.assert_array_equal(got, slid_slowly(built, tokens, length, clip, hop))


def test_one_clip_is_one_hop(stream: HafmStream) -> None:
    signal = voice(0.4)
    whole = generate(stream, signal, 3, Sampling())
    clips = dict.fromkeys(("semantic", "coarse", "fine"), Fraction(2, 5))
    slid = generate_sliding(stream, signal, 3, Sampling(), clips=clips, hop=Fraction(2, 5))
    np.testing.assert_array_equal(whole.codes, slid.codes)


def test_one_clip_is_a_session_of_one_chunk() -> None:
    """The same network serves the paper's layout and the stream."""
    config, tensors = tiny_random()
    stream = build({**config, "semantics": {"kind": "harmony", "vocal_noise": 0.0}}, tensors, "cpu", "float32")
    player = Player(stream, session(0.4, 0.4, seed=5), voice(0.4))
    play([player], 1)
    whole = generate(stream, voice(0.4), 5, Sampling())
    np.testing.assert_array_equal(whole.codes.T, player.codes())


def test_a_recording_of_any_length_gets_its_length(stream: HafmStream) -> None:
    signal = voice(0.523)
    clips = dict.fromkeys(("semantic", "coarse", "fine"), Fraction(6, 25))
    rendered = generate_sliding(stream, signal, 1, Sampling(), clips=clips, hop=Fraction(3, 25))
    assert rendered.audio.shape == signal.shape
    assert np.isfinite(rendered.audio).all()


def test_an_impossible_hop_is_refused(stream: HafmStream) -> None:
    with pytest.raises(ValueError, match="hop of 4 s: use at most the clip of stage 'fine', 3 s"):
        generate_sliding(stream, voice(0.1), 1, Sampling(), hop=Fraction(4))
    with pytest.raises(ValueError, match=r"hop of 0.5 s: use a multiple of 0.04 s"):
        generate_sliding(stream, voice(0.1), 1, Sampling(), hop=Fraction(1, 2))


def test_windows_are_widened_to_hold_a_clip() -> None:
    config = {"network": PAPER.to_dict(), "name": "paper"}
    clips = {"semantic": Fraction(12), "coarse": Fraction(12), "fine": Fraction(1)}
    network = holding(config, clips)["network"]
    windows = {name: stage["window"] for name, stage in network.items()}
    assert windows == {"semantic": 12 * 100, "coarse": 12 * 400, "fine": 1125}  # one that holds it stays as it is
    assert config["network"]["coarse"]["window"] == 2000
    assert type(PAPER).from_dict(network).coarse.window == 4800


@pytest.mark.parametrize("backend", ["float32", "torch"])
def test_two_stages_play_without_a_semantic_one(backend: str) -> None:
    config, tensors = tiny_random()
    two = without_semantic(TINY)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("semantic.", "coarse."))}
    kept |= {f"coarse.{name}": tensor for name, tensor in network(two.coarse).state_dict().items()}
    stream = build({**config, "network": two.to_dict()}, kept, "cpu", backend)  # type: ignore[arg-type]
    player = Player(stream, session(0.4, 0.4, seed=5), voice(0.8))
    play([player], 2)
    assert player.codes().shape == (60, 8)
    rendered = generate(stream, voice(0.4), 5, Sampling())
    assert rendered.codes.shape == (8, 30)

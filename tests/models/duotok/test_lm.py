"""The language model: what is generated, live and by the paper's protocol, against the whole network at once."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.models.duotok.config import ACCOMPANIMENT, PAPER, RATE, SMALL, TINY, VOCALS, LmConfig
from backline.models.duotok.lm import (
    Cue,
    LanguageModel,
    Sampling,
    Steps,
    accompanied,
    accompanying,
    continued,
    embedded,
    heard_at,
    lag_frames,
    read_network,
    unconditional,
    with_nothing,
)
from backline.models.hafm.aligned.config import LOOKAHEAD
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.band import Backend
from backline.models.stream import Transport
from tests.support.hafm import lively

LIKELIEST = Sampling(temperature=0.0)
PAPERLIKE = replace(TINY, layout="paper", beats=False, window=96)
FRAMES, GIVEN = 40, 10


def random_song(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(TINY.entries, size=(2, frames))


def chosen(network: AlignedNetwork, steps: Steps, track: int) -> np.ndarray:
    """[step] the likeliest tokens of a track by the whole network at once."""
    logits = network.logits_of(track, network.transformer(embedded(network, [steps])))
    return logits[0].argmax(-1).numpy()


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


def test_the_papers_network_has_the_size_of_qwen2() -> None:
    with torch.device("meta"):
        network = AlignedNetwork(PAPER.stage)
    trunk = sum(parameter.numel() for parameter in network.transformer.parameters())
    assert 1.30e9 < trunk < 1.32e9  # Qwen2-1.5B without its embeddings: 1.31e9
    assert network.tokens.numel() == 2 * 32_769 * 1536
    assert network.state_dict()["transformer.blocks.0.qkv.weight"].shape == ((12 + 2 * 2) * 128, 1536)
    assert PAPER.window == 2 * 750  # all of a voice, and all of what answers it


def test_the_small_network_has_no_more_than_five_million_beside_the_tokenizers_vectors() -> None:
    with torch.device("meta"):
        network = AlignedNetwork(SMALL.stage)
    assert sum(p.numel() for name, p in network.named_parameters() if name != "tokens") < 5e6


def test_what_goes_in_is_a_joint_projection_of_both_tracks_vectors() -> None:
    """Eq. 24."""
    network, song = lively(TINY.stage), random_song()
    steps = unconditional(TINY, song)
    vectors = torch.cat([network.tokens[track, song[track, 6]] for track in range(2)])
    unknown = sum(network.conditions[source.name][0, source.vocabulary] for source in TINY.stage.sources)
    expected = vectors @ network.enter.reshape(-1, TINY.width) + unknown
    torch.testing.assert_close(embedded(network, [steps])[0, 7], expected)


def test_a_voice_is_heard_so_much_later() -> None:
    vocals = np.arange(10, 20)
    np.testing.assert_array_equal(heard_at(vocals, 0, 10, 0, -1), vocals)
    np.testing.assert_array_equal(heard_at(vocals, 0, 4, 2, -1), [-1, -1, 10, 11])
    np.testing.assert_array_equal(heard_at(vocals, 7, 4, -1, -1), [18, 19, -1, -1])
    assert lag_frames(Fraction(1, 2)) == 13  # of a frame that is heard by half there is no token
    assert lag_frames(-LOOKAHEAD) == -40


@pytest.mark.parametrize("backend", ["torch", "float32"])
@pytest.mark.parametrize("config", [TINY, PAPERLIKE], ids=["aligned", "paper"])
def test_an_accompaniment_goes_on_from_its_prefix_as_the_whole_network_would(
    config: LmConfig, backend: Backend
) -> None:
    network, song = lively(config.stage), random_song()
    found = accompanied(config, network, song[VOCALS], song[ACCOMPANIMENT, :GIVEN], LIKELIEST, 0, backend)
    assert found.shape == (FRAMES,)
    np.testing.assert_array_equal(found[:GIVEN], song[ACCOMPANIMENT, :GIVEN])
    steps = accompanying(config, np.stack([song[VOCALS], found]), Fraction(0))
    expected = chosen(network, steps, ACCOMPANIMENT)[-FRAMES:]
    np.testing.assert_array_equal(found[GIVEN:], expected[GIVEN:])
    assert len(np.unique(found)) > 5


@pytest.mark.parametrize("backend", ["torch", "float32"])
@pytest.mark.parametrize("given", [0, GIVEN])
def test_a_song_goes_on_from_its_prefix_as_the_whole_network_would(backend: Backend, given: int) -> None:
    network, song = lively(TINY.stage), random_song()
    found = continued(TINY, network, song[:, :given], FRAMES, LIKELIEST, 0, backend)
    np.testing.assert_array_equal(found[:, :given], song[:, :given])
    steps = unconditional(TINY, found)
    for track in range(2):
        np.testing.assert_array_equal(found[track, given:], chosen(network, steps, track)[given:])


def played(lm: LanguageModel, row: int, vocals: np.ndarray, lag: Fraction, chunk: int, sampling: Sampling) -> list[Cue]:
    """The cues of a session, chunk by chunk."""
    transport = Transport(0.0, True, 120.0)
    return [
        Cue(row, chunk, heard_at(vocals, first, chunk, lag_frames(lag), TINY.entries), lag, sampling, transport, first)
        for first in range(0, FRAMES, chunk)
    ]


@pytest.mark.parametrize("backend", ["torch", "float32"])
@pytest.mark.parametrize("lag", [-LOOKAHEAD, Fraction(0), Fraction(2, 5)])
def test_live_it_answers_what_the_whole_network_would_however_chunks_are_cut(lag: Fraction, backend: Backend) -> None:
    network, vocals = lively(TINY.stage), random_song()[VOCALS]
    answers = []
    for chunk in (4, 10):
        lm = LanguageModel(TINY, network, 2, backend)
        lm.reset(1, 5)
        cues = played(lm, 1, vocals, lag, chunk, LIKELIEST)
        answers.append(np.concatenate([lm.accompany([cue])[0] for cue in cues]))
    np.testing.assert_array_equal(answers[0], answers[1])
    beats = (np.arange(FRAMES) / RATE * 2 / 4 % 1 * 192).astype(np.int64)
    steps = accompanying(TINY, np.stack([vocals, answers[0]]), lag, beats)
    np.testing.assert_array_equal(answers[0], chosen(network, steps, ACCOMPANIMENT))


def test_rows_answer_alike_in_company_and_a_row_that_fails_ends_alone() -> None:
    network, songs = lively(TINY.stage), [random_song(seed=seed)[VOCALS] for seed in range(2)]
    drawn = Sampling(0.9, 12, 0.9)
    alone = []
    for row, vocals in enumerate(songs):
        lm = LanguageModel(TINY, network, 2, "float32")
        lm.reset(row, row)
        alone.append([lm.accompany([cue])[0] for cue in played(lm, row, vocals, Fraction(0), 10, drawn)])
    lm = LanguageModel(TINY, network, 2, "float32")
    for row in range(2):
        lm.reset(row, row)
    both = [played(lm, row, vocals, Fraction(0), 10, drawn) for row, vocals in enumerate(songs)]
    bad = replace(both[1][2], vocals=np.full(10, TINY.entries + 1))
    for number, (first, second) in enumerate(zip(*both, strict=True)):
        told = lm.accompany([first, bad if number == 2 else second])
        np.testing.assert_array_equal(told[0], alone[0][number])
        if number == 2:
            assert isinstance(told[1], ValueError)
            np.testing.assert_array_equal(lm.accompany([second])[0], alone[1][number])
        else:
            np.testing.assert_array_equal(told[1], alone[1][number])


def test_weights_without_tables_have_the_tokenizers() -> None:
    tensors = {f"lm.{name}": value for name, value in lively(TINY.stage).state_dict().items() if name != "tokens"}
    tables = torch.randn(2, TINY.entries, TINY.code_width)
    network = read_network(TINY, tensors, tables)
    torch.testing.assert_close(network.tokens, with_nothing(tables))
    assert not network.tokens[:, -1].any()
    with pytest.raises(ValueError, match=r"lm\.tokens"):
        read_network(TINY, tensors)


def test_the_papers_layout_does_not_play_live() -> None:
    with pytest.raises(ValueError, match="whole song"):
        LanguageModel(PAPERLIKE, lively(PAPERLIKE.stage), 1, "float32")

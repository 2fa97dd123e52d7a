"""Generation position by position, against the whole sequence at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backline.models.stems.config import MelConfig, StemsConfig
from backline.models.stems.fused import FusedStep
from backline.models.stems.generate import Told, expected_vectors, generate
from backline.models.stems.layout import to_positions
from backline.models.stems.network import StemsNetwork
from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig

FRAMES, CODEBOOKS, ENTRIES = 10, 4, 16
KNOWN = list(enumerate((7, 0, FRAMES, 3)))  # frames that each row of a call knows
SMALL = StemsConfig(
    encoder=ConformerConfig(1, 32, 2, norm="layer"),
    decoder=LlamaConfig(2, 32, 2, 64),
    mel=MelConfig(),
    codebooks=CODEBOOKS,
    codebook_size=ENTRIES,
)
KINDS = [
    replace(SMALL, order=order, tracks=tracks, condition=condition, track_embedding=condition == "aligned")
    for order in ("parallel", "delay", "flat")
    for tracks in ("sequential", "parallel")
    for condition in ("prefix", "aligned")
]


def make(config: StemsConfig) -> StemsNetwork:
    torch.manual_seed(0)
    network = StemsNetwork(config).eval()
    with torch.no_grad():  # tables large enough that the past matters to the next choice
        network.heads *= 20
        network.embeddings *= 20
    return network


def mixtures(rows: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(rows, 1, FRAMES * 3840, generator=torch.Generator().manual_seed(1))


def nothing(rows: int = 2) -> np.ndarray:
    return np.zeros((rows, 4, 2, CODEBOOKS, 0), np.int64)


@torch.no_grad()
def at_once(network: StemsNetwork, audio: torch.Tensor, told: Told) -> torch.Tensor:
    """Hidden states [row, segment, slot, width] of the whole sequence, recomputed without any cache."""
    table = network.slots(FRAMES)
    return network(audio, torch.from_numpy(to_positions(told.codes, table)), table)[:, :, :-1]


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.order}-{c.tracks}-{c.condition}")
def test_a_cache_kept_from_track_to_track_equals_recomputation(config: StemsConfig) -> None:
    network = make(config)
    forced = np.random.default_rng(0).integers(0, ENTRIES, (2, 4, 2, CODEBOOKS, 6))
    told = generate(network, mixtures(), forced, FRAMES)
    assert (told.hidden - at_once(network, mixtures(), told)).abs().max() < 1e-5


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.order}-{c.tracks}-{c.condition}")
def test_what_is_told_is_likeliest_given_all_that_was_told_before(config: StemsConfig) -> None:
    network = make(config)
    told = generate(network, mixtures(), nothing(), FRAMES)
    hidden, table = at_once(network, mixtures(), told), network.slots(FRAMES)
    places = torch.from_numpy(to_positions(told.codes, table)).unflatten(1, (config.segments, config.lanes))
    with torch.no_grad():
        best = [network.logits(hidden.flatten(0, 1), path).argmax(-1) for path in (0, 1)]  # [row, slot, lane, codebook]
    for position, codebook in zip(*np.nonzero(table >= 0), strict=True):
        expected = best[table[position, codebook] % 2][:, position, :, codebook].view(2, config.segments, config.lanes)
        assert torch.equal(places[:, :, :, position, codebook], expected)


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.order}-{c.tracks}-{c.condition}")
def test_forcing_what_would_have_been_told_changes_nothing(config: StemsConfig) -> None:
    network = make(config)
    free = generate(network, mixtures(), nothing(), FRAMES)
    forced = generate(network, mixtures(), free.codes[..., :7], FRAMES)
    assert np.array_equal(free.codes, forced.codes)
    assert torch.allclose(free.hidden, forced.hidden, atol=1e-5)


def test_the_fused_step_tells_the_same() -> None:
    config = replace(SMALL, decoder=LlamaConfig(2, 64, 2, 64), condition="aligned")
    network = make(config)
    plain = generate(network, mixtures(1), nothing(1), FRAMES)
    fused = generate(network, mixtures(1), nothing(1), FRAMES, FusedStep(network.decoder, bfloat16=False))
    assert np.array_equal(fused.codes, plain.codes)
    assert torch.allclose(fused.hidden, plain.hidden, atol=1e-4)


def test_forced_codes_stay_and_matter() -> None:
    network = make(SMALL)
    forced = np.random.default_rng(3).integers(0, ENTRIES, (2, 4, 2, CODEBOOKS, 6))
    told = generate(network, mixtures(), forced, FRAMES)
    assert np.array_equal(told.codes[..., :6], forced)
    assert not np.array_equal(told.codes, generate(network, mixtures(), nothing(), FRAMES).codes)


def test_earlier_tracks_are_heard_by_later_ones_and_not_the_other_way_round() -> None:
    network = make(SMALL)
    free = generate(network, mixtures(1), nothing(1), FRAMES)
    changed = free.codes.copy()
    changed[:, 1] = (changed[:, 1] + 1) % ENTRIES
    table = network.slots(FRAMES)
    with torch.no_grad():
        before, after = (
            network(mixtures(1), torch.from_numpy(to_positions(codes, table)), table) for codes in (free.codes, changed)
        )
    moved = (before - after).abs().amax(dim=(0, 2, 3))
    assert moved[0] == 0
    assert (moved[1:] > 0).all()


def test_rows_are_independent() -> None:
    network = make(SMALL)
    both = generate(network, mixtures(), nothing(), FRAMES)
    alone = generate(network, mixtures()[1:], nothing(1), FRAMES)
    assert np.array_equal(both.codes[1:], alone.codes)


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.order}-{c.tracks}-{c.condition}")
def test_rows_that_know_different_numbers_of_frames_share_a_call(config: StemsConfig) -> None:
    network = make(config)
    known = [np.random.default_rng(row).integers(0, ENTRIES, (4, 2, CODEBOOKS, row_known)) for row, row_known in KNOWN]
    together = generate(network, mixtures(len(known)), known, FRAMES)
    for row, codes in enumerate(known):
        alone = generate(network, mixtures(len(known))[row : row + 1], [codes], FRAMES)
        assert np.array_equal(together.codes[row], alone.codes[0])
        assert np.array_equal(together.codes[row, ..., : codes.shape[-1]], codes)
        torch.testing.assert_close(together.hidden[row], alone.hidden[0], atol=1e-4, rtol=1e-4)


def test_expected_vectors_are_means_over_the_entries() -> None:
    network = make(replace(SMALL, readout="mean"))
    codebooks = torch.randn(2, CODEBOOKS, ENTRIES, 8)
    told = generate(network, mixtures(1), nothing(1), FRAMES)
    found = expected_vectors(network, told, codebooks)
    assert found.shape == (1, 4, 16, FRAMES)
    track, path, frame = 2, 1, 3
    with torch.no_grad():
        shares = network.logits(told.hidden[:, track, [2 * frame + path]], path)[0, 0, 0].softmax(-1)
    expected = sum(shares[book] @ codebooks[path, book] for book in range(CODEBOOKS))
    assert torch.allclose(found[0, track, 8 * path : 8 * path + 8, frame], expected, atol=1e-5)


def test_where_the_network_is_certain_the_mean_is_the_codes_sum() -> None:
    network = make(SMALL)
    with torch.no_grad():
        network.heads *= 1e4
    codebooks = torch.randn(2, CODEBOOKS, ENTRIES, 8)
    told = generate(network, mixtures(1), nothing(1), FRAMES)
    exact = sum(codebooks[1, book][told.codes[0, 3, 1, book]] for book in range(CODEBOOKS))  # [frame, dim]
    assert torch.allclose(expected_vectors(network, told, codebooks)[0, 3, 8:].T, exact, atol=1e-4)

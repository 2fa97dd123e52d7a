"""The stage network: the paper's sizes, its layout, its embeddings, and every rule for what the paper leaves open."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.models.hafm.grid import Grid
from backline.models.hafm.interleaved.config import (
    PAPER,
    TINY,
    InterleavedConfig,
    StageConfig,
)
from backline.models.hafm.interleaved.layout import interleaved, paper
from backline.models.hafm.interleaved.network import StageNetwork, parameter_count

CLIP = Fraction(2, 5)
STAGES = list(TINY.stages().items())


def tokens(config: StageConfig, clip: Fraction, rows: int = 2) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Random conditions per source and targets."""
    generator = torch.Generator().manual_seed(1)
    conditions = [
        torch.randint(s.vocabulary, (rows, s.codebooks, int(clip * s.rate)), generator=generator)
        for s in config.sources
    ]
    shape = (rows, config.quantizers, int(clip * config.rate))
    return conditions, torch.randint(config.vocabulary, shape, generator=generator)


def network(config: StageConfig) -> StageNetwork:
    """A network in which every part matters."""
    torch.manual_seed(0)
    built = StageNetwork(config).eval().requires_grad_(False)
    for parameter in (*built.conditions.values(), built.prediction, built.quantizer_offset, built.segment):
        parameter.normal_()
    built.transformer.bias.normal_()
    return built


@pytest.mark.parametrize(("config", "millions"), [(PAPER.semantic, 38.53), (PAPER.coarse, 42.47), (PAPER.fine, 44.06)])
def test_the_papers_stages_have_the_papers_sizes(config: StageConfig, millions: float) -> None:
    with torch.device("meta"):
        assert round(parameter_count(StageNetwork(config)) / 1e6, 2) == millions


@pytest.mark.parametrize(("name", "config"), STAGES)
def test_the_paper_layout_is_conditioning_then_shifted_targets(name: str, config: StageConfig) -> None:
    """Written out slowly: one position after the other, as A2 of the specification draws them."""
    built = network(config)
    conditions, targets = tokens(config, CLIP)
    rows = []
    for row in range(2):
        sequence = []
        for number, source in enumerate(config.sources):
            for frame in range(conditions[number].shape[2]):
                summed = sum(
                    built.conditions[source.name][q, conditions[number][row, q, frame]] for q in range(source.codebooks)
                )
                sequence.append(summed + built.segment[number])
        flat = [(int(targets[row, q, f]), q) for f in range(targets.shape[2]) for q in range(config.quantizers)]
        for n, (token, q) in enumerate([(config.vocabulary, 0), *flat[:-1]]):
            offset = built.quantizer_offset[n % config.quantizers]
            sequence.append(built.prediction[q, token] + offset + built.segment[-1])
        hidden = built.transformer(torch.stack(sequence)[None])[0, -len(flat) :]
        logits = [hidden[n] @ built.heads[n % config.quantizers].T for n in range(len(flat))]
        rows.append(torch.stack(logits).view(-1, config.quantizers, config.vocabulary).transpose(0, 1))
    torch.testing.assert_close(built(conditions, targets, paper(config, CLIP)), torch.stack(rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "config"), STAGES)
def test_one_chunk_as_long_as_the_clip_is_the_papers_layout(name: str, config: StageConfig) -> None:
    built = network(config)
    conditions, targets = tokens(config, CLIP)
    chunked = interleaved(config, CLIP, Grid.of(0.4, 0.4))
    logits = built(conditions, targets, chunked)
    torch.testing.assert_close(logits, built(conditions, targets, paper(config, CLIP)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("visibility", [-0.08, 0.0, 0.05, 0.08])
def test_a_prediction_never_sees_what_its_chunk_may_not(visibility: float) -> None:
    """The gradient of chunk c reaches exactly the vocal frames before c * chunk + visibility, none later."""
    config = replace(TINY.semantic, window=1000)
    built = network(config)
    grid = Grid.of(0.08, visibility)
    conditions, targets = tokens(config, CLIP, rows=1)
    table = built.conditions["vocal"].requires_grad_(True)
    conditions[0] = torch.arange(conditions[0].shape[2])[None, None]  # every frame has a token of its own
    logits = built(conditions, targets, interleaved(config, CLIP, grid))
    for chunk in range(5):
        (gradient,) = torch.autograd.grad(logits[0, 0, chunk * 4 : chunk * 4 + 4].sum(), table, retain_graph=True)
        seen = (gradient[0].abs().sum(-1) > 0).sum()
        assert int(seen) == max(0, int(np.floor(50 * (chunk * 0.08 + visibility) + 1e-9)))


def test_a_dropped_source_is_replaced_as_configured() -> None:
    conditions, targets = tokens(TINY.coarse, CLIP)
    layout = interleaved(TINY.coarse, CLIP, Grid.of(0.2, 0.1))
    drop = torch.tensor([[True, False], [False, False]])
    for null in ("zero_token", "mask_token", "zero_all"):
        config = replace(TINY.coarse, null=null, chunk_clock=True)
        built = network(config)
        logits = built(conditions, targets, layout, drop)
        other = [torch.randint_like(conditions[0], 500), conditions[1]]
        changed = built(other, targets, layout, drop)
        assert torch.equal(logits[0], changed[0])  # the dropped source has no say
        assert not torch.equal(logits[1], changed[1])
        torch.testing.assert_close(logits[1], built(conditions, targets, layout)[1])
        clock = torch.zeros(3)
        null_embedding = built.embed_source(0, conditions[0][:, :, :3], clock, torch.tensor([True, True]))[0, 0]
        clock_line = built.embed_clock(clock[:1])[0]
        expected = {
            "zero_token": built.segment[0] + clock_line,
            "mask_token": built.conditions["vocal"][0, 500] + built.segment[0] + clock_line,
            "zero_all": torch.zeros(config.width),
        }[null]
        torch.testing.assert_close(null_embedding, expected)


def test_offset_table_and_head_follow_their_options() -> None:
    """Against hand-written indices for predictions 0 to 5 of four quantizers."""
    base = TINY.coarse
    sequence = torch.tensor([[base.vocabulary, 11, 12, 13, 14, 15]])
    target, own = [0, 1, 2, 3, 0, 1], [0, 0, 1, 2, 3, 0]
    for offset, offsets in (("target", target), ("token", own)):
        for table, tables in (("target", target), ("token", own)):
            built = network(replace(base, quantizer_offset=offset, token_table=table))
            x = built.embed_prediction(sequence, 0)[0]
            for n in range(6):
                expected = built.prediction[tables[n], sequence[0, n]] + built.quantizer_offset[offsets[n]]
                torch.testing.assert_close(x[n], expected + built.segment[-1])
    built = network(replace(base, first_head=1))
    hidden = torch.randn(1, 8, base.width)
    assert torch.allclose(built.logits(hidden)[0, 3, 1], hidden[0, 7] @ built.heads[0].T, atol=1e-5)


def test_the_chunk_clock_tells_equal_times_alike_at_every_rate() -> None:
    config = replace(TINY.coarse, chunk_clock=True)
    layout = interleaved(config, Fraction(4, 5), Grid.of(0.4, 0.4))
    time = np.where(layout.segment == 2, layout.token // 4 / 75, layout.token / 50)
    np.testing.assert_allclose(layout.clock, (time + 1e-9) % 0.4, atol=1e-6)


def test_a_configuration_survives_its_file_form() -> None:
    assert InterleavedConfig.from_dict(TINY.to_dict()) == TINY


def test_a_wrong_configuration_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[network\] lacks coarse, fine"):
        InterleavedConfig.from_dict({"semantic": TINY.semantic.to_dict()})
    with pytest.raises(ValueError, match="null is 'nothing': use one of zero_token, mask_token, zero_all"):
        replace(TINY.fine, null="nothing")
    with pytest.raises(ValueError, match=r"\[network.fine\].*depth"):
        InterleavedConfig.from_dict({**TINY.to_dict(), "fine": {**TINY.fine.to_dict(), "depth": 3}})

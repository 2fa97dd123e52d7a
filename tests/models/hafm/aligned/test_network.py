"""The aligned stage network: what goes into every step, what is judged, and that no step knows what comes later."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.models.hafm.aligned.config import (
    BAND,
    BEAT,
    LAG,
    LONGEST_LAG,
    LOOKAHEAD,
    TINY,
    VOICE,
    AlignedConfig,
    AlignedStageConfig,
)
from backline.models.hafm.aligned.network import IGNORED, AlignedNetwork, aligned, delayed_losses, lag_token
from tests.support.hafm import lively

STAGES = list(TINY.stages().items())
DELAYED = replace(TINY.acoustic, delays=(0, 3, 1))
STEPS = 12


def random_tokens(config: AlignedStageConfig, steps: int = STEPS) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Conditions per source, unknown ones among them, and targets, of two rows."""
    generator = torch.Generator().manual_seed(1)
    conditions = [torch.randint(s.vocabulary + 1, (2, s.codebooks, steps), generator=generator) for s in config.sources]
    return conditions, torch.randint(config.vocabulary, (2, config.codebooks, steps), generator=generator)


def hidden_slowly(network: AlignedNetwork, conditions: list[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """[row, step, width]: the input of every step, one embedding after the other, through the transformer."""
    config = network.config
    x = torch.zeros(2, STEPS, config.width)
    for row in range(2):
        for step in range(STEPS):
            for source, tokens in zip(config.sources, conditions, strict=True):
                table = network.conditions[source.name]
                for codebook in range(source.codebooks):
                    token = int(tokens[row, codebook, step])
                    x[row, step] += table[codebook, token]
            for codebook, delay in enumerate(config.delays):
                frame = step - 1 - delay  # that the codebook predicted a step earlier
                token = int(targets[row, codebook, frame]) if frame >= 0 else config.vocabulary
                x[row, step] += network.tokens[codebook, token]
    return network.transformer(x)


@pytest.mark.parametrize("config", [TINY.semantic, TINY.acoustic, DELAYED], ids=["semantic", "acoustic", "delayed"])
def test_a_step_takes_in_its_moment_and_what_every_codebook_got_a_step_earlier(config: AlignedStageConfig) -> None:
    network = lively(config)
    conditions, targets = random_tokens(config)
    hidden = hidden_slowly(network, conditions, targets)
    logits = network(conditions, targets)
    for codebook in range(config.codebooks):
        torch.testing.assert_close(logits[:, :, codebook], hidden @ network.heads[codebook].T, atol=1e-4, rtol=1e-5)


def test_inputs_begin_with_bos_and_come_a_step_and_the_delay_later() -> None:
    targets = torch.arange(10, 16).repeat(1, 3, 1)
    bos = DELAYED.vocabulary
    assert AlignedNetwork(DELAYED).inputs(targets)[0].tolist() == [
        [bos, 10, 11, 12, 13, 14],
        [bos, bos, bos, bos, 10, 11],
        [bos, bos, 10, 11, 12, 13],
    ]


def test_what_was_played_goes_in_where_it_is_not_what_should_be() -> None:
    network = lively(DELAYED)
    conditions, targets = random_tokens(DELAYED)
    judged = targets.clone()
    judged[:, :, ::2] = IGNORED
    assert torch.equal(network(conditions, judged, played=targets), network(conditions, targets))


@pytest.mark.parametrize("codebook", [0, 1, 2])
def test_later_targets_never_change_earlier_logits(codebook: int) -> None:
    """A frame's token is first heard in the step after the one that predicts it, by its own codebook's delay."""
    network = lively(DELAYED)
    conditions, targets = random_tokens(DELAYED)
    logits = network(conditions, targets)
    frame = 4
    targets[:, codebook, frame:] = (targets[:, codebook, frame:] + 1) % DELAYED.vocabulary
    moved = (network(conditions, targets) - logits).abs().amax(dim=(0, 2, 3))
    heard = frame + 1 + DELAYED.delays[codebook]
    assert moved[:heard].max() < 1e-5
    assert moved[heard] > 1e-2


@pytest.mark.parametrize(("name", "config"), STAGES)
def test_later_conditions_never_change_earlier_logits(name: str, config: AlignedStageConfig) -> None:
    network = lively(config)
    conditions, targets = random_tokens(config)
    logits = network(conditions, targets)
    for number, source in enumerate(config.sources):
        changed = [tokens.clone() for tokens in conditions]
        changed[number][:, :, 5:] = (changed[number][:, :, 5:] + 1) % source.vocabulary
        moved = (network(changed, targets) - logits).abs().amax(dim=(0, 2, 3))
        assert moved[:5].max() < 1e-5
        assert moved[5] > 1e-2


def test_losses_are_averaged_over_the_steps_in_which_a_codebook_has_a_frame() -> None:
    conditions, targets = random_tokens(DELAYED)
    logits = lively(DELAYED)(conditions, targets)
    targets[0, 1, 2:5] = IGNORED
    expected = []
    for codebook, delay in enumerate(DELAYED.delays):
        judged = [
            -float(logits[row, frame + delay, codebook].log_softmax(-1)[token])
            for row in range(2)
            for frame in range(STEPS - delay)
            if (token := int(targets[row, codebook, frame])) != IGNORED
        ]
        expected.append(np.mean(judged))
    np.testing.assert_allclose(delayed_losses(logits, targets, DELAYED.delays).numpy(), expected, rtol=1e-5)


def test_where_nothing_is_judged_nothing_is_lost() -> None:
    conditions, targets = random_tokens(DELAYED)
    logits = lively(DELAYED)(conditions, targets)
    assert delayed_losses(logits, torch.full_like(targets, IGNORED), DELAYED.delays).tolist() == [0.0, 0.0, 0.0]


# ---- which tokens belong to a step ----


def test_two_frames_of_20_ms_stand_in_three_steps_of_a_codec() -> None:
    tokens = np.array([[10, 11, 12, 13], [20, 21, 22, 23]])
    band = replace(BAND, codebooks=2)
    assert aligned(tokens, band, 75, 0, 6).tolist() == [[10, 10, 11, 12, 12, 13], [20, 20, 21, 22, 22, 23]]
    assert aligned(tokens, band, 75, 4, 2).tolist() == [[12, 13], [22, 23]]


def test_a_source_heard_live_comes_its_lag_later_and_is_unknown_before() -> None:
    tokens = np.array([[1, 2, 3, 4]])
    unknown = VOICE.vocabulary
    assert aligned(tokens, VOICE, 50, 0, 4, Fraction(1, 25)).tolist() == [[unknown, unknown, 1, 2]]
    assert aligned(tokens, VOICE, 50, 3, 4, Fraction(1, 25)).tolist() == [[2, 3, 4, unknown]]
    assert aligned(tokens, VOICE, 75, 0, 6, Fraction(1, 25)).tolist() == [[unknown, unknown, unknown, 1, 1, 2]]


def test_a_negative_lag_hears_what_is_still_to_come() -> None:
    tokens = np.array([[1, 2, 3, 4]])
    assert aligned(tokens, VOICE, 50, 0, 4, Fraction(-1, 25)).tolist() == [[3, 4, VOICE.vocabulary, VOICE.vocabulary]]


def test_what_is_known_ahead_has_no_lag() -> None:
    assert aligned(np.array([[1, 2]]), BEAT, 50, 0, 2, Fraction(2)).tolist() == [[1, 2]]


def test_a_dropped_source_is_unknown_everywhere() -> None:
    assert (aligned(np.zeros((5, 0), np.int64), BAND, 75, 0, 6) == BAND.vocabulary).all()


def test_every_lag_has_a_token() -> None:
    assert lag_token(-LOOKAHEAD) == 0
    assert lag_token(LONGEST_LAG) == LAG.vocabulary - 1
    assert lag_token(Fraction(1, 25)) == lag_token(Fraction(0)) + 1


# ---- tables ----


def test_a_configuration_survives_its_file_form() -> None:
    assert AlignedConfig.from_dict(TINY.to_dict()) == TINY


def test_a_wrong_configuration_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[network\] lacks acoustic"):
        AlignedConfig.from_dict({"semantic": TINY.to_dict()["semantic"]})
    with pytest.raises(ValueError, match=r"\[network.semantic\].*depth"):
        AlignedConfig.from_dict({**TINY.to_dict(), "semantic": {**TINY.to_dict()["semantic"], "depth": 3}})
    with pytest.raises(ValueError, match=r"delays are \[1, 2\]: give one per codebook, the least of them 0"):
        replace(TINY.acoustic, delays=(1, 2))

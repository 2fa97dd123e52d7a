"""Decoding an aligned stage: step by step in torch and in the fused kernel, both as the network under its mask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from backline.kernels.decode import DecodeStage
from backline.kernels.random import uniform_array
from backline.models.hafm.aligned.config import TINY, AlignedStageConfig
from backline.models.hafm.aligned.decode import TorchFrameStage, frame_arrays
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.nn.sampling import choose, guide
from tests.support.hafm import lively

WINDOW = 48
STEPS = 3 * WINDOW + 6
STAGES = [replace(stage, window=WINDOW, max_distance=WINDOW) for stage in TINY.stages().values()]
FACTORISED = replace(STAGES[1], code_width=12, delays=(0, 1), vocabulary=700, heads=4, kv_heads=2)
SEED, STAGE = 5, 2
GREEDY: dict[str, Any] = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}
SAMPLED: dict[str, Any] = {"temperature": 0.9, "top_k": 20, "top_p": 0.9}
Decoder = TorchFrameStage | DecodeStage


def decoder(kind: str, network: AlignedNetwork, rows: int = 2, branches: int = 2) -> Decoder:
    if kind == "torch":
        return TorchFrameStage(network, rows, STAGE, branches)
    return DecodeStage(frame_arrays(network), rows, network.config.window, "float32", STAGE, 1 if branches == 1 else 2)


def random_conditions(network: AlignedNetwork, branches: int, steps: int = STEPS) -> np.ndarray:
    """[1, branch, step, width] of random tokens; the second branch does without the first source."""
    generator = torch.Generator().manual_seed(3)
    parts = []
    for number, source in enumerate(network.config.sources):
        tokens = torch.randint(source.vocabulary, (1, source.codebooks, steps), generator=generator)
        both = tokens.repeat(branches, 1, 1)
        if number == 0:
            both[1:] = source.vocabulary
        parts.append(both)
    return network.embed_conditions(parts)[None].numpy()


def forced_choice(
    network: AlignedNetwork,
    conditions: np.ndarray,
    tokens: np.ndarray,
    guidance: float,
    temperature: float,
    top_k: int,
    top_p: float,
) -> np.ndarray:
    """[step, codebook]: what the whole network chooses in every step, if before it `tokens` [step, codebook] came."""
    config = network.config
    targets = torch.zeros(1, config.codebooks, STEPS, dtype=torch.int64)
    for codebook, delay in enumerate(config.delays):
        targets[0, codebook, : STEPS - delay] = torch.from_numpy(tokens[delay:, codebook].astype(np.int64))
    x = torch.from_numpy(conditions[0]) + network.embed_tokens(network.inputs(targets))
    logits = network.logits(network.transformer(x)).flatten(1, 2)  # [branch, step * codebook, vocabulary]
    count = logits.shape[1]
    mixed = guide(logits[0], logits[1], torch.full((count,), guidance)) if len(logits) == 2 else logits[0]
    u = torch.from_numpy(uniform_array(SEED, STAGE, np.arange(count)))
    chosen = choose(
        mixed, torch.full((count,), temperature), torch.full((count,), top_k), u, torch.full((count,), top_p)
    )
    expected = chosen.view(STEPS, config.codebooks).numpy().copy()
    for codebook, delay in enumerate(config.delays):
        expected[:delay, codebook] = -1
    return expected


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("stage", [*STAGES, FACTORISED], ids=["semantic", "acoustic", "factorised, of shared keys"])
def test_torch_and_the_kernel_choose_what_teacher_forcing_chooses_over_three_windows(
    stage: AlignedStageConfig, branches: int, sampling: dict[str, Any]
) -> None:
    network = lively(stage)
    conditions = random_conditions(network, branches)
    guidance = 2.5 if branches == 2 else 1.0
    found = {}
    for kind in ("torch", "fused"):
        stepped = decoder(kind, network, branches=branches)
        stepped.reset(1, SEED)
        parts = [
            stepped.generate_frames([1], conditions[:, :, start:stop], guidance=guidance, **sampling)[0]
            for start, stop in ((0, 50), (50, 51), (51, STEPS))
        ]
        found[kind] = np.concatenate(parts)
    np.testing.assert_array_equal(found["torch"], found["fused"])
    expected = forced_choice(network, conditions, found["fused"], guidance, **sampling)
    np.testing.assert_array_equal(found["fused"], expected)
    assert len(np.unique(found["fused"])) > 10


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_guidance_of_one_is_no_guidance(kind: str) -> None:
    network = lively(STAGES[0])
    conditions = random_conditions(network, 2, 60)
    guided, single = (decoder(kind, network, 1, branches) for branches in (2, 1))
    for stepped in (guided, single):
        stepped.reset(0, SEED)
    np.testing.assert_array_equal(
        guided.generate_frames([0], conditions, guidance=1.0, **SAMPLED),
        single.generate_frames([0], conditions[:, :1], **SAMPLED),
    )


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_a_row_alone_generates_what_it_generates_in_company(kind: str) -> None:
    network = lively(STAGES[1])
    conditions = random_conditions(network, 2, 40)
    alone, company = decoder(kind, network), decoder(kind, network)
    alone.reset(0, seed=1)
    expected = alone.generate_frames([0], conditions, guidance=2.0, **SAMPLED)[0]
    company.reset(0, seed=2)
    company.reset(1, seed=1)
    both = np.concatenate([conditions[:, :, 20:40], conditions[:, :, :20]])
    first = company.generate_frames(
        [0, 1], both, steps=[7, 15], guidance=[1.5, 2.0], temperature=[1.3, 0.9], top_k=[0, 20], top_p=[1.0, 0.9]
    )
    assert (first[0, 7:] == -1).all()
    rest = company.generate_frames([1], conditions[:, :, 15:], guidance=2.0, **SAMPLED)[0]
    np.testing.assert_array_equal(np.concatenate([first[1, :15], rest]), expected)


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_a_restored_row_goes_on_as_the_saved_one(kind: str) -> None:
    network = lively(STAGES[1])
    conditions = random_conditions(network, 2, 40)
    stepped = decoder(kind, network)
    stepped.reset(0, seed=3)
    stepped.generate_frames([0], conditions[:, :, :20])
    saved = stepped.snapshot(0)
    expected = stepped.generate_frames([0], conditions[:, :, 20:])
    stepped.restore(1, saved)  # type: ignore[arg-type]
    np.testing.assert_array_equal(stepped.generate_frames([1], conditions[:, :, 20:]), expected)


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_a_row_that_draws_ahead_is_drawn_with_the_numbers_of_those_frames(kind: str) -> None:
    """A network that knows nothing leaves all to chance: what a row draws is then a matter of the numbers alone."""
    network = AlignedNetwork(replace(STAGES[0], delays=(0,) * STAGES[0].codebooks))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    stepped = decoder(kind, network)
    stepped.reset(0, SEED)
    stepped.reset(1, SEED)
    stepped.draw_ahead(1, 7)
    conditions = np.zeros((2, 2, 20, network.config.width), np.float32)
    on_time, ahead = stepped.generate_frames([0, 1], conditions, temperature=1.0)
    np.testing.assert_array_equal(ahead[:13], on_time[7:])
    assert len(np.unique(on_time)) > 5
    stepped.reset(1, SEED)
    np.testing.assert_array_equal(stepped.generate_frames([1], conditions[:1], temperature=1.0)[0], on_time)

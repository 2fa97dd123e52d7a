"""Decoding a stage chunk by chunk: in torch as in the kernel, and both as the network under its windowed mask."""

import copy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.kernels.decode import DecodeStage
from backline.models.hafm.grid import Grid
from backline.models.hafm.interleaved.config import TINY, StageConfig
from backline.models.hafm.interleaved.decode import TorchDecodeStage, stage_arrays
from backline.models.hafm.interleaved.layout import Layout, interleaved
from backline.models.hafm.interleaved.network import StageNetwork

LARGE = {"vocabulary": 5_000, "code_width": 8}  # tables that are factorised
STAGES = [
    *TINY.stages().items(),
    ("large semantic", replace(TINY.stages()["semantic"], **LARGE)),
    ("large coarse", replace(TINY.coarse, **LARGE, token_table="target", first_head=1)),
    (
        "large source",
        replace(TINY.coarse, code_width=8, sources=tuple(replace(s, vocabulary=5_000) for s in TINY.coarse.sources)),
    ),
]
Decoder = TorchDecodeStage | DecodeStage


def network(config: StageConfig) -> StageNetwork:
    """A network whose logits are far from equal."""
    torch.manual_seed(0)
    built = StageNetwork(config).eval().requires_grad_(False)
    for parameter in (*built.conditions.values(), built.prediction, built.quantizer_offset, built.segment):
        parameter.normal_()
    built.transformer.bias.normal_()
    if built.factorised:
        built.leave.normal_(std=0.3)
        built.head_bias.normal_()
    else:
        built.heads.normal_(std=0.3)
    return built


def decoders(built: StageNetwork, rows: int) -> dict[str, Decoder]:
    return {
        "torch": TorchDecodeStage(built, rows, stage=2),
        "fused": DecodeStage(stage_arrays(built), rows, built.config.window, "float32", stage=2),
    }


def embeddings(built: StageNetwork, layout: Layout, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens over a layout, embedded: [2, position, width] conditioned and not; and the logits [n, vocabulary]
    of the conditioned branch for every prediction, from the network at once."""
    config = built.config
    generator = torch.Generator().manual_seed(seed)
    conditions = [
        torch.randint(s.vocabulary, (1, s.codebooks, n), generator=generator)
        for s, n in zip(config.sources, layout.source_frames, strict=True)
    ]
    targets = torch.randint(config.vocabulary, (1, config.quantizers, layout.frames), generator=generator)
    flat = targets.transpose(1, 2).flatten(1)
    shifted = torch.cat([torch.tensor([[config.vocabulary]]), flat[:, :-1]], dim=1)
    branches = []
    for dropped in (False, True):
        drop = torch.tensor([dropped])
        parts = [built.embed_source(n, tokens, drop=drop) for n, tokens in enumerate(conditions)]
        x = torch.cat([*parts, built.embed_prediction(shifted, 0)], dim=1)
        branches.append(x[0, torch.from_numpy(layout.gather())])
    logits = built(conditions, targets, layout)[0].transpose(0, 1).flatten(0, 1)
    return torch.stack(branches).numpy(), logits.numpy()


@pytest.mark.parametrize("kind", ["torch", "fused"])
@pytest.mark.parametrize(("name", "config"), STAGES)
def test_streaming_is_recomputation_with_the_windowed_mask_over_three_wraps(
    kind: str, name: str, config: StageConfig
) -> None:
    config = replace(config, window=48, max_distance=48)
    built = network(config)
    layout = interleaved(config, Fraction(8, 5), Grid.of(0.16, 0.12))
    assert len(layout) > 4 * config.window
    x, expected = embeddings(built, layout)
    decoder = decoders(built, 2)[kind]
    decoder.reset(0)
    decoder.reset(1)
    predicting = layout.segment == len(config.sources)
    got, position = [], 0
    while position < len(layout):
        if predicting[position]:
            quantizer = int(layout.token[position]) % config.quantizers
            got.append(decoder.step([1], x[None, :, position], quantizer)[0, 0])
            position += 1
        else:
            stop = position + int(np.argmax(predicting[position:]))
            decoder.prefill([1], x[None, :, position:stop])
            position = stop
    assert decoder.position(1) == len(layout)
    assert decoder.position(0) == 0
    np.testing.assert_allclose(np.stack(got), expected, atol=1e-5, rtol=1e-5)


def test_the_kernel_and_torch_choose_the_same_tokens() -> None:
    """With every option away from its default, so that the folding of options into tables is seen."""
    config = replace(TINY.coarse, quantizer_offset="token", token_table="target", first_head=1, window=64)
    built = network(config)
    x, _ = embeddings(built, interleaved(config, Fraction(2, 25), Grid.of(0.08, 0.08)))
    clock = np.random.default_rng(0).normal(size=(2, 20, config.width)).astype(np.float32)
    results = {}
    for kind, decoder in decoders(built, 3).items():
        for row in (0, 2):
            decoder.reset(row, seed=5 + row)
            decoder.prefill([row], x[None, :, : 4 + row])
        settings = {"guidance": [1.5, 3.0], "temperature": [0.9, 0.0], "top_k": [20, 0]}
        first = decoder.generate([2, 0], [30, 50], clock=clock, **settings)
        second = decoder.generate([2, 0], 18, clock=clock, **settings)
        results[kind] = np.concatenate([first, second], axis=1)
    assert (results["torch"][0, 30:50] == -1).all()
    np.testing.assert_array_equal(results["torch"], results["fused"])


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_a_row_alone_generates_what_it_generates_in_company(kind: str) -> None:
    built = network(TINY.coarse)
    x, _ = embeddings(built, interleaved(TINY.coarse, Fraction(2, 25), Grid.of(0.08, 0.08)))
    alone, company = decoders(built, 2)[kind], decoders(built, 2)[kind]
    alone.reset(0, seed=1)
    alone.prefill([0], x[None])
    expected = alone.generate([0], 40, guidance=2.0, temperature=0.9, top_k=50)
    company.reset(0, seed=2)
    company.reset(1, seed=1)
    company.prefill([1], x[None])
    company.prefill([0], x[None, :, :3])
    first = company.generate([0, 1], [9, 15], guidance=[1.0, 2.0], temperature=[1.3, 0.9], top_k=[0, 50])[1, :15]
    rest = company.generate([1], 25, guidance=2.0, temperature=0.9, top_k=50)[0]
    np.testing.assert_array_equal(np.concatenate([first, rest]), expected[0])


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_a_restored_row_goes_on_as_the_saved_one(kind: str) -> None:
    built = network(TINY.fine)
    decoder = decoders(built, 2)[kind]
    decoder.reset(0, seed=3)
    decoder.generate([0], 30)
    saved = decoder.snapshot(0)
    expected = decoder.generate([0], 30)
    decoder.restore(1, saved)
    np.testing.assert_array_equal(decoder.generate([1], 30), expected)


def test_a_torch_step_keeps_to_its_addresses_so_that_a_graph_can_replay_it() -> None:
    decoder = TorchDecodeStage(network(TINY.fine), 2)
    held = (decoder._state.keys, decoder._state.values, decoder._state.offset, decoder._last, decoder._count)
    before = [tensor.data_ptr() for tensor in held]
    decoder.generate([0, 1], [5, 2], temperature=[0.9, 0.0], top_k=10)
    after = (decoder._state.keys, decoder._state.values, decoder._state.offset, decoder._last, decoder._count)
    assert [tensor.data_ptr() for tensor in after] == before
    assert decoder._count.tolist() == [5, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_graph_on_a_gpu_chooses_what_the_cpu_chooses() -> None:
    built = network(TINY.coarse)
    x, _ = embeddings(built, interleaved(TINY.coarse, Fraction(2, 25), Grid.of(0.08, 0.08)))
    tokens = []
    for device in ("cpu", "cuda"):
        decoder = TorchDecodeStage(copy.deepcopy(built).to(device), 2)
        decoder.reset(1, seed=4)
        decoder.prefill([1], x[None])
        tokens.append(decoder.generate([1], 40, guidance=2.0, temperature=0.9, top_k=50))
    np.testing.assert_array_equal(tokens[0], tokens[1])


def test_torch_and_kernel_hold_the_same_weights() -> None:
    arrays = stage_arrays(network(TINY.coarse))
    assert arrays.tokens.shape == (4, 1024, 32)
    assert arrays.heads.shape == (4, 1024, 32)

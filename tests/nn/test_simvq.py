"""SimVQ: the nearest entry, who learns, and a table that is the same everywhere."""

import copy
import hashlib

import numpy as np
import pytest
import torch

from backline.nn import simvq
from backline.nn.simvq import COMMITMENT, SimVQ, gaussian_table

ENTRIES, DIM = 300, 8


def toy(seed: int = 3) -> SimVQ:
    torch.manual_seed(0)
    return SimVQ(ENTRIES, DIM, seed)


@pytest.mark.parametrize("distances", [1 << 20, 1 << 10, 1])
def test_a_token_is_the_nearest_entry_however_the_search_is_cut(
    distances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simvq, "DISTANCES", distances)
    monkeypatch.setattr(simvq, "VECTORS", 16)
    quantizer = toy().double().requires_grad_(False)
    z = torch.randn(3, 17, DIM, dtype=torch.float64)
    entries = torch.stack([quantizer.map.weight @ entry + quantizer.map.bias for entry in quantizer.table])
    slow = [[min(range(ENTRIES), key=lambda k: float((v - entries[k]).norm())) for v in row] for row in z]
    assert quantizer.tokens(z).tolist() == slow
    assert torch.allclose(quantizer.vectors(torch.tensor(slow)), entries[torch.tensor(slow)])


def test_training_in_bfloat16_finds_the_same_entries() -> None:
    quantizer = toy()
    z = torch.randn(40, DIM)
    q, tokens, loss = quantizer(z)
    with torch.autocast("cpu", torch.bfloat16):
        found, same, distance = quantizer(z)
    assert torch.equal(same, tokens)
    assert torch.equal(found, q)
    assert torch.equal(distance, loss)


def test_of_equal_entries_the_first_is_taken() -> None:
    quantizer = toy()
    with torch.no_grad():
        quantizer.map.weight.zero_()
    assert quantizer.tokens(torch.randn(5, DIM)).tolist() == [0] * 5


def test_the_gradient_goes_straight_through_and_of_the_codebook_only_the_map_learns() -> None:
    quantizer = toy()
    z = torch.randn(2, 6, DIM, requires_grad=True)
    q, tokens, loss = quantizer(z)
    assert torch.allclose(q, quantizer.vectors(tokens), atol=1e-6)
    weights = torch.randn(q.shape)
    (straight,) = torch.autograd.grad((q * weights).sum(), z, retain_graph=True)
    assert torch.equal(straight, weights)
    assert {name for name, _ in quantizer.named_parameters()} == {"map.weight", "map.bias"}
    loss.backward()
    entries = quantizer.vectors(tokens).detach()
    assert z.grad is not None
    assert torch.allclose(z.grad, COMMITMENT * 2 * (z.detach() - entries) / z.numel(), atol=1e-7)
    error = 2 * (entries - z.detach()) / z.numel()
    assert quantizer.map.bias.grad is not None
    assert torch.allclose(quantizer.map.bias.grad, error.sum((0, 1)), atol=1e-6)
    distance = float((z.detach() - entries).square().mean())
    assert loss.item() == pytest.approx((1 + COMMITMENT) * distance, rel=1e-5)


def test_training_brings_the_codebook_to_the_vectors() -> None:
    quantizer = toy()
    generator = torch.Generator().manual_seed(1)
    far = 3.0 + torch.randn(400, DIM, generator=generator)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.03)
    losses = []
    for _ in range(120):
        _, tokens, loss = quantizer(far)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert len(tokens.unique()) > 30  # of at first a handful: entries move together, none is left behind


@pytest.mark.parametrize("fused", [False, True])  # of which the latter does not count as a change of its weights
def test_tokens_are_of_the_weights_as_they_are(fused: bool) -> None:
    quantizer = toy().eval()
    z = torch.randn(4, DIM)
    quantizer.tokens(z)
    optimizer = torch.optim.AdamW(quantizer.parameters(), 0.5, fused=fused)
    quantizer(z)[2].backward()
    optimizer.step()
    tokens = quantizer.tokens(z)
    quantizer.requires_grad_(False)
    assert torch.equal(quantizer.tokens(z), tokens)
    assert torch.equal(copy.deepcopy(quantizer).tokens(z), tokens)


def test_what_is_kept_while_nothing_learns_goes_when_the_weights_change() -> None:
    quantizer = toy().eval().requires_grad_(False)
    every = torch.arange(ENTRIES)
    first = quantizer.vectors(every)
    assert quantizer.codebook() is quantizer.codebook()
    quantizer.map.weight.mul_(2.0)
    quantizer.map.bias.mul_(2.0)
    assert torch.allclose(quantizer.vectors(every), 2.0 * first)
    weights = {"map.weight": torch.eye(DIM), "map.bias": torch.zeros(DIM)}
    quantizer.load_state_dict(weights, assign=True)
    quantizer.requires_grad_(False)
    assert torch.equal(quantizer.vectors(every), quantizer.table)
    assert quantizer.double().vectors(every).dtype == torch.float64


def test_nothing_of_the_table_is_stored() -> None:
    quantizer = toy()
    quantizer.tokens(torch.randn(2, DIM))
    assert set(quantizer.state_dict()) == {"map.weight", "map.bias"}
    again = copy.deepcopy(toy(3))
    again.load_state_dict(quantizer.state_dict())
    assert torch.equal(again.table, quantizer.table)


def test_a_table_follows_from_its_seed_on_every_machine() -> None:
    table = gaussian_table(4096, 64, seed=11, stream=1)
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()
    assert digest == "b5c89f177cc82bb39e875a21e6889775782b54ede0e9969b64fd140b0655cec1"
    assert not np.array_equal(table, gaussian_table(4096, 64, seed=11, stream=0))
    assert not np.array_equal(table, gaussian_table(4096, 64, seed=12, stream=1))


def test_a_table_is_normal() -> None:
    deviates = np.sort((8.0 * gaussian_table(4096, 64, seed=0)).ravel().astype(np.float64))
    assert abs(deviates.mean()) < 0.01
    assert deviates.var() == pytest.approx(1.0, abs=0.01)
    normal = 0.5 * (1.0 + torch.erf(torch.from_numpy(deviates) / 2**0.5).numpy())
    assert np.abs(normal - np.arange(1, len(normal) + 1) / len(normal)).max() < 0.005  # Kolmogorov and Smirnov's
    rows = gaussian_table(4096, 64, seed=0)
    correlation = np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]
    assert abs(correlation) < 0.06

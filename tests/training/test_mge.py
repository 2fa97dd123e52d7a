"""Training of MGE-LDM's network, and the whole recipe at toy size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.models.mge.config import TINY
from backline.nn.diffusion import velocity
from backline.training.loop import LoopConfig, Moment
from backline.training.mge import TRAININGS, MgeTrainer, MgeTraining, packed, train_mge
from backline.training.mge_songs import Encoder, Pool, write_songs
from backline.training.tokens import shard_path
from tests.support.toy_mge import DIMENSION, Tones, ToyVae, hear, named

CPU = torch.device("cpu")
TOY = replace(TRAININGS["tiny"], mge=replace(TINY, network=replace(TINY.network, condition=DIMENSION)))


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    for number in range(2):
        write_songs(shard_path(tmp_path, number), number, Encoder(ToyVae(), hear, Tones()), 0, 4)
    return Pool(tmp_path)


def made(pool: Pool, config: MgeTraining = TOY) -> MgeTrainer:
    torch.manual_seed(0)
    return MgeTrainer(config, [named], pool, 0, CPU)


def test_the_papers_training_is_the_papers() -> None:
    paper = TRAININGS["paper"]
    assert (paper.drawn.rows, paper.drawn.dropped, paper.drawn.dropped_else, paper.rate) == (64, 0.1, 0.1, 5e-5)
    assert set(paper.drawn.tasks) == {0.25}
    assert paper.mge.network.time == "token"


@pytest.mark.parametrize("size", TRAININGS)
def test_shares_are_shares(size: str) -> None:
    drawn = TRAININGS[size].drawn
    assert sum(drawn.tasks) == pytest.approx(1)
    assert sum(drawn.sources) == pytest.approx(1)


def test_training_brings_the_loss_down(pool: Pool) -> None:
    trainer = made(pool)
    losses = [trainer.step(Moment(step, 0.0, 0.0))["loss"] for step in range(100)]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])


def test_only_what_is_noisy_counts(pool: Pool) -> None:
    """A network that tells the truth there and nonsense elsewhere has no loss."""
    trainer = made(pool, replace(TOY, drawn=replace(TOY.drawn, past=1.0)))
    told: list[torch.Tensor] = []

    class Knowing(torch.nn.Module):
        def normed(self, latents: torch.Tensor) -> torch.Tensor:
            told.append(latents)
            return latents

        def forward(self, noisy: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            alpha, beta = (torch.pi / 2 * times[:, :, None]).cos(), (torch.pi / 2 * times[:, :, None]).sin()
            noise = (noisy - alpha * told[-1]) / beta.clamp(min=1e-6)
            return torch.where(times[:, :, None] > 0, velocity(told[-1], noise, times), 1e3)

    trainer.bfloat16 = False
    assert float(trainer.loss(Knowing(), trainer.drawing)) < 1e-4  # type: ignore[arg-type]


def test_the_average_follows_the_weights(pool: Pool) -> None:
    trainer = made(pool)
    for step in range(60):
        trainer.step(Moment(step, 0.0, 0.0))
    away = [
        (a - b).abs().max().item()
        for a, b in zip(trainer.learner.average.parameters(), trainer.learner.network.parameters(), strict=True)
    ]
    assert max(away) > 0
    assert all(average.is_leaf for average in trainer.learner.average.parameters()), "no graph grows behind the average"
    first = made(pool)
    moved = [
        (a - b).abs().max().item()
        for a, b in zip(first.learner.network.parameters(), trainer.learner.network.parameters(), strict=True)
    ]
    assert sum(away) < 0.5 * sum(moved)


def test_latents_are_normed_by_the_first_songs(pool: Pool) -> None:
    trainer = made(pool)
    latents = np.concatenate([song.latents[1:].astype(np.float32) for song in pool.songs])
    normed = trainer.learner.network.normed(torch.from_numpy(latents))
    assert normed.mean().item() == pytest.approx(0, abs=0.05)
    assert normed.std().item() == pytest.approx(1, abs=0.05)


def test_validation_is_the_same_each_time(pool: Pool) -> None:
    trainer = made(pool)
    first = trainer.validate(pool.songs)
    torch.rand(7)
    assert trainer.validate(pool.songs) == first
    assert 0 < first["found"] <= 1
    assert first["error"] > 0


def test_training_goes_on_where_it_stopped(pool: Pool, tmp_path: Path) -> None:
    held_out = Pool(pool.folder)
    held_out.refresh()
    loop = LoopConfig(tmp_path / "run", steps=3)
    train_mge(loop, TOY, [named], pool, held_out.songs, "cpu")
    network, outcome = train_mge(replace(loop, steps=5), TOY, [named], Pool(pool.folder), held_out.songs, "cpu")
    assert outcome.step == 5
    table, tensors = packed(network)
    assert table["network"]["condition"] == DIMENSION
    assert all(name.startswith("mge.") for name in tensors)

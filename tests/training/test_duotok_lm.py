"""The language model's training: it learns to answer a voice, and a song's end costs nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.models.duotok.config import ACCOMPANIMENT, TINY, VOCALS
from backline.models.duotok.lm import accompanying, read_network, unconditional
from backline.training.duotok_lm import TRAININGS, Draw, LmTrainer, LmTraining, crop, judged, losses, packed, train_lm
from backline.training.duotok_tokens import Pool, SongTokens
from backline.training.loop import LoopConfig, Moment
from backline.training.run_folder import best_weights
from tests.support.hafm import lively

TABLES = torch.randn(2, TINY.entries, TINY.code_width, generator=torch.Generator().manual_seed(0))
SMALLEST: LmTraining = replace(TRAININGS["tiny"], rows=4, rate=1e-2, served=0.7)


def song(seed: int, frames: int = 120) -> SongTokens:
    """A voice that holds tokens at random, and a band that answers with the next one."""
    random = np.random.default_rng(seed)
    voice = random.integers(TINY.entries, size=frames // 4).repeat(4)
    tracks = np.stack([voice, (voice + 1) % TINY.entries]).astype(np.uint16)
    return SongTokens(tracks, np.full(tracks.shape[1], 193, np.int16))


class Held(Pool):
    """A pool of songs that are there."""

    def __init__(self, songs: list[SongTokens]) -> None:
        self.songs = songs

    def refresh(self) -> None: ...


def test_it_learns_what_answers_a_voice(tmp_path: Path) -> None:
    pool = Held([song(seed) for seed in range(64)])
    held_out = [song(1000 + seed) for seed in range(6)]
    trained = train_lm(LoopConfig(tmp_path, steps=150), SMALLEST, pool, held_out, TABLES, "cpu").validation
    assert trained["loss"] < 0.5 * trained["shuffled"]
    assert trained["cnbpt"] == pytest.approx(trained["loss"] / np.log(TINY.entries))
    network = read_network(TINY, {f"lm.{name}": value for name, value in best_weights(tmp_path).items()})
    assert packed(network, TINY, TABLES)[1].keys() == {
        f"lm.{name}" for name in network.state_dict() if name != "tokens"
    }  # those are the tokenizer's, and stay as they were
    again = train_lm(LoopConfig(tmp_path, steps=151), SMALLEST, pool, held_out, TABLES, "cpu")
    assert again.step == 151  # it goes on


def test_it_begins_with_the_frequencies_of_its_songs() -> None:
    pool = Held([song(seed) for seed in range(8)])
    trainer = LmTrainer(SMALLEST, pool, TABLES, 0, torch.device("cpu"))
    heard = np.concatenate([each.tracks[VOCALS] for each in pool.songs])
    shares = trainer.network.head_bias[VOCALS].softmax(0).detach().numpy()
    counts = np.bincount(heard, minlength=TINY.entries) + 0.5
    np.testing.assert_allclose(shares, counts / counts.sum(), rtol=1e-4)


def test_the_gradients_of_a_part_at_a_time_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.training.duotok_lm.POSITIONS", 7)
    network = lively(TINY.stage).requires_grad_(True)
    tracks, _ = crop(song(0, 60), 0, 80)
    rows = [unconditional(TINY, tracks), unconditional(TINY, tracks)]
    told = losses(network, rows, learn=True).sum() / judged(rows)
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    expected = direct(network, rows)
    expected.backward()
    assert float(told) == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)


def direct(network, rows) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The mean cross-entropy by the definition."""
    from backline.models.duotok.lm import embedded

    logits = network.logits(network.transformer(embedded(network, rows)))  # [row, step, track, entry]
    targets = torch.from_numpy(np.stack([row.targets for row in rows])).transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=-1)


def test_what_lies_after_a_songs_end_is_neither_heard_nor_judged() -> None:
    tracks, _ = crop(song(0, 60), 40, 40)
    steps = accompanying(TINY, tracks, 0)  # type: ignore[arg-type]
    assert (steps.inputs[:, 21:] == TINY.entries).all()
    assert (steps.targets[ACCOMPANIMENT, 20:] == -1).all()
    assert (steps.targets[ACCOMPANIMENT, :20] >= 0).all()
    assert (steps.targets[VOCALS] == -1).all()


def test_a_step_counts_what_it_judges() -> None:
    trainer = LmTrainer(SMALLEST, Held([song(seed, 30) for seed in range(4)]), TABLES, 0, torch.device("cpu"))
    first = trainer.step(Moment())
    assert set(first) - {"led", "free"} == {"norm", "rate"}


def test_a_batch_learns_from_a_share_of_its_tokens() -> None:
    thinning = replace(SMALLEST, judged=0.25)
    songs = [song(seed, 80) for seed in range(4)]
    _, whole = Draw(SMALLEST, 0).batch(songs)
    draw = Draw(thinning, 0)
    kept = [np.stack([draw.thinned(row).targets for row in whole]) for _ in range(200)]
    targets = np.stack([row.targets for row in whole])
    assert all(((part == targets) | (part == -1)).all() for part in kept)
    share = np.mean([(part >= 0) for part in kept], axis=0)
    assert not share[targets < 0].any()
    np.testing.assert_allclose(share[targets >= 0], 0.25, atol=0.15)  # each as likely as any
    assert sum(judged([row]) for row in draw.batch(songs)[1]) < 0.5 * judged(whole)

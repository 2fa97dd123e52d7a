"""Stage training: what a batch is made of, which choices are drawn, and that a stage learns what can be learned."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.models.hafm.config import NOT_PLAYING, TINY
from backline.models.hafm.transport import transport_tokens
from backline.models.stream import Transport
from backline.training.loop import LoopConfig, Moment, Outcome
from backline.training.stages import Draw, StageTrainer, StageTraining, train_stage
from backline.training.tokens import ShardReader, Tokens, crop, shard_path

TRAINING = StageTraining(
    clip=Fraction(6, 5),
    rows=4,
    rate=3e-3,
    batches_held=2,
    served=Fraction(2, 5),
    chunks=(Fraction(2, 5), Fraction(4, 5)),
)
FRAMES = {"vocal": (1, 2), "instrumental": (1, 2), "transport": (1, 1), "coarse": (4, 3), "fine": (4, 3)}


def made_song(number: int, quanta: int) -> Tokens:
    """A song in which voice and band hold one note, and fine tokens tell which song it is."""
    random = np.random.default_rng(number)
    song = {name: random.integers(0, 40, (rows, quanta * frames)) for name, (rows, frames) in FRAMES.items()}
    song["vocal"][:] = song["vocal"][0, 0]
    song["instrumental"] = song["vocal"] + 1
    song["fine"][:] = number
    return {name: tokens.astype(np.int16) for name, tokens in song.items()}


def write(folder: Path, shards: int, songs: int, quanta: int = 89) -> None:
    folder.mkdir()
    for shard in range(shards):
        made = {s: made_song(shard * songs + s, quanta) for s in range(songs)}
        np.savez(shard_path(folder, shard), **{f"{s}.{n}": a for s, t in made.items() for n, a in t.items()})


def reader(folder: Path, cuts: int = 1) -> ShardReader:
    return ShardReader(folder, TINY.fine, "fine", TRAINING.clip, 4, seed=0, cuts=cuts, batches_held=2)


def test_crops_keep_all_rates_together() -> None:
    song = made_song(0, 10)
    part = crop(song, 2, 3)
    assert {name: tokens.shape[1] for name, tokens in part.items()} == {
        n: 3 * frames for n, (_, frames) in FRAMES.items()
    }
    for name, (_, frames) in FRAMES.items():
        np.testing.assert_array_equal(part[name], song[name][:, 2 * frames : 5 * frames])


def test_a_reader_meets_no_song_again_and_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=12, songs=2)
    read = reader(tmp_path / "shards")
    met = [set(read.batch()[1].unique().tolist()) for _ in range(4)]
    state = read.state_dict()
    first_of_next = state["number"] * 2
    resumed = reader(tmp_path / "shards")
    resumed.load_state_dict(state)
    assert set.union(*met) <= set(range(first_of_next))
    assert min(resumed.batch()[1].unique().tolist()) >= first_of_next


def test_each_cut_takes_the_song_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=8, songs=1)
    read = reader(tmp_path / "shards", cuts=4)
    read.batch()
    # Wherever a cut starts, two whole clips of 30 quanta fit into 89.
    assert len(read.held) + 4 == 2 * 4 * read.number
    starts = {tokens["coarse"].tobytes() for tokens in read.held}
    assert len(starts) > len(read.held) // 2


def test_the_song_makers_failure_reaches_the_trainer(tmp_path: Path) -> None:
    (tmp_path / "failed.txt").write_text("Traceback: no sound font")
    with pytest.raises(RuntimeError, match="no sound font"):
        reader(tmp_path).batch()


def test_layouts_are_drawn_over_chunks_and_visibilities() -> None:
    draw = Draw(TRAINING, TINY.semantic, seed=0)
    layouts = [draw.layout() for _ in range(200)]
    lengths = {len(layout) for layout in layouts}
    assert len(lengths) > 10  # visibilities that hide some of the voice give shorter sequences
    assert max(lengths) == 60 + 60 + 30  # all of the voice, the transport and the predictions


def test_dropping_all_sources_and_the_transport_alone() -> None:
    drop = Draw(TRAINING, TINY.semantic, seed=0).dropped(4000).float().mean(0)
    assert drop[0] == pytest.approx(TRAINING.drop, abs=0.02)
    assert drop[1] == pytest.approx(1 - (1 - TRAINING.drop) * (1 - TRAINING.drop_transport), abs=0.03)


def test_a_stage_learns_which_notes_there_are(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=8, songs=8, quanta=30)
    read = ShardReader(tmp_path / "shards", TINY.semantic, "instrumental", TRAINING.clip, 4, 0, cuts=20, batches_held=2)
    trainer = StageTrainer(TINY.semantic, TRAINING, read, seed=0, device=torch.device("cpu"))
    losses = [trainer.step(Moment(step))["loss"] for step in range(150)]
    assert losses[0] == pytest.approx(np.log(500), abs=0.1)
    assert np.mean(losses[-10:]) < 0.75 * np.log(500)


def test_a_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=100, songs=8, quanta=30)
    held_out = [made_song(10_000 + n, 30) for n in range(4)]

    def trained(seconds: float) -> Outcome:
        loop = LoopConfig(tmp_path / "run", minutes=seconds / 60, seed=3)
        return train_stage("semantic", TINY.semantic, loop, tmp_path / "shards", held_out, TRAINING)[1]

    first, second = trained(0.3), trained(0.6)
    assert 0 < first.step < second.step
    assert second.validation["loss"] < np.log(600)


def test_transport_tokens_count_the_bar_in_48ths_and_run_ahead() -> None:
    host = Transport(at_seconds=1.0, playing=True, tempo=120, numerator=4, song_position=2.0)
    # One bar lasts two seconds: 50 frames of 40 ms. Session second 0 is song position 0.
    tokens = transport_tokens(host, 0, 100)
    np.testing.assert_array_equal(tokens[:50], tokens[50:])
    assert abs(tokens[:50] - np.arange(50) * 48 / 50).max() <= 1.001
    assert (transport_tokens(None, 0, 3) == NOT_PLAYING).all()

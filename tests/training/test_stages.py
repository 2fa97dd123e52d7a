"""Stage training: what a batch is made of, which choices are drawn, and that a stage learns what can be learned."""

import dataclasses
import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.models.hafm.aligned.config import (
    BEAT,
    CHORD,
    LAG,
    LONGEST_LAG,
    LOOKAHEAD,
    TINY,
    VOICE,
    AlignedStageConfig,
)
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.score import BAND_TURNS, BASS_SILENT, VOICE_VOCABULARY, transposed
from backline.training import stages
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, train
from backline.training.stages import (
    TRAINING,
    Draw,
    Judge,
    StageTrainer,
    StageTraining,
    conditions_of,
    start_from_codebooks,
    targets_of,
    to_c,
    train_stage,
)
from backline.training.tokens import ShardReader, Tokens, shard_path

CPU = torch.device("cpu")
CLIP = Fraction(6, 5)
QUANTA = int(CLIP / CHUNK_QUANTUM)
QUICK = StageTraining(clip=CLIP, rows=4, rate=6e-3, warmup_steps=5, batches_held=2, drop=(("vocal", 0.2),), in_c=True)
NOTES = 6  # that the voice of a made song sings
SEMANTIC = dataclasses.replace(TINY.semantic, sources=(VOICE, BEAT, LAG))


def made_song(number: int, quanta: int = QUANTA) -> Tokens:
    """A song, in any key, that sings another note every 0.2 s; bass and codes follow it, all else stays."""
    random = np.random.default_rng(number)
    note = np.repeat(random.integers(0, NOTES, -(-quanta // 5)), 5)[:quanta]  # by quantum
    key = int(random.integers(12))
    sung = (note.repeat(2) + key) % 12
    band = np.zeros((5, 2 * quanta), np.int16)
    band[0], band[1] = key, sung
    return {
        "vocal": sung[None].astype(np.int16),
        "band": band,
        "beat": (np.arange(2 * quanta) % 100)[None].astype(np.int16),
        "key": np.full((1, quanta), key, np.int16),
        "codes": np.tile(note.repeat(3), (8, 1)).astype(np.int16),
    }


def write(folder: Path, shards: int, songs: int = 4, quanta: int = QUANTA) -> Path:
    folder.mkdir()
    for shard in range(shards):
        made = {s: made_song(shard * songs + s, quanta) for s in range(songs)}
        np.savez(shard_path(folder, shard), **{f"{s}.{n}": a for s, t in made.items() for n, a in t.items()})  # type: ignore[arg-type]
    return folder


def make_trainer(
    shards: Path,
    training: StageTraining = QUICK,
    stage: AlignedStageConfig = SEMANTIC,
    target: str = "band",
) -> StageTrainer:
    torch.manual_seed(0)
    read = ShardReader(shards, target, training.clip, training.rows, 0, training.cuts, training.batches_held)
    return StageTrainer(stage, target, training, read, 0, CPU)


# ---- a batch by hand ----


def by_hand(voice: int, key: int = 0) -> Tokens:
    """Two quanta that count upwards."""
    return {
        "vocal": np.arange(voice, voice + 4)[None],
        "band": np.arange(20).reshape(5, 4),
        "beat": np.arange(4)[None] + 100,
        "key": np.full((1, 2), key),
        "codes": np.arange(48).reshape(8, 6),
    }


def test_the_voice_is_pitch_and_colour_and_comes_late_or_early_and_the_beat_in_time() -> None:
    crops, unknown = [by_hand(10), by_hand(21), by_hand(30), by_hand(VOICE_VOCABULARY - 4)], VOICE.vocabulary
    lags = [Fraction(0), Fraction(1, 25), Fraction(1), -Fraction(1, 25)]
    vocal, beat, lag = conditions_of(crops, SEMANTIC, lags, {})
    assert vocal.tolist() == [
        [[10, 11, 0, 1], [0, 0, 1, 1]],
        [[unknown, unknown, 9, 10], [unknown, unknown, 1, 1]],
        [[unknown] * 4] * 2,
        [[11, 12, unknown, unknown], [19, 20, unknown, unknown]],  # the last token is silence
    ]
    assert beat.tolist() == [[[100, 101, 102, 103]]] * 4
    in_time = int(LOOKAHEAD / CHUNK_QUANTUM)
    assert lag.tolist() == [[[in_time + quanta] * 4] for quanta in (0, 1, 25, -1)]


def test_a_dropped_source_is_unknown_in_its_row_alone() -> None:
    drop = {"vocal": np.array([False, True]), "beat": np.array([True, False])}
    vocal, beat, lag = conditions_of([by_hand(10), by_hand(20)], SEMANTIC, [-LOOKAHEAD, Fraction(0)], drop)
    assert vocal.tolist()[1] == [[VOICE.vocabulary] * 4] * 2
    assert beat.tolist() == [[[SEMANTIC.sources[1].vocabulary] * 4], [[100, 101, 102, 103]]]
    assert lag[0].tolist() == [[0] * 4]
    vocal, _, _ = conditions_of([by_hand(10), by_hand(20)], SEMANTIC, [Fraction(0)] * 2, drop)
    assert vocal.tolist()[0] == [[10, 11, 0, 1], [0, 0, 1, 1]]


def test_the_chord_is_the_scores_own_in_time_and_unknown_with_the_voice() -> None:
    stage = dataclasses.replace(TINY.semantic, sources=(VOICE, CHORD))
    drop = {"vocal": np.array([False, True])}
    _, chord = conditions_of([by_hand(10), by_hand(10)], stage, [Fraction(1, 25)] * 2, drop)
    assert chord.tolist() == [[[0, 1, 2, 3]], [[CHORD.vocabulary] * 4]]


def test_the_acoustic_stage_sees_the_frame_of_the_score_in_which_its_own_begins() -> None:
    band, beat = conditions_of([by_hand(0)], TINY.acoustic, [Fraction(1)], {})
    frames = [0, 0, 1, 2, 2, 3]  # of 20 ms, in which frames of 13.3 ms begin
    assert beat.tolist() == [[[100 + frame for frame in frames]]]
    assert band.tolist() == [[[4 * book + frame for frame in frames] for book in range(5)]]


def test_targets_are_the_first_codebooks() -> None:
    found = targets_of([by_hand(0), by_hand(0)], "codes", 2)
    assert found.dtype == torch.int64
    assert found.tolist() == [[list(range(6)), list(range(6, 12))]] * 2


def test_to_c_turns_pitches_down_by_the_key_and_leaves_the_rest() -> None:
    song = by_hand(0, key=2)
    song["vocal"] = np.array([[2, 12, 25, VOICE_VOCABULARY - 1]], np.int16)
    song["band"] = np.array([[2, 13, 25, 2], [14, 1, BASS_SILENT, 2], *[[2, 3, 4, 5]] * 3], np.int16)
    found = to_c(song)
    assert found["vocal"].tolist() == [[0, 22, 35, VOICE_VOCABULARY - 1]]
    assert found["band"].tolist() == [[0, 23, 35, 0], [12, 11, BASS_SILENT, 0], *[[2, 3, 4, 5]] * 3]
    for name in ("beat", "key", "codes"):
        np.testing.assert_array_equal(found[name], song[name])


# ---- what is drawn ----


def test_lags_are_those_of_chunks_and_visibilities_and_what_is_served_in_its_share() -> None:
    draw = Draw(dataclasses.replace(QUICK, served=0.4), SEMANTIC, seed=0)
    lags = np.array([draw.lag() / CHUNK_QUANTUM for _ in range(6000)], float)
    earliest = -int(LOOKAHEAD / CHUNK_QUANTUM)
    assert (lags == lags.astype(int)).all()
    assert lags.min() == earliest
    assert 120 < lags.max() <= LONGEST_LAG / CHUNK_QUANTUM == LAG.vocabulary - 1 + earliest
    # Of the others one half is an even draw up to 0, one from 0 to 2 s and a chunk of 0.4, 0.8, 1.6 or 3.2 s.
    early, late = 1 / (1 - earliest), np.mean([1 / 61, 1 / 71, 1 / 91, 1 / 131])
    assert np.mean(lags == earliest) == pytest.approx(0.4 + 0.3 * early, abs=0.025)
    assert np.mean(lags > 0) == pytest.approx(0.3 * (1 - late), abs=0.025)
    assert np.mean(lags > 60) == pytest.approx(0.3 * np.mean([0, 10 / 71, 30 / 91, 70 / 131]), abs=0.02)


def test_a_misplayed_chord_is_transposed_with_its_bass_and_nothing_else_is() -> None:
    score = torch.zeros(400, 5, 5, dtype=torch.int64)  # three frames of C and two of A minor
    score[:, 0] = torch.tensor([0, 0, 0, 21, 21])
    score[:, 1] = torch.tensor([12, 0, BASS_SILENT, 21, 9])
    score[:, 3] = torch.arange(5)
    played = Draw(dataclasses.replace(QUICK, misplayed=0.25), SEMANTIC, seed=0).misplayed(score)
    for span in (slice(0, 3), slice(3, 5)):
        up = (played[:, 0, span.start] - score[:, 0, span.start]).numpy() % 12
        assert set(up.tolist()) == set(range(12))
        assert (up != 0).mean() == pytest.approx(0.25, abs=0.06)
        for row in range(400):
            expected = transposed(score[row, :, span].numpy(), BAND_TURNS, int(up[row]))
            np.testing.assert_array_equal(played[row, :, span].numpy(), expected)


def test_sources_are_dropped_in_their_shares_and_each_on_its_own() -> None:
    draw = Draw(dataclasses.replace(QUICK, drop=(("vocal", 0.1), ("beat", 0.3))), SEMANTIC, seed=0)
    dropped = draw.dropped(6000)
    assert dropped["vocal"].mean() == pytest.approx(0.1, abs=0.02)
    assert dropped["beat"].mean() == pytest.approx(0.3, abs=0.03)
    assert (dropped["vocal"] & dropped["beat"]).mean() == pytest.approx(0.03, abs=0.012)


def test_what_is_dropped_by_default_is_known_to_the_stage() -> None:
    for name, training in TRAINING.items():
        sources = {source.name for source in TINY.stages()[name].sources}
        assert {source for source, _ in training.drop} <= sources
        assert len(training.weights) in (0, TINY.stages()[name].codebooks)


def test_draws_go_on_where_they_were() -> None:
    first, second = (Draw(QUICK, SEMANTIC, seed) for seed in (0, 1))
    first.lag()
    second.load_state_dict(first.state_dict())
    assert [first.lag() for _ in range(9)] == [second.lag() for _ in range(9)]


# ---- learning ----


@pytest.mark.slow
def test_a_stage_learns_what_the_voice_tells_and_needs_the_voice_for_it(tmp_path: Path) -> None:
    # Which of six notes the bass goes to next only the voice tells, which here is always in time.
    stage = dataclasses.replace(SEMANTIC, sources=(dataclasses.replace(VOICE, reach="chunk_end"), BEAT))
    weights = (1.0, 8.0, 1.0, 1.0, 1.0)
    training = dataclasses.replace(QUICK, rate=1e-2, cuts=16, weights=weights)
    trainer = make_trainer(write(tmp_path / "shards", shards=60), training, stage=stage)
    losses = [trainer.step(Moment(step)) for step in range(200)]
    assert losses[0]["loss"] == pytest.approx(np.log(64), abs=0.2)  # chance
    found = Judge(stage, "band", training, [made_song(10_000 + n) for n in range(4)])(trainer.network)
    assert set(found) == {"loss", "unconditional", *(f"loss_{number}" for number in range(1, 6))}
    assert found["loss"] < 0.1 * np.log(64)
    assert found["loss"] < 0.6 * found["unconditional"]


@pytest.mark.slow
def test_the_acoustic_stage_learns_codes(tmp_path: Path) -> None:
    training = StageTraining(clip=CLIP, rows=4, rate=6e-3, warmup_steps=5, batches_held=2, cuts=2)
    trainer = make_trainer(write(tmp_path / "shards", shards=24), training, TINY.acoustic, "codes")
    losses = [trainer.step(Moment(step))["loss"] for step in range(30)]
    assert losses[0] == pytest.approx(np.log(1024), abs=0.3)
    assert np.mean(losses[-5:]) < 0.6 * np.log(1024)


def test_in_bfloat16_a_copy_computes_and_float32_weights_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write(tmp_path / "shards", shards=4)
    monkeypatch.setattr(stages, "faster_in_bfloat16", lambda device: False)
    whole = make_trainer(shards)
    monkeypatch.setattr(stages, "faster_in_bfloat16", lambda device: True)
    half = make_trainer(shards)
    before = {name: value.clone() for name, value in half.network.state_dict().items()}
    assert whole.working is whole.network
    assert half.working is not half.network
    assert half.step(Moment())["loss"] == pytest.approx(whole.step(Moment())["loss"], rel=0.01)
    for name, value in half.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(half.working.state_dict()[name], before[name].bfloat16())  # what the step computed with
    assert any(not torch.equal(value, before[name]) for name, value in half.network.state_dict().items())


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each trainer would time whether bfloat16 is faster here, and on a busy machine find now this, now that.
    monkeypatch.setattr(stages, "faster_in_bfloat16", lambda device: False)
    # A batch that takes a shard whole leaves no crops at hand, which a checkpoint does not hold.
    training = dataclasses.replace(QUICK, batches_held=1, misplayed=0.25)
    shards = write(tmp_path / "shards", shards=6)

    def run(out: Path, last: int) -> StageTrainer:
        trainer = make_trainer(shards, training)

        def step(moment: Moment) -> Losses:
            if moment.step == last - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return trainer.step(Moment(moment.step))  # the rate would follow the clock

        assert train(LoopConfig(out, minutes=10), step, trainer.state()).step == last
        return trainer

    whole = run(tmp_path / "whole", 5)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 5)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_stage_trains_on_when_it_is_given_more_time(tmp_path: Path, seconds_a_step: Callable[[float], None]) -> None:
    seconds_a_step(0.04)
    shards = write(tmp_path / "shards", shards=4, songs=200)
    held_out = [made_song(10_000 + n) for n in range(2)]

    def trained(until: float) -> tuple[AlignedNetwork, Outcome]:
        loop = LoopConfig(tmp_path / "run", minutes=until / 60, seed=3)
        return train_stage("semantic", SEMANTIC, loop, shards, held_out, QUICK, "cpu")

    _, first = trained(0.2)
    network, second = trained(first.seconds + 0.2)
    assert 0 < first.step < second.step
    assert second.best <= first.best
    parts = {f"loss_{number}" for number in range(1, 6)}
    assert set(second.validation) == {"loss", "unconditional", "in_time", "late"} | parts
    judge = Judge(SEMANTIC, "band", QUICK, held_out)
    assert judge(network)["loss"] == pytest.approx(second.best, rel=1e-4)  # it is the best that is handed over


# ---- the codec's geometry ----


def test_a_frames_embeddings_add_up_to_a_linear_image_of_its_latent() -> None:
    torch.manual_seed(0)
    stage = TINY.acoustic
    books, latent = stage.codebooks, 8
    codebooks = torch.randn(books, stage.vocabulary, latent) * 0.6 ** torch.arange(books)[:, None, None]
    network, untouched = AlignedNetwork(stage), AlignedNetwork(stage)
    untouched.load_state_dict(network.state_dict())
    start_from_codebooks(network, codebooks)

    codes = torch.randint(stage.vocabulary, (1, books, 2000))
    vectors = sum(codebooks[book, codes[0, book]] for book in range(books))
    assert isinstance(vectors, torch.Tensor)
    with torch.no_grad():
        sums = network.embed_tokens(codes)[0]
        added = sums - untouched.embed_tokens(codes)[0]
    image = vectors @ torch.linalg.lstsq(vectors, added).solution
    torch.testing.assert_close(added, image, atol=1e-4, rtol=1e-3)
    assert float(torch.corrcoef(torch.stack([sums.flatten(), image.flatten()]))[0, 1]) > 0.5
    assert torch.equal(network.tokens[:, -1], untouched.tokens[:, -1])  # what stands before a song is no code


def test_a_head_answers_codes_that_sound_alike_alike() -> None:
    torch.manual_seed(0)
    stage = TINY.acoustic
    codebooks = torch.randn(stage.codebooks, stage.vocabulary, 8)
    codebooks[:, 1] = codebooks[:, 0] + 0.01
    network = AlignedNetwork(stage)
    start_from_codebooks(network, codebooks)
    heads = network.heads.detach()
    alike = (heads[:, 0] - heads[:, 1]).norm(dim=1)
    others = (heads[:, 0] - heads[:, 2]).norm(dim=1)
    assert (alike < others).all()

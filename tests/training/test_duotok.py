"""DuoTok's first three stages: what learns in each, what it is judged by, and how they go on."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.codecs.duotok.config import ROLES
from backline.nn.bestrq import stacked
from backline.training import duotok_stages
from backline.training.duotok import (
    TRAINERS,
    TRAININGS,
    Adaptation,
    Discretization,
    DuoTokTraining,
    Pretraining,
    Stage,
    ablated,
    health,
    probe,
    train_stage,
)
from backline.training.duotok_rows import Syllables, Vocabulary
from backline.training.duotok_songs import DuoSong
from backline.training.duotok_stages import DuoTokRecipe, best_tokenizer, figures, train_duotok
from backline.training.loop import LoopConfig, Moment
from tests.support.corpora import noises, write_corpus, write_song
from tests.support.toy_duotok import TOY, ToyPool, toy_song
from tests.support.toy_mge import Tones

CPU = torch.device("cpu")
SONGS = [toy_song(seed) for seed in range(4)]
HELD_OUT = [toy_song(9), toy_song(10)]


def trainer(
    stage: int, training: DuoTokTraining = TOY, vocabulary: Vocabulary | None = Syllables(), *songs: DuoSong
) -> Any:
    """A stage that has begun with what an earlier one might have left."""
    torch.manual_seed(0)
    pool: Any = ToyPool(*(songs or SONGS))
    made = TRAINERS[stage](training, training.stages[stage], pool, vocabulary, 0, CPU)
    made.bfloat16 = False
    if stage > 1:
        first: Stage = trainer(1, training, vocabulary, *songs)
    made.begin(None if stage == 1 else {name: value.clone() for name, value in first.model.state_dict().items()})
    return made


def weights(stage: Stage, prefix: str) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in stage.model.state_dict().items() if name.startswith(prefix)}


def changed(stage: Stage, steps: int = 2) -> set[str]:
    """The parts of the model that some steps change."""
    before = weights(stage, "")
    for step in range(1, steps + 1):
        stage.step(Moment(step, progress=0.1))
    after = weights(stage, "")
    names = {name for name in before if not torch.equal(before[name], after[name])}
    return {".".join(name.split(".")[: 2 if name.startswith(("tokenizer", "heads")) else 1]) for name in names}


# ---- stage 1 ----


def test_mels_are_z_scored_by_the_songs() -> None:
    stage = trainer(1)
    mels = torch.cat([stage.features(stage.next_batch().audio) for _ in range(8)]).flatten(0, 1)
    assert mels.mean(0).abs().max() < 0.5
    assert (mels.std(0) - 1).abs().max() < 0.5


def test_stage_1_asks_only_what_is_masked_for_what_the_clean_sound_has() -> None:
    stage: Pretraining = trainer(1)
    batch = stage.next_batch()
    logits, targets = stage.asked(batch)
    frames = batch.audio.shape[1] // 960 * len(batch.audio)
    assert 0 < len(targets) < frames and logits.shape == (len(targets), TOY.targets)
    clean = stage.best_rq(stacked(stage.features(batch.audio), 4))
    torch.manual_seed(5)
    _, again = stage.asked(batch)
    torch.manual_seed(5)
    spots = torch.rand(4, 2) < 0.6  # of blocks of 0.4 s; the last 0.2 s are never masked
    hidden = F.pad(spots.repeat_interleave(10, dim=1), (0, 5))
    assert torch.equal(again, clean[hidden])


def test_stage_1_teaches_the_encoder_alone() -> None:
    assert changed(trainer(1)) == {"tokenizer.encoder", "predicted"}


# ---- stage 2 ----


def test_stage_2_teaches_the_encoder_and_the_heads_and_observes_for_the_noise() -> None:
    assert changed(trainer(2)) == {
        "tokenizer.encoder", "heads.mel", "heads.chroma", "heads.words", "heads.masks", "replacement"
    }  # fmt: skip


def test_stage_2_begins_with_what_stage_1_has_learnt_unless_that_is_switched_off() -> None:
    first, second = trainer(1), trainer(2)
    encoder = weights(first, "tokenizer.encoder")
    assert all(torch.equal(value, encoder[name]) for name, value in weights(second, "tokenizer.encoder").items())
    other = trainer(2, ablated(TOY, pretrained=False))
    differs = [name for name, value in weights(other, "tokenizer.encoder.network").items() if not torch.equal(value, encoder[name])]
    assert differs


def test_the_loss_is_eq_2() -> None:
    stage: Adaptation = trainer(2)
    losses = stage.losses(stage.next_batch())
    assert losses.keys() == {"mel", "chroma", "words", "masks"}
    wanted = losses["mel"] + 0.5 * losses["chroma"] + 0.3 * losses["words"] + 0.5 * losses["masks"]
    assert stage.total(losses).item() == pytest.approx(wanted.item())


@pytest.mark.parametrize(("noise", "share"), [(True, 0.2), (False, 0.0)])
def test_the_heads_hear_noise_in_training_and_never_when_judged(
    noise: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: Adaptation = trainer(2, ablated(TOY, noise=noise))
    assert stage.model.replacement.share == share
    heard: list[Tensor] = []
    told = Stage.told
    monkeypatch.setattr(Stage, "told", lambda self, hidden, *more: heard.append(hidden) or told(self, hidden, *more))
    batch = stage.next_batch()
    clean = stage.hidden(stage.features(batch.audio))
    for _ in range(20):
        stage.losses(batch)
    replaced = torch.stack([(each != clean).all(-1).float().mean() for each in heard]).mean()
    assert float(replaced) == pytest.approx(share, abs=0.03)
    heard.clear()
    stage.validate([batch], [])
    assert torch.equal(heard[0], clean)


def test_without_mss_no_masks_are_told_and_without_asr_no_words() -> None:
    stage: Adaptation = trainer(2, ablated(TOY, mss=False, asr=False))
    assert stage.model.heads.masks is None and stage.model.heads.words is None
    assert stage.losses(stage.next_batch()).keys() == {"mel", "chroma"}


def test_songs_whose_tracks_nobody_knows_teach_no_masks() -> None:
    stage: Adaptation = trainer(2, TOY, Syllables(), toy_song(known=False))
    losses = stage.losses(stage.next_batch())
    assert losses["masks"].item() == 0 and losses["mel"].item() > 0


def test_silent_songs_train_without_harm() -> None:
    stage: Adaptation = trainer(2, TOY, Syllables(), toy_song(sounding=False))
    values = stage.step(Moment(1, progress=0.1))
    assert all(math.isfinite(value) for value in values.values())
    assert values["chroma"] == 0


# ---- stage 3 ----


def test_stage_3_leaves_the_encoder_as_it_is_to_the_bit() -> None:
    stage = trainer(3)
    before = weights(stage, "tokenizer.encoder")
    assert changed(stage, 4) == {"tokenizer.tracks", "widened", "heads.mel", "heads.chroma", "heads.words"}
    assert all(torch.equal(value, before[name]) for name, value in weights(stage, "tokenizer.encoder").items())


def test_without_the_freeze_stage_3_teaches_the_encoder_too() -> None:
    assert "tokenizer.encoder" in changed(trainer(3, ablated(TOY, freeze=False)))


def test_the_loss_is_eq_5_and_the_tracks_go_to_their_own_codebooks() -> None:
    stage: Discretization = trainer(3)
    frozen = stage.next_batch()
    losses = stage.losses(frozen)
    assert losses.keys() == {"codes", "mel", "chroma", "words"}
    total = losses["codes"] + losses["mel"] + 0.5 * losses["chroma"] + 0.3 * losses["words"]
    assert stage.total(losses).item() == pytest.approx(total.item())
    assert frozen.hidden is not None
    wide = torch.zeros_like(frozen.hidden)
    for row, sung in enumerate(frozen.batch.sung):
        role = ROLES[0] if sung else ROLES[1]
        track = stage.model.tokenizer.track(role)
        z = track.projection(frozen.hidden[row])
        nearest = torch.cdist(z, track.codebook.codebook()).argmin(1)
        wide[row] = stage.model.widened[role](track.codebook.codebook()[nearest])
    again = stage.told(wide, frozen.mels, frozen.batch)
    assert again["mel"].item() == pytest.approx(losses["mel"].item(), rel=1e-4)


def test_codebooks_are_laid_where_the_vectors_are() -> None:
    """So that the heads hear at once nearly what they have learnt to hear, and most entries are somebody's nearest."""
    training = replace(TOY, tokenizer=replace(TOY.tokenizer, entries=4096))
    stage: Discretization = trainer(3, training)
    hidden = torch.cat([stage.encoded().hidden.flatten(0, 1) for _ in range(8)])  # type: ignore[union-attr]
    track = stage.model.tokenizer.track("accompaniment")
    z, entries = track.projection(hidden), track.codebook.codebook()
    assert torch.allclose(entries.mean(0), z.mean(0), atol=0.5 * float(z.std()))
    lost = (z - track.codebook.vectors(track.codebook.tokens(z))).square().sum() / (z - z.mean(0)).square().sum()
    random = torch.nn.Linear(4, 4)
    elsewhere = torch.cdist(z, random(track.codebook.table)).min(1).values.square().sum() / (z - z.mean(0)).square().sum()
    assert lost < 0.2 and lost < elsewhere


def test_one_codebook_may_serve_both_tracks() -> None:
    stage: Discretization = trainer(3, ablated(TOY, shared_codebook=True))
    assert stage.model.tokenizer.track(ROLES[0]) is stage.model.tokenizer.track(ROLES[1])
    assert stage.step(Moment(1, progress=0.1))["codes"] > 0


def test_code_dim_and_entries_can_be_others() -> None:
    codebook = trainer(3, ablated(TOY, code_dim=3, entries=32)).model.tokenizer.track("vocals").codebook
    assert tuple(codebook.codebook().shape) == (32, 3)
    wide = ablated(TRAININGS["paper"], code_dim=64).tokenizer
    assert (wide.code_dim, wide.projection) == (64, True)


def test_validation_tells_trouble() -> None:
    stage: Discretization = trainer(3)
    batches = stage.held_out(HELD_OUT)
    stage.step(Moment(1, progress=0.1))
    found = stage.validate(batches, HELD_OUT)
    for role in ROLES:
        assert 0 < found[f"used_{role}"] <= 1 and 0 < found[f"even_{role}"] <= 1 and found[f"kept_{role}"] <= 1
    assert found["errors"] >= 0 and 0 <= found["chord"] <= 1
    assert not any(usage.any() for usage in stage.usage.values())
    collapsed = health(torch.tensor([100, 0, 0, 0]))
    assert collapsed == {"used": 0.25, "even": 0.0}


def test_the_entropy_is_miller_and_madows() -> None:
    """On draws of an even source of 1000 the plain entropy is too low; the corrected one is nearer."""
    counts = torch.from_numpy(np.bincount(np.random.default_rng(0).integers(1000, size=3000), minlength=1000))
    shares = counts[counts > 0] / counts.sum()
    plain = float(-(shares * shares.log()).sum()) / math.log(1000)
    assert plain < health(counts)["even"] < 1.01
    assert health(counts)["even"] == pytest.approx(1, abs=0.01)
    assert health(torch.ones(8, dtype=torch.int64))["used"] == 1


def test_the_probe_tells_what_is_linear() -> None:
    torch.manual_seed(0)
    labels = torch.randint(3, (300,)) * 5
    points = F.one_hot(labels // 5, 3).float() @ torch.randn(3, 8) + 0.1 * torch.randn(300, 8)
    told = probe(points[:200], labels[:200])
    assert (told(points[200:]) == labels[200:]).float().mean() > 0.95


# ---- runs ----


def test_each_stage_learns_and_goes_on_from_the_one_before(tmp_path: Path) -> None:
    before = None
    for stage in (1, 2, 3):
        folder, pool = tmp_path / f"stage-{stage}", ToyPool(*SONGS)
        given: Any = (TOY, pool, HELD_OUT, Syllables(), before, "cpu")
        first = train_stage(stage, LoopConfig(folder, steps=2), *given)[1].validation["loss"]
        _, outcome = train_stage(stage, LoopConfig(folder, steps=40), *given)
        assert outcome.step == 40
        assert outcome.best < first, stage
        before = folder




def test_a_stage_resumes_with_the_same_numbers(tmp_path: Path) -> None:
    """In one go, or stopped and gone on: the same weights."""
    given: Any = (TOY, ToyPool(*SONGS), HELD_OUT, Syllables(), None, "cpu")
    whole, _ = train_stage(1, LoopConfig(tmp_path / "whole", steps=4), *given)
    train_stage(1, LoopConfig(tmp_path / "parts", steps=2), *given)
    parts, _ = train_stage(1, LoopConfig(tmp_path / "parts", steps=4), *given)
    rates = [abs(a - b).max() for a, b in zip(whole.parameters(), parts.parameters(), strict=True)]
    assert max(map(float, rates)) < 0.05  # a budget of two steps ends at a lower rate than one of four
    assert torch.equal(whole.encoder.mel.mean, parts.encoder.mel.mean)


@pytest.fixture
def recipe(tmp_path: Path) -> DuoTokRecipe:
    return DuoTokRecipe(Tones(), steps=2, training=TOY, device="cpu", held_out_songs=2, songs_per_shard=2)  # type: ignore[arg-type]


def test_a_run_trains_stage_after_stage_and_goes_on(tmp_path: Path, recipe: DuoTokRecipe) -> None:
    said: list[str] = []
    assert train_duotok(tmp_path, recipe, said.append, (1,))
    assert train_duotok(tmp_path, recipe, said.append, (2, 3))
    assert [line.split(":")[0] for line in said] == ["stage 1", "stage 2", "stage 3"]
    tokenizer = best_tokenizer(tmp_path, recipe)
    assert tokenizer.encode(torch.zeros(1, 9600), "vocals").shape == (1, 10)
    assert figures(tmp_path).keys() == {"stage 1", "stage 2", "stage 3"}
    said.clear()
    assert train_duotok(tmp_path, recipe, said.append)
    assert "trained already" in said[0]


def test_a_stage_without_the_one_before_says_which(tmp_path: Path, recipe: DuoTokRecipe) -> None:
    with pytest.raises(ValueError, match="train stage 1 first, --stage 1"):
        train_duotok(tmp_path, recipe, print, (2,))
    assert duotok_stages.needed(tmp_path, replace(recipe, training=ablated(TOY, pretrained=False)), 2) is None


@pytest.mark.parametrize(
    ("labels", "changes", "remedy"),
    [
        (("vocals", "accompaniment"), {}, "--teacher stems, or leave masks out with --no-mss"),
        (("vocals", "drums"), {"vocab": True}, "`backline data label` hears them, or leave them out with --no-asr"),
    ],
)
def test_a_corpus_that_lacks_something_says_what_to_do(
    tmp_path: Path, labels: tuple[str, ...], changes: dict[str, bool], remedy: str
) -> None:
    from backline.corpus.songs import CorpusSongs
    from backline.training.duotok_songs import can_be_learnt

    corpus = write_corpus(tmp_path, write_song(tmp_path, "one", noises(*labels, seconds=2.0)))
    songs = CorpusSongs(corpus, can_be_learnt)
    recipe = DuoTokRecipe(songs, steps=1, training=TOY, device="cpu", vocab=tmp_path / "v" if changes else None)
    with pytest.raises(ValueError, match=remedy):
        train_duotok(tmp_path / "run", recipe, print)
    assert not (tmp_path / "run").exists()


def test_a_corpus_of_silence_says_what_to_do(tmp_path: Path) -> None:
    from backline.corpus.songs import CorpusSongs
    from backline.training.duotok_songs import can_be_learnt

    silence = {label: np.zeros((1, 96_000), np.float32) for label in ("vocals", "drums")}
    entries = [write_song(tmp_path, split, silence, split=split) for split in ("training", "validation")]  # type: ignore[arg-type]
    songs = CorpusSongs(write_corpus(tmp_path, *entries), can_be_learnt)
    recipe = DuoTokRecipe(songs, steps=1, training=TOY, device="cpu", held_out_songs=2)
    assert recipe.vocabulary is None  # of a corpus whose words nobody is asked for
    with pytest.raises(ValueError, match="nothing sounds in the songs that are held out"):
        train_duotok(tmp_path / "run", recipe, print)

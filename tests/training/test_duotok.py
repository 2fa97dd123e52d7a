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
from backline.codecs.duotok.tokenizer import Track
from backline.corpus.songs import CorpusSongs
from backline.music.seeds import Purpose
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
    lay,
    probe,
    train_stage,
)
from backline.training.duotok_rows import Syllables, Vocabulary
from backline.training.duotok_songs import DuoSong, can_be_learnt
from backline.training.duotok_stages import DuoTokRecipe, best_tokenizer, figures, train_duotok
from backline.training.loop import LoopConfig, Moment
from tests.support.corpora import noises, write_corpus, write_song
from tests.support.toy_duotok import TOY, ToyPool, toy_song
from tests.support.toy_mge import Tones

SPLITS: tuple[Purpose, ...] = ("training", "validation")
SYLLABLES = Syllables()
CPU = torch.device("cpu")
SONGS = [toy_song(seed) for seed in range(4)]
HELD_OUT = [toy_song(9), toy_song(10)]


def trainer(
    stage: int, training: DuoTokTraining = TOY, vocabulary: Vocabulary | None = SYLLABLES, *songs: DuoSong
) -> Any:
    """A stage that has begun with what an earlier one might have left."""
    torch.manual_seed(0)
    pool: Any = ToyPool(*(songs or SONGS))
    made: Any = TRAINERS[stage](training, training.stages[stage], pool, vocabulary, 0, CPU)
    made.bfloat16 = False
    if stage > 1:
        before = trainer(1, training, vocabulary, *songs).model.state_dict()
        weights = {n: v + 0.01 * torch.randn_like(v) if v.is_floating_point() else v for n, v in before.items()}
    made.begin(None if stage == 1 else weights)
    made.before = None if stage == 1 else weights
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


def entries(track: Track) -> Tensor:
    """All of a codebook [entry, code]."""
    return track.codebook.vectors(torch.arange(track.codebook.entries)).detach()


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
    assert 0 < len(targets) < frames
    assert logits.shape == (len(targets), TOY.targets)
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
    stage, other = trainer(2), trainer(2, ablated(TOY, pretrained=False))
    assert all(torch.equal(value, stage.before[name]) for name, value in weights(stage, "tokenizer.encoder").items())
    apart = weights(other, "tokenizer.encoder.network")
    assert not any(torch.equal(value, other.before[name]) for name, value in apart.items())


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

    def listening(self: Stage, hidden: Tensor, *more: Any) -> dict[str, Tensor]:
        heard.append(hidden)
        return told(self, hidden, *more)

    monkeypatch.setattr(Stage, "told", listening)
    batch = stage.next_batch()
    clean = stage.hidden(stage.features(batch.audio))
    for _ in range(20):
        stage.losses(batch)
    replaced = torch.stack([(each != clean).all(-1).float().mean() for each in heard]).mean()
    assert float(replaced) == pytest.approx(share, abs=0.03)
    heard.clear()
    stage.judges = [batch]
    stage.validate([])
    assert torch.equal(heard[0], clean)


def test_without_mss_no_masks_are_told_and_without_asr_no_words() -> None:
    stage: Adaptation = trainer(2, ablated(TOY, mss=False, asr=False))
    assert stage.model.heads.masks is None
    assert stage.model.heads.words is None
    assert stage.losses(stage.next_batch()).keys() == {"mel", "chroma"}


def test_songs_whose_tracks_nobody_knows_teach_no_masks() -> None:
    stage: Adaptation = trainer(2, TOY, Syllables(), toy_song(known=False))
    losses = stage.losses(stage.next_batch())
    assert losses["masks"].item() == 0
    assert losses["mel"].item() > 0


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
        wide[row] = stage.model.widened[role](entries(track)[torch.cdist(z, entries(track)).argmin(1)])
    again = stage.told(wide, frozen.mels, frozen.batch)
    assert again["mel"].item() == pytest.approx(losses["mel"].item(), rel=1e-4)


def test_codebooks_are_laid_where_the_vectors_are() -> None:
    """So that the heads hear at once nearly what they have learnt to hear, and most entries are somebody's nearest."""
    training = replace(TOY, tokenizer=replace(TOY.tokenizer, entries=4096))
    stage: Discretization = trainer(3, training)
    hidden = torch.cat([stage.of_role(stage.encoded(), "accompaniment").flatten(0, 1) for _ in range(8)])
    track = stage.model.tokenizer.track("accompaniment")
    z = track.projection(hidden).detach()
    assert torch.allclose(entries(track).mean(0), z.mean(0), atol=0.5 * float(z.std()))
    lost = (z - entries(track)[track.codebook.tokens(z)]).square().sum() / (z - z.mean(0)).square().sum()
    random = torch.nn.Linear(4, 4).requires_grad_(False)
    elsewhere = (
        torch.cdist(z, random(track.codebook.table)).min(1).values.square().sum() / (z - z.mean(0)).square().sum()
    )
    assert float(lost) < 0.2
    assert float(lost) < float(elsewhere)


def test_codebooks_keep_what_vectors_tell_while_the_heads_pull_at_them() -> None:
    """Vectors of small variance would leave their entries behind: as they come, all of them are of variance 1."""
    stage: Discretization = trainer(3)
    hidden = stage.of_role(stage.encoded(), "accompaniment").flatten(0, 1)
    for scale in (1.0, 1e-3):
        widened = torch.nn.Linear(4, 16)
        lay(stage.model.tokenizer, "accompaniment", widened, scale * hidden)
        z = stage.model.tokenizer.track("accompaniment").projection(scale * hidden)
        assert z.var(0).mean().item() == pytest.approx(1, rel=1e-2)
        back = widened(z).detach() - scale * hidden
        assert back.square().sum() < 0.5 * (scale * (hidden - hidden.mean(0))).square().sum()
    before = stage.validate(HELD_OUT)["kept_vocals"]
    for step in range(20):
        stage.step(Moment(step, progress=step / 20))
    assert stage.validate(HELD_OUT)["kept_vocals"] > 0.7 * before


def test_one_codebook_may_serve_both_tracks() -> None:
    stage: Discretization = trainer(3, ablated(TOY, shared_codebook=True))
    assert stage.model.tokenizer.track(ROLES[0]) is stage.model.tokenizer.track(ROLES[1])
    assert stage.step(Moment(1, progress=0.1))["codes"] > 0


def test_code_dim_and_entries_can_be_others() -> None:
    track = trainer(3, ablated(TOY, code_dim=3, entries=32)).model.tokenizer.track("vocals")
    assert tuple(entries(track).shape) == (32, 3)
    wide = ablated(TRAININGS["paper"], code_dim=64).tokenizer
    assert (wide.code_dim, wide.projection) == (64, True)


def test_validation_tells_trouble() -> None:
    stage: Discretization = trainer(3)
    stage.step(Moment(1, progress=0.1))
    found = stage.validate(HELD_OUT)
    for role in ROLES:
        assert 0 < found[f"used_{role}"] <= 1
        assert 0 < found[f"even_{role}"] <= 1
        assert found[f"kept_{role}"] <= 1
    assert found["errors"] >= 0
    assert 0 <= found["chord"] <= 1
    assert not any(usage.any() for usage in stage.usage.values())
    collapsed = health(torch.tensor([100, 0, 0, 0]))
    assert collapsed == {"used": 0.25, "even": 0.0}


def test_batches_of_other_lengths_are_judged_together() -> None:
    """As the paper's are, from 5 to 30 s long."""
    lengths = {
        number: replace(hard, drawn=replace(hard.drawn, seconds=(0.4, 1.6))) for number, hard in TOY.stages.items()
    }
    stage: Discretization = trainer(3, replace(TOY, stages=lengths))
    assert len({each.mels.shape[1] for each in stage.held_out(HELD_OUT)}) > 1
    found = stage.validate(HELD_OUT)
    assert all(found[f"kept_{role}"] <= 1 for role in ROLES)


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
    rates = [(a - b).detach().abs().max() for a, b in zip(whole.parameters(), parts.parameters(), strict=True)]
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
    tokenizer = best_tokenizer(tmp_path, recipe.training.tokenizer)
    assert tokenizer.encode(torch.zeros(1, 9600), "vocals").shape == (1, 10)
    assert figures(tmp_path).keys() == {"stage 1", "stage 2", "stage 3"}
    said.clear()
    assert train_duotok(tmp_path, recipe, said.append)
    assert "trained already" in said[0]


def test_a_run_is_held_to_its_songs(tmp_path: Path, recipe: DuoTokRecipe) -> None:
    """What lies there would go on being learnt from."""

    class Others(Tones):
        def options(self) -> str:
            return "--songs corpus"

    train_duotok(tmp_path, recipe, print, (1,))
    others = replace(recipe, songs=Others(), steps=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not of --songs corpus: use another run folder"):
        train_duotok(tmp_path, others, print, (1,))


def test_stages_of_other_sizes_say_what_to_do(tmp_path: Path, recipe: DuoTokRecipe) -> None:
    train_duotok(tmp_path, recipe, print, (1,))
    for wrong, stages in ((replace(recipe, steps=4), (1,)), (recipe, (2,))):
        other = replace(wrong, training=ablated(TOY, entries=32, code_dim=3))
        with pytest.raises(ValueError, match="options"):
            train_duotok(tmp_path, other, print, stages)


def test_a_stage_without_the_one_before_says_which(tmp_path: Path, recipe: DuoTokRecipe) -> None:
    with pytest.raises(ValueError, match="train stage 1 first, --stage 1"):
        train_duotok(tmp_path, recipe, print, (2,))
    assert duotok_stages.needed(tmp_path, replace(recipe, training=ablated(TOY, pretrained=False)), 2) is None


@pytest.mark.parametrize(
    ("labels", "changes", "remedy"),
    [
        (("vocals", "instrumental"), {}, "--teacher stems, or leave masks out with --no-mss"),
        (("vocals", "drums"), {"vocab": True}, "`backline data label` hears them, or leave them out with --no-asr"),
    ],
)
def test_a_corpus_that_lacks_something_says_what_to_do(
    tmp_path: Path, labels: tuple[str, ...], changes: dict[str, bool], remedy: str
) -> None:
    entries = [
        write_song(tmp_path, each, noises(*labels, seconds=2.0), split=each) for each in ("training", "validation")
    ]
    corpus = write_corpus(tmp_path, *entries)
    songs = CorpusSongs(corpus, can_be_learnt)
    recipe = DuoTokRecipe(songs, steps=1, training=TOY, device="cpu", vocab=tmp_path / "v" if changes else None)
    with pytest.raises(ValueError, match=remedy):
        train_duotok(tmp_path / "run", recipe, print)
    assert not (tmp_path / "run").exists()


def test_a_corpus_of_silence_says_what_to_do(tmp_path: Path) -> None:
    silence = {label: np.zeros((1, 96_000), np.float32) for label in ("vocals", "drums")}
    entries = [write_song(tmp_path, split, silence, split=split) for split in SPLITS]
    songs = CorpusSongs(write_corpus(tmp_path, *entries), can_be_learnt)
    recipe = DuoTokRecipe(songs, steps=1, training=TOY, device="cpu", held_out_songs=2)
    assert recipe.vocabulary is None
    said: list[str] = []
    with pytest.raises(ValueError, match="nothing sounds in the songs that are held out"):
        train_duotok(tmp_path / "run", recipe, said.append)
    assert "--vocab" in said[0]  # nor would their words be told

"""DuoTok's fourth stage at toy size: tracks as tokens and latents, rows of them, training, what comes out."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.renderer import Renderer, read_renderers
from backline.codecs.vae.load import packed as packed_vae
from backline.codecs.vae.whole import encoded
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import StemsMissing, mono
from backline.nn.diffusion import LEAST_TIME, velocity
from backline.packs.importers.checkpoint import Component
from backline.packs.parts import read_part, save_part
from backline.sound_files import Audio
from backline.training.loop import LoopConfig, Moment
from backline.training.renderer import (
    FILE,
    TRAININGS,
    RendererRecipe,
    RendererTrainer,
    RendererTraining,
    figures,
    train_renderer,
    train_renderers,
)
from backline.training.renderer_songs import Drawing, Encoder, Pool, Track, read_songs, sound_of, write_songs
from backline.training.tokens import shard_path
from tests.support.toy_mge import Tones
from tests.support.toy_renderer import CODE_DIM, QUICK, SLOW, toy_tokenizer, toy_vae

CPU = torch.device("cpu")
TOY = replace(TRAININGS["tiny"], renderer=TRAININGS["tiny"].renderer.fitted(SLOW, CODE_DIM))


def encoder() -> Encoder:
    return Encoder(toy_tokenizer(), toy_vae(), Tones())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(2):
        write_songs(shard_path(folder, number), number, encoder(), 0, 4)
    return folder


def made(shards: Path, config: RendererTraining = TOY) -> RendererTrainer:
    torch.manual_seed(0)
    return RendererTrainer(config, toy_tokenizer(), toy_vae(), Pool(shards, "vocals"), 0, CPU)


class Sided:
    """A `Multitrack` whose band is on the left and whose voice is on the right, with a mix that is neither."""

    title, seconds = "sided", 1.0
    labels: ClassVar = {"lead": "vocals", "drums": "drums", "master": "mix"}

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        sound = np.zeros((2, sample_rate), np.float32)
        sound[0 if stem == "drums" else 1] = 0.5 if stem == "master" else 1.0
        return sound


# ---- songs ----


def test_a_song_gives_each_track_its_tokens_and_its_latents() -> None:
    tracks = encoder()(0, varied=False)
    assert tuple(tracks) == ROLES
    song = Tones().song(0)
    vae = toy_vae()
    for role, track in tracks.items():
        assert (len(track.tokens), track.frames) == (50, 25)  # 2 s
        stems = [stem for stem in song.labels if (stem == "vocals") == (role == "vocals")]
        sound = np.stack([mono(song.read(stem, 8_000)) for stem in stems]).sum(axis=0)
        wanted = encoded(vae, sound, 25)
        np.testing.assert_allclose(track.latents, wanted.numpy(), atol=2e-3)


def test_tracks_come_in_other_levels_and_colours_each_time_and_the_same_by_seed() -> None:
    plain, varied, again = encoder()(3, varied=False), encoder()(3), encoder()(3)
    for role in ROLES:
        assert not np.array_equal(plain[role].latents, varied[role].latents)
        np.testing.assert_array_equal(varied[role].latents, again[role].latents)
        np.testing.assert_array_equal(varied[role].tokens, again[role].tokens)


def test_where_latents_are_shorter_than_tokens_a_track_ends_with_a_whole_token() -> None:
    track = Encoder(toy_tokenizer(), toy_vae(QUICK), Tones()).track(np.zeros((2, 8_000 + 200), np.float32), "vocals")
    assert (len(track.tokens), track.frames) == (25, 50)


def test_a_stereo_vae_hears_both_channels_and_a_mono_one_their_mean() -> None:
    vae = toy_vae()
    voice, band = (sound_of(Sided(), role, vae) for role in ROLES)
    assert (voice[:, 0].tolist(), band[:, 0].tolist()) == ([0.0, 1.0], [1.0, 0.0])
    vae.channels = 1
    assert sound_of(Sided(), "vocals", vae)[:, 0].tolist() == [0.5]


def test_songs_whose_voice_is_not_apart_are_passed_over(tmp_path: Path) -> None:
    class Mixed(Sided):
        labels: ClassVar = {"all": "mix"}

    class Songs(Tones):
        def song(self, seed: int) -> Mixed:  # type: ignore[override]
            return Mixed()

    with pytest.raises(StemsMissing, match="no voice apart from a band"):
        sound_of(Mixed(), "vocals", toy_vae())
    with pytest.raises(CorpusError, match="backline data prepare"):
        write_songs(tmp_path / "shard.npz", 0, Encoder(toy_tokenizer(), toy_vae(), Songs()), 0, 2)


# ---- rows ----


def numbered(frames: int, tokens: int) -> Track:
    """Whose tokens and latents say where they are."""
    return Track(np.arange(frames * tokens, dtype=np.int32), np.arange(frames, dtype=np.float16)[None] + 1)


@pytest.mark.parametrize("frames", [3, 40, 100])
def test_rows_lie_anywhere_and_what_is_not_there_is_said_to_be(frames: int) -> None:
    draw, song = Drawing(1, 0.5, 16, 2, 1, 0), numbered(frames, 2)
    begun, ended = 0, 0
    for _ in range(300):
        latents, tokens, times, present = draw.row(song)
        assert present.any()
        assert (np.diff(np.flatnonzero(present)) == 1).all()
        at = latents[0, present].astype(int) - 1
        assert (np.diff(at) == 1).all()
        np.testing.assert_array_equal(tokens.reshape(-1, 2)[present], np.stack([2 * at, 2 * at + 1], axis=1))
        assert not latents[0, ~present].any()
        assert (times[present] > 0).any()
        begun, ended = begun + (not present[0]), ended + (not present[-1])
    assert begun
    assert ended


def test_half_of_the_rows_have_a_clean_beginning() -> None:
    draw, song = Drawing(1, 0.5, 16, 2, 1, 0), numbered(100, 2)
    shares, levels = [], []
    for _ in range(400):
        _, _, times, present = draw.row(song)
        clean = times[present] == 0
        assert (np.diff(clean.astype(int)) <= 0).all()  # at the beginning alone
        shares.append(clean.mean())
        levels += np.unique(times[times > 0]).tolist()
        assert len(np.unique(times[times > 0])) == 1
    assert np.mean(np.array(shares) > 0) == pytest.approx(0.5, abs=0.08)
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)
    assert min(levels) >= LEAST_TIME
    assert np.mean(levels) == pytest.approx(0.51, abs=0.05)


def test_a_token_that_lasts_two_frames_lies_beside_both() -> None:
    draw = Drawing(1, 0.5, 16, 1, 2, 0)
    song = Track(np.arange(20, dtype=np.int32), np.arange(40, dtype=np.float16)[None] // 2 + 1)
    for _ in range(100):
        latents, tokens, _, present = draw.row(song)
        np.testing.assert_array_equal(tokens.repeat(2)[present], latents[0, present].astype(int) - 1)


# ---- training ----


def test_the_papers_training_is_the_papers() -> None:
    paper = TRAININGS["paper"]
    assert (paper.rows, paper.warmup, paper.renderer.window_frames) == (120, 2_000, 1500)


def test_training_brings_the_loss_down(shards: Path) -> None:
    trainer = made(shards, replace(TOY, rows=32, rate=1e-2))
    losses = [trainer.step(Moment(step, 0.0, 0.0))["loss"] for step in range(50)]
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:10])


def test_only_what_is_noisy_and_there_counts(shards: Path) -> None:
    """A network that tells the truth there and nonsense elsewhere has no loss."""
    trainer = made(shards, replace(TOY, prefix=1.0))
    told: list[Tensor] = []

    class Knowing:
        context = trainer.learner.network.context

        def normed(self, latents: Tensor) -> Tensor:
            told.append(latents[:, None])
            return latents

        def __call__(self, noisy: Tensor, times: Tensor, context: Tensor, present: Tensor) -> Tensor:
            alpha, beta = (torch.pi / 2 * times[:, :, None]).cos(), (torch.pi / 2 * times[:, :, None]).sin()
            noise = (noisy - alpha * told[-1]) / beta.clamp(min=1e-6)
            true = velocity(told[-1], noise, times)
            return torch.where((times > 0)[:, :, None] & present[:, None, None], true, 1e3)

    trainer.bfloat16 = False
    for _ in range(5):
        assert float(trainer.loss(Knowing(), trainer.drawing.batch(trainer.pool.songs))) < 1e-4  # type: ignore[arg-type]


def test_latents_and_vectors_are_normed_by_the_first_songs(shards: Path) -> None:
    trainer = made(shards)
    latents = np.concatenate([song.latents.astype(np.float32) for song in trainer.pool.songs], axis=1)
    normed = trainer.learner.network.normed(torch.from_numpy(latents))
    assert normed.mean().item() == pytest.approx(0, abs=0.05)
    assert normed.std().item() == pytest.approx(1, abs=0.05)
    tokens = np.concatenate([song.tokens for song in trainer.pool.songs])[None].astype(np.int64)
    context = trainer.learner.network.context(trainer.vectors(torch.from_numpy(tokens)))
    assert context.mean().item() == pytest.approx(0, abs=0.05)
    assert context.std().item() == pytest.approx(1, abs=0.05)


def test_validation_is_the_same_each_time_and_hears_what_is_rendered(shards: Path) -> None:
    trainer = made(shards)
    first = trainer.validate(trainer.pool.songs)
    torch.rand(7)
    assert trainer.validate(trainer.pool.songs) == first
    assert first["mel"] > 0

    # A renderer that knows the latents: then nothing lies between it and the VAE.
    wide = made(shards, replace(TOY, renderer=replace(TOY.renderer, window_frames=32)))
    song = trainer.pool.songs[0]
    true = trainer.learner.network.normed(torch.from_numpy(song.latents.astype(np.float32)))
    count = iter(range(100))

    def told(self: Renderer, noise: Tensor, context: Tensor, known: Tensor, clean: Tensor, *_: object) -> Tensor:
        stop = (next(count) + 1) * 12 + 6
        window = torch.zeros_like(clean)
        start = max(0, stop - clean.shape[-1])
        window[..., clean.shape[-1] - (stop - start) :] = true[:, start:stop]
        return window

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "told", told)
        assert wide.distance(wide.learner.network, song) < 0.01


def test_training_goes_on_where_it_stopped(shards: Path, tmp_path: Path) -> None:
    loop, judges = LoopConfig(tmp_path / "run", steps=2), read_songs(shard_path(shards, 0), "vocals")[:1]
    parts = toy_tokenizer(), toy_vae()
    train_renderer(loop, TOY, *parts, Pool(shards, "vocals"), judges, "cpu")
    _, outcome = train_renderer(replace(loop, steps=3), TOY, *parts, Pool(shards, "vocals"), judges, "cpu")
    assert outcome.step == 3
    assert outcome.validation["mel"] > 0


def test_the_stage_trains_both_tracks_and_writes_one_file(tmp_path: Path) -> None:
    vae = toy_vae()
    save_part(Component(*packed_vae(vae, torch.float32)), tmp_path / "vae.safetensors")
    recipe = RendererRecipe(
        toy_tokenizer(), tmp_path / "vae.safetensors", Tones(), steps=2, device="cpu", size="tiny",
        held_out_songs=2, songs_per_shard=2,
    )  # fmt: skip
    run, said = tmp_path / "run", []
    assert train_renderers(run, recipe, said.append)
    assert train_renderers(run, recipe, said.append), "nothing is left to do"
    assert set(figures(run)) == set(ROLES)
    part = read_part(run / FILE)
    networks = read_renderers(part.table, part.tensors)
    assert tuple(networks) == ROLES
    for role, network in networks.items():
        sound = Renderer(network, vae, partial(recipe.tokenizer.vectors, role=role)).render(np.arange(10), steps=1)
        assert sound.shape == (2, 3200)
        assert np.isfinite(sound).all()
    assert len(read_songs(next(run.glob("latents-*/held-out.npz")), "accompaniment")) == 2
    with pytest.raises(ValueError, match=r"tokenizer or the VAE is another .* use another run folder"):
        train_renderers(run, replace(recipe, tokenizer=toy_tokenizer(1)))
    next(run.glob("latents-*/songs.txt")).write_text("--songs corpus")
    with pytest.raises(ValueError, match="holds songs of --songs corpus, not of --world tones"):
        train_renderers(run, replace(recipe, steps=4))


def test_what_is_no_vae_or_no_size_is_refused(tmp_path: Path) -> None:
    save_part(Component({"kind": "oobleck"}, {}), tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="give a file of `backline train vae`"):
        train_renderers(tmp_path / "run", RendererRecipe(toy_tokenizer(), tmp_path / "vae.safetensors", Tones()))
    with pytest.raises(ValueError, match="there is no size 'huge': use paper, small, tiny"):
        RendererRecipe(toy_tokenizer(), tmp_path / "vae.safetensors", Tones(), size="huge")

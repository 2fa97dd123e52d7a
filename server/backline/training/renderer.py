"""DuoTok's fourth stage: trains a renderer for each track, from tokens to the latents of a VAE (DUOTOK.md 3).

    recipe = RendererRecipe(tokenizer, Path("runs/vae/vae.safetensors"), songs, minutes=40)
    train_renderers(Path("runs/duotok/stage-4"), recipe)

    RUN/latents-<what made them>/   RUN/vocals/   RUN/accompaniment/   RUN/renderer.safetensors

The tokenizer is frozen. The network learns velocities of what is noisy; half of the rows keep a clean beginning, so
that a window can go on from the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from backline.codecs.duotok import renderer as sizes
from backline.codecs.duotok.config import ROLES, Role
from backline.codecs.duotok.renderer import LIVE_STEPS, Renderer, RendererConfig, RendererNetwork, packed
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.duotok.windowed import Asked, WindowedRenderer
from backline.codecs.vae.config import Vae
from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.codecs.vae.whole import decoded_channels
from backline.corpus.pair_tokens import write_tokens
from backline.corpus.songs import Songs
from backline.measures.spectra import log_mel_distance
from backline.music.seeds import HELD_OUT_SEED
from backline.nn.diffusion import noisy, velocity
from backline.nn.learning_rate import cosine_rate, inverse_rate
from backline.nn.precision import faster_in_bfloat16
from backline.packs.importers.checkpoint import Component
from backline.packs.parts import save_part
from backline.packs.quantized import quantize
from backline.training.averaged import Averaged
from backline.training.codec import evaluating
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.renderer_songs import (
    SONGS_PER_SHARD,
    Batch,
    Drawing,
    Encoder,
    Pool,
    Track,
    arrays,
    encoded_songs,
    read_songs,
    spread,
    write_songs,
)
from backline.training.run_folder import best_validation, best_weights, hold_to_songs, last_entry, seconds
from backline.training.tokens import producer
from backline.training.vae import read_vae

FILE = "renderer.safetensors"
WATCHED = "loss"
HELD_OUT_BATCHES = 8  # drawn from the held-out songs once, then the same each time
RENDERED_SECONDS = 5.0  # of each held-out song, from its middle, that are rendered as live
REFRESHED = 20  # steps between looks for new songs
STATISTICS = 64  # songs by which latents and vectors are normed


@dataclass(frozen=True)
class RendererTraining:
    """What is trained and how hard; the defaults are the paper's, and where it is silent ours."""

    renderer: RendererConfig = sizes.PAPER
    rows: int = 120
    prefix: float = 0.5  # share of the rows whose beginning is clean
    rate: float = 1e-4
    decay: Literal["inverse", "cosine"] = "inverse"  # of the rate: with the steps, or with the budget
    warmup: int = 2_000  # steps
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-3
    average: float = 0.9999  # share of the weights' average that each step leaves
    clip: float = 1.0


TRAININGS = {
    "paper": RendererTraining(),
    "small": RendererTraining(sizes.SMALL, 12, 0.5, 1e-3, "cosine", 100, (0.9, 0.98), 0.01, 0.999),
    "tiny": RendererTraining(sizes.TINY, 4, 0.5, 3e-3, "cosine", 10, (0.9, 0.98), 0.01, 0.99),
}


class RendererTrainer:
    """A track's network, the average of its weights, and its data."""

    def __init__(
        self, config: RendererTraining, tokenizer: Tokenizer, vae: Vae, pool: Pool, seed: int, device: torch.device
    ) -> None:
        """`config` is of this tokenizer and this VAE, which stay on the CPU."""
        self.config, self.tokenizer, self.vae, self.pool, self.device = config, tokenizer, vae, pool, device
        network = RendererNetwork(config.renderer)
        pool.refresh()
        first = pool.songs[:STATISTICS]
        mean, deviation = spread(first)
        network.mean.copy_(mean)
        network.deviation.copy_(deviation)
        vectors = torch.cat([self.vectors(torch.from_numpy(song.tokens).long()[None])[0] for song in first])
        network.code_mean.copy_(vectors.mean(dim=0))
        network.code_deviation.copy_((vectors - vectors.mean(dim=0)).square().mean().sqrt())
        self.learner = Averaged(network.to(device), config)
        self.drawing = self.drawn_by(seed)
        self.bfloat16 = faster_in_bfloat16(device)

    def drawn_by(self, seed: int) -> Drawing:
        config, network = self.config, self.config.renderer
        return Drawing(config.rows, config.prefix, network.window_frames, network.tokens, network.frames, seed)

    @torch.no_grad()
    def vectors(self, tokens: Tensor) -> Tensor:
        """Of tokens [row, token] of this track."""
        return self.tokenizer.vectors(tokens, self.pool.role)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {**self.learner.state(), "drawing": self.drawing}

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        if moment.step % REFRESHED == 0:
            self.pool.refresh()
        loss = self.loss(self.learner.network, self.drawing.batch(self.pool.songs))
        return self.learner.step(loss, self.rate(moment), moment)

    def rate(self, moment: Moment) -> float:
        """The learning rate of a step."""
        config = self.config
        if config.decay == "inverse":
            warm = min(1.0, (moment.step + 1) / config.warmup)
            return warm * inverse_rate(moment.step, config.rate, slowness=1e6, power=0.5, warmup=0.0)
        return cosine_rate(moment.step, moment.progress, config.rate, config.warmup, floor=0.03)

    def loss(self, network: RendererNetwork, batch: Batch) -> Tensor:
        """The mean squared error of the velocities of all that is noisy, and there."""
        context = network.context(self.vectors(batch.tokens).to(self.device))
        batch = batch.to(self.device)
        clean, times = network.normed(batch.clean)[:, None], batch.times[:, None]
        noise = torch.randn(clean.shape).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            told = network(noisy(clean, noise, times), times, context, batch.present)
        errors = (told.float() - velocity(clean, noise, times)).square().mean(dim=2)[:, 0]  # [row, frame]
        counted = batch.present & (batch.times > 0)
        return errors[counted].mean()

    @torch.no_grad()
    def validate(self, songs: Sequence[Track]) -> dict[str, float]:
        """What held-out songs say of the average.

        `loss` is that of training, on the same draws each time; `mel` is the log-mel distance of what is heard live,
        in four steps, from what the VAE alone makes of the true latents.
        """
        network = self.learner.average
        with evaluating(network), torch.random.fork_rng():
            torch.manual_seed(0)
            drawing = self.drawn_by(0)
            losses = [float(self.loss(network, drawing.batch(songs))) for _ in range(HELD_OUT_BATCHES)]
            mel = [self.distance(network, song) for song in songs]
        return {"loss": sum(losses) / len(losses), "mel": float(np.mean(mel))}

    def distance(self, network: RendererNetwork, song: Track) -> float:
        """Of the middle of a song, rendered hop by hop."""
        # The VAE lies on the CPU, and training may go on elsewhere: a copy is rendered there.
        renderer = Renderer(deepcopy(network).cpu(), self.vae, self.vectors, precision="float32")
        live, config = WindowedRenderer(renderer), self.config.renderer
        pace = live.pace()
        wanted = round(RENDERED_SECONDS * live.sample_rate / live.frame_samples)
        hops = max(1, (min(song.frames, wanted) - pace.guard) // pace.hop)
        start = max(0, song.frames - wanted) // 2 // config.frames * config.frames
        given = start * config.tokens // config.frames
        state, sounds = live.begin(pace), []
        for _ in range(hops):
            tokens = song.tokens[given : given + live.needs(state)].astype(np.int64)
            given += len(tokens)
            tokens = np.pad(tokens, (0, live.needs(state) - len(tokens)), mode="edge")  # where a song is very short
            ((state, sound),) = live.step([Asked(0, state, tokens, LIVE_STEPS)])
            sounds.append(sound)
        found = np.concatenate(sounds, axis=1).mean(axis=0)
        latents = torch.from_numpy(song.latents[:, start : start + hops * pace.hop + pace.guard].astype(np.float32))
        true = decoded_channels(self.vae, latents).mean(axis=0)
        length = min(len(found), len(true))
        return log_mel_distance(found[:length], true[:length], live.sample_rate)


def train_renderer(
    loop: LoopConfig,
    config: RendererTraining,
    tokenizer: Tokenizer,
    vae: Vae,
    pool: Pool,
    held_out: Sequence[Track],
    device: str = "auto",
) -> tuple[RendererNetwork, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder; the average is returned.

    Args:
        pool: what it learns from, which may grow meanwhile.
        held_out: tracks that the best weights are chosen by.
    """
    torch.manual_seed(loop.seed)
    trainer = RendererTrainer(config, tokenizer, vae, pool, loop.seed, pick_device(device))
    outcome = train(loop, trainer.step, trainer.state(), lambda: trainer.validate(held_out), WATCHED)
    return trainer.learner.average, outcome


# ---- the stage ----


@dataclass(frozen=True)
class RendererRecipe:
    """What a pack's renderers are made of."""

    tokenizer: Tokenizer  # at rest
    vae_file: Path  # as `train vae` writes it, or as it is imported
    songs: Songs
    minutes: float = 40.0  # of all tracks
    steps: float | None = None  # of each, in place of minutes
    seed: int = 0
    device: str = "auto"
    size: str = "small"
    rows: int | None = None  # of a batch; None: the size's own
    roles: tuple[Role, ...] = ROLES
    held_out_songs: int = 12
    songs_per_shard: int = SONGS_PER_SHARD

    def __post_init__(self) -> None:
        if self.size not in TRAININGS:
            raise ValueError(f"there is no size {self.size!r}: use {', '.join(TRAININGS)}")

    @cached_property
    def vae(self) -> Oobleck | SpectralVae:
        """Raises ValueError: the file holds none."""
        return read_vae(self.vae_file)

    @property
    def training(self) -> RendererTraining:
        """For this tokenizer and this VAE. Raises ValueError: their rates do not fit."""
        training = TRAININGS[self.size]
        fitted = training.renderer.fitted(self.vae, self.tokenizer.config.code_dim)
        return replace(training, renderer=fitted, rows=self.rows or training.rows)

    @property
    def fingerprint(self) -> str:
        """Of the weights that tokens and latents follow from: others lie in another folder."""
        digest = hashlib.sha256(self.vae_file.read_bytes())
        for name, tensor in self.tokenizer.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        digest.update(repr(self.tokenizer.config).encode())
        return digest.hexdigest()[:12]

    def loop(self, run: Path, role: str) -> LoopConfig:
        if self.steps is not None:
            return LoopConfig(run / role, steps=self.steps, seed=self.seed)
        return LoopConfig(run / role, minutes=self.minutes / len(self.roles), seed=self.seed)

    def unfinished(self, run: Path, role: str) -> bool:
        if self.steps is not None:
            return bool(last_entry(run / role)["step"] < self.steps)
        return seconds(run / role) < 60 * self.minutes / len(self.roles)


def train_renderers(run: Path, recipe: RendererRecipe, progress: Callable[[str], None] = print) -> bool:
    """Trains the recipe's tracks one after the other, as far as they need it, and writes FILE; whether all are done.

    Raises:
        ValueError: tokenizer and VAE do not fit each other, or are others than the run was begun with.
        OSError: the VAE's file cannot be read.
    """
    config, fingerprint, noted = recipe.training, recipe.fingerprint, run / "latents.txt"
    if noted.exists() and noted.read_text() != fingerprint:
        raise ValueError(f"the tokenizer or the VAE is another than {run} was trained with: use another run folder")
    folder = run / f"latents-{fingerprint}"
    folder.mkdir(parents=True, exist_ok=True)
    noted.write_text(fingerprint)
    encoder = Encoder(recipe.tokenizer, recipe.vae, recipe.songs)
    unfinished = [role for role in recipe.roles if recipe.unfinished(run, role)]
    if unfinished:
        hold_to_songs(folder, recipe.songs.options())
        held_out = held_out_songs(folder, encoder, recipe.held_out_songs)
        write = partial(write_songs, encoder=encoder, seed=recipe.seed, songs=recipe.songs_per_shard)
        with producer(folder, write):
            for role in unfinished:
                progress(f"{role}: {run / role}")
                pool, judges = Pool(folder, role), read_songs(held_out, role)
                loop = recipe.loop(run, role)
                _, outcome = train_renderer(loop, config, encoder.tokenizer, encoder.vae, pool, judges, recipe.device)
                if outcome.interrupted:
                    progress(f"stopped at {role}; the same command goes on in {run}")
                    return False
    export(run, config.renderer, recipe.roles)
    progress(f"{run / FILE} written")
    return True


def held_out_songs(folder: Path, encoder: Encoder, count: int) -> Path:
    """Songs that the best weights are chosen by; made once. Raises CorpusError: there are none."""
    path = folder / "held-out.npz"
    if not path.exists():
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
        write_tokens(path, [arrays(tracks) for tracks in encoded_songs(encoder, seeds, varied=False)])
    return path


def export(run: Path, config: RendererConfig, roles: Sequence[Role]) -> None:
    """Writes FILE: each track at its best validation, matrices in int8, the rest in float16."""
    networks: dict[Role, RendererNetwork] = {}
    for role in roles:
        network = RendererNetwork(config)
        network.load_state_dict(best_weights(run / role))
        networks[role] = network
    table, tensors = packed(networks)
    save_part(Component(table, quantize(tensors)), run / FILE)


def figures(run: Path, roles: Sequence[Role] = ROLES) -> dict[str, dict[str, float]]:
    """The best validation of each track that there is, for a card."""
    return {role: found for role in roles if (found := best_validation(run / role, WATCHED))}

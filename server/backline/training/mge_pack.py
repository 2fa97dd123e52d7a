"""Makes a whole MGE-LDM pack: a VAE, towers that hear texts and sounds, and the network in their latents.

    RUN/vae/vae.safetensors   RUN/towers/towers.safetensors   RUN/network/
    RUN/latents-<what made them, of which songs>/

Each part goes on from where it was; VAE and towers may be lent, as files of other runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.corpus.labelled import stems_of
from backline.corpus.multitrack import four_tracks, made_of
from backline.corpus.pair_tokens import write_tokens
from backline.corpus.songs import Composer, Songs
from backline.models.mge.config import MgeConfig
from backline.models.mge.minilm import MiniLM, read_minilm
from backline.models.mge.network import PREFIX, read_network
from backline.models.mge.stream import DESCRIPTIONS, live_table
from backline.models.mge.tasks import PORTS
from backline.models.mge.towers import Towers, TowersConfig, load_towers
from backline.music.seeds import HELD_OUT_SEED
from backline.music.stems import SAMPLE_RATE
from backline.music.world import ENSEMBLE
from backline.nn.tables import read_table
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import write_pack
from backline.packs.parts import read_part, save_part, stored
from backline.packs.quantized import quantize
from backline.training import towers as teaching
from backline.training.loop import LoopConfig
from backline.training.mge import TRAININGS, WATCHED, MgeTraining, packed, train_mge
from backline.training.mge_songs import SONGS_PER_SHARD, Encoded, Encoder, Pool, read_songs, write_songs
from backline.training.report import drawn_losses, finish_pack, hardware
from backline.training.run_folder import best_validation, best_weights, commit, last_entry, seconds
from backline.training.tokens import producer
from backline.training.towers import TowersTraining, best_towers, train_towers
from backline.training.vae import FILE, HELD_OUT_SONGS, VaeTraining, origin_of, read_vae, train_vae, vae_card
from backline.training.vae import WATCHED as VAE_WATCHED

SHARES = {"vae": 0.35, "towers": 0.08, "network": 0.57}  # of the minutes given
PARTS = tuple(SHARES)
TOWERS_FILE = "towers.safetensors"
MEANINGS = (
    "all-MiniLM-L6-v2 (Apache-2.0), whose vectors the towers learn to place; none of its weights is part of the pack"
)
WINDOW_SECONDS = {"paper": 10.24, "small": 5.12, "tiny": 0.64}  # by size: what a network hears at a time


@dataclass(frozen=True)
class MgeRecipe:
    """What a pack is made of."""

    songs: Songs = field(default_factory=lambda: Composer(ENSEMBLE, SAMPLE_RATE))
    minutes: float = 100.0
    steps: float | None = None  # of the network, in place of its minutes
    seed: int = 0
    device: str = "auto"
    size: str = "small"
    rows: int | None = None  # of a batch; None: the size's own
    vae: Path | None = None  # lent, and so are the next: files as `train vae` and `train towers` write them
    towers: Path | None = None
    tasks: tuple[str, ...] = tuple(PORTS)  # that the pack plays
    minilm: MiniLM | None = None  # in place of the installed one
    vae_training: VaeTraining = field(default_factory=VaeTraining)
    towers_training: TowersTraining = field(default_factory=TowersTraining)
    held_out_songs: int = 12
    songs_per_shard: int = SONGS_PER_SHARD

    def __post_init__(self) -> None:
        if unknown := set(self.tasks) - set(PORTS):
            raise ValueError(f"there is no task {min(unknown)!r}: use {', '.join(PORTS)}")
        if self.size not in TRAININGS:
            raise ValueError(f"there is no size {self.size!r}: use {', '.join(TRAININGS)}")

    @property
    def parts(self) -> tuple[str, ...]:
        """What is trained."""
        return tuple(part for part in PARTS if getattr(self, part, None) is None)

    def seconds(self, part: str) -> float:
        """Of training that a part gets."""
        return 60 * self.minutes * SHARES[part] / sum(SHARES[each] for each in self.parts)

    def loop(self, run: Path, part: str) -> LoopConfig:
        if part == "network" and self.steps is not None:
            return LoopConfig(run / part, steps=self.steps, seed=self.seed)
        return LoopConfig(run / part, minutes=self.seconds(part) / 60, seed=self.seed)

    def unfinished(self, run: Path, part: str) -> bool:
        if part == "network" and self.steps is not None:
            return bool(last_entry(run / part)["step"] < self.steps)
        return seconds(run / part) < self.seconds(part)

    def training(self, latents: Latents) -> MgeTraining:
        """How the network is trained in these latents."""
        training = TRAININGS[self.size]
        vae = latents.vae
        network = replace(training.mge.network, channels=vae.latent_channels, condition=latents.towers.dimension)
        frames = max(2, round(WINDOW_SECONDS[self.size] * vae.sample_rate / vae.hop))
        drawn = training.drawn if self.rows is None else replace(training.drawn, rows=self.rows)
        return replace(training, mge=MgeConfig(network, frames), drawn=drawn)


@dataclass(frozen=True)
class Latents:
    """What makes latents and conditions, from two files, and who reads phrases."""

    vae_file: Path
    towers_file: Path
    minilm: MiniLM | None = None

    @cached_property
    def vae(self) -> Oobleck | SpectralVae:
        return read_vae(self.vae_file)

    @cached_property
    def towers(self) -> Towers:
        part = read_part(self.towers_file)
        try:
            return load_towers(part.tensors, read_table(TowersConfig, part.table, "towers"), self.minilm)
        except ValueError as error:
            raise ValueError(
                f"{self.towers_file} holds no towers: {error}; give {TOWERS_FILE} of a run of `backline train mge-pack`"
            ) from error

    @property
    def readers(self) -> list[Towers]:
        """Those that users may have: MiniLM's tower where it is there, and the n-grams that every pack carries."""
        return self.towers.apart()

    @property
    def fingerprint(self) -> str:
        """Of the weights: other latents lie in another folder."""
        both = hashlib.sha256(self.vae_file.read_bytes() + self.towers_file.read_bytes())
        return both.hexdigest()[:12]

    def check(self) -> None:
        """Raises ValueError: the two do not hear the same rate."""
        vae, towers = self.vae.sample_rate, self.towers.config.sample_rate
        if vae != towers:
            raise ValueError(f"the VAE hears {vae} Hz and the towers {towers} Hz: train towers for the VAE's rate")


def train_mge_pack(
    run: Path,
    out: Path,
    recipe: MgeRecipe,
    parts: tuple[str, ...] = PARTS,
    progress: Callable[[str], None] = print,
) -> Path:
    """Trains `parts` in order, as far as they need it, then writes the pack to `out` if all parts are there.

    Raises:
        ValueError: `parts` names something else, or one that is lent; a part is asked for before those that it needs;
            the latents have changed since the network was trained; or see `check`.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; use {', '.join(PARTS)}")
    if parts != PARTS and (lent := set(parts) - set(recipe.parts)):
        raise ValueError(f"{', '.join(sorted(lent))} comes from a file: train another part, or leave the file out")
    trained = [part for part in recipe.parts if part in parts and recipe.unfinished(run, part)]
    check(recipe, trained)
    run.mkdir(parents=True, exist_ok=True)
    interrupted = False
    for part in trained:
        progress(f"{part}: {run / part}")
        if interrupted := TRAINERS[part](run, recipe):
            break
    missing = [part for part in recipe.parts if not (run / part / "checkpoint.pt").exists()]
    if interrupted or missing:
        progress(f"no pack yet: {', '.join(missing) or 'training was stopped'}; the same command goes on in {run}")
        return out
    write_pack(out, *contents(run, recipe))
    return finish_pack(out, drawn_losses(run, progress), progress)


def check(recipe: MgeRecipe, trained: Collection[str]) -> None:
    """Finds out before the first part is trained whether the last one will have what it needs.

    Raises:
        OSError, ValueError: a file that is lent cannot be read, or is another one.
        MiniLMMissing: towers are to be trained, and MiniLM is not there.
    """
    for part, file in (("vae", recipe.vae), ("towers", recipe.towers)):
        if file is not None:
            getattr(Latents(file, file, recipe.minilm), part)
    if "towers" in trained and recipe.minilm is None:
        read_minilm()


def vae_part(run: Path, recipe: MgeRecipe) -> bool:
    """Trains the VAE; whether it was interrupted, as the next ones."""
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_SONGS)

    def make(seed: int) -> Any:
        return four_tracks(recipe.songs.song(seed), SAMPLE_RATE)

    _, outcome = train_vae(
        recipe.loop(run, "vae"), recipe.vae_training, make, held_out, recipe.device, origin=origin_of(recipe.songs)
    )
    return outcome.interrupted


def towers_part(run: Path, recipe: MgeRecipe) -> bool:
    """Trains the towers, and writes their best."""
    config = recipe.towers_training

    def make(seed: int) -> Any:
        return stems_of(recipe.songs.song(seed), config.towers.sample_rate)

    minilm = recipe.minilm or read_minilm()
    _, outcome = train_towers(recipe.loop(run, "towers"), config, minilm, make, device=recipe.device)
    write_towers(run / "towers", config.towers)
    return outcome.interrupted


def write_towers(part: Path, config: TowersConfig) -> None:
    """The best of a part's folder as a file: what the network is trained with must not change."""
    save_part(Component(*teaching.packed(best_towers(part, config))), part / TOWERS_FILE)


def network_part(run: Path, recipe: MgeRecipe) -> bool:
    """Trains the network, while a side process makes latents of new songs."""
    latents = latents_of(run, recipe)
    latents.check()
    fingerprint, noted = latents.fingerprint, run / "network" / "latents.txt"
    if noted.exists() and noted.read_text() != fingerprint:
        raise ValueError(
            f"the VAE or the towers are others than {noted.parent} was trained with: use another run folder"
        )
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(fingerprint)
    folder = run / f"latents-{hashlib.sha256(f'{fingerprint} {recipe.songs.options()}'.encode()).hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    encoder = Encoder(latents.vae, latents.towers.network.audio, recipe.songs)
    held_out = held_out_songs(folder, encoder, recipe.held_out_songs)
    write = partial(write_songs, encoder=encoder, seed=recipe.seed, songs=recipe.songs_per_shard)
    with producer(folder, write):
        config = recipe.training(latents)
        loop = recipe.loop(run, "network")
        _, outcome = train_mge(loop, config, latents.readers, Pool(folder), held_out, recipe.device)
    return outcome.interrupted


TRAINERS: dict[str, Callable[[Path, MgeRecipe], bool]] = {
    "vae": vae_part, "towers": towers_part, "network": network_part
}  # fmt: skip


def latents_of(run: Path, recipe: MgeRecipe) -> Latents:
    """The VAE and the towers of a run, or those that it was lent. Raises ValueError: one is not there."""
    vae = recipe.vae or run / "vae" / FILE
    towers = recipe.towers or run / "towers" / TOWERS_FILE
    if not towers.exists() and (towers.parent / "checkpoint.pt").exists():  # of `train towers`
        write_towers(towers.parent, recipe.towers_training.towers)
    for part, file in (("vae", vae), ("towers", towers)):
        if not file.exists():
            raise ValueError(f"{file} is missing: train the part {part!r} first, or name a file with --{part}")
    return Latents(vae, towers, recipe.minilm)


def held_out_songs(folder: Path, encoder: Encoder, count: int) -> list[Encoded]:
    """Songs that the best weights are chosen by: of so many seeds, those that have two stems; made once."""
    path = folder / "held-out.npz"
    if not path.exists():
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
        write_tokens(path, [song.arrays() for song in made_of(partial(encoder, varied=False), seeds)])
    return read_songs(path)


def contents(run: Path, recipe: MgeRecipe) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Table and tensors of the pack: each part at its best validation, matrices in int8, the rest in float16."""
    latents = latents_of(run, recipe)
    weights: Mapping[str, Tensor] = best_weights(run / "network")
    config = recipe.training(latents).mge
    network = read_network(config, {PREFIX + name: tensor for name, tensor in weights.items()})
    table, tensors = packed(network)
    vae, towers = read_part(latents.vae_file), read_part(latents.towers_file)
    written: dict[str, Any] = {
        "format": 1,
        "name": "mge",
        "version": "0.1.0",
        "family": "mge",
        "description": "By text: " + "; ".join(DESCRIPTIONS[task] for task in recipe.tasks),
        "license": "Apache-2.0",
        "mge": table,
        "vae": vae.table,
        "towers": towers.table,
        "stream": live_table(Fraction(latents.vae.hop, latents.vae.sample_rate), config.window_frames, recipe.tasks),
        "card": card(run, recipe),
    }
    return written, quantize({**tensors, **towers.tensors}) | stored(vae)


def card(run: Path, recipe: MgeRecipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    budget = f"--minutes {recipe.minutes:g}" if recipe.steps is None else f"--steps {recipe.steps:g}"
    told = [f"backline train mge-pack {budget} --seed {recipe.seed} {recipe.songs.options()} --size {recipe.size}"]
    told += [f"--task {task}" for task in recipe.tasks if len(recipe.tasks) < len(PORTS)]
    told += [f"--{part} {file.name}" for part, file in (("vae", recipe.vae), ("towers", recipe.towers)) if file]
    watched = {"vae": VAE_WATCHED, "towers": teaching.WATCHED, "network": WATCHED}
    return {
        **recipe.songs.card(),
        "text": MEANINGS,
        **vae_card(latents_of(run, recipe).vae_file),
        "seed": recipe.seed,
        "trained_minutes": {part: round(seconds(run / part) / 60, 1) for part in recipe.parts},
        "steps": {part: last_entry(run / part)["step"] for part in recipe.parts},
        "hardware": hardware(),
        "command": " ".join(told),
        "commit": commit(),
        "validation": {part: best_validation(run / part, watched[part]) for part in recipe.parts},
    }

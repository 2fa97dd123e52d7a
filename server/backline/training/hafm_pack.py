"""Makes a HAFM as published: k-means, tokens of all songs, three stages (or two), and the pack folder.

Everything lies in one run folder and goes on from there:

    RUN/semantics.safetensors   RUN/codec.safetensors   RUN/tokens-<of what>/{training,validation}/
    RUN/semantic/   RUN/coarse/   RUN/fine/
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backline.codecs.duotok.codec import DuoTokSemantics
from backline.codecs.duotok.config import ROLES
from backline.corpus.pair_tokens import PairTokenizer, Say, Tokens, read_tokens, shards, tokenize
from backline.corpus.songs import Passage, Songs
from backline.models.hafm.interleaved.config import (
    CLIPS,
    SIZES,
    InterleavedConfig,
    three_stages,
    without_semantic,
)
from backline.models.hafm.load import load_encoder
from backline.models.hafm.tables import VOCAL_NOISE
from backline.models.through_codec import load_codec
from backline.music.seeds import Purpose
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import write_pack
from backline.packs.parts import read_part, save_part
from backline.training.interleaved import SERVED, TABLE_1, Precision, StageTraining, train_stage
from backline.training.kmeans import fit_semantics, judge_semantics
from backline.training.loop import LoopConfig, pick_device
from backline.training.report import drawn_losses, finish_pack, hardware
from backline.training.run_folder import best_validation, best_weights, commit, last_entry
from backline.training.team import Team, joined

SEMANTICS, CODEC = "semantics.safetensors", "codec.safetensors"
JUDGED = 8  # passages that semantic tokens are judged by


@dataclass(frozen=True)
class HafmRecipe:
    """What a HAFM is made of. The same recipe on the same machine makes the same data, song by song."""

    songs: Songs
    size: str = "small"  # of SIZES
    stages: int = 3
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    composed: int = 1000  # songs, where they are composed
    composed_held_out: int = 24
    training: dict[str, StageTraining] = field(default_factory=lambda: dict(TABLE_1))
    sizes: dict[str, dict[str, Any]] = field(default_factory=lambda: SIZES)

    def passages(self, split: Purpose) -> list[Passage]:
        """Raises ValueError: there are none."""
        found = self.songs.passages(split, self.composed if split == "training" else self.composed_held_out)
        if not found:
            raise ValueError(f"there are no songs for {split}: prepare more, see `backline data show`")
        return found

    def network(
        self, vocabulary: int, codebooks: int, entries: int, rate: int = 50, code_width: int = 0
    ) -> InterleavedConfig:
        """The stages for these tokens.

        Args:
            vocabulary, rate, code_width: of the semantic ones; the last of their vectors, where they have some.

        Raises:
            ValueError: there is no such size or number of stages.
        """
        if self.size not in self.sizes:
            raise ValueError(f"there is no size {self.size!r}: use {', '.join(self.sizes)}")
        if self.stages not in (2, 3):
            raise ValueError(f"there are no {self.stages} stages: use 3, or 2 to do without the semantic one")
        if codebooks < 2:
            raise ValueError("the codec has one codebook: a coarse and a fine stage need two")
        found = three_stages(
            **self.sizes[self.size],
            vocabulary=vocabulary,
            rate=rate,
            codebooks=codebooks,
            entries=entries,
            code_width=code_width,
        )
        return found if self.stages == 3 else without_semantic(found)


def fit(
    run: Path,
    recipe: HafmRecipe,
    part: Component,
    clusters: int,
    most: int,
    progress: Callable[[str], None] = print,
) -> None:
    """Gives a run its semantic tokens: fits `clusters` on up to `most` passages, or keeps a pack's own.

    Raises:
        ValueError: there are too few frames, or the run has tokens already.
    """
    path = run / SEMANTICS
    if path.exists():
        raise ValueError(f"{path} is there: remove it to fit new semantic tokens, or use another folder")
    run.mkdir(parents=True, exist_ok=True)
    device = str(pick_device(recipe.device))
    if "vocabulary" not in part.table:
        passages = recipe.passages("training")
        chosen = torch.randperm(len(passages), generator=torch.Generator().manual_seed(recipe.seed))[:most]
        part = fit_semantics(part, [passages[n] for n in chosen], clusters, recipe.seed, device, progress)
    report = judge_semantics(part, recipe.passages("validation")[:JUDGED], device)
    save_part(replace(part, table={"vocal_noise": VOCAL_NOISE, **part.table}), path)
    path.with_suffix(".txt").write_text(f"{report}\n")
    progress(f"semantic tokens: {report}")


def train_hafm(
    run: Path,
    out: Path,
    recipe: HafmRecipe,
    codec: Component | None = None,
    stages: Sequence[str] = (),
    jobs: int = 1,
    progress: Callable[[str], None] = print,
    say: Say = lambda done, all_of_them: None,
) -> Path:
    """Trains `stages` in order, all of them if there are none, then writes the pack to `out` if all are there.

    Args:
        codec: of a new run; one that goes on has it.
        jobs: processes that make tokens.
    Raises:
        ValueError: semantic tokens or the codec are missing, or what is asked for does not fit.
    """
    with joined(pick_device(recipe.device)) as (team, device):
        if team.leads:
            prepare(run, recipe, codec, jobs, progress, say)
        team.wait()
        network = run_network(run, recipe)
        if unknown := set(stages) - set(network.stages()):
            raise ValueError(f"there is no stage {min(unknown)!r}: use {', '.join(network.stages())}")
        folder = token_folder(run, recipe)
        interrupted = train_stages(run, recipe, network, folder, stages, device, team)
        if not team.leads:
            return out
        missing = [name for name in network.stages() if not (run / name / "checkpoint.pt").exists()]
        if interrupted or missing:
            progress(f"no pack yet: {', '.join(missing) or 'training was stopped'}; the same command goes on in {run}")
            return out
        export(run, out, recipe, network)
        return finish_pack(out, drawn_losses(run, progress), progress)


def train_stages(
    run: Path,
    recipe: HafmRecipe,
    network: InterleavedConfig,
    folder: Path,
    stages: Sequence[str],
    device: torch.device,
    team: Team,
) -> bool:
    """Whether they were interrupted. Stages whose steps are done are left as they are."""
    vectors = token_vectors(load_tokenizer(run, "cpu"))
    wanted = [
        name
        for name in network.stages()
        if name in (stages or network.stages()) and last_entry(run / name)["step"] < recipe.training[name].steps
    ]
    if not wanted:
        return False
    songs, held_out = songs_of(folder / "training"), songs_of(folder / "validation")
    for name in wanted:
        training = recipe.training[name]
        loop = LoopConfig(run / name, steps=training.steps, seed=recipe.seed)
        stage = network.stages()[name]
        trained = train_stage(name, stage, training, loop, songs, held_out, device, recipe.precision, team, vectors)
        if trained.interrupted:
            return True
    return False


def prepare(
    run: Path,
    recipe: HafmRecipe,
    codec: Component | None,
    jobs: int,
    progress: Callable[[str], None] = print,
    say: Say = lambda done, all_of_them: None,
) -> None:
    """Gives a run its codec, and writes the tokens of all songs that are not written yet.

    Raises:
        ValueError: the run has no semantic tokens, no codec or another one, or there are no songs.
    """
    if not (run / SEMANTICS).exists():
        raise ValueError(f"{run / SEMANTICS} is missing: run `backline train kmeans` first")
    if codec is None and not (run / CODEC).exists():
        raise ValueError(f"{run} has no codec: give it one, --codec pack:default for example")
    if codec is not None:
        if (run / CODEC).exists() and fingerprint(codec) != fingerprint(read_part(run / CODEC)):
            raise ValueError(f"{run} has been begun with another codec: leave --codec out, or use another folder")
        save_part(codec, run / CODEC)
    folder = token_folder(run, recipe)
    load = partial(load_tokenizer, run, recipe.device)
    for split in ("training", "validation"):
        passages = recipe.passages(split)
        for problem in tokenize(passages, folder / split, load, shortest(recipe), jobs, say):
            progress(f"left out: {problem}")


def shortest(recipe: HafmRecipe) -> Fraction:
    """Seconds that a passage must last so that every stage finds a clip in it."""
    return max(training.clip for training in recipe.training.values())


def load_tokenizer(run: Path, device: str) -> PairTokenizer:
    """What makes tokens for a run."""
    place = str(pick_device(device))
    semantics, codec = read_part(run / SEMANTICS), read_part(run / CODEC)
    voice, band = (load_encoder(semantics.table, semantics.tensors, place, role) for role in ROLES)
    return PairTokenizer(voice, load_codec(codec.table, codec.tensors, place), semantics.table["vocal_noise"], band)


def token_folder(run: Path, recipe: HafmRecipe) -> Path:
    """Where a run's tokens lie: elsewhere for other semantics, another codec, other songs."""
    digest = hashlib.sha256()
    for name in (SEMANTICS, CODEC):
        digest.update(fingerprint(read_part(run / name)))
    splits: tuple[Purpose, ...] = ("training", "validation")
    for split in splits:
        for passage in recipe.passages(split):
            digest.update(f"{split} {passage.title}\n".encode())
    digest.update(str(shortest(recipe)).encode())
    return run / f"tokens-{digest.hexdigest()[:8]}"


def fingerprint(part: Component) -> bytes:
    """Of everything that decides which tokens a part makes."""
    digest = hashlib.sha256(repr(sorted(part.table.items())).encode())
    for name, tensor in sorted(part.tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.digest()


def songs_of(folder: Path) -> list[Tokens]:
    """All songs of a folder of shards."""
    return [song for path in shards(folder) for song in read_tokens(path)]


def run_network(run: Path, recipe: HafmRecipe) -> InterleavedConfig:
    """The stages for a run's tokens."""
    tokenizer = load_tokenizer(run, "cpu")
    codec, encoder, vectors = tokenizer.codec, tokenizer.encoder, token_vectors(tokenizer)
    width = vectors["vocal"].shape[1] if vectors else 0
    rate = int(encoder.frame_rate)
    return recipe.network(encoder.vocabulary, codec.codebooks, codec.codebook_size, rate, width)


def token_vectors(tokenizer: PairTokenizer) -> dict[str, Tensor]:
    """What a tokenizer itself knows its tokens by [token, code_dim], by source; nothing where they are clusters."""
    sides = {"vocal": tokenizer.encoder, "instrumental": tokenizer.band_encoder}
    return {
        name: vectors
        for name, encoder in sides.items()
        if isinstance(encoder, DuoTokSemantics) and (vectors := encoder.token_vectors()) is not None
    }


def export(run: Path, out: Path, recipe: HafmRecipe, network: InterleavedConfig) -> None:
    """Writes the pack: every stage at its best validation, in float16."""
    semantics, codec = read_part(run / SEMANTICS), read_part(run / CODEC)
    tensors = semantics.tensors | codec.tensors
    for name in network.stages():
        weights = best_weights(run / name)
        tensors |= {f"{name}.{key}": value.to(torch.float16).contiguous() for key, value in weights.items()}
    streams = all(training.order == "stream" for training in recipe.training.values())
    chunk = SERVED if streams else CLIPS["fine"]
    config: dict[str, Any] = {
        "format": 1,
        "name": out.name,
        "version": "0.1.0",
        "family": "hafm",
        "description": f"HAFM in {len(network.stages())} stages, {recipe.size}, trained by `backline train hafm`",
        "license": "as its songs, its semantic encoder and its codec",
        "network": network.to_dict(),
        "codec": codec.table,
        "semantics": semantics.table,
        "sampling": {"top_k": min(250, network.coarse.vocabulary)},
        "stream": {"default_chunk_seconds": str(chunk), "default_visibility_seconds": float(chunk)},
        "card": card(run, recipe, network),
    }
    write_pack(out, config, tensors)


def card(run: Path, recipe: HafmRecipe, network: InterleavedConfig) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    report = run / Path(SEMANTICS).with_suffix(".txt")
    return {
        **recipe.songs.card(),
        "seed": recipe.seed,
        "steps": {name: last_entry(run / name)["step"] for name in network.stages()},
        "trained_minutes": {name: round(last_entry(run / name)["seconds"] / 60, 1) for name in network.stages()},
        "hardware": hardware(),
        "command": f"backline train hafm --size {recipe.size} --seed {recipe.seed} {recipe.songs.options()}",
        "commit": commit(),
        "semantics": report.read_text().strip() if report.exists() else "",
        "validation": {
            name: {key: value for key, value in best_validation(run / name, "loss").items() if math.isfinite(value)}
            for name in network.stages()
        },
    }

"""Makes the whole default pack: semantic tables, codec, two stages, and the pack folder with its card.

Everything lies in one run folder and goes on from there:

    RUN/semantics.safetensors   RUN/hints.safetensors   RUN/codec/
    RUN/shards-<what tokenized them>/   RUN/semantic/   RUN/acoustic/

A part whose minutes are used up is not trained again; more minutes train it on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from backline.codecs.harmony import SAMPLE_RATE, HarmonyEncoder, HarmonyTables
from backline.corpus.songs import Composer, Songs, data
from backline.models.errors import PackError
from backline.models.hafm.aligned.config import DEFAULT, AlignedConfig
from backline.models.hafm.score import VOICE_VOCABULARY, semitones_from_c
from backline.models.hafm.tables import read_tables
from backline.music.seeds import HELD_OUT_SEED, training_seed
from backline.music.songs import song
from backline.music.world import TRIO, WORLDS, World
from backline.nn.weights import part as part_of
from backline.packs.pack import Pack, read_tensors, save_tensors, write_pack
from backline.packs.quantized import quantize
from backline.training.beats import beat_table
from backline.training.codec import CodecTraining, best_codec, codec_song, first_codebooks, packed, train_codec
from backline.training.hints import HintSong, hinted, train_hints
from backline.training.keeping import WARM, fine_tuned
from backline.training.loop import LoopConfig
from backline.training.report import drawn_losses, finish_pack, hardware
from backline.training.run_folder import best_validation, commit, last_entry, seconds
from backline.training.semantics import VOCAL_NOISE, SungSong, train_semantics
from backline.training.stages import TRAINING, StageTraining, best_network, train_stage
from backline.training.tokens import (
    Tokenizers,
    Tokens,
    producer,
    read_tokens,
    write_numbered,
    write_shard,
)

# Of the minutes given, what each part takes. Fitting semantic tables and hints takes about 20 minutes, not counted.
SHARES = {"codec": 0.30, "semantic": 0.25, "acoustic": 0.45}
PARTS = ("semantics", "hints", *SHARES)
WATCHED = {"codec": "mel", "semantic": "loss", "acoustic": "loss"}  # the validation result that tells a part's best
BEATS = "semantics.beats"
SCORE_VERSION = b"1"  # of training/score.py: other versions write other tokens
SAMPLING = {"guidance": 1.0, "temperature": 0.3, "top_k": 40}
# Hears a beat or two before it plays them: the first note of a bar tells its chord. Who jams asks for less.
STREAM = {"default_chunk_seconds": "4/5", "default_visibility_seconds": 2.4}
# Stored as they are, all other matrices as int8: codebooks are small, and everything that is heard is made of them.
WHOLE_WEIGHTS = ("codec.quantizer.", "semantics.")


@dataclass(frozen=True)
class Recipe:
    """What a default pack is made of. The same recipe on the same machine makes the same data, song by song."""

    minutes: float = 150.0
    seed: int = 0
    device: str = "auto"
    world: World = TRIO
    codec_songs: Songs | None = None  # that the codec learns from; None: composed ones, as all that needs a score
    codec: CodecTraining = field(default_factory=CodecTraining)
    network: AlignedConfig = DEFAULT
    stages: Mapping[str, StageTraining] = field(default_factory=lambda: TRAINING)
    semantic_songs: int = 600  # to fit the semantic tables on
    hint_songs: int = 5000  # to learn chords from
    hint_epochs: float = 30.0  # how often each
    shard_songs: int = 24  # in a shard of tokens
    held_out_songs: int = 24  # that semantics and stages are judged by
    start: Pack | None = None  # whose weights training begins with, and whose tables of tokens it keeps

    def begun_with(self, pack: Pack) -> Recipe:
        """The same, but begun with a pack of this kind: it has its sizes, and learns more slowly.

        Raises:
            ValueError: it is no such pack.
        """
        try:
            tables = read_tables(pack.config)
        except PackError as error:
            raise ValueError(f"training cannot start from {pack.name}: {error}") from error
        network, codec = tables.network, tables.codec
        if not (isinstance(network, AlignedConfig) and isinstance(codec, ConvNeXtCodecConfig)):
            raise ValueError(f"training cannot start from {pack.name}: use a pack of the aligned layout with our codec")
        return replace(
            self,
            start=pack,
            network=network,
            codec=replace(self.codec, codec=codec, rate=WARM * self.codec.rate),
            stages={name: replace(stage, rate=WARM * stage.rate) for name, stage in self.stages.items()},
        )

    def loop(self, run: Path, part: str) -> LoopConfig:
        return LoopConfig(run / part, minutes=self.minutes * SHARES[part], seed=self.seed)


def train_default_pack(
    run: Path,
    out: Path,
    recipe: Recipe,
    parts: tuple[str, ...] = PARTS,
    progress: Callable[[str], None] = print,
) -> Path:
    """Trains `parts` in order, as far as they need it, draws the losses, then writes the pack to `out`.

    Args:
        run: the run folder; made, or gone on with.
        out: the pack's folder.
        parts: fewer than all train those alone; the pack is written when all parts are there.
    Raises:
        ValueError: `parts` names something else; or an earlier part that is needed has not been trained yet.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; use {', '.join(PARTS)}")
    run.mkdir(parents=True, exist_ok=True)
    try:
        _train_parts(run, recipe, parts, progress)
    finally:
        pictures = drawn_losses(run, progress)
    lent = set() if recipe.start is None else {"codec"}
    missing = [part for part in SHARES if part not in lent and not (run / part / "checkpoint.pt").exists()]
    if missing:
        progress(f"no pack yet: {', '.join(missing)} not trained in {run}")
        return out
    export(run, out, recipe)
    return finish_pack(out, pictures, progress)


def _train_parts(run: Path, recipe: Recipe, parts: tuple[str, ...], progress: Callable[[str], None]) -> None:
    """Trains `parts` until all are trained or the user interrupts."""
    start = None if recipe.start is None else read_tensors(recipe.start)
    if start is not None:
        keep_tables(run, start)
    if "semantics" in parts and not (run / "semantics.safetensors").exists():
        fit_semantics(run, recipe, progress)
    if "hints" in parts and not (run / "hints.safetensors").exists():
        fit_hints(run, recipe, progress)
    if "codec" in parts and not _finished(run, recipe, "codec"):
        loop = recipe.loop(run, "codec")
        known, rate = start and part_of(start, "codec."), recipe.codec.codec.sample_rate
        songs = recipe.codec_songs or Composer(recipe.world, rate)
        _, outcome = train_codec(
            loop, recipe.codec, lambda seed: codec_song(songs.song(seed), rate), recipe.device, start=known
        )
        if outcome.interrupted:
            return
    stages = [part for part in parts if part in recipe.network.stages() and not _finished(run, recipe, part)]
    if stages:
        train_stages(run, recipe, stages, start)


def keep_tables(run: Path, tensors: Mapping[str, Tensor]) -> None:
    """Takes a pack's tables of tokens and its hints over into a run that has none: its stages know no others."""
    tables = {name: tensor for name, tensor in tensors.items() if name.startswith("semantics.")}
    hints = {name for name in tables if name == BEATS or name.startswith("semantics.hints.")}
    for part, names in (("semantics", tables.keys() - hints), ("hints", hints)):
        if names and not (run / f"{part}.safetensors").exists():
            save_tensors({name: tables[name] for name in sorted(names)}, run / f"{part}.safetensors")


def fit_semantics(run: Path, recipe: Recipe, progress: Callable[[str], None]) -> None:
    """Fits the tables and saves them, with a report of what they are worth."""
    first = training_seed(recipe.seed, 0)
    fitted = _sung(range(first, first + recipe.semantic_songs), recipe.world)
    held_out = _sung(range(HELD_OUT_SEED, HELD_OUT_SEED + recipe.held_out_songs), recipe.world)
    found = train_semantics(fitted, held_out, recipe.seed, progress=progress)
    save_tensors(found.tensors(), run / "semantics.safetensors", metadata={"vocal": str(found.report)})


def fit_hints(run: Path, recipe: Recipe, progress: Callable[[str], None]) -> None:
    """Trains the network that tells chords and counts what tells beats, on songs that are only sung.

    Saves both, with how often chords are right on songs that it did not learn.
    """
    encoder = _encoder(run)
    seeds = [training_seed(recipe.seed, recipe.semantic_songs + number) for number in range(recipe.hint_songs)]
    songs = []
    for number, seed in enumerate(seeds, 1):
        songs.append(HintSong.sung(seed, recipe.world, encoder))
        if number % 500 == 0:
            progress(f"chord hints: {number} of {len(seeds)} songs sung")
    hints = train_hints(songs, recipe.hint_epochs, recipe.seed, progress)
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + recipe.held_out_songs)
    found = hinted([HintSong.sung(seed, recipe.world, encoder, varied=False) for seed in held_out], hints)
    report = ", ".join(f"{share:.2f} at a lag of {lag:g} s" for lag, share in found.items())
    progress(f"chord hints: right {report}")
    beats = beat_table((song.vocal.astype(np.int64), song.bars_per_second) for song in songs)
    tensors = {**hints.tensors(), BEATS: torch.from_numpy(beats)}
    save_tensors(tensors, run / "hints.safetensors", metadata={"right": report})


def train_stages(run: Path, recipe: Recipe, stages: list[str], start: Mapping[str, Tensor] | None = None) -> None:
    """Trains stages one after the other, until the user interrupts, while a side process makes the songs."""
    tokenizers, fingerprint = _tokenizers(run, recipe)
    folder = run / f"shards-{fingerprint}"
    folder.mkdir(exist_ok=True)
    held_out = _held_out(folder, tokenizers, recipe)
    codec = _codec(run, recipe)
    write = partial(
        write_numbered, tokenizers=tokenizers, world=recipe.world, seed=recipe.seed, songs=recipe.shard_songs
    )
    with producer(folder, write):
        for name in stages:
            stage, training = recipe.network.stages()[name], recipe.stages[name]
            codebooks = codec.quantizer.codebooks.detach() if name == "acoustic" else None
            loop = recipe.loop(run, name)
            _, outcome = train_stage(name, stage, loop, folder, held_out, training, recipe.device, codebooks, start)
            if outcome.interrupted:
                return


def export(run: Path, out: Path, recipe: Recipe) -> None:
    """Writes the pack: every part at its best validation, matrices in int8, other weights in float16."""
    codec = first_codebooks(_codec(run, recipe), recipe.network.acoustic.codebooks)
    table, tensors = packed(codec)
    tensors |= _trained(run, "semantics") | _trained(run, "hints")
    for name, stage in recipe.network.stages().items():
        weights = best_network(run / name, stage).state_dict()
        tensors |= {f"{name}.{key}": value.to(torch.float16).contiguous() for key, value in weights.items()}
    config: dict[str, Any] = {
        "format": 1,
        "name": "default",
        "version": "0.3.0",
        "family": "hafm",
        "description": "A dry trio of drums, bass and piano that accompanies a singer in any key, in four-four time",
        "license": "Apache-2.0",
        "network": recipe.network.to_dict(),
        "codec": table,
        "semantics": {"kind": "harmony", "vocabulary": VOICE_VOCABULARY, "vocal_noise": VOCAL_NOISE},
        "sampling": SAMPLING,
        "stream": STREAM,
        "card": card(run, recipe),
    }
    write_pack(out, config, quantize(tensors, keep=WHOLE_WEIGHTS))


def card(run: Path, recipe: Recipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    judged: dict[str, Any] = {part: best_validation(run / part, WATCHED[part]) for part in SHARES}
    start, real = recipe.start, recipe.codec_songs
    return {
        **({} if start is None else {"from": f"{start.name} {start.version}", "fine_tuned": fine_tuned(run, WATCHED)}),
        "data": data(recipe.world)
        if real is None
        else f"{data(recipe.world)}; its codec alone learnt from {real.card()['data']}",
        "world": next((name for name, world in WORLDS.items() if world == recipe.world), repr(recipe.world)),
        "seed": recipe.seed,
        "trained_minutes": {part: round(seconds(run / part) / 60, 1) for part in SHARES},
        "steps": {part: last_entry(run / part)["step"] for part in SHARES},
        "hardware": hardware(),
        "command": f"backline train default-pack --minutes {recipe.minutes:g} --seed {recipe.seed}"
        + ("" if start is None else f" --from {start.name}")
        + ("" if real is None else f" {real.options()}"),
        "commit": commit(),
        "validation": judged,
    }


def _sung(seeds: range, world: World) -> Iterator[SungSong]:
    for seed in seeds:
        made = song(seed, world, SAMPLE_RATE)
        key = made.piece.key
        yield SungSong(made.vocal, semitones_from_c(key.tonic + 12 * (key.mode == "minor")))


def _tokenizers(run: Path, recipe: Recipe) -> tuple[Tokenizers, str]:
    """What makes tokens, and a fingerprint of everything that decides which tokens a song becomes."""
    tables = _trained(run, "semantics")
    codec = _codec(run, recipe)
    digest = hashlib.sha256()
    weights: dict[str, Tensor] = {**tables, **codec.state_dict()}
    for name in sorted(weights):
        digest.update(weights[name].numpy().tobytes())
    digest.update(SCORE_VERSION)
    return Tokenizers(_encoder(run), codec), digest.hexdigest()[:8]


def _codec(run: Path, recipe: Recipe) -> ConvNeXtCodec:
    """The codec of the run, or that of the pack that it starts from."""
    if (run / "codec" / "checkpoint.pt").exists():
        return best_codec(run / "codec", recipe.codec.codec)
    if recipe.start is None:
        raise ValueError(f"{run / 'codec' / 'checkpoint.pt'} is missing: train the part 'codec' first")
    return convnext_codec(asdict(recipe.codec.codec), read_tensors(recipe.start))


def _encoder(run: Path) -> HarmonyEncoder:
    return HarmonyEncoder(HarmonyTables.from_tensors(_trained(run, "semantics"), "semantics.vocal."))


def _trained(run: Path, part: str) -> dict[str, Tensor]:
    path = run / f"{part}.safetensors"
    if not path.exists():
        raise ValueError(f"{path} is missing: train the part {part!r} first")
    return load_file(path)


def _held_out(folder: Path, tokenizers: Tokenizers, recipe: Recipe) -> list[Tokens]:
    path = folder / "held-out.npz"
    if not path.exists():
        write_shard(path, tokenizers, recipe.world, HELD_OUT_SEED, recipe.held_out_songs)
    return read_tokens(path)


# ---- what a run folder says of itself ----


def _finished(run: Path, recipe: Recipe, part: str) -> bool:
    return seconds(run / part) >= recipe.minutes * SHARES[part] * 60

"""Makes the whole stems pack: HCodec, then the network that tells the tracks in its codes, then the pack folder.

Everything lies in one run folder, RUN/codec and RUN/network, and goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backline.codecs.hcodec.network import HCodec
from backline.corpus.multitrack import four_tracks
from backline.corpus.songs import Composer, Songs
from backline.measures.pictures import NoPicture
from backline.models.errors import PackError
from backline.models.stems.load import read_tables
from backline.models.stems.network import StemsNetwork
from backline.music.seeds import HELD_OUT_SEED
from backline.music.stems import SAMPLE_RATE, Stems
from backline.music.world import BAND
from backline.packs.pack import Pack, read_tensors, write_pack
from backline.packs.quantized import quantize
from backline.training.hcodec import HCodecTraining, train_hcodec
from backline.training.hcodec import packed as packed_codec
from backline.training.loop import LoopConfig
from backline.training.report import hardware, plot_losses
from backline.training.run_folder import best_validation, best_weights, commit, last_entry, seconds
from backline.training.stems import StemsTraining, train_stems
from backline.training.stems import packed as packed_network

SHARES = {"codec": 0.3, "network": 0.7}  # of the minutes given
PARTS = tuple(SHARES)
TRAINING_ONLY = "codec.feature_decoder."  # a pack does without it
WARM = 0.5  # of the usual learning rates, where training starts from a pack: what it knows is not to be shaken loose


@dataclass(frozen=True)
class StemsRecipe:
    """What a stems pack is made of. The same recipe on the same machine makes the same data, song by song."""

    minutes: float = 90.0
    seed: int = 0
    device: str = "auto"
    songs: Songs = field(default_factory=lambda: Composer(BAND, SAMPLE_RATE))
    codec: HCodecTraining = field(default_factory=HCodecTraining)
    network: StemsTraining = field(default_factory=StemsTraining)
    held_out_songs: int = 6  # that parts are judged by while they train
    start: Pack | None = None  # whose weights training begins with

    @classmethod
    def of(cls, minutes: float, seed: int, device: str, songs: Songs, start: Pack | None) -> StemsRecipe:
        """The usual recipe for these songs, from nothing or from a stems pack, whose sizes it then takes over.

        Raises:
            ValueError: `start` is no stems pack.
        """
        recipe = cls(minutes, seed, device, songs)
        if songs.people():  # voices differ from each other more than bands do
            recipe = replace(recipe, codec=replace(recipe.codec, crops=2, voices=4), held_out_songs=16)
        if start is None:
            return recipe
        try:
            tables = read_tables(start.config)
        except PackError as error:
            raise ValueError(f"training cannot start from {start.name}: {error}") from error
        codec, network = recipe.codec, recipe.network
        return replace(
            recipe,
            codec=replace(codec, codec=tables.codec, rate=WARM * codec.rate),
            network=replace(network, network=tables.network, rate=WARM * network.rate),
            start=start,
        )

    def loop(self, run: Path, part: str) -> LoopConfig:
        return LoopConfig(run / part, minutes=self.minutes * SHARES[part], seed=self.seed)


def train_stems_pack(
    run: Path,
    out: Path,
    recipe: StemsRecipe,
    parts: tuple[str, ...] = PARTS,
    progress: Callable[[str], None] = print,
) -> Path:
    """Trains `parts` in order, as far as they need it, then writes the pack to `out` if all parts are there.

    Raises:
        ValueError: `parts` names something else; or the network is asked for before there is a codec.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; use {', '.join(PARTS)}")
    run.mkdir(parents=True, exist_ok=True)

    def make_stems(seed: int) -> Stems:
        return four_tracks(recipe.songs.song(seed), SAMPLE_RATE)

    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + recipe.held_out_songs)
    interrupted = False
    start = None if recipe.start is None else read_tensors(recipe.start)
    for part in (part for part in PARTS if part in parts and seconds(run / part) < 60 * recipe.minutes * SHARES[part]):
        loop = recipe.loop(run, part)
        if part == "codec":
            known = start and codec_tensors(start)
            _, outcome = train_hcodec(loop, recipe.codec, make_stems, held_out, recipe.device, known)
        else:
            codec = best_codec(run, recipe)
            _, outcome = train_stems(loop, recipe.network, codec, make_stems, held_out, recipe.device, start)
        if interrupted := outcome.interrupted:
            break
    missing = [part for part in PARTS if not (run / part / "checkpoint.pt").exists()]
    if interrupted or missing:
        progress(f"no pack yet: {', '.join(missing) or 'training was stopped'}; the same command goes on in {run}")
        return out
    export(run, out, recipe)
    try:
        shutil.copy(plot_losses(run), out)
    except NoPicture as error:
        progress(f"no picture of the losses: {error}")
    progress(f"pack written to {out}")
    return out


def codec_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A pack's codec, by the names that it has itself."""
    return {name.removeprefix("codec."): value for name, value in tensors.items() if name.startswith("codec.")}


def best_codec(run: Path, recipe: StemsRecipe) -> HCodec:
    """The codec of a run folder."""
    codec = HCodec(recipe.codec.codec)
    codec.load_state_dict(best_weights(run / "codec"))
    return codec.eval()


def export(run: Path, out: Path, recipe: StemsRecipe) -> None:
    """Writes the pack: both parts at their best validation, matrices and codebooks in int8, the rest in float16."""
    network = StemsNetwork(recipe.network.network)
    network.load_state_dict(best_weights(run / "network"))
    codec_table, codec = packed_codec(best_codec(run, recipe))
    stems_table, stems = packed_network(network)
    kept = {name: value for name, value in codec.items() if not name.startswith(TRAINING_ONLY)}
    config: dict[str, Any] = {
        "format": 1,
        "name": "stems",
        "version": "0.1.0",
        "family": "stems",
        "description": "Separates a song into vocals, drums, bass and the rest, in tokens, four seconds at a time",
        "license": "Apache-2.0",
        "stems": stems_table,
        "codec": codec_table,
        "card": card(run, recipe),
    }
    write_pack(out, config, quantize(kept | stems))


def card(run: Path, recipe: StemsRecipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    command = f"backline train stems-pack --minutes {recipe.minutes:g} --seed {recipe.seed} {recipe.songs.options()}"
    if recipe.start is not None:
        command += f" --from {recipe.start.name}"
    return {
        **recipe.songs.card(),
        **({} if recipe.start is None else {"from": f"{recipe.start.name} {recipe.start.version}"}),
        "seed": recipe.seed,
        "trained_minutes": {part: round(seconds(run / part) / 60, 1) for part in PARTS},
        "steps": {part: last_entry(run / part)["step"] for part in PARTS},
        "hardware": hardware(),
        "command": command,
        "commit": commit(),
        "validation": {part: best_validation(run / part, "mel") for part in PARTS},
    }

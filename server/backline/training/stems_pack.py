"""Makes the whole stems pack: HCodec, then the network that tells the tracks in its codes, then the pack folder.

Everything lies in one run folder, RUN/codec and RUN/network, and goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from backline.codecs.hcodec.network import HCodec
from backline.models.stems.network import StemsNetwork
from backline.music.world import BAND, WORLDS, World
from backline.packs.pack import write_pack
from backline.packs.quantized import quantize
from backline.training.data import HELD_OUT_SEED
from backline.training.hcodec import HCodecTraining, train_hcodec
from backline.training.hcodec import packed as packed_codec
from backline.training.loop import LoopConfig
from backline.training.mixtures import song_stems
from backline.training.report import NoPicture, hardware, plot_losses
from backline.training.run_folder import COMPOSED, best_validation, best_weights, commit, last_entry, seconds
from backline.training.stems import StemsTraining, train_stems
from backline.training.stems import packed as packed_network

SHARES = {"codec": 0.3, "network": 0.7}  # of the minutes given
PARTS = tuple(SHARES)
TRAINING_ONLY = "codec.feature_decoder."  # a pack does without it


@dataclass(frozen=True)
class StemsRecipe:
    """What a stems pack is made of. The same recipe on the same machine makes the same data, song by song."""

    minutes: float = 90.0
    seed: int = 0
    device: str = "auto"
    world: World = BAND
    codec: HCodecTraining = field(default_factory=HCodecTraining)
    network: StemsTraining = field(default_factory=StemsTraining)
    held_out_songs: int = 6  # that parts are judged by while they train

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
    make_stems = partial(song_stems, world=recipe.world)
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + recipe.held_out_songs)
    interrupted = False
    for part in (part for part in PARTS if part in parts and seconds(run / part) < 60 * recipe.minutes * SHARES[part]):
        loop = recipe.loop(run, part)
        if part == "codec":
            _, outcome = train_hcodec(loop, recipe.codec, make_stems, held_out, recipe.device)
        else:
            codec = best_codec(run, recipe)
            _, outcome = train_stems(loop, recipe.network, codec, make_stems, held_out, recipe.device)
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


def best_codec(run: Path, recipe: StemsRecipe) -> HCodec:
    """The codec of a run folder."""
    codec = HCodec(recipe.codec.codec)
    codec.load_state_dict(best_weights(run / "codec"))
    return codec.eval()


def export(run: Path, out: Path, recipe: StemsRecipe) -> None:
    """Writes the pack: both parts at their best validation, matrices and codebooks in int8, the rest in float16."""
    network = StemsNetwork(recipe.network.network)
    network.load_state_dict(best_weights(run / "network"))
    codec_table, codec_tensors = packed_codec(best_codec(run, recipe))
    stems_table, stems_tensors = packed_network(network)
    kept = {name: value for name, value in codec_tensors.items() if not name.startswith(TRAINING_ONLY)}
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
    write_pack(out, config, quantize(kept | stems_tensors))


def card(run: Path, recipe: StemsRecipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    return {
        "data": COMPOSED,
        "world": next((name for name, world in WORLDS.items() if world == recipe.world), repr(recipe.world)),
        "seed": recipe.seed,
        "trained_minutes": {part: round(seconds(run / part) / 60, 1) for part in PARTS},
        "steps": {part: last_entry(run / part)["step"] for part in PARTS},
        "hardware": hardware(),
        "command": f"backline train stems-pack --minutes {recipe.minutes:g} --seed {recipe.seed}",
        "commit": commit(),
        "validation": {part: best_validation(run / part, "mel") for part in PARTS},
    }

"""Makes a whole DuoTok pack: a tokenizer, the language model that knows its tokens, renderers that play them.

    RUN/songs/  RUN/stage-1 to stage-3/  RUN/tokenizer.safetensors
    RUN/tokens-<what made them>/  RUN/lm/  RUN/lm.safetensors
    RUN/vae/vae.safetensors  RUN/stage-4/renderer.safetensors

Each part goes on from where it was. The tokenizer is written as the pack will have it, its matrices in int8, before
anything learns from its tokens; once the others have, it must not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from backline.codecs.duotok.config import ROLES, DuoTokConfig, read_tokenizer_table
from backline.codecs.duotok.load import EXACT
from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.duotok.load import packed as packed_tokenizer
from backline.codecs.duotok.renderer import RendererConfig
from backline.codecs.vae.config import SpectralConfig, read_vae_table
from backline.codecs.vae.load import make as make_vae
from backline.corpus.multitrack import four_tracks
from backline.corpus.songs import Composer, Mixed, Songs
from backline.models.duotok.load import codebooks
from backline.models.duotok.stream import Painting, live_table
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.music.seeds import HELD_OUT_SEED
from backline.nn.tables import read_table
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import Pack, read_tensors, write_pack
from backline.packs.parts import read_part, save_part, stored
from backline.packs.quantized import quantize
from backline.training import duotok_lm as lm
from backline.training import renderer
from backline.training.duotok import TRAININGS as TOKENIZERS
from backline.training.duotok_lm import LmTraining, train_lm
from backline.training.duotok_stages import DuoTokRecipe, best_tokenizer, train_duotok
from backline.training.duotok_stages import figures as tokenizer_figures
from backline.training.duotok_stages import folder as stage_folder
from backline.training.duotok_tokens import Pool, Tokenizing, held_out_songs, tokens_folder, write_songs
from backline.training.loop import LoopConfig, Moment
from backline.training.renderer import RendererRecipe, train_renderers
from backline.training.report import drawn_losses, finish_pack, hardware
from backline.training.run_folder import best_validation, best_weights, commit, last_entry, seconds
from backline.training.tokens import producer
from backline.training.vae import FILE as VAE_FILE
from backline.training.vae import HELD_OUT_SONGS, VaeTraining, codec_to_start_from, origin_of, train_vae, vae_card

SHARES = {"tokenizer": 0.31, "lm": 0.32, "renderers": 0.37}  # of the minutes given
PARTS = tuple(SHARES)
TOKENIZER_FILE, LM_FILE = "tokenizer.safetensors", "lm.safetensors"
LATENT_CHANNELS = 32
HELD_OUT = 24  # songs that the best language model is chosen by
DESCRIPTION = "Both tracks of a song as one token each, 25 times a second; a band that answers a voice in them"


@dataclass(frozen=True)
class DuoPackRecipe:
    """What a pack is made of."""

    tokenizer: DuoTokRecipe = field(default_factory=DuoTokRecipe)  # its minutes and its seed aside
    lm: LmTraining = lm.TRAININGS["small"]
    renderers: str = "small"  # their size
    minutes: float = 90.0
    steps: float | None = None  # of each part and stage, in place of minutes
    seed: int = 0
    device: str = "auto"
    vae: Path | None = None  # lent: a file as `train vae` writes it; None: the latents of `stems`
    stems: Pack | None = None  # whose codec gives latents where no VAE is lent

    @classmethod
    def of(cls, size: str, tokenizer: DuoTokRecipe, **rest: Any) -> DuoPackRecipe:
        """All parts of one size. Raises ValueError: there is none of that name."""
        if size not in TOKENIZERS or size not in lm.TRAININGS:
            raise ValueError(f"there is no size {size!r}: use {', '.join(TOKENIZERS)}")
        return cls(tokenizer, lm.TRAININGS[size], size, **rest)

    @property
    def songs(self) -> Songs:
        return self.tokenizer.songs

    def minutes_of(self, part: str) -> float:
        return self.minutes * SHARES[part]

    def loop(self, run: Path, part: str) -> LoopConfig:
        if self.steps is not None:
            return LoopConfig(run / part, steps=self.steps, seed=self.seed)
        return LoopConfig(run / part, minutes=self.minutes_of(part), seed=self.seed)


def train_duotok_pack(
    run: Path,
    out: Path,
    recipe: DuoPackRecipe,
    parts: Collection[str] = PARTS,
    progress: Callable[[str], None] = print,
) -> Path:
    """Trains `parts` in order, as far as they need it, then writes the pack to `out` if all parts are there.

    Raises:
        ValueError: `parts` names something else, or one that is asked for before those that it needs; the tokenizer is
            another than the one whose tokens were learnt from; or see the parts' own trainers.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; use {', '.join(PARTS)}")
    if recipe.lm.lm.layout != "aligned":
        progress('its language model has the layout "paper", which answers whole songs: the pack will have none')
    run.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part in parts and not TRAINERS[part](run, recipe, progress):
            progress(f"no pack yet: training was stopped; the same command goes on in {run}")
            return out
    if missing := [part for part, file in files(run).items() if not file.exists()]:
        progress(f"no pack yet: {', '.join(missing)} is missing; the same command goes on in {run}")
        return out
    write_pack(out, *contents(run, recipe))
    return finish_pack(out, drawn_losses(run, progress), progress)


def files(run: Path) -> dict[str, Path]:
    """What each part leaves in a run folder."""
    return {
        "tokenizer": run / TOKENIZER_FILE,
        "lm": run / LM_FILE,
        "renderers": stage_folder(run, 4) / renderer.FILE,
    }


# ---- the parts ----


def tokenizer_part(run: Path, recipe: DuoPackRecipe, progress: Callable[[str], None]) -> bool:
    """Trains the tokenizer and writes its file; whether it is done, as the next ones."""
    own = replace(
        recipe.tokenizer,
        minutes=recipe.minutes_of("tokenizer"),
        steps=recipe.steps,
        seed=recipe.seed,
        device=recipe.device,
    )
    if not train_duotok(run, own, progress):
        return False
    export_tokenizer(run, own.training.tokenizer)
    return True


def export_tokenizer(run: Path, sizes: DuoTokConfig) -> None:
    """Writes stage 3's best as packs have it.

    Raises:
        ValueError: another has been written, and something has learnt from its tokens.
        RuntimeError: stage 3 has other sizes.
    """
    path = run / TOKENIZER_FILE
    table, tensors = packed_tokenizer(best_tokenizer(run, sizes))
    fresh = path.with_suffix(".fresh")
    save_part(Component(table, quantize(tensors, EXACT)), fresh)
    learnt = [part for part in ("lm", "stage-4") if (run / part).exists()]
    if path.exists() and digest_of(read_part(path)) == digest_of(read_part(fresh)):
        fresh.unlink()
        return
    if path.exists() and learnt:
        fresh.unlink()
        raise ValueError(
            f"stage 3 of {run} has been trained further since {', '.join(learnt)} learnt from its tokens: move "
            "away what did, and it is begun anew, or use another run folder"
        )
    fresh.replace(path)


def lm_part(run: Path, recipe: DuoPackRecipe, progress: Callable[[str], None]) -> bool:
    """Trains the language model, while a side process makes tokens of new songs."""
    tokenizing = tokenizing_of(run, recipe)
    return train_language_model(run, tokenizing, recipe.lm, recipe.loop(run, "lm"), recipe.device, progress)


def train_language_model(
    run: Path,
    tokenizing: Tokenizing,
    training: LmTraining,
    loop: LoopConfig,
    device: str,
    progress: Callable[[str], None],
) -> bool:
    """Trains it in RUN/lm and writes RUN/lm.safetensors; whether it is done.

    Raises:
        ValueError: it was begun on other tokens.
    """
    noted = run / "lm" / "tokens.txt"
    if noted.exists() and noted.read_text() != tokenizing.digest:
        raise ValueError(f"the tokenizer is another than {noted.parent} was trained with: use another run folder")
    folder = tokens_folder(run, tokenizing)
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(tokenizing.digest)
    tables = codebooks(tokenizing.tokenizer)
    if loop.used(_moment(loop.out)) < 1:
        progress(f"lm: {loop.out}")
        held_out = held_out_songs(folder, tokenizing, HELD_OUT)
        with producer(folder, partial(write_songs, tokenizing=tokenizing, seed=loop.seed)):
            if train_lm(loop, training, Pool(folder), held_out, tables, device).interrupted:
                return False
    network = AlignedNetwork(training.lm.stage)
    network.load_state_dict(best_weights(loop.out))
    table, tensors = lm.packed(network, training.lm, tables)
    save_part(Component(table, quantize(tensors)), run / LM_FILE)
    progress(f"{run / LM_FILE} written")
    return True


def renderers_part(run: Path, recipe: DuoPackRecipe, progress: Callable[[str], None]) -> bool:
    """Trains both renderers in the latents of the VAE that is lent, or of the stems pack's codec."""
    tokenizer = tokenizing_of(run, recipe).tokenizer
    file = vae_file(run, recipe, progress)
    own = RendererRecipe(
        tokenizer,
        file,
        at_rate(recipe.songs, _vae_rate(file)),
        recipe.minutes_of("renderers"),
        recipe.steps,
        recipe.seed,
        recipe.device,
        recipe.renderers,
    )
    return train_renderers(stage_folder(run, 4), own, progress)


TRAINERS: dict[str, Callable[[Path, DuoPackRecipe, Callable[[str], None]], bool]] = {
    "tokenizer": tokenizer_part, "lm": lm_part, "renderers": renderers_part
}  # fmt: skip


def tokenizing_of(run: Path, recipe: DuoPackRecipe) -> Tokenizing:
    """What makes tokens, of a run's tokenizer.

    Raises:
        ValueError: it has none yet.
    """
    return tokenizing(tokenizer_of_run(run, recipe.tokenizer), recipe.songs)


def tokenizer_of_run(run: Path, recipe: DuoTokRecipe) -> Component:
    """The tokenizer of a run of `train duotok-pack`, or of `train duotok` by such a recipe, as stage 3 has it by now.

    Raises:
        ValueError: it has none yet, or one of other sizes; or see `export_tokenizer`.
    """
    path = run / TOKENIZER_FILE
    known = read_tokenizer_table(read_part(path).table) if path.exists() else None
    if (stage_folder(run, 3) / "checkpoint.pt").exists():
        try:
            export_tokenizer(run, known or recipe.training.tokenizer)
        except RuntimeError as error:  # torch's, of shapes
            remedy = f"move {path} away" if known else "use the --size it was trained with"
            raise ValueError(f"the tokenizer of {run} has other sizes: {remedy}") from error
    elif known is None:
        raise ValueError(f"{path} is missing: train the part 'tokenizer' first, or name a run of `train duotok`")
    return read_part(path)


def tokenizing(part: Component, songs: Songs) -> Tokenizing:
    """Likewise, of a tokenizer as a file or a pack has it. Raises ValueError: it is none."""
    return Tokenizing(load_tokenizer(part.table, part.tensors), songs, digest_of(part))


def digest_of(part: Component) -> str:
    """Of all that a tokenizer's tokens follow from, however its file is written. Raises ValueError: it is none."""
    digest = hashlib.sha256(repr(sorted(part.table.items())).encode())
    for name, tensor in sorted(load_tokenizer(part.table, part.tensors).state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def vae_file(run: Path, recipe: DuoPackRecipe, progress: Callable[[str], None]) -> Path:
    """The VAE that is lent, or one made of the stems pack's codec as it is.

    Raises:
        ValueError: there is neither.
    """
    path = recipe.vae or run / "vae" / VAE_FILE
    if path.exists():
        return path
    if recipe.vae is not None or recipe.stems is None:
        raise ValueError(f"{path} is missing: make it with `backline train vae`, and name it with --vae")
    progress(f"vae: {path}, of the codec of {recipe.stems.name}")
    codec, songs = codec_to_start_from(recipe.stems), recipe.songs

    def stems(seed: int) -> Any:
        return four_tracks(songs.song(seed), codec.config.sample_rate)

    config = VaeTraining(SpectralConfig(codec.config, LATENT_CHANNELS))
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_SONGS)
    loop, origin = LoopConfig(path.parent, minutes=0, seed=recipe.seed), origin_of(songs, recipe.stems)
    train_vae(loop, config, stems, held_out, recipe.device, codec, origin)
    return path


def at_rate(songs: Songs, rate: int) -> Songs:
    """The same songs, composed at another rate."""
    if isinstance(songs, Mixed):
        return replace(songs, first=at_rate(songs.first, rate), second=at_rate(songs.second, rate))
    return replace(songs, sample_rate=rate) if isinstance(songs, Composer) else songs


def _vae_rate(file: Path) -> int:
    return read_vae_table(read_part(file).table).sample_rate


def _moment(part: Path) -> Moment:
    """Where a part's training stands."""
    entry = last_entry(part)
    return Moment(entry["step"], entry["seconds"])


# ---- the pack ----


def contents(run: Path, recipe: DuoPackRecipe) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Table and tensors of the pack, as the parts' files have them: each has learnt with the others as they are."""
    parts = {name: read_part(file) for name, file in files(run).items()}
    vae = read_part(recipe.vae or run / "vae" / VAE_FILE)
    own = read_table(RendererConfig, parts["renderers"].table, "renderer")
    written = {
        "format": 1,
        "name": "duotok",
        "version": "0.1.0",
        "family": "duotok",
        "description": DESCRIPTION,
        "license": "Apache-2.0",
        "tokenizer": parts["tokenizer"].table,
        "renderer": parts["renderers"].table,
        "vae": vae.table,
        "stream": live_table(Painting.of(own, make_vae(read_vae_table(vae.table)))),
        "card": card(run, recipe),
    }
    there = dict(files(run))
    if parts["lm"].table["layout"] == "aligned":
        written["lm"] = parts["lm"].table
    else:
        del there["lm"]
    tensors = stored(vae)
    for file in there.values():
        tensors |= load_file(file)
    return written, tensors


def with_language_model(pack: Pack, run: Path, told: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Table and tensors of a pack with the language model of a run in place of its own; `told` adds to its card."""
    tensors = {name: value for file in pack.files for name, value in load_file(pack.location(file)).items()}
    kept = {name: value for name, value in tensors.items() if not name.startswith("lm.")}
    config = {name: table for name, table in pack.config.items() if name != "files"}
    card = {**pack.config.get("card", {}), **told}
    return {**config, "lm": read_part(run / LM_FILE).table, "card": card}, {**kept, **load_file(run / LM_FILE)}


def card(run: Path, recipe: DuoPackRecipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    budget = f"--minutes {recipe.minutes:g}" if recipe.steps is None else f"--steps {recipe.steps:g}"
    vae = f" --vae {recipe.vae.name}" if recipe.vae else ""
    stages = [stage_folder(run, stage) for stage in (1, 2, 3)]
    trained = {"tokenizer": stages, "lm": [run / "lm"], "renderers": [stage_folder(run, 4) / role for role in ROLES]}
    return {
        **recipe.songs.card(),
        **vae_card(recipe.vae or run / "vae" / VAE_FILE),
        "seed": recipe.seed,
        "trained_minutes": {
            part: round(sum(seconds(folder) for folder in folders) / 60, 1) for part, folders in trained.items()
        },
        "hardware": hardware(),
        "command": f"backline train duotok-pack {budget} --seed {recipe.seed} {recipe.songs.options()}{vae}",
        "commit": commit(),
        "validation": {
            **tokenizer_figures(run),
            "lm": best_validation(run / "lm", lm.WATCHED),
            **renderer.figures(stage_folder(run, 4)),
        },
    }


def language_model_card(run: Path, songs: Songs) -> dict[str, Any]:
    """What a card says of a language model that was trained by itself."""
    return {
        "lm": {
            **songs.card(),
            "trained_minutes": round(seconds(run / "lm") / 60, 1),
            "validation": best_validation(run / "lm", lm.WATCHED),
            "commit": commit(),
        }
    }


def tokenizer_of(pack: Pack) -> Component:
    """The tokenizer of a pack. Raises ValueError: it has none."""
    if "tokenizer" not in pack.config:
        raise ValueError(f"{pack.name} has no tokenizer: name a pack of the family duotok")
    tensors = {name: value for name, value in read_tensors(pack).items() if name.startswith("tokenizer.")}
    return Component(dict(pack.config["tokenizer"]), tensors)

"""Makes the whole stems pack: HCodec, then the network that tells the tracks in its codes, then the pack folder.

Everything lies in one run folder, RUN/codec and RUN/network, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from torch import Tensor

from backline.codecs.hcodec.load import hcodec
from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import base_config
from backline.codecs.tables import Kind, read_codec_table
from backline.corpus.multitrack import four_tracks
from backline.corpus.songs import Composer, Songs
from backline.models.errors import PackError
from backline.models.stems.config import StemsConfig
from backline.models.stems.load import mismatched, read_network, read_tables
from backline.models.windowed.settings import WindowedSettings, problems
from backline.music.seeds import HELD_OUT_SEED
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems
from backline.music.world import BAND
from backline.nn.tables import TableError
from backline.nn.weights import part as part_of
from backline.packs.pack import Pack, read_tensors, write_pack
from backline.packs.quantized import quantize
from backline.training.hcodec import WATCHED, HCodecTraining, train_hcodec
from backline.training.hcodec import packed as packed_codec
from backline.training.keeping import WARM, by, fine_tuned
from backline.training.loop import LoopConfig
from backline.training.report import drawn_losses, finish_pack, hardware
from backline.training.run_folder import best_validation, best_weights, commit, last_entry, seconds
from backline.training.stems import OURS, PAPER, PAPER_SMALL, Ablation, StemsTraining, ablated, train_stems
from backline.training.stems import packed as packed_network

SHARES = {"codec": 0.3, "network": 0.7}  # of the minutes given
PARTS = tuple(SHARES)
TRAINING_ONLY = "codec.feature_decoder."  # a pack does without it
CODEC_KIND: Kind = "hcodec"
METHODS = {("ours", "small"): OURS, ("paper", "paper"): PAPER, ("paper", "small"): PAPER_SMALL}  # by preset and size


@dataclass(frozen=True)
class Wish:
    """What a stems pack is to be, where it is not to be the usual one; texts and flags of the command."""

    preset: str = "ours"  # or "paper"
    size: str | None = None  # "paper" or "small"; the preset's own if not said
    ablation: str | None = None  # a1, a2 or a3
    stems: tuple[str, ...] | None = None  # names of the tracks; see `regrouped`
    window_seconds: float | None = None
    rate: float | None = None  # the learning rates, as a share of the usual ones; WARM from a pack, else 1

    def options(self) -> str:
        """As the command is told of it."""
        told = {
            "preset": None if self.preset == "ours" else self.preset,
            "size": self.size,
            "ablation": self.ablation,
            "stems": None if self.stems is None else ",".join(self.stems),
            "window": None if self.window_seconds is None else f"{self.window_seconds:g}",
            "rate": None if self.rate is None else f"{self.rate:g}",
        }
        return " ".join(f"--{name} {value}" for name, value in told.items() if value is not None)

    def training(self) -> StemsTraining:
        """Raises ValueError: there is no such preset in that size, or no such ablation."""
        size = self.size or {"ours": "small", "paper": "paper"}.get(self.preset)
        if (self.preset, size) not in METHODS:
            known = ", ".join(f"--preset {preset} --size {size}" for preset, size in METHODS)
            raise ValueError(f"there is no preset {self.preset!r} in size {size!r}: use {known}")
        training = METHODS[self.preset, str(size)]
        if self.ablation is None:
            return training
        if self.ablation not in get_args(Ablation):
            raise ValueError(f"there is no ablation {self.ablation!r}: use {', '.join(get_args(Ablation))}")
        return ablated(training, cast(Ablation, self.ablation))


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
    old: Songs | None = None  # that it knows already and is not to forget
    target: Pack | None = None  # whose codec, as it is, the network tells in; without one the codec is trained first
    hubert: Mapping[str, Tensor] | None = None  # whom the codec's semantic path, or ablation a1, listens through
    wish: Wish = field(default_factory=Wish)

    @classmethod
    def of(
        cls,
        minutes: float,
        seed: int,
        device: str,
        songs: Songs,
        start: Pack | None = None,
        old: Songs | None = None,
        target: Pack | None = None,
        hubert: Mapping[str, Tensor] | None = None,
        wish: Wish = Wish(),
    ) -> StemsRecipe:
        """The usual recipe for these songs, from nothing or from a stems pack, whose sizes it then takes over.

        Raises:
            ValueError: `start` is no stems pack, `target` has no HCodec, there is none that could know the old songs,
                or the wish cannot be had.
        """
        if old is not None and start is None:
            raise ValueError("only a pack that knows a world can keep it: name one with --from, or drop --keep-world")
        if wish.preset == "paper" and start is None and target is None:
            raise ValueError("the paper tells in a frozen codec: name a pack that has an HCodec, --codec PACK")
        recipe = cls(minutes, seed, device, songs, network=wish.training(), old=old, start=start, wish=wish)
        recipe = replace(recipe, target=target, hubert=hubert)
        share = (1.0 if start is None else WARM) if wish.rate is None else wish.rate
        if not share > 0:
            raise ValueError(f"rate is {share:g} of the usual one: use more than 0")
        codec = replace(recipe.codec, rate=share * recipe.codec.rate)
        network = replace(recipe.network, rate=share * recipe.network.rate)
        if songs.people():  # voices differ from each other more than bands do
            codec, recipe = replace(codec, crops=2, voices=4), replace(recipe, held_out_songs=16)
        if start is not None:
            try:
                tables = read_tables(start.config)
            except PackError as error:
                raise ValueError(f"training cannot start from {start.name}: {error}") from error
            if wish.size or wish.stems or wish.window_seconds or wish.ablation in ("a1", "a3"):
                raise ValueError(f"{start.name} decides size, tracks and window: leave {wish.options()} or --from out")
            codec = replace(codec, codec=tables.codec)
            network = replace(network, network=tables.network)
        elif hubert is not None and target is None:
            width = base_config(hubert).dimension
            codec = replace(codec, codec=replace(codec.codec, features="hubert", feature_width=width))
        if target is not None:
            codec = replace(codec, codec=codec_of(target))
        recipe = replace(recipe, codec=codec, network=network)
        if start is None:
            recipe = replace(recipe, network=replace(network, network=recipe.fitted(network.network)))
        told, has = recipe.network.network, recipe.codec.codec
        frame = Fraction(has.hop * has.frames_per_code, has.sample_rate)
        if wrong := mismatched(told, has) + problems(WindowedSettings(), frame, told.window_frames):
            raise ValueError("; ".join(wrong))  # before anything is trained, not when the pack is read
        return recipe

    def fitted(self, network: StemsConfig) -> StemsConfig:
        """`network` as the codec's sizes, the wish and HuBERT want it."""
        codec, wish = self.codec.codec, self.wish
        if codec.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the codec hears {codec.sample_rate} Hz, stems have {SAMPLE_RATE}: name another")
        frames = network.window_frames
        if wish.window_seconds is not None:
            frames = round(wish.window_seconds * codec.sample_rate / (codec.hop * codec.frames_per_code))
        width = network.hubert_width
        if network.listener == "hubert":
            width = base_config(self.listener()).dimension
        fitted = replace(
            network,
            mel=replace(network.mel, hop=codec.hop),
            hops_per_frame=codec.frames_per_code,
            codebooks=codec.codebooks,
            codebook_size=codec.codebook_size,
            window_frames=frames,
            stems=wish.stems or network.stems,
            hubert_width=width,
        )
        regrouped(np.zeros((len(TRACKS), 1), np.float32), fitted.stems)
        return fitted

    def listener(self) -> Mapping[str, Tensor]:
        """The HuBERT that a1 listens through, or the codec: the one given, else that of the codec's pack.

        Raises:
            ValueError: there is none.
        """
        if self.hubert is not None:
            return self.hubert
        start, target = self.start, self.target
        for pack, prefix in ((start, "stems.hubert."), (target, "codec.hubert."), (start, "codec.hubert.")):
            if pack is not None and (found := part_of(read_tensors(pack), prefix)):
                return found
        raise ValueError("no HuBERT to listen through: give its weights with --hubert, or a codec that has it")

    @property
    def parts(self) -> tuple[str, ...]:
        """What is trained."""
        return PARTS if self.target is None else ("network",)

    def seconds(self, part: str) -> float:
        """Of training that a part gets."""
        return 60 * self.minutes * (SHARES[part] if self.target is None else 1.0)

    def loop(self, run: Path, part: str) -> LoopConfig:
        return LoopConfig(run / part, minutes=self.seconds(part) / 60, seed=self.seed)


def codec_of(pack: Pack) -> HCodecConfig:
    """The sizes of a pack's codec. Raises ValueError: it is no HCodec."""
    try:
        read = read_codec_table(pack.config.get("codec"), (CODEC_KIND,))
    except TableError as error:
        raise ValueError(f"{pack.name} has no codec to tell in: {error}") from error
    assert isinstance(read, HCodecConfig)
    return read


def regrouped(stems: Stems, names: tuple[str, ...]) -> Stems:
    """The four tracks [track, sample] as `names` has them: by name, and as the one other name the sum of all the rest.

    Raises:
        ValueError: names leave something out, or more than one is none of the four.
    """
    if names == TRACKS:
        return stems
    others = [name for name in names if name not in TRACKS]
    rest = [track for track in TRACKS if track not in names]
    if len(others) != min(1, len(rest)):
        raise ValueError(
            f"tracks {', '.join(names)} do not make the song: use names of {', '.join(TRACKS)}, and one name more for "
            "the sum of those left out, as in vocals,band"
        )
    total = stems[[TRACKS.index(track) for track in rest]].sum(axis=0)
    return np.stack([stems[TRACKS.index(name)] if name in TRACKS else total for name in names])


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
    if recipe.target is not None and parts == ("codec",):
        raise ValueError(f"the codec of {recipe.target.name} stays as it is: train the network, or leave --codec out")
    run.mkdir(parents=True, exist_ok=True)

    def make_stems(seed: int) -> Stems:
        return four_tracks(recipe.songs.song(seed), SAMPLE_RATE)

    def make_tracks(seed: int) -> Stems:
        return regrouped(make_stems(seed), recipe.network.network.stems)

    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + recipe.held_out_songs)
    old = [] if recipe.old is None else [four_tracks(recipe.old.song(seed), SAMPLE_RATE) for seed in held_out]
    interrupted = False
    start = None if recipe.start is None else read_tensors(recipe.start)
    for part in (part for part in recipe.parts if part in parts and seconds(run / part) < recipe.seconds(part)):
        loop = recipe.loop(run, part)
        if part == "codec":
            heard = recipe.listener() if recipe.codec.codec.features == "hubert" else None
            known = start and part_of(start, "codec.")
            _, outcome = train_hcodec(loop, recipe.codec, make_stems, held_out, recipe.device, known, old, heard)
        else:
            heard = recipe.listener() if recipe.network.network.listener == "hubert" else None
            kept = [regrouped(stems, recipe.network.network.stems) for stems in old]
            codec = frozen_codec(run, recipe)
            _, outcome = train_stems(
                loop, recipe.network, codec, make_tracks, held_out, recipe.device, start, kept, heard
            )
        if interrupted := outcome.interrupted:
            break
    needed = ("network",) if recipe.target or recipe.start else PARTS
    missing = [part for part in needed if not trained(run, part)]
    if interrupted or missing:
        progress(f"no pack yet: {', '.join(missing) or 'training was stopped'}; the same command goes on in {run}")
        return out
    export(run, out, recipe)
    return finish_pack(out, drawn_losses(run, progress), progress)


def trained(run: Path, part: str) -> bool:
    return (run / part / "checkpoint.pt").exists()


def frozen_codec(run: Path, recipe: StemsRecipe) -> HCodec:
    """The codec that the network tells in: the one asked for, or the run's, or that of the pack that it starts from.

    Raises:
        ValueError: there is none, or it cannot encode.
    """
    if recipe.target is None and trained(run, "codec"):
        return best_codec(run, recipe)
    pack = recipe.target or recipe.start
    if pack is None:
        raise ValueError(
            f"{run / 'codec'} is missing: train the part 'codec' first, or name a pack whose codec to tell in, "
            "--codec PACK"
        )
    codec = hcodec(pack.config["codec"], read_tensors(pack))
    codec.require_encoding()
    return codec


def best_codec(run: Path, recipe: StemsRecipe) -> HCodec:
    """The codec of a run folder."""
    tensors = {f"codec.{name}": tensor for name, tensor in best_weights(run / "codec").items()}
    if recipe.codec.codec.features == "hubert":
        tensors |= {f"codec.hubert.{name}": tensor for name, tensor in recipe.listener().items()}
    return hcodec({"kind": CODEC_KIND, **asdict(recipe.codec.codec)}, tensors)


def export(run: Path, out: Path, recipe: StemsRecipe) -> None:
    """Writes the pack: each part at its best validation, matrices and codebooks in int8, the rest in float16.

    A codec that was not trained here stays as its pack has it, and so does HuBERT.
    """
    config = recipe.network.network
    heard = recipe.listener() if config.listener == "hubert" else {}
    weights = best_weights(run / "network") | {f"hubert.{name}": tensor for name, tensor in heard.items()}
    network = read_network(config, {f"stems.{name}": tensor for name, tensor in weights.items()})
    stems_table, stems = packed_network(network)
    kept = ["stems.hubert.", "codec.hubert."]
    if trained(run, "codec") and recipe.target is None:
        codec_table, codec = packed_codec(best_codec(run, recipe))
    else:
        pack = recipe.target or recipe.start
        assert pack is not None
        codec_table = dict(pack.config["codec"])
        codec = {f"codec.{name}": tensor for name, tensor in part_of(read_tensors(pack), "codec.").items()}
        kept += [] if any(file.quantization for file in pack.files) else ["codec."]
    tracks = ", ".join(config.stems)
    written: dict[str, Any] = {
        "format": 1,
        "name": "stems",
        "version": "0.1.0",
        "family": "stems",
        "description": f"Separates a song into {tracks}, in tokens, {config.window_seconds:g} seconds at a time",
        "license": "Apache-2.0",
        "stems": stems_table,
        "codec": codec_table,
        "card": card(run, recipe),
    }
    tensors = {name: value for name, value in codec.items() if not name.startswith(TRAINING_ONLY)} | stems
    write_pack(out, written, quantize(tensors, keep=kept))


def card(run: Path, recipe: StemsRecipe) -> dict[str, Any]:
    """Where the pack comes from and what was measured on the way."""
    told = [f"backline train stems-pack --minutes {recipe.minutes:g} --seed {recipe.seed} {recipe.songs.options()}"]
    told += [recipe.wish.options()]
    told += [] if recipe.target is None else [f"--codec {recipe.target.name}"]
    told += [] if recipe.start is None else [f"--from {recipe.start.name}"]
    if recipe.old is not None and "--keep-world" not in told[0]:
        told += [recipe.old.options().replace("--world", "--keep-world")]
    parts = [part for part in recipe.parts if trained(run, part)]
    lent = None if "codec" in parts else recipe.target or recipe.start
    return {
        **recipe.songs.card(),
        **({} if recipe.start is None else {"from": f"{recipe.start.name} {recipe.start.version}"}),
        **({} if lent is None else {"codec": f"of {lent.name} {lent.version}, {lent.license}, as it is"}),
        "seed": recipe.seed,
        "trained_minutes": {part: round(seconds(run / part) / 60, 1) for part in parts},
        "steps": {part: last_entry(run / part)["step"] for part in parts},
        "hardware": hardware(),
        "command": " ".join(text for text in told if text),
        "commit": commit(),
        "validation": {part: best_validation(run / part, by(WATCHED)) for part in parts},
        **({} if recipe.start is None else {"fine_tuned": fine_tuned(run, dict.fromkeys(parts, WATCHED))}),
    }

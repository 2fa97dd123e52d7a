"""Trains the spectral VAE on stems, mixes and submixes (MGE.md 3 and 8): what diffusion models play in.

A trained HCodec is one already, without its quantisers and with principal components for latents. Training begins with
that, or with nothing, and a VAE of no training at all is written as it is. The file has the sizes with the tensors:

    part = read_part(run / "vae.safetensors"); vae = load(part.table, part.tensors)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backline.codecs.hcodec.load import hcodec
from backline.codecs.hcodec.network import PATHS, HCodec
from backline.codecs.vae.config import SpectralConfig
from backline.codecs.vae.load import load, packed
from backline.codecs.vae.oobleck import Oobleck
from backline.codecs.vae.spectral import SpectralVae
from backline.corpus.songs import Songs
from backline.measures.spectra import SMALLEST_MEL, log_mel_distance, si_sdr
from backline.music.seeds import training_seed
from backline.music.stems import TRACKS, Stems
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.mel import mel_filters
from backline.nn.precision import faster_in_bfloat16
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import Pack, read_tensors
from backline.packs.parts import read_part, save_part
from backline.packs.quantized import quantize
from backline.training.codec import evaluating
from backline.training.discriminator import Opponent
from backline.training.hcodec import QUIET, SMALL, magnitude_loss
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.mixtures import Feed, Mixtures, Rehearsed, StemsMaker
from backline.training.run_folder import best_weights, commit
from backline.training.spectral_losses import reconstruction_losses
from backline.training.stems_pack import codec_of

FILE, LICENSE = "vae.safetensors", "Apache-2.0"
WATCHED = "worse"  # the validation result by which the best is told
LOUDEST = 1e-3  # what is never louder counts as silent
MOST_BATCHES = 1000  # that are drawn for one in which something sounds
FIRST_VARIANCE = -4.0  # logarithm, at the start: quantisers have taught the decoder to live with more
BANDS = 120  # of the mel scale, by which soft sounds are compared
VARIANCES = (-12.0, 4.0)  # logarithms that training bears
FITTING_SONGS = 12  # whose stems, mix and submixes the principal components are of
FITTING_FRAMES = 200  # of each
HELD_OUT_SONGS = 8  # that it is judged by while it trains


@dataclass(frozen=True)
class VaeTraining:
    """What is trained and how hard."""

    vae: SpectralConfig = field(default_factory=lambda: SpectralConfig(SMALL))
    rate: float = 1e-3
    frames: int = 24  # of a crop
    crops: int = 3  # of a batch; each gives two stems, the mix and a submix
    passes: int = 4  # over each batch
    batches: int = 64  # kept at hand for them
    waveform_every: int = 3  # steps: how often the decoded sound is listened to
    head: float = 4.0  # magnitudes that the decoder writes, before phases blur them
    quiet: float = 2.0  # the same, as much in what is soft as in what is loud
    mel: float = 1.0
    magnitude: float = 0.5
    complex: float = 0.3
    kl: float = 3e-3  # of a frame, summed over its channels
    adversarial: float = 0.12  # this and the next on a GPU only, where the opponent is worth its time
    features: float = 5.0
    opposed_from: float = 0.3  # of the time budget


def train_vae(
    loop: LoopConfig,
    config: VaeTraining,
    make_stems: StemsMaker,
    held_out: range,
    device: str = "auto",
    start: HCodec | None = None,
    origin: str = "",
) -> tuple[SpectralVae, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder, and writes FILE there.

    Args:
        make_stems: the four tracks of the song of a seed.
        start: a codec of the configuration's sizes to begin with instead of random weights; see `principal`.
        origin: what FILE says of where it comes from.

    Raises:
        ValueError: the folder was trained with another seed, or the codec has other sizes.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    trainer = VaeTrainer(config, make_stems, loop.seed, place)
    if start is not None and not (loop.out / "checkpoint.pt").exists():
        songs = (make_stems(training_seed(loop.seed, 0) + number) for number in range(FITTING_SONGS))
        trainer.vae.load_state_dict(principal(start, songs, config.vae).state_dict())
    held = [make_stems(seed) for seed in held_out]

    def judge() -> Losses:
        return evaluate(trainer.vae, held, place)

    outcome = train(loop, trainer.step, trainer.state(), judge, WATCHED, validate_first=start is not None)
    return export(loop.out, config.vae, origin), outcome


def export(run: Path, config: SpectralConfig, origin: str = "") -> SpectralVae:
    """Writes FILE of a run folder, the best that it has, and returns it: matrices in int8, the rest in float16."""
    vae = SpectralVae(config)
    vae.load_state_dict(best_weights(run))
    table, tensors = packed(vae)
    save_part(Component(table, quantize(tensors), license=LICENSE, origin=origin), run / FILE)
    return vae.eval()


def vae_card(file: Path) -> dict[str, str]:
    """Whose a VAE is and where it comes from, for the card of a pack, as far as its file says so."""
    part = read_part(file)
    return {f"vae_{name}": text for name, text in (("license", part.license), ("origin", part.origin)) if text}


def read_vae(file: Path) -> Oobleck | SpectralVae:
    """The VAE of a file, as `train vae` writes it or as it is imported.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    part = read_part(file)
    try:
        return load(part.table, part.tensors)
    except ValueError as error:
        raise ValueError(f"{file} holds no VAE: {error}; give a file of `backline train vae`") from error


def origin_of(songs: Songs, start: Pack | None = None) -> str:
    """Where a VAE comes from that learns from these songs, and begins with the codec of a pack."""
    begun = "" if start is None else f"; begun with the codec of {start.name} {start.version} ({start.license})"
    return f"backline train vae {songs.options()}, commit {commit()}; {songs.card()['data']}{begun}"


def codec_to_start_from(pack: Pack) -> HCodec:
    """That of a pack. Raises ValueError: it has none that a VAE can be made of."""
    try:
        SpectralConfig(codec_of(pack))
    except ValueError as error:
        raise ValueError(f"{pack.name} is no pack to start from: {error}") from error
    codec = hcodec(pack.config["codec"], read_tensors(pack))
    codec.require_encoding()
    return codec


class VaeTrainer:
    """The VAE, what trains it, and its data."""

    def __init__(self, config: VaeTraining, make_stems: StemsMaker, seed: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.vae = SpectralVae(config.vae).to(device)
        with torch.no_grad():
            self.vae.decoder.head.bias[: config.vae.codec.window // 2 + 1] = QUIET
            self.vae.projection.state_dict()["bias"][config.vae.latent_channels :] = FIRST_VARIANCE
        self.optimizer = torch.optim.AdamW(self.vae.parameters(), config.rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self.mixtures = Mixtures(Feed(config.frames * self.vae.hop, config.crops), make_stems, seed)
        self.batches = Rehearsed(self.batch, config.passes, config.batches, seed)
        self.opponent = Opponent(device, config.rate / 2) if device.type == "cuda" else None
        self.bfloat16 = faster_in_bfloat16(device)
        codec = config.vae.codec
        self.filters = mel_filters(BANDS, codec.window, codec.sample_rate).to(device)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        kept = {"model": self.vae, "optimizer": self.optimizer, "mixtures": self.mixtures}
        return kept | (self.opponent.state() if self.opponent else {})

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        config, vae = self.config, self.vae
        rate = cosine_rate(moment.step, moment.progress, config.rate)
        set_rate(self.optimizer, rate)
        audio = self.batches.next()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            mean, variance = vae.posterior(audio)
        mean, variance = mean.float(), variance.float().clamp(*VARIANCES)
        latents = mean + (variance / 2).exp() * torch.randn_like(mean)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            spectra = vae.spectra(latents)
        levels, wanted = spectra.abs(), vae.true_spectra(audio).abs()
        losses = {
            "head": magnitude_loss(levels, wanted),
            "quiet": quiet_loss(levels, wanted, self.filters),
            "kl": divergence(mean, variance),
        }
        opposed = self.opponent is not None and moment.progress >= config.opposed_from
        if opposed or moment.step % config.waveform_every == 0:
            found = vae.decoder.sound(spectra)[:, 0]
            losses |= reconstruction_losses(found, audio, vae.sample_rate)
            if self.opponent is not None and opposed:
                set_rate(self.opponent.optimizer, rate / 2)
                losses |= self.opponent.losses(found, audio)
        total = sum(getattr(config, name, 0.0) * value for name, value in losses.items())
        assert isinstance(total, Tensor)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(vae.parameters(), 2.0)
        self.optimizer.step()
        values = {name: float(value.detach()) for name, value in losses.items()}
        return values | {"norm": float(norm), "rate": rate}

    def batch(self) -> Tensor:
        """[row, sample]: two stems, the mix and a submix of every crop, as far as they sound.

        Raises:
            ValueError: nothing does.
        """
        for _ in range(MOST_BATCHES):
            rows = np.concatenate([sums(crop, self.mixtures.generator) for crop in self.mixtures.batch()])
            sounding = np.abs(rows).max(axis=1) > LOUDEST
            if sounding.any():
                return torch.from_numpy(rows[sounding]).to(self.device)
        raise ValueError(f"in {MOST_BATCHES} batches of songs nothing sounds: give songs that are not silent")


def sums(crop: Stems, draw: np.random.Generator) -> NDArray[np.float32]:
    """Of the tracks [track, sample] two, their sum, and that without one or two of them [row, sample].

    The diffusion models need all three in one space: sources, mixtures and submixtures.
    """
    sounding = np.flatnonzero(np.abs(crop).max(axis=1) > LOUDEST)
    order = draw.permutation(sounding if len(sounding) > 1 else np.arange(len(crop)))
    without = order[min(int(draw.integers(1, 3)), len(order) - 1) :]
    return np.stack([*crop[order[:2]], crop.sum(axis=0), crop[without].sum(axis=0)])


def quiet_loss(found: Tensor, wanted: Tensor, filters: Tensor) -> Tensor:
    """Mean absolute difference of log mels of [row, hop, bin], down to where `log_mel_distance` hears nothing.

    Of a stem's pauses, and of the bands that it leaves empty, all other losses know nothing.
    """
    a, b = ((levels @ filters.T).clamp(min=SMALLEST_MEL).log() for levels in (found, wanted))
    return (a - b).abs().mean()


def divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """Of posteriors [row, channel, frame], variances as logarithms, from the unit Gaussian: nats a frame."""
    return nats_of(mean, variance).sum(dim=1).mean()


def nats_of(mean: Tensor, variance: Tensor) -> Tensor:
    """`divergence` of each channel of each frame."""
    return 0.5 * (mean.square() + variance.exp() - variance - 1)


@torch.no_grad()
def principal(codec: HCodec, songs: Iterable[Stems], config: SpectralConfig) -> SpectralVae:
    """The codec as a VAE, with no training: its vectors' first principal components, for want of quantisers.

    The components are orthogonal and centred, and one scale for all gives the channels a mean variance of 1: how far
    latents are from each other is how far the decoder's vectors are.

    Args:
        songs: [track, sample] of each, whose stems, mix and submixes the components are of.
        config: of the codec's sizes.

    Raises:
        ValueError: the codec has other sizes.
    """
    if codec.config != config.codec:
        raise ValueError("the codec to start from has other sizes than the VAE: give the VAE the codec's")
    vae = SpectralVae(config).eval()
    own = vae.state_dict()
    vae.load_state_dict(own | {name: value for name, value in codec.state_dict().items() if name in own})
    draw = np.random.default_rng(0)
    size = len(PATHS) * codec.config.latent
    count, total, squares = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
    for stems in songs:
        length = min(FITTING_FRAMES, stems.shape[1] // vae.hop) * vae.hop
        vectors = vae.vectors(torch.from_numpy(sums(stems[:, :length], draw))).double().transpose(1, 2).flatten(0, 1)
        count, total, squares = count + len(vectors), total + vectors.sum(0), squares + vectors.T @ vectors
    mean = total / count
    variances, components = torch.linalg.eigh(squares / count - mean.outer(mean))  # ascending
    components, variances = (each.flip(-1)[..., : config.latent_channels] for each in (components, variances))
    components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()  # of one sign
    scale = variances.mean().rsqrt()
    projection = scale * components.T  # [channel, path * dim]
    variance = torch.zeros_like(projection)
    vae.projection.load_state_dict(
        {
            "weight": torch.cat([projection, variance])[..., None],
            "bias": torch.cat([-projection @ mean, variance[:, 0] + FIRST_VARIANCE]),
        }
    )
    vae.expansion.load_state_dict({"weight": (components / scale)[..., None], "bias": mean})
    return vae


def evaluate(vae: SpectralVae, songs: Sequence[Stems], device: torch.device, frames: int = 50) -> dict[str, float]:
    """Figures over held-out songs, of the middle of each.

    Raises:
        ValueError: all are silent there.

    Returns:
        For each track, the mix and the accompaniment, where they sound: the log-mel distance (`mel_..`), the SI-SDR in
        dB with the decoder's phases (`sdr_..`) and with the true ones under its magnitudes (`phase_..`). `mel`, the
        mean over the tracks, and `worse`, the larger one of that and the mix's. Nats a frame (`kl`), and how many
        channels have a tenth of a nat or more (`channels`).
    """
    figures: dict[str, list[float]] = {}
    nats = []
    length = frames * vae.hop
    with evaluating(vae):
        for stems in songs:
            start = max(0, (stems.shape[1] - length) // 2)
            tracks = np.ascontiguousarray(stems[:, start : start + length])
            tracks = np.pad(tracks, ((0, 0), (0, length - tracks.shape[1])))
            wanted = dict(zip(TRACKS, tracks, strict=True))
            wanted |= {"mix": tracks.sum(axis=0), "accompaniment": tracks[1:].sum(axis=0)}
            wanted = {name: sound for name, sound in wanted.items() if np.abs(sound).max() > LOUDEST}
            if not wanted:
                continue
            audio = torch.from_numpy(np.stack(list(wanted.values()))).to(device)
            mean, variance = vae.posterior(audio)
            nats.append(nats_of(mean, variance).mean(dim=(0, 2)))
            spectra = vae.spectra(mean)
            phased = torch.polar(spectra.abs(), vae.true_spectra(audio).angle())
            found, true = (vae.decoder.sound(each)[:, 0].float().cpu().numpy() for each in (spectra, phased))
            for at, (name, sound) in enumerate(wanted.items()):
                figures.setdefault(f"mel_{name}", []).append(log_mel_distance(found[at], sound, vae.sample_rate))
                figures.setdefault(f"sdr_{name}", []).append(si_sdr(found[at], sound))
                figures.setdefault(f"phase_{name}", []).append(si_sdr(true[at], sound))
    if "mel_mix" not in figures:
        raise ValueError("the songs to judge by are silent in their middle: give songs that are not")
    result = {name: float(np.mean(values)) for name, values in figures.items()}
    result["mel"] = float(np.mean([result[f"mel_{track}"] for track in TRACKS if f"mel_{track}" in result]))
    channels = torch.stack(nats).mean(0)
    result |= {"kl": float(channels.sum()), "channels": float((channels >= 0.1).sum())}
    return result | {"worse": max(result["mel"], result["mel_mix"])}

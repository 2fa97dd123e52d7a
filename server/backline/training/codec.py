"""Trains the default codec on songs, composed or real: on accompaniments, which it will have to play, and stems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.corpus.multitrack import Multitrack, band_of, has_voice_and_band, mono, voice_and_band
from backline.corpus.stem_names import MIX, VOCALS
from backline.measures.codes import frame_correlation, perplexity
from backline.measures.spectra import log_mel_distance, si_sdr
from backline.music.seeds import HELD_OUT_SEED, training_seed
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.nn.rvq import CodebookLearner, Quantized
from backline.nn.weights import mismatches
from backline.training.discriminator import Opponent
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.spectral_losses import reconstruction_losses

Stems = Mapping[str, NDArray[np.float32]]  # name -> [sample] at the codec's rate; "accompaniment", "vocal" and parts
SongMaker = Callable[[int], Stems]  # the song of a seed

# What a training excerpt is made of, and how often. Nothing but the band: no session encodes the voice.
KINDS = {"accompaniment": 0.85, "part": 0.15}
JUDGED = ("accompaniment", "mix", "vocal", "drums")
LEVELS = (-3.0, 1.0)  # decibels, against the song
WATCHED = "mel"  # the validation result by which the best is told
HELD_OUT = range(HELD_OUT_SEED, HELD_OUT_SEED + 6)  # seeds of the validation songs


@dataclass(frozen=True)
class CodecTraining:
    """What is trained and how hard."""

    codec: ConvNeXtCodecConfig = field(default_factory=ConvNeXtCodecConfig)
    rate: float = 8e-4
    rows: int = 12
    frames: int = 72
    songs: int = 24  # kept at hand to cut excerpts from
    steps_per_song: int = 4  # then the oldest song is replaced by a new one
    adversarial: bool = False  # worth its time on a GPU only
    adversarial_from: float = 0.3  # of the time budget
    mel: float = 1.0
    magnitude: float = 0.5
    complex: float = 1.0
    waveform: float = 0.5
    commitment: float = 0.25
    quantize_from: int = 200  # steps; until then the latents settle, or the codebooks would start from noise
    batches_to_start: int = 5  # whose latents the codebooks are drawn from


def codec_song(song: Multitrack, sample_rate: int) -> Stems:
    """Its band, every instrument of it, and its voice where one is apart; in mono."""
    stems = {
        name: mono(song.read(name, sample_rate)) for name, label in song.labels.items() if label not in (MIX, VOCALS)
    }
    if has_voice_and_band(song):
        stems["vocal"], stems["accompaniment"] = voice_and_band(song, sample_rate)
    else:
        stems["accompaniment"] = band_of(song, sample_rate)
    return stems


def train_codec(
    loop: LoopConfig,
    config: CodecTraining,
    make_song: SongMaker,
    device: str = "auto",
    held_out: range = HELD_OUT,
    start: Mapping[str, Tensor] | None = None,
) -> tuple[ConvNeXtCodec, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        start: a codec's tensors, as a pack carries them, to begin with instead of random ones.
    """
    place = pick_device(device)
    torch.manual_seed(loop.seed)
    trainer = CodecTrainer(config, make_song, loop.seed, place)
    if start is not None:
        trainer.start_from(start)
    held = [make_song(seed) for seed in held_out]

    def judge() -> Losses:
        return evaluate(trainer.codec, held, place)

    outcome = train(loop, trainer.step, trainer.state(), judge, WATCHED, validate_first=start is not None)
    return trainer.codec, outcome


class CodecTrainer:
    """The codec, what trains it, and its data."""

    def __init__(self, config: CodecTraining, make_song: SongMaker, seed: int, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.codec = ConvNeXtCodec(config.codec).to(device)
        self.learner = CodebookLearner(self.codec.quantizer).to(device)
        self.optimizer = torch.optim.AdamW(self.codec.parameters(), config.rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self.excerpts = Excerpts(config, make_song, seed)
        self.opponent = Opponent(device, config.rate / 2)
        self.bfloat16 = faster_in_bfloat16(device)

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begins with a trained codec's tensors, codebooks and all.

        Raises:
            ValueError: they do not fit; names every one that does not.
        """
        if wrong := mismatches(self.codec.state_dict(), tensors, "codec."):
            raise ValueError(f"the codec to start from does not fit: {'; '.join(sorted(wrong))}")
        self.codec.load_state_dict(dict(tensors))
        self.learner.carry_on(self.codec.quantizer)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        kept = {"model": self.codec, "learner": self.learner, "optimizer": self.optimizer, "excerpts": self.excerpts}
        if self.config.adversarial:
            kept |= self.opponent.state()
        return kept

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        config, codec = self.config, self.codec
        rate = cosine_rate(moment.step, moment.progress, config.rate)
        set_rate(self.optimizer, rate)
        set_rate(self.opponent.optimizer, rate / 2)
        audio = torch.from_numpy(self.excerpts.batch()).to(self.device)  # [row, 1, sample]
        if moment.step >= config.quantize_from and not self.learner.started:
            self.start_codebooks()
        found, quantized = self.reconstruct(audio)
        settled = audio.shape[-1] - codec.decode_latency  # after it frames are missing that a longer signal would have
        found, wanted = found[:, 0, :settled], audio[:, 0, :settled]
        losses = reconstruction_losses(found, wanted, codec.sample_rate) | {"commitment": quantized.commitment}
        total = sum(getattr(config, name) * value for name, value in losses.items())
        assert isinstance(total, Tensor)
        if config.adversarial and moment.progress >= config.adversarial_from:
            extra = self.opponent.losses(found, wanted)
            total = total + extra["adversarial"] + 2.0 * extra["features"]
            losses |= extra
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(codec.parameters(), 2.0)
        self.optimizer.step()
        restarted = self.learner.update(codec.quantizer, quantized) if self.learner.started else 0
        values = {name: float(value.detach()) for name, value in losses.items()}
        return values | {"norm": float(norm), "restarted": restarted, "rate": rate}

    @torch.no_grad()
    def start_codebooks(self) -> None:
        """Draws the codebooks from the latents of some batches."""
        batches = (self.excerpts.batch() for _ in range(self.config.batches_to_start))
        vectors = [self.codec.encoder(torch.from_numpy(batch).to(self.device)) for batch in batches]
        self.learner.start(self.codec.quantizer, torch.cat(vectors))

    def reconstruct(self, audio: Tensor) -> tuple[Tensor, Quantized]:
        """[row, 1, sample] -> the same, through the codec; quantisation always in float32."""
        codec = self.codec
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            vectors = codec.encoder(audio)
        vectors = vectors.float()
        quantized = codec.quantizer(vectors)
        if not self.learner.started:
            quantized = replace(quantized, vectors=vectors, commitment=vectors.new_zeros(()))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return codec.decoder(quantized.vectors), quantized


class Excerpts:
    """Random excerpts of songs that are never heard again once they are replaced."""

    def __init__(self, config: CodecTraining, make_song: SongMaker, seed: int) -> None:
        self.config = config
        self.make_song = make_song
        self.next_seed = training_seed(seed, 0)
        self.generator = np.random.default_rng(seed)
        self.songs: list[Stems] = []
        self.batches = 0

    def batch(self) -> NDArray[np.float32]:
        """[row, 1, sample]."""
        # One song is too few to choose from at the start; then one at a time, so that no step has to wait for many.
        if len(self.songs) < 4 or self.batches % self.config.steps_per_song == 0:
            while len(self.songs) < 4:
                self.add_song()
            self.add_song()
        self.batches += 1
        return np.stack([self.excerpt()[None] for _ in range(self.config.rows)])

    def add_song(self) -> None:
        self.songs = [*self.songs[-self.config.songs + 1 :], self.make_song(self.next_seed)]
        self.next_seed += 1

    def excerpt(self) -> NDArray[np.float32]:
        """[sample] from a frame on, as the stages will meet it; at a random level, not silent if that can be found."""
        choose = self.generator
        hop = self.config.codec.hop
        samples = self.config.frames * hop
        cut = np.zeros(samples, dtype=np.float32)
        for _ in range(8):
            kind = str(choose.choice(list(KINDS), p=list(KINDS.values())))
            signal = self.signal(kind)
            start = int(choose.integers(max(1, (len(signal) - samples) // hop + 1))) * hop
            cut = signal[start : start + samples]
            if np.sqrt(np.mean(cut**2)) > 1e-3:
                break
        cut = np.pad(cut, (0, samples - len(cut)))
        return (cut * 10.0 ** (choose.uniform(*LEVELS) / 20.0)).astype(np.float32)

    def signal(self, kind: str) -> NDArray[np.float32]:
        """[sample] of a random song."""
        song = self.songs[int(self.generator.integers(len(self.songs)))]
        if kind == "part":
            parts = [name for name in song if name not in {"accompaniment", "vocal"}]
            return song[parts[int(self.generator.integers(len(parts)))]]
        return mixture(song, kind)

    def state_dict(self) -> dict[str, Any]:
        return {"next_seed": self.next_seed, "batches": self.batches, "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with new songs; those at hand when the state was taken are not made again."""
        self.next_seed = state["next_seed"]
        self.batches = state["batches"]
        self.generator.bit_generator.state = state["generator"]


def mixture(song: Stems, kind: str) -> NDArray[np.float32]:
    """[sample]: a stem by its name, or the "mix" of vocal and accompaniment."""
    return song["vocal"] + song["accompaniment"] if kind == "mix" else song[kind]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within: no gradients, evaluation mode."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        yield
    module.train(was_training)


def evaluate(codec: ConvNeXtCodec, songs: list[Stems], device: torch.device, seconds: float = 4.0) -> dict[str, float]:
    """Figures over held-out songs.

    Returns:
        For each of JUDGED, where a song has it, the SI-SDR in dB (`sdr_..`) and the log-mel distance (`mel_..`);
        `mel`, that of the accompaniment; `perplexity_first` and `perplexity_last` of the accompaniment's codes in the
        first and last codebook; `buzz`, by how much more the high band repeats (or alternates) from frame to frame than
        the original's does: 0 is best, 1 worst.
    """
    figures: dict[str, list[float]] = {}
    codes: list[Tensor] = []
    hop, rate = codec.hop, codec.sample_rate
    length = round(seconds * rate / hop) * hop
    with evaluating(codec):
        for song in songs:
            for kind in (kind for kind in JUDGED if {"mix": "vocal"}.get(kind, kind) in song):
                signal = mixture(song, kind)
                start = max(0, (len(signal) - length) // 2 // hop * hop)
                wanted = signal[start : start + length]
                wanted = wanted[: len(wanted) // hop * hop]
                code = codec.encode(torch.from_numpy(wanted)[None, None].to(device))
                found = codec.decode(code)[0, 0].float().cpu().numpy()
                end = len(wanted) - codec.decode_latency
                wanted, found = wanted[:end], found[:end]
                figures.setdefault(f"sdr_{kind}", []).append(si_sdr(found, wanted))
                figures.setdefault(f"mel_{kind}", []).append(log_mel_distance(found, wanted, rate))
                if kind == "accompaniment":
                    codes.append(code[0])
                    buzz = abs(frame_correlation(found, hop, rate)) - abs(frame_correlation(wanted, hop, rate))
                    figures.setdefault("buzz", []).append(buzz)
    result = {name: float(np.mean(values)) for name, values in figures.items()}
    every = torch.cat(codes, dim=1)
    return result | {
        "mel": result["mel_accompaniment"],
        "perplexity_first": perplexity(every[0], codec.codebook_size),
        "perplexity_last": perplexity(every[-1], codec.codebook_size),
    }


def packed(codec: ConvNeXtCodec, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of a codec: the [codec] table, and tensors named `codec.…`."""
    values = codec.state_dict().items()
    tensors = {f"codec.{name}": value.detach().to("cpu", dtype).contiguous() for name, value in values}
    return {"kind": "convnext", **asdict(codec.config)}, tensors


def first_codebooks(codec: ConvNeXtCodec, codebooks: int) -> ConvNeXtCodec:
    """The codec with only its first so many codebooks: fewer bits, the rest unchanged."""
    shorter = ConvNeXtCodec(replace(codec.config, codebooks=codebooks))
    weights = codec.state_dict()
    weights["quantizer.codebooks"] = weights["quantizer.codebooks"][:codebooks]
    shorter.load_state_dict(weights)
    return shorter.eval()


def best_codec(out: Path, config: ConvNeXtCodecConfig) -> ConvNeXtCodec:
    """The codec of a training folder at its best validation, or its latest where there was none yet."""
    path = out / "best.pt" if (out / "best.pt").exists() else out / "checkpoint.pt"
    codec = ConvNeXtCodec(config)
    codec.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["state"]["model"])
    return codec.eval()

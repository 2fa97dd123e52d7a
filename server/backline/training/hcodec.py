"""Trains a small HCodec on stems of composed songs: the tracks that a separator will write in its codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.hcodec.load import HUBERT, TRAINING
from backline.codecs.hcodec.network import PATHS, HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import HubertFeatures
from backline.measures.codes import perplexity
from backline.measures.masks import ceiling
from backline.measures.spectra import log_mel_distance, si_sdr
from backline.music.stems import TRACKS, Stems
from backline.nn.learning_rate import cosine_rate, set_rate
from backline.nn.precision import faster_in_bfloat16
from backline.nn.rvq import CodebookLearner
from backline.nn.weights import mismatches
from backline.training.codec import evaluating
from backline.training.keeping import Keeping, by
from backline.training.loop import LoopConfig, Losses, Moment, Outcome, pick_device, train
from backline.training.mixtures import Feed, Mixtures, Rehearsed, StemsMaker
from backline.training.spectral_losses import reconstruction_losses

# A hundredth of the published one: a mel spectrogram says what is played, transformers are left out.
SMALL = HCodecConfig(
    width=256,
    feed_forward=768,
    encoder_blocks=3,
    decoder_blocks=5,
    transformer_layers=0,
    latent=64,
    codebooks=8,
    codebook_size=512,
    features="mel",
    feature_width=120,
    semantic_width=160,
    head_limit=1e3,
    upsampling="learned",
    normalized=True,
)
WATCHED = "mel"  # the validation result by which the best is told
QUIET = -3.0  # log magnitudes that decoding starts at: an untrained head would be louder than any music


@dataclass(frozen=True)
class HCodecTraining:
    """What is trained and how hard."""

    codec: HCodecConfig = field(default_factory=lambda: SMALL)
    rate: float = 1e-3
    codes: int = 24  # of a crop
    crops: int = 3  # of a batch, each with all its tracks
    voices: int = 0  # crops of vocals alone that a batch has beside them
    passes: int = 4  # over each batch
    batches: int = 64  # kept at hand for them
    waveform_every: int = 4  # steps: how often the decoded sound is listened to, which costs as much as all else
    head: float = 4.0  # magnitudes that the decoder writes, before phases blur them: masks are made of these
    mel: float = 0.5
    magnitude: float = 0.5
    features: float = 0.3
    commitment: float = 0.25
    quantize_from: int = 150  # steps; until then the latents settle, or the codebooks would start from noise
    batches_to_start: int = 12  # whose latents the codebooks are drawn from


def train_hcodec(
    loop: LoopConfig,
    config: HCodecTraining,
    make_stems: StemsMaker,
    held_out: range,
    device: str = "auto",
    start: Mapping[str, Tensor] | None = None,
    old: Sequence[Stems] = (),
    hubert: Mapping[str, Tensor] | None = None,
) -> tuple[HCodec, Outcome]:
    """Trains until the budget of `loop` is used up, or goes on with what is in its folder.

    Args:
        start: an HCodec's tensors, as a pack carries them, to begin with instead of random ones.
        old: held-out songs of those that it knows already and is not to forget, see keeping.py.
        hubert: whose features the semantic path hears, if any's: tensors by torchaudio's names.
    """
    torch.manual_seed(loop.seed)
    trainer = HCodecTrainer(config, make_stems, loop.seed, pick_device(device), hubert)
    if start is not None:
        trainer.start_from(start)
    new = [make_stems(seed) for seed in held_out]
    judge = Keeping(lambda songs: evaluate(trainer.codec, songs, trainer.device), new, old, WATCHED)
    outcome = train(loop, trainer.step, trainer.state(), judge, by(WATCHED), validate_first=start is not None)
    return trainer.codec, outcome


class HCodecTrainer:
    """The codec, what trains it, and its data."""

    def __init__(
        self,
        config: HCodecTraining,
        make_stems: StemsMaker,
        seed: int,
        device: torch.device,
        hubert: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.codec = HCodec(config.codec)
        if config.codec.features == "hubert":
            sizes = config.codec.feature_width, config.codec.sample_rate, config.codec.hop
            self.codec.hubert = HubertFeatures(hubert or {}, *sizes)
        self.codec.to(device)
        with torch.no_grad():
            self.codec.decoder.head.bias[: config.codec.window // 2 + 1] = QUIET
        self.learners = nn.ModuleDict({path: CodebookLearner(self.codec.quantizer(path)) for path in PATHS}).to(device)
        self.optimizer = torch.optim.AdamW(self.codec.parameters(), config.rate, betas=(0.9, 0.98), weight_decay=1e-3)
        samples = config.codes * self.codec.samples_per_code
        self.mixtures = Mixtures(Feed(samples, config.crops), make_stems, seed)
        self.batches = Rehearsed(self.batch, config.passes, config.batches, seed)
        self.bfloat16 = faster_in_bfloat16(device)

    @torch.no_grad()
    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begins with a trained codec's tensors, codebooks and all. A pack lacks what only training needs.

        Raises:
            ValueError: they do not fit; names every one that does not.
        """
        own = self.codec.state_dict()
        kept = {name: value for name, value in tensors.items() if not name.startswith(HUBERT)}
        given = {name: value for name, value in own.items() if name.split(".")[0] in TRAINING} | kept
        if wrong := mismatches(own, given, "codec."):
            raise ValueError(f"the codec to start from does not fit: {'; '.join(sorted(wrong))}")
        self.codec.load_state_dict(given)
        for path in PATHS:
            self.learner(path).carry_on(self.codec.quantizer(path))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.codec,
            "learners": self.learners,
            "optimizer": self.optimizer,
            "mixtures": self.mixtures,
        }

    def step(self, moment: Moment) -> Losses:
        """One optimiser step on one batch."""
        config, codec = self.config, self.codec
        rate = cosine_rate(moment.step, moment.progress, config.rate)
        set_rate(self.optimizer, rate)
        if moment.step >= config.quantize_from and not self.learner("acoustic").started:
            self.start_codebooks()
        audio = self.batches.next()
        features = codec.features(audio)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            latents = codec.latents(audio, features)
        quantized = {path: codec.quantizer(path)(latent.float()) for path, latent in zip(PATHS, latents, strict=True)}
        quantizing = bool(self.learner("acoustic").started)
        vectors = [
            quantized[path].vectors if quantizing else latent for path, latent in zip(PATHS, latents, strict=True)
        ]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            spectra = codec.decoder.spectra(torch.cat([vector.float() for vector in vectors], dim=1))
            heard = codec.feature_decoder(vectors[1])
        losses = {
            "head": magnitude_loss(spectra.abs(), codec.spectra(audio).abs()),
            "features": F.l1_loss(heard.float(), features),
        }
        if moment.step % config.waveform_every == 0:
            losses |= reconstruction_losses(codec.decoder.sound(spectra)[:, 0], audio[:, 0], codec.sample_rate)
        if quantizing:
            losses["commitment"] = torch.stack([quantized[path].commitment for path in PATHS]).mean()
        total = sum(getattr(config, name, 0.0) * value for name, value in losses.items())
        assert isinstance(total, Tensor)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(codec.parameters(), 2.0)
        self.optimizer.step()
        restarted = 0
        if quantizing:
            restarted = sum(self.learner(path).update(codec.quantizer(path), quantized[path]) for path in PATHS)
        values = {name: float(value.detach()) for name, value in losses.items()}
        return values | {"norm": float(norm), "restarted": restarted, "rate": rate}

    def batch(self) -> Tensor:
        """[row, 1, sample]: the tracks that sound of some crops, and the vocals of others."""
        rows = self.mixtures.batch()
        rows = rows.reshape(-1, 1, rows.shape[-1])
        if self.config.voices:
            vocals = slice(TRACKS.index("vocals"), TRACKS.index("vocals") + 1)
            rows = np.concatenate([rows, *(self.mixtures.crop(vocals)[np.newaxis] for _ in range(self.config.voices))])
        return torch.from_numpy(rows[np.abs(rows).max(axis=(1, 2)) > 1e-3]).to(self.device)

    @torch.no_grad()
    def start_codebooks(self) -> None:
        """Draws the codebooks from the latents of some batches."""
        found: list[list[Tensor]] = [[], []]
        for _ in range(self.config.batches_to_start):
            for at, latent in enumerate(self.codec.latents(self.batch())):
                found[at].extend(latent)  # each [latent, code]
        for at, path in enumerate(PATHS):
            self.learner(path).start(self.codec.quantizer(path), torch.stack(found[at]))

    def learner(self, path: str) -> CodebookLearner:
        learner = self.learners[path]
        assert isinstance(learner, CodebookLearner)
        return learner


def magnitude_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Relative squared distance of the square roots of [row, hop, bin].

    Squared, because of a partial whose place is uncertain the least absolute distance hears nothing, and a mask made of
    nothing takes nothing.
    """
    error = ((found + 1e-6).sqrt() - (wanted + 1e-6).sqrt()).square().flatten(1).sum(1)
    return (error / (wanted.flatten(1).sum(1) + 1e-3 * wanted[0].numel())).mean()


def evaluate(codec: HCodec, songs: Sequence[Stems], device: torch.device, codes: int = 50) -> dict[str, float]:
    """Figures over held-out songs.

    Returns:
        For each track the log-mel distance (`mel_..`) and the SI-SDR in dB (`sdr_..`) of its middle; `mel`, the mean of
        the former; by how many dB the vocals' true codes bring them out of the mixture (`mask_vocals`, masks.py); the
        perplexity of each path's first and last codes.
    """
    figures: dict[str, list[float]] = {}
    found_codes = []
    length = codes * codec.samples_per_code
    with evaluating(codec):
        for stems in songs:
            start = max(0, (stems.shape[1] - length) // 2)
            wanted = np.ascontiguousarray(stems[:, start : start + length])
            wanted = np.pad(wanted, ((0, 0), (0, length - wanted.shape[1])))
            code = codec.encode(torch.from_numpy(wanted)[:, None].to(device))
            found = codec.decode(code)[:, 0].float().cpu().numpy()
            found_codes.append(code)
            if wanted[0].any():
                figures.setdefault("mask_vocals", []).append(ceiling(codec, wanted[0], wanted[1:].sum(0)).mask)
            for track, a, b in zip(TRACKS, found, wanted, strict=True):
                figures.setdefault(f"mel_{track}", []).append(log_mel_distance(a, b, codec.sample_rate))
                figures.setdefault(f"sdr_{track}", []).append(si_sdr(a, b))
    result = {name: float(np.mean(values)) for name, values in figures.items()}
    result["mel"] = float(np.mean([result[f"mel_{track}"] for track in TRACKS]))
    every = torch.cat(found_codes)  # [row, path, codebook, code]
    for at, path in enumerate(PATHS):
        for name, book in (("first", 0), ("last", -1)):
            result[f"perplexity_{path}_{name}"] = perplexity(every[:, at, book], codec.config.codebook_size)
    return result


def packed(codec: HCodec, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a pack carries of a codec: the [codec] table, and tensors named `codec.…`."""
    values = dict(codec.state_dict())
    if codec.hubert is not None:
        values |= {HUBERT + name: value for name, value in codec.hubert.tensors.items()}
    tensors = {f"codec.{name}": value.detach().to("cpu", dtype).contiguous() for name, value in values.items()}
    return {"kind": "hcodec", **asdict(codec.config)}, tensors

"""Judges a codec on songs that nothing was trained on: fidelity, use of its codebooks, frame-rate buzz, predictability.

codec = pack_codec(read_pack(folder))
rate = codec.sample_rate
report = evaluate_codec(codec, accompaniments(JUDGED, TRIO, rate), accompaniments(LEARNT, TRIO, rate))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec
from backline.evaluation.predictability import STEPS, Predictability, measure_predictability
from backline.models.codec import KINDS, load_codec
from backline.models.errors import PackError
from backline.music.songs import song
from backline.music.world import World
from backline.packs.pack import Pack, read_tensors
from backline.training.codec import frame_correlation, perplexity
from backline.training.data import HELD_OUT_SEED
from backline.training.spectra import log_mel_distance, si_sdr

Sound = NDArray[np.float32]  # [sample], mono, at the codec's rate

# Beyond the held-out seeds by which training picks its best checkpoint.
JUDGED = range(HELD_OUT_SEED + (1 << 20), HELD_OUT_SEED + (1 << 20) + 12)  # songs that are decoded and predicted
LEARNT = range(HELD_OUT_SEED + (1 << 21), HELD_OUT_SEED + (1 << 21) + 128)  # songs that the small model learns from


@dataclass(frozen=True)
class Fidelity:
    """What the first `codebooks` codebooks keep of the songs; means over them."""

    codebooks: int
    bits_per_second: float
    si_sdr: float  # dB
    log_mel: float
    buzz: float  # 0 to 1: how much the sound above 4 kHz repeats, or alternates, from frame to frame


@dataclass(frozen=True)
class CodebookUse:
    """How one codebook is used, by all songs."""

    share: float  # of its entries that occur
    entropy: float  # bits
    perplexity: float


@dataclass(frozen=True)
class CodecReport:
    """All that was measured of a codec."""

    frame_rate: Fraction
    codebook_size: int
    fidelity: tuple[Fidelity, ...]  # by falling number of codebooks, all of them first
    original_buzz: float
    use: tuple[CodebookUse, ...]  # by codebook
    predictability: Predictability

    def rows(self) -> tuple[tuple[str, float], ...]:
        """The table, from top to bottom: what is measured, and its figure. The same rows for codecs of equal sizes."""
        rows = [("frames/s", float(self.frame_rate))]
        for kept in self.fidelity:
            rows += [
                (f"bits/s, {kept.codebooks} codebooks", kept.bits_per_second),
                (f"SI-SDR dB, {kept.codebooks} codebooks", kept.si_sdr),
                (f"log-mel L1, {kept.codebooks} codebooks", kept.log_mel),
                (f"buzz, {kept.codebooks} codebooks", kept.buzz),
            ]
        rows.append(("buzz of the original", self.original_buzz))
        for number, use in enumerate(self.use, 1):
            rows += [
                (f"entries in use, codebook {number}", use.share),
                (f"entropy bits, codebook {number}", use.entropy),
                (f"perplexity, codebook {number}", use.perplexity),
                (f"BPT, codebook {number}", self.predictability.bits_per_token[number - 1]),
            ]
        found = self.predictability
        return (*rows, ("BPT", found.bpt), ("cnBPT", found.cnbpt), ("enBPT", found.enbpt), ("cnBPS", found.cnbps))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; enBPT is null where the tokens have no entropy."""
        found = self.predictability
        summary = {"bpt": found.bpt, "cnbpt": found.cnbpt, "enbpt": found.enbpt, "cnbps": found.cnbps}
        return {
            **asdict(self),
            "frame_rate": float(self.frame_rate),
            "predictability": asdict(found) | {k: None if math.isnan(v) else v for k, v in summary.items()},
        }


def accompaniments(seeds: Iterable[int], world: World, sample_rate: int) -> Iterator[Sound]:
    """The bands of the songs of these seeds, one after the other."""
    for seed in seeds:
        yield song(seed, world, sample_rate).accompaniment


def pack_codec(pack: Pack) -> Codec:
    """The codec of a pack, whatever its family.

    Raises:
        PackError: the pack has none, or its tensors do not fit.
    """
    table = pack.config.get("codec", {})
    if table.get("kind") not in KINDS:
        problem = f"[codec] kind is {table.get('kind')!r}: give a pack with one of {', '.join(KINDS)}"
        raise PackError([problem], pack.name)
    try:
        return load_codec(table, read_tensors(pack), "cpu")
    except ValueError as error:
        raise PackError([str(error)], pack.name) from error


def evaluate_codec(codec: Codec, judged: Iterable[Sound], learnt: Iterable[Sound], steps: int = STEPS) -> CodecReport:
    """Measures `codec` on the songs `judged`; a small model first learns from the songs `learnt`, for that many steps.

    Songs are taken one at a time, so both may be generators.

    Raises:
        ValueError: there is no song to judge, or none to learn from, that is long enough.
    """
    counts = [codec.codebooks] + [count for count in (4, 2, 1) if count < codec.codebooks]
    figures: dict[int, list[tuple[float, float, float]]] = {count: [] for count in counts}
    original_buzz, judged_codes = [], []
    for sound in judged:
        wanted = whole_frames(sound, codec.hop)
        codes = encode(codec, wanted)
        settled = len(wanted) - codec.decode_latency  # after it frames are missing that a longer song would have
        for count in counts:
            figures[count].append(compare(decode(codec, codes[:count])[:settled], wanted[:settled], codec))
        original_buzz.append(abs(frame_correlation(wanted[:settled], codec.hop, codec.sample_rate)))
        judged_codes.append(codes)
    learnt_codes = [encode(codec, whole_frames(sound, codec.hop)) for sound in learnt]
    if not judged_codes:
        raise ValueError("there is no song to judge: give at least one")
    bits = math.log2(codec.codebook_size)
    return CodecReport(
        frame_rate=codec.frame_rate,
        codebook_size=codec.codebook_size,
        fidelity=tuple(
            Fidelity(count, float(codec.frame_rate) * count * bits, *np.mean(figures[count], axis=0).tolist())
            for count in counts
        ),
        original_buzz=float(np.mean(original_buzz)),
        use=tuple(codebook_use(book, codec.codebook_size) for book in torch.cat(judged_codes + learnt_codes, dim=1)),
        predictability=measure_predictability(learnt_codes, judged_codes, codec.codebook_size, codec.frame_rate, steps),
    )


@torch.no_grad()
def encode(codec: Codec, sound: Sound) -> Tensor:
    """int64 [codebook, frame]"""
    return codec.encode(torch.from_numpy(sound)[None, None])[0]


@torch.no_grad()
def decode(codec: Codec, codes: Tensor) -> Sound:
    """[sample] of [codebook, frame]"""
    return codec.decode(codes[None])[0, 0].numpy()


def whole_frames(sound: Sound, hop: int) -> Sound:
    """Without the last samples that make no frame."""
    return sound[: len(sound) // hop * hop]


def compare(found: Sound, wanted: Sound, codec: Codec) -> tuple[float, float, float]:
    """SI-SDR in dB, log-mel L1 and frame-rate buzz of `found`."""
    return (
        si_sdr(found, wanted),
        log_mel_distance(found, wanted, codec.sample_rate),
        abs(frame_correlation(found, codec.hop, codec.sample_rate)),
    )


def codebook_use(codes: Tensor, entries: int) -> CodebookUse:
    """Of tokens [frame] of a codebook with `entries` entries."""
    effective = perplexity(codes, entries)
    return CodebookUse(len(codes.unique()) / entries, math.log2(effective), effective)

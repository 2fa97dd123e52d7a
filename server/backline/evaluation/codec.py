"""Judges a codec on songs that nothing was trained on: fidelity, use of its codebooks, frame-rate buzz, predictability.

codec = pack_codec(read_pack(folder))
songs = Composer(TRIO, codec.sample_rate)
report = evaluate_codec(codec, bands(songs, JUDGED, codec.sample_rate), bands(songs, LEARNT, codec.sample_rate))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import band_of, excerpts
from backline.corpus.songs import Songs
from backline.measures.codes import frame_correlation, perplexity, utilisation
from backline.measures.predictability import STEPS, Predictability, measure_predictability
from backline.measures.report import Figure, Gate, Row
from backline.measures.spectra import log_mel_distance, si_sdr
from backline.models.errors import PackError
from backline.models.through_codec import KINDS, load_codec
from backline.music.seeds import HELD_OUT_SEED
from backline.packs.pack import Pack, read_tensors

Sound = NDArray[np.float32]  # [sample], mono, at the codec's rate

# Beyond the held-out seeds by which training picks its best checkpoint.
JUDGED = range(HELD_OUT_SEED + (1 << 20), HELD_OUT_SEED + (1 << 20) + 12)  # songs that are decoded and predicted
LEARNT = range(HELD_OUT_SEED + (1 << 21), HELD_OUT_SEED + (1 << 21) + 128)  # songs that the small model learns from
LONGEST_SECONDS = 60.0  # that are encoded at once: longer songs in equal parts
MOST_BITS = 6000  # a second: 75 frames of 8 codebooks of 1024 entries


@dataclass(frozen=True)
class Fidelity:
    """What the first `codebooks` codebooks keep of the songs."""

    codebooks: int
    bits_per_second: float
    si_sdr: Figure  # dB
    log_mel: Figure
    buzz: Figure  # 0 to 1: how much the sound above 4 kHz repeats, or alternates, from frame to frame


@dataclass(frozen=True)
class CodebookUse:
    """How one codebook is used, by all songs."""

    share: float  # of its entries that occur
    entropy: float  # bits
    perplexity: float


@dataclass(frozen=True)
class CodecReport:
    """All that was measured of a codec."""

    fidelity: tuple[Fidelity, ...]  # by falling number of codebooks, all of them first
    original_buzz: Figure
    use: tuple[CodebookUse, ...]  # by codebook
    predictability: Predictability | None  # None: there was nothing to learn it from

    def rows(self) -> dict[str, Row]:
        """The rows of a Report."""
        rows: dict[str, Row] = {}
        for kept in self.fidelity:
            rows[counted(kept.codebooks)] = {
                "bits/s": Figure(kept.bits_per_second),
                "SI-SDR dB": kept.si_sdr,
                "log-mel L1": kept.log_mel,
                "buzz": kept.buzz,
            }
        rows["original"] = {"buzz": self.original_buzz}
        for number, use in enumerate(self.use, 1):
            rows[f"codebook {number}"] = {
                "entries in use": Figure(use.share),
                "perplexity": Figure(use.perplexity),
                "entropy bits": Figure(use.entropy),
            }
        if (found := self.predictability) is None:
            return rows
        for number, bits in enumerate(found.bits_per_token, 1):
            rows[f"codebook {number}"] = {**rows[f"codebook {number}"], "BPT": Figure(bits)}
        rows["tokens"] = {
            "tokens/s": Figure(found.tokens_per_second),
            "BPT": Figure(found.bpt),
            "cnBPT": Figure(found.cnbpt),
            "enBPT": Figure(found.enbpt),
            "cnBPS": Figure(found.cnbps),
        }
        return rows

    def gates(self) -> tuple[Gate, ...]:
        """What a default codec must reach, with all its codebooks."""
        best = self.fidelity[0]
        buzz = best.buzz.mean - self.original_buzz.mean
        return (
            Gate("bits a second", best.bits_per_second, f"at most {MOST_BITS}", best.bits_per_second <= MOST_BITS),
            Gate("SI-SDR, dB", best.si_sdr.mean, "at least 8", best.si_sdr.mean >= 8),
            Gate("log-mel L1", best.log_mel.mean, "at most 0.28", best.log_mel.mean <= 0.28),
            Gate("buzz beyond the original's", buzz, "at most 0.1", buzz <= 0.1),
        )


def bands(songs: Songs, seeds: Iterable[int], sample_rate: int) -> Iterator[Sound]:
    """The bands of the songs of these seeds, one after the other; of a long song in parts."""
    for seed in seeds:
        for part in excerpts(songs.song(seed), LONGEST_SECONDS, sample_rate):
            yield band_of(part, sample_rate)


def learnt_from(songs: Songs) -> Sequence[int]:
    """The seeds of songs to learn predictability from: composed ones, or clips of a corpus's training songs, if any."""
    if songs.test_songs() is None:
        return LEARNT
    clips = range(len(LEARNT))
    try:
        songs.song(clips[0])
    except CorpusError:
        return ()
    return clips


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

    Without songs to learn from it is not measured how predictable the tokens are. Songs are taken one at a time, so
    both may be generators.

    Raises:
        ValueError: there is no song to judge, or none of those to learn from is long enough.
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
    bits = float(codec.frame_rate) * math.log2(codec.codebook_size)  # a second, of one codebook
    return CodecReport(
        fidelity=tuple(
            Fidelity(count, bits * count, *(Figure.of(values) for values in zip(*figures[count], strict=True)))
            for count in counts
        ),
        original_buzz=Figure.of(original_buzz),
        use=tuple(codebook_use(book, codec.codebook_size) for book in torch.cat(judged_codes + learnt_codes, dim=1)),
        predictability=measure_predictability(learnt_codes, judged_codes, codec.codebook_size, codec.frame_rate, steps)
        if learnt_codes
        else None,
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


def counted(codebooks: int) -> str:
    """In words."""
    return f"{codebooks} codebook{'s' if codebooks > 1 else ''}"


def codebook_use(codes: Tensor, entries: int) -> CodebookUse:
    """Of tokens [frame] of a codebook with `entries` entries."""
    effective = perplexity(codes, entries)
    return CodebookUse(utilisation(codes, entries), math.log2(effective), effective)

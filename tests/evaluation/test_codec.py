"""A codec's report holds what each measure gives on its own, and the measures give what was computed by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.corpus.corpus import Corpus
from backline.corpus.multitrack import has_band
from backline.corpus.songs import Composer, CorpusSongs
from backline.evaluation.codec import (
    CodecReport,
    Sound,
    bands,
    codebook_use,
    compare,
    decode,
    encode,
    evaluate_codec,
    learnt_from,
    pack_codec,
)
from backline.measures.codes import frame_correlation
from backline.measures.report import Figure
from backline.measures.spectra import log_mel_distance, mel_filters, si_sdr
from backline.models.errors import PackError
from backline.models.hafm.load import tiny_random
from backline.music import fluidsynth
from backline.music.seeds import TEST_SEED
from backline.music.world import NARROW
from backline.packs.pack import read_pack, write_pack
from backline.packs.registry import PackRegistry
from tests.support.corpora import composed_corpus, noises, write_corpus, write_song

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))

SMALL = ConvNeXtCodecConfig(
    codebooks=8,
    codebook_size=32,
    latent=8,
    encoder_width=16,
    encoder_blocks=1,
    decoder_width=16,
    decoder_blocks=1,
)


def noise(seed: int, seconds: float = 2.2) -> Sound:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(24_000 * seconds))).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> ConvNeXtCodec:
    torch.manual_seed(0)
    return ConvNeXtCodec(SMALL).eval()


@pytest.fixture(scope="module")
def report(codec: ConvNeXtCodec) -> CodecReport:
    return evaluate_codec(codec, (noise(seed) for seed in range(2)), (noise(seed) for seed in range(2, 4)), steps=2)


def test_fidelity_is_measured_with_all_codebooks_and_with_the_first_ones(
    codec: ConvNeXtCodec, report: CodecReport
) -> None:
    assert [kept.codebooks for kept in report.fidelity] == [8, 4, 2, 1]
    assert [kept.bits_per_second for kept in report.fidelity] == [75 * 5 * count for count in (8, 4, 2, 1)]
    for kept in report.fidelity:
        ratios, distances = [], []
        for seed in range(2):
            wanted = noise(seed)  # 165 frames
            found = decode(codec, encode(codec, wanted)[: kept.codebooks])
            end = len(wanted) - codec.decode_latency
            ratios.append(si_sdr(found[:end], wanted[:end]))
            distances.append(log_mel_distance(found[:end], wanted[:end], 24_000))
        assert kept.si_sdr.mean == pytest.approx(np.mean(ratios))
        assert kept.log_mel.mean == pytest.approx(np.mean(distances))


def test_the_original_has_the_buzz_that_it_has(codec: ConvNeXtCodec, report: CodecReport) -> None:
    end = len(noise(0)) - codec.decode_latency
    own = [abs(frame_correlation(noise(seed)[:end], 320, 24_000)) for seed in range(2)]
    assert report.original_buzz.mean == pytest.approx(np.mean(own))


def test_a_sound_that_alternates_from_frame_to_frame_buzzes_as_one_that_repeats(codec: ConvNeXtCodec) -> None:
    repeating = np.zeros(24_000, np.float32)
    repeating[::320] = 0.5
    alternating = repeating.copy()
    alternating[::640] *= -1
    assert compare(repeating, noise(0, 1.0), codec)[2] > 0.9
    assert compare(alternating, noise(0, 1.0), codec)[2] > 0.9


def test_use_of_a_codebook_is_counted() -> None:
    # Half of the tokens are one entry, a quarter each of two others: 1.5 bits.
    use = codebook_use(torch.tensor([3, 3, 0, 7] * 5), 8)
    assert use.share == 3 / 8
    assert use.entropy == pytest.approx(1.5)
    assert use.perplexity == pytest.approx(2**1.5)


def test_log_mel_distance_is_that_of_the_specification() -> None:
    # At 16 kHz an impulse has the magnitude of the window (1024, every 160) in all bins; silence is at ln 1e-5.
    impulse = np.zeros(16_000, np.float32)
    impulse[8_000] = 1
    distance = np.abs(160 * np.arange(101) - 8_000)
    window = np.where(distance < 512, 0.5 + 0.5 * np.cos(2 * np.pi * distance / 1024), 0.0)
    bands = mel_filters(64, 1024, 16_000).sum(1).numpy()  # of 64
    levels = np.log(np.maximum(window[:, None] * bands, 1e-5))
    expected = float(np.mean(levels - np.log(1e-5)))
    assert log_mel_distance(impulse, np.zeros_like(impulse), 16_000) == pytest.approx(expected, rel=1e-3)


def test_the_report_has_a_row_for_everything_that_was_measured(report: CodecReport) -> None:
    rows = report.rows()
    assert rows["4 codebooks"]["SI-SDR dB"] == report.fidelity[1].si_sdr
    assert rows["1 codebook"]["bits/s"].mean == 375
    assert rows["original"]["buzz"] == report.original_buzz
    assert rows["codebook 8"]["entropy bits"].mean == report.use[7].entropy
    assert rows["tokens"]["cnBPS"].mean == pytest.approx(75 * 8 * rows["tokens"]["cnBPT"].mean)


def test_gates_are_passed_at_their_limits_and_not_beyond(report: CodecReport) -> None:
    def passed(si_sdr: float, log_mel: float, buzz: float) -> list[bool]:
        best = replace(report.fidelity[0], si_sdr=Figure(si_sdr), log_mel=Figure(log_mel), buzz=Figure(buzz))
        judged = replace(report, fidelity=(best,), original_buzz=Figure(0.25))
        return [gate.passed for gate in judged.gates()]

    assert passed(8.0, 0.28, 0.35) == [True, True, True, True]
    assert passed(7.9, 0.29, 0.36) == [True, False, False, False]


def test_no_song_is_an_error(codec: ConvNeXtCodec) -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate_codec(codec, [], [noise(0)])


def test_without_songs_to_learn_from_all_but_predictability_is_measured(
    codec: ConvNeXtCodec, report: CodecReport
) -> None:
    found = evaluate_codec(codec, (noise(seed) for seed in range(2)), [])
    assert found.fidelity == report.fidelity
    rows = found.rows()
    assert "tokens" not in rows
    assert rows["codebook 1"].keys() == {"entries in use", "perplexity", "entropy bits"}


def test_a_long_song_is_judged_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.evaluation.codec.LONGEST_SECONDS", 1.0)
    sounds = noises("drums", "vocals", seconds=2.5)
    corpus = write_corpus(tmp_path, write_song(tmp_path, "long", sounds, split="test"))
    songs = CorpusSongs(corpus, has_band)
    assert learnt_from(songs) == ()  # no song is there for training
    parts = [*bands(songs, [TEST_SEED], 48_000)]
    assert [len(part) for part in parts] == [40_000] * 3
    np.testing.assert_allclose(np.concatenate(parts), sounds["drums"].mean(axis=0), atol=1e-6)


@pytest.mark.slow
@needs_fluidsynth
def test_three_composed_songs_have_the_same_figures_from_the_disk_as_from_memory(tmp_path: Path) -> None:
    codec = pack_codec(read_pack(PackRegistry([]).entry("default").folder))
    composer = Composer(NARROW, 48_000)
    disk = CorpusSongs(Corpus.open(composed_corpus(tmp_path, composer, 3)), has_band)
    seeds = range(TEST_SEED, TEST_SEED + 3)
    memory, again = (evaluate_codec(codec, bands(songs, seeds, codec.sample_rate), []) for songs in (composer, disk))
    for kept, found in zip(memory.fidelity, again.fidelity, strict=True):
        assert found.si_sdr.mean == pytest.approx(kept.si_sdr.mean, abs=0.02)
        assert found.log_mel.mean == pytest.approx(kept.log_mel.mean, abs=0.002)
        assert found.buzz.mean == pytest.approx(kept.buzz.mean, abs=0.01)
    for one, other in zip(memory.use, again.use, strict=True):
        assert other.perplexity == pytest.approx(one.perplexity, rel=0.01)


def test_the_codec_of_a_pack_is_found(tmp_path: Path) -> None:
    config, tensors = tiny_random()
    codec = pack_codec(write_pack(tmp_path / "tiny", config, tensors))
    assert (codec.codebooks, codec.codebook_size, codec.hop) == (8, 1024, 320)


def test_a_pack_without_a_codec_is_refused(tmp_path: Path) -> None:
    config = {
        "name": "echo",
        "version": "1",
        "family": "passthrough",
        "description": "an echo",
        "license": "Apache-2.0",
        "passthrough": {"ports": ["main"]},
    }
    with pytest.raises(PackError, match="give a pack with one of convnext, encodec"):
        pack_codec(write_pack(tmp_path / "echo", config, {}))

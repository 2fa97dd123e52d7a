"""The codec trainer learns, carries on exactly, and hands over what a pack needs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig, convnext_codec
from backline.corpus.songs import Composer
from backline.music.fluidsynth import missing
from backline.music.world import NARROW
from backline.training.codec import (
    LEVELS,
    CodecTrainer,
    CodecTraining,
    Excerpts,
    Stems,
    best_codec,
    codec_song,
    evaluate,
    first_codebooks,
    packed,
    train_codec,
)
from backline.training.loop import LoopConfig, Losses, Moment, train
from tests.support.corpora import noises, write_corpus, write_song

SMALL = ConvNeXtCodecConfig(
    hop=80,
    window=320,
    codebooks=2,
    codebook_size=32,
    latent=8,
    encoder_width=24,
    encoder_blocks=1,
    decoder_width=24,
    decoder_blocks=1,
)
TRAINING = CodecTraining(SMALL, rate=3e-3, rows=3, frames=24, songs=5, quantize_from=20, batches_to_start=2)


def tones(seed: int) -> Stems:
    """A second of two stems that need no synthesiser."""
    choose = np.random.default_rng(seed)
    time = np.arange(24_000) / 24_000
    vocal = 0.2 * np.sin(2 * np.pi * choose.uniform(100, 800) * time).astype(np.float32)
    drums = (0.1 * choose.standard_normal(24_000) * np.exp(-10 * (time % 0.25))).astype(np.float32)
    return {"vocal": vocal, "drums": drums, "accompaniment": drums}


def trainer(config: CodecTraining = TRAINING) -> CodecTrainer:
    torch.manual_seed(0)
    return CodecTrainer(config, tones, 0, torch.device("cpu"))


def test_training_lowers_the_losses_and_starts_the_codebooks() -> None:
    trained = trainer()
    losses = [dict(trained.step(Moment(step, progress=step / 45))) for step in range(45)]
    assert trained.learner.started
    for name in ("magnitude", "complex", "waveform"):
        early = np.mean([step[name] for step in losses[:10]])
        late = np.mean([step[name] for step in losses[-10:]])
        assert late < 0.8 * early, name


def test_an_adversarial_step_trains_both_sides() -> None:
    trained = trainer(CodecTraining(SMALL, rows=2, frames=48, adversarial=True, adversarial_from=0.0))
    before = [value.clone() for value in trained.opponent.discriminator.parameters()]
    losses = trained.step(Moment())
    assert losses.keys() >= {"adversarial", "features", "verdict"}
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.opponent.discriminator.parameters(), strict=True))
    assert all(value.requires_grad for value in trained.opponent.discriminator.parameters())


def test_no_song_is_heard_again() -> None:
    asked: list[int] = []

    def make(seed: int) -> Stems:
        asked.append(seed)
        return tones(seed)

    first = Excerpts(TRAINING, make, 0)
    for _ in range(9):
        first.batch()
    second = Excerpts(TRAINING, make, 0)
    second.load_state_dict(first.state_dict())
    second.batch()
    assert len(set(asked)) == len(asked)
    assert len(first.songs) == TRAINING.songs


def test_excerpts_are_full_length_and_within_full_scale() -> None:
    batch = Excerpts(TRAINING, tones, 0).batch()
    assert batch.shape == (TRAINING.rows, 1, TRAINING.frames * SMALL.hop)
    assert batch.dtype == np.float32
    assert np.abs(batch).max() < 1


def stairs(seed: int) -> Stems:
    """A level that changes from frame to frame and nowhere else; a voice, which no session encodes, of no number."""
    level = np.repeat(np.linspace(0.2, 0.8, 300, dtype=np.float32), SMALL.hop)
    return {"vocal": np.full_like(level, np.nan), "drums": level, "accompaniment": level}


def test_excerpts_begin_on_frames_of_the_band_at_any_of_them() -> None:
    excerpts = Excerpts(TRAINING, stairs, 0)
    frames = np.stack([excerpts.batch() for _ in range(20)]).reshape(60, TRAINING.frames, SMALL.hop)
    assert (np.ptp(frames, axis=2) == 0).all()
    step = 0.6 / 299
    level = (frames[:, -1, 0] - frames[:, 0, 0]) / (step * (TRAINING.frames - 1))
    first = np.round((frames[:, 0, 0] / level - 0.2) / step)
    assert len(np.unique(first)) > 40
    assert 0 <= first.min() < 30
    assert 250 < first.max() <= 300 - TRAINING.frames


def test_excerpts_come_at_all_levels_in_their_range() -> None:
    def steady(seed: int) -> Stems:
        tone = np.full(24_000, 0.5, np.float32)
        return {"vocal": tone, "drums": tone, "accompaniment": tone}

    excerpts = Excerpts(TRAINING, steady, 0)
    decibels = 20 * np.log10(np.stack([excerpts.batch() for _ in range(40)])[..., 0] / 0.5)
    low, high = LEVELS
    assert low - 1e-4 <= decibels.min() < low + 0.2
    assert high - 0.2 < decibels.max() <= high + 1e-4


def test_a_song_shorter_than_an_excerpt_is_padded_with_silence() -> None:
    def brief(seed: int) -> Stems:
        tone = np.full(1000, 0.5, np.float32)
        return {"vocal": tone, "drums": tone, "accompaniment": tone}

    batch = Excerpts(TRAINING, brief, 0).batch()
    assert batch.shape[2] == TRAINING.frames * SMALL.hop
    assert (batch[..., :1000] > 0.3).all()
    assert (batch[..., 1000:] == 0).all()


def test_the_first_codebooks_alone_decode_as_they_did_among_all() -> None:
    torch.manual_seed(0)
    codec = ConvNeXtCodec(SMALL).eval()
    shorter = first_codebooks(codec, 1)
    audio = torch.from_numpy(tones(5)["accompaniment"])[None, None]
    with torch.no_grad():
        codes = codec.encode(audio)
        assert torch.equal(shorter.encode(audio), codes[:, :1])
        torch.testing.assert_close(shorter.decode(codes[:, :1]), codec.decode(codes[:, :1]))
    assert shorter.config.codebooks == 1


def test_an_interrupted_run_carries_on(tmp_path: Path) -> None:
    first, second = trainer(), trainer()

    def stopping_at(number: int, trained: CodecTrainer, moment: Moment) -> Losses:
        if moment.step == number - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return trained.step(moment)

    config = LoopConfig(tmp_path, minutes=5)
    train(config, lambda moment: stopping_at(22, first, moment), first.state())
    outcome = train(config, lambda moment: stopping_at(24, second, moment), second.state())
    assert outcome.step == 24
    assert second.learner.started


def test_a_run_leaves_a_codec_that_packs_and_loads(tmp_path: Path, seconds_a_step: Callable[[float], None]) -> None:
    seconds_a_step(0.05)
    _, outcome = train_codec(LoopConfig(tmp_path, minutes=0.02), TRAINING, tones, "cpu", held_out=range(900, 902))
    assert outcome.validation.keys() >= {"sdr_accompaniment", "mel_vocal", "perplexity_first", "buzz", "mel"}
    codec = best_codec(tmp_path, SMALL)
    table, tensors = packed(codec)
    assert all(name.startswith("codec.") and value.dtype == torch.float16 for name, value in tensors.items())
    loaded = convnext_codec(table, tensors)
    audio = torch.from_numpy(tones(5)["vocal"])[None, None]
    with torch.no_grad():
        wanted, found = codec.decoder(codec.encoder(audio)), loaded.decoder(loaded.encoder(audio))
    assert torch.allclose(wanted, found, atol=0.02)


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_songs_have_all_that_the_codec_is_trained_on() -> None:
    song = codec_song(Composer(NARROW, 24_000).song(3), 24_000)
    assert song.keys() >= {"accompaniment", "vocal", "drums"}
    assert len({len(stem) for stem in song.values()}) == 1


def test_a_real_song_teaches_the_codec_its_band(tmp_path: Path) -> None:
    stems = noises("guitar", "rest", "vocals")
    sung = codec_song(write_corpus(tmp_path, write_song(tmp_path, "sung", stems)).songs()[0], 48_000)
    assert sung.keys() == {"guitar", "rest", "vocal", "accompaniment"}
    np.testing.assert_allclose(sung["accompaniment"], (stems["guitar"] + stems["rest"]).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(sung["vocal"], stems["vocals"].mean(axis=0), atol=1e-6)
    del stems["vocals"]
    rock = codec_song(write_corpus(tmp_path, write_song(tmp_path, "rock", stems)).songs()[0], 24_000)
    assert rock.keys() == {"guitar", "rest", "accompaniment"}
    codec = ConvNeXtCodec(SMALL).eval()
    figures = evaluate(codec, [rock], torch.device("cpu"), seconds=0.5)
    assert {name for name in figures if name.startswith("sdr_")} == {"sdr_accompaniment"}

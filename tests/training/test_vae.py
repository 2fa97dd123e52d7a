"""The VAE that diffusion models play in: a codec without its quantisers, and its training."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.vae.config import SpectralConfig
from backline.codecs.vae.load import load
from backline.packs.parts import read_part
from backline.training import vae as training
from backline.training.discriminator import Opponent
from backline.training.loop import LoopConfig, Moment
from backline.training.run_folder import validations
from backline.training.vae import (
    FILE,
    VaeTrainer,
    VaeTraining,
    divergence,
    evaluate,
    principal,
    quiet_loss,
    sums,
    train_vae,
)

TOY_CODEC = HCodecConfig(
    width=16, feed_forward=32, encoder_blocks=1, decoder_blocks=1, transformer_layers=0, latent=8, codebooks=2,
    codebook_size=16, features="mel", feature_width=20, semantic_width=8, head_limit=1e3, upsampling="learned",
    normalized=True,
)  # fmt: skip
TOY = VaeTraining(SpectralConfig(TOY_CODEC, 6), frames=4, crops=1, rate=3e-3)
CPU = torch.device("cpu")
HELD_OUT = range(1 << 40, (1 << 40) + 1)


def tones(seed: int) -> NDArray[np.float32]:
    """Four steady tones of two seconds."""
    hertz = np.random.default_rng(seed).uniform(100, 4000, (4, 1))
    return (0.2 * np.sin(2 * np.pi * hertz * np.arange(96_000) / 48_000)).astype(np.float32)


def toy_codec() -> HCodec:
    torch.manual_seed(0)
    return HCodec(TOY_CODEC).eval().requires_grad_(False)


def songs() -> list[NDArray[np.float32]]:
    return [tones(seed) for seed in range(4)]


def test_with_all_components_the_codec_decodes_as_without_its_quantisers() -> None:
    codec = toy_codec()
    vae = principal(codec, songs(), SpectralConfig(TOY_CODEC, 16))
    audio = torch.from_numpy(tones(9)[:, : 6 * vae.hop])
    wanted = codec.decode_vectors(torch.cat(codec.latents(audio[:, None]), dim=1))[:, 0]
    assert torch.allclose(vae.decode(vae.encode(audio)), wanted, atol=1e-4)


def test_latents_are_centred_uncorrelated_of_unit_mean_variance_and_the_largest_first() -> None:
    vae = principal(toy_codec(), songs(), TOY.vae)
    draw = np.random.default_rng(0)
    rows = np.concatenate([sums(stems[:, : 25 * vae.hop], draw) for stems in songs()])  # those that it was made of
    found = vae.encode(torch.from_numpy(rows)).detach().double().transpose(1, 2).flatten(0, 1)
    spread = found.T @ found / len(found)
    variances = spread.diagonal()
    assert found.mean(0).abs().max() < 1e-3
    assert float(variances.mean()) == pytest.approx(1, abs=1e-3)
    assert torch.equal(variances, variances.sort(descending=True).values)
    assert (spread - variances.diag()).abs().max() < 1e-2 * variances.max()


def test_a_codec_of_other_sizes_makes_no_such_vae() -> None:
    with pytest.raises(ValueError, match="has other sizes than the VAE"):
        principal(toy_codec(), songs(), SpectralConfig(replace(TOY_CODEC, width=32), 6))


def test_rows_are_two_stems_their_mix_and_a_submix() -> None:
    tracks = np.eye(4, dtype=np.float32) * [[1], [2], [4], [8]]  # each track sounds at a moment of its own
    submixes = set()
    for seed in range(40):
        first, second, mix, without = sums(tracks, np.random.default_rng(seed))
        assert {int(first.sum()), int(second.sum())} <= {1, 2, 4, 8}
        assert first.sum() != second.sum()
        assert mix.tolist() == [1, 2, 4, 8]
        submixes.add(int(without.sum()))
    assert submixes == {15 - one - other for one in (1, 2, 4, 8) for other in (0, 1, 2, 4, 8) if one != other}


def test_of_one_track_that_sounds_all_sums_are_that_or_silence() -> None:
    tracks = np.zeros((4, 3), np.float32)
    tracks[2] = 1
    for seed in range(10):
        rows = sums(tracks, np.random.default_rng(seed))
        assert rows.shape == (4, 3)
        assert rows[2].tolist() == [1, 1, 1]


def test_training_brings_the_losses_of_magnitudes_down() -> None:
    torch.manual_seed(0)
    trainer = VaeTrainer(TOY, tones, 0, CPU)
    losses = [trainer.step(Moment(100 + step, 0.0, 0.0)) for step in range(60)]
    for name, most in (("head", 0.8), ("quiet", 0.9)):
        assert np.mean([each[name] for each in losses[-5:]]) < most * np.mean([each[name] for each in losses[:5]]), name
    assert "mel" in losses[2]  # of step 102: every third is listened to
    assert "mel" not in losses[1]


def test_an_opponent_learns_and_is_learnt_from_when_its_time_has_come() -> None:
    torch.manual_seed(0)
    trainer = VaeTrainer(TOY, tones, 0, CPU)
    assert trainer.opponent is None  # on a CPU it is not worth its time
    assert trainer.state().keys() == {"model", "optimizer", "mixtures"}
    trainer.opponent = Opponent(CPU, 1e-3)
    before = [value.clone() for value in trainer.opponent.discriminator.parameters()]
    assert "adversarial" not in trainer.step(Moment(3, 0.0, 0.1))
    assert {"adversarial", "features", "verdict", "mel"} <= trainer.step(Moment(4, 0.0, 0.5)).keys()
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.opponent.discriminator.parameters(), strict=True))
    assert trainer.state().keys() >= {"discriminator", "opposing"}


def test_the_soft_counts_as_much_as_the_loud_and_below_hearing_nothing() -> None:
    filters = torch.eye(2)
    wanted = torch.tensor([[[100.0, 1e-3]]])
    soft, loud = wanted * torch.tensor([1.0, 2.0]), wanted * torch.tensor([2.0, 1.0])
    assert float(quiet_loss(soft, wanted, filters)) == pytest.approx(math.log(2) / 2)
    assert float(quiet_loss(soft, wanted, filters)) == pytest.approx(float(quiet_loss(loud, wanted, filters)))
    assert float(quiet_loss(torch.full((1, 1, 2), 1e-6), torch.zeros(1, 1, 2), filters)) == 0


def test_the_divergence_is_that_of_gaussians() -> None:
    mean, deviation = torch.tensor([[[0.5], [-1.0]]]), torch.tensor([[[0.3], [2.0]]])
    unit = torch.distributions.Normal(torch.zeros(1), torch.ones(1))
    wanted = torch.distributions.kl_divergence(torch.distributions.Normal(mean, deviation), unit).sum()
    assert float(divergence(mean, 2 * deviation.log())) == pytest.approx(float(wanted), rel=1e-5)


def test_without_training_the_file_is_the_codec_and_always_the_same(tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        vae, outcome = train_vae(LoopConfig(tmp_path / name, minutes=0), TOY, tones, HELD_OUT, "cpu", toy_codec())
        files.append((tmp_path / name / FILE).read_bytes())
    assert files[0] == files[1]
    assert outcome.step == 0
    part = read_part(tmp_path / "one" / FILE)
    again = load(part.table, part.tensors)
    audio = torch.from_numpy(tones(9)[:, : 4 * vae.hop])
    assert again.config == TOY.vae
    assert torch.allclose(again.encode(audio), vae.encode(audio), atol=0.05)  # int8


def test_training_starts_from_the_codec_and_goes_on_where_it_was(
    tmp_path: Path, seconds_a_step: Callable[[float], None]
) -> None:
    seconds_a_step(0.4)
    loop = LoopConfig(tmp_path, minutes=0.03)
    _, first = train_vae(loop, TOY, tones, HELD_OUT, "cpu", toy_codec())
    start = evaluate(principal(toy_codec(), (tones(seed) for seed in range(12)), TOY.vae), [tones(HELD_OUT[0])], CPU)
    assert validations(tmp_path)[0]["mel"] == pytest.approx(start["mel"])
    _, second = train_vae(replace(loop, minutes=0.05), TOY, tones, HELD_OUT, "cpu", toy_codec())
    assert (first.step, second.step) == (5, 8)
    names = {f"{kind}_{name}" for kind in ("mel", "sdr", "phase") for name in ("vocals", "mix", "accompaniment")}
    assert names | {"mel", "worse", "kl", "channels"} <= second.validation.keys()


def test_what_is_silent_is_not_judged() -> None:
    stems = tones(0)
    stems[0] = 0
    figures = evaluate(principal(toy_codec(), songs(), TOY.vae), [stems], CPU)
    assert "mel_vocals" not in figures
    assert figures["worse"] == max(figures["mel"], figures["mel_mix"])
    assert evaluate(principal(toy_codec(), songs(), TOY.vae), [0 * stems, stems], CPU) == figures
    with pytest.raises(ValueError, match="silent in their middle"):
        evaluate(principal(toy_codec(), songs(), TOY.vae), [0 * stems], CPU)


def test_crops_in_which_nothing_sounds_make_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no rows the mean loss would be no number, and training would end."""
    monkeypatch.setattr(training, "MOST_BATCHES", 30)

    def mostly_silent(seed: int) -> NDArray[np.float32]:
        return tones(seed) * (seed % 3 == 0)

    rows = [len(VaeTrainer(TOY, mostly_silent, seed, CPU).batch()) for seed in range(4)]
    assert min(rows) > 0
    with pytest.raises(ValueError, match="nothing sounds: give songs that are not silent"):
        VaeTrainer(TOY, lambda seed: 0 * tones(seed), 0, CPU).batch()

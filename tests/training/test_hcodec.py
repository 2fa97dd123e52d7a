"""Training of a small HCodec."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.codecs.hcodec.load import hcodec
from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hubert import hubert_names
from backline.training.hcodec import HCodecTrainer, HCodecTraining, magnitude_loss, packed, train_hcodec
from backline.training.loop import LoopConfig, Moment
from backline.training.mixtures import Augmentation
from tests.support.hcodec_checkpoint import HUBERT, hubert_checkpoint

TOY_CODEC = HCodecConfig(
    width=16, feed_forward=32, encoder_blocks=1, decoder_blocks=1, transformer_layers=0, latent=8, codebooks=2,
    codebook_size=16, features="mel", feature_width=20, semantic_width=8, head_limit=1e3, upsampling="learned",
    normalized=True,
)  # fmt: skip
CPU = torch.device("cpu")
TOY = HCodecTraining(codec=TOY_CODEC, codes=4, crops=1, quantize_from=3, batches_to_start=2, rate=3e-3)


def tones(seed: int) -> NDArray[np.float32]:
    """Four steady tones of two seconds."""
    hertz = np.random.default_rng(seed).uniform(100, 4000, (4, 1))
    return (0.2 * np.sin(2 * np.pi * hertz * np.arange(96_000) / 48_000)).astype(np.float32)


def test_training_brings_the_loss_of_magnitudes_down() -> None:
    torch.manual_seed(0)
    trainer = HCodecTrainer(TOY, tones, 0, torch.device("cpu"))
    losses = [trainer.step(Moment(100 + step, 0.0, 0.0))["head"] for step in range(60)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_codebooks_start_from_latents_when_these_have_settled() -> None:
    torch.manual_seed(0)
    trainer = HCodecTrainer(TOY, tones, 0, torch.device("cpu"))
    before = trainer.codec.quantizer("semantic").codebooks.clone()
    for step in range(3):
        assert "commitment" not in trainer.step(Moment(step, 0.0, 0.0))
    assert torch.equal(before, trainer.codec.quantizer("semantic").codebooks)
    assert "commitment" in trainer.step(Moment(3, 0.0, 0.0))
    assert not torch.equal(before, trainer.codec.quantizer("semantic").codebooks)


def test_equal_magnitudes_cost_nothing_and_silence_all() -> None:
    wanted = torch.rand(1, 20, 30) + 0.1
    assert float(magnitude_loss(wanted, wanted)) == pytest.approx(0, abs=1e-4)
    assert float(magnitude_loss(torch.zeros_like(wanted), wanted)) == pytest.approx(1, rel=0.02)
    assert float(magnitude_loss(4 * wanted, wanted)) == pytest.approx(1, rel=0.02)


def packed_tensors(codec: HCodec) -> dict[str, torch.Tensor]:
    """What a pack keeps of it."""
    return {
        name: value.clone() for name, value in codec.state_dict().items() if not name.startswith("feature_decoder.")
    }


def test_training_starts_from_a_packs_codec_and_its_codes() -> None:
    torch.manual_seed(5)
    trained = HCodec(TOY_CODEC)
    trainer = HCodecTrainer(TOY, tones, 0, torch.device("cpu"))
    audio = torch.from_numpy(tones(0)[:, None, :7680].copy())
    assert not torch.equal(trainer.codec.encode(audio), trained.encode(audio))
    trainer.start_from(packed_tensors(trained))
    assert torch.equal(trainer.codec.encode(audio), trained.encode(audio))
    assert "commitment" in trainer.step(Moment(0, 0.0, 0.0))  # it quantises at once
    moved = trainer.codec.quantizer("acoustic").codebooks - trained.quantizer("acoustic").codebooks
    assert 0 < float(moved.square().mean().sqrt()) < 0.2 * float(trained.quantizer("acoustic").codebooks.std())


def test_a_codec_of_another_size_is_no_start() -> None:
    trainer = HCodecTrainer(TOY, tones, 0, torch.device("cpu"))
    wider = packed_tensors(HCodec(dataclasses.replace(TOY_CODEC, latent=12)))
    with pytest.raises(ValueError, match=r"does not fit.*codec\.acoustic\.out\.weight is"):
        trainer.start_from(wider)


def test_a_batch_has_as_many_vocals_more_as_are_asked_for() -> None:
    feed = dataclasses.replace(TOY, crops=2, voices=3)
    trainer = HCodecTrainer(feed, lambda seed: np.sign(tones(seed)) * np.float32([[0.5], [1], [1], [1]]), 0, CPU)
    plain = Augmentation(silent=0.0, early=0.0, levels=(0.0, 0.0))
    trainer.mixtures.feed = dataclasses.replace(trainer.mixtures.feed, augmentation=plain)
    assert len(trainer.batch()) == 2 * 4 + 3
    trainer.mixtures.augmented = lambda track, place: track  # type: ignore[method-assign]
    peaks = trainer.batch().abs().amax((1, 2)).tolist()
    assert peaks == [0.5, 1, 1, 1] * 2 + [0.5] * 3


def test_a_codec_that_hears_hubert_trains_and_its_checkpoint_and_pack_play(tmp_path: Path) -> None:
    tensors = hubert_names(hubert_checkpoint(), HUBERT)
    sizes = dataclasses.replace(TOY_CODEC, features="hubert", feature_width=HUBERT.dimension)
    torch.manual_seed(0)
    trainer = HCodecTrainer(dataclasses.replace(TOY, codec=sizes), tones, 0, CPU, tensors)
    assert not any("hubert" in name for name in trainer.codec.state_dict()), "what learns nothing is in no checkpoint"
    losses = [trainer.step(Moment(100 + step, 0.0, 0.0)) for step in range(30)]
    for name in ("head", "features"):
        assert np.mean([step[name] for step in losses[-5:]]) < 0.9 * np.mean([step[name] for step in losses[:5]])
    table, packed_up = packed(trainer.codec, torch.float32)
    codec = hcodec(table, packed_up)
    audio = torch.from_numpy(tones(0)[:, None, :15360].copy())
    assert torch.equal(codec.encode(audio), trainer.codec.eval().encode(audio))
    again = HCodecTrainer(dataclasses.replace(TOY, codec=sizes), tones, 1, CPU, tensors)
    again.start_from({name.removeprefix("codec."): value for name, value in packed_up.items()})
    assert torch.equal(again.codec.eval().encode(audio), codec.encode(audio))


def test_without_hubert_such_a_codec_is_not_begun() -> None:
    sizes = dataclasses.replace(TOY_CODEC, features="hubert", feature_width=HUBERT.dimension)
    with pytest.raises(ValueError, match=r"no HuBERT base for this network: .* is missing"):
        HCodecTrainer(dataclasses.replace(TOY, codec=sizes), tones, 0, CPU)


def test_a_run_goes_on_where_it_was(tmp_path: Path, seconds_a_step: Callable[[float], None]) -> None:
    seconds_a_step(0.4)
    loop = LoopConfig(tmp_path, minutes=0.03, seed=0)
    _, first = train_hcodec(loop, TOY, tones, range(1 << 40, (1 << 40) + 1), "cpu")
    codec, second = train_hcodec(
        dataclasses.replace(loop, minutes=0.05), TOY, tones, range(1 << 40, (1 << 40) + 1), "cpu"
    )
    assert (first.step, second.step) == (5, 8)
    assert {"mel", "mask_vocals", "sdr_drums", "perplexity_semantic_last"} <= second.validation.keys()
    assert torch.equal(codec.quantizer("acoustic").codebooks, codec.quantizer("acoustic").codebooks)

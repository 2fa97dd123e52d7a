"""The whole recipe at toy size: every part trains, goes on where it was, and the pack that it writes plays."""

import dataclasses
import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.corpus.multitrack import Multitrack, has_band
from backline.corpus.songs import CorpusSongs
from backline.models.hafm.aligned.config import TINY
from backline.models.stream import ChunkInput, SessionConfig
from backline.music.fluidsynth import missing
from backline.music.seeds import HELD_OUT_SEED
from backline.music.world import TRIO
from backline.packs.pack import load_stream, read_pack, read_tensors
from backline.packs.registry import PackRegistry
from backline.training.codec import CodecTraining
from backline.training.default_pack import PARTS, SHARES, Recipe, train_default_pack
from backline.training.loop import Losses, Moment, read_log
from backline.training.report import LOSSES
from backline.training.stages import StageTrainer, StageTraining
from tests.support.corpora import noises, write_corpus, write_song

TOY_STAGE = StageTraining(clip=Fraction(6, 5), rows=2, batches_held=2, in_c=True)
TOY_CODEC = ConvNeXtCodecConfig(latent=8, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)
# Of six seconds the parts take 1.8, 1.5 and 2.7.
TOY = Recipe(
    minutes=0.1,
    device="cpu",
    world=dataclasses.replace(TRIO, bars=4),
    codec=CodecTraining(codec=TOY_CODEC, rows=2, frames=24, songs=4, quantize_from=2, batches_to_start=1),
    network=TINY,
    stages={"semantic": TOY_STAGE, "acoustic": dataclasses.replace(TOY_STAGE, in_c=False)},
    semantic_songs=2,
    hint_songs=2,
    hint_epochs=24.0,
    shard_songs=2,
    held_out_songs=1,
)


def test_the_shares_of_the_parts_are_all_the_minutes() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert [TOY.loop(Path("run"), part).minutes * 60 for part in SHARES] == pytest.approx([1.8, 1.5, 2.7])


def test_parts_that_do_not_exist_or_come_too_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such part: drums; use semantics, hints, codec, semantic, acoustic"):
        train_default_pack(tmp_path, tmp_path / "pack", TOY, ("drums",))
    with pytest.raises(ValueError, match="train the part 'semantics' first"):
        train_default_pack(tmp_path, tmp_path / "pack", TOY, ("semantic",))


def test_an_interrupted_codec_is_saved_and_no_stage_is_begun(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path,
        *(write_song(tmp_path, split, noises("drums", "vocals"), split=split) for split in ("training", "validation")),
    )

    class Interrupted(CorpusSongs):
        """The user presses Ctrl+C while training makes its first song."""

        def song(self, seed: int) -> Multitrack:
            if seed < HELD_OUT_SEED:
                os.kill(os.getpid(), signal.SIGINT)
            return super().song(seed)

    run, lines = tmp_path / "run", list[str]()
    recipe = dataclasses.replace(TOY, codec_songs=Interrupted(corpus, has_band))
    train_default_pack(run, tmp_path / "pack", recipe, ("codec", "semantic"), lines.append)
    assert (run / "codec" / "checkpoint.pt").exists()
    assert not (run / "semantic").exists()
    assert any("semantic, acoustic not trained" in line for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_the_recipe_trains_every_part_and_its_pack_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_a_step: Callable[[float], None]
) -> None:
    seconds_a_step(0.4)
    run, out, lines = tmp_path / "run", tmp_path / "toy", list[str]()
    train_default_pack(run, out, TOY, PARTS[:3], lines.append)
    assert any("semantic, acoustic not trained" in line for line in lines)
    codec_log = read_log(run / "codec")

    # Ctrl+C in the first step of a stage.
    with monkeypatch.context() as patched:

        def interrupted_step(self: StageTrainer, moment: Moment) -> Losses:
            os.kill(os.getpid(), signal.SIGINT)
            return {}

        patched.setattr(StageTrainer, "step", interrupted_step)
        train_default_pack(run, out, TOY, PARTS, lines.append)
    assert (run / "semantic" / "checkpoint.pt").exists()
    assert not (run / "acoustic").exists()
    assert not out.exists()

    train_default_pack(run, out, TOY, PARTS, lines.append)  # goes on with it
    assert lines[-1] == f"pack written to {out}"
    assert read_log(run / "codec") == codec_log  # its time was used up
    steps = {part: read_log(run / part)[-1]["step"] for part in SHARES}
    train_default_pack(run, out, TOY, PARTS, lines.append)
    assert {part: read_log(run / part)[-1]["step"] for part in SHARES} == steps

    pack = read_pack(out)
    card = pack.config["card"]
    assert card["seed"] == 0
    assert card["steps"] == steps
    assert steps == {"codec": 5, "semantic": 4, "acoustic": 7}
    assert 0 < card["validation"]["semantic"]["loss"] < 5
    assert 0 < card["validation"]["acoustic"]["loss"] < 8
    assert {file.quantization for file in pack.files} >= {"int8"}
    assert (out / LOSSES).read_bytes() == (run / LOSSES).read_bytes()

    stream = load_stream(pack)
    parameters = {parameter.name: parameter.default for parameter in stream.spec.parameters}
    row = stream.open(SessionConfig(24_000, 1, Fraction(2, 5), 0.4, seed=1, parameters=parameters))
    heard = 0
    for _ in range(2):
        needed = stream.required_input(row)
        voice = 0.1 * np.sin(np.arange(heard, needed) * 0.05).astype(np.float32)[None]
        heard = needed
        output = stream.step([ChunkInput(row, voice, None, parameters)])[0]
        assert np.isfinite(output.audio[0]).all()
    assert output.frames is not None
    assert output.frames.shape == (30, TINY.acoustic.codebooks)

    # Another run goes on from the pack: with its tables, its codec, and after next to no training its networks still.
    warm = dataclasses.replace(TOY.begun_with(pack), minutes=0.005)
    assert warm.stages["semantic"].rate == TOY_STAGE.rate / 2
    train_default_pack(tmp_path / "warm", tmp_path / "warmer", warm, ("semantic", "acoustic"), lines.append)
    again = read_pack(tmp_path / "warmer")
    assert again.config["card"]["from"] == "default 0.3.0"
    assert again.config["card"]["command"].endswith("--from default")
    assert "semantic: loss " in again.config["card"]["fine_tuned"]
    before, after = read_tensors(pack), read_tensors(again)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.startswith(("semantics.", "codec.")):
            np.testing.assert_allclose(
                after[name], tensor, rtol=0.02, atol=2e-3 * float(tensor.float().std() + 1e-6) + 1e-4
            )
        elif tensor.dim() > 1:
            assert float((after[name] - tensor).float().std()) < 0.3 * float(tensor.float().std()), name


def test_only_a_pack_of_the_kind_is_a_start() -> None:
    for name, message in (
        ("stems", r"cannot start from stems: .*\[codec\] kind is 'hcodec'"),
        ("passthrough", "cannot"),
    ):
        with pytest.raises(ValueError, match=message):
            TOY.begun_with(read_pack(PackRegistry([]).entry(name).folder))
    usual = Recipe().begun_with(read_pack(PackRegistry([]).entry("default").folder))
    assert usual.network == Recipe().network
    assert usual.codec.codec.codebooks == usual.network.acoustic.codebooks

"""The whole recipe at toy size: every part trains, goes on where it was, and the pack that it writes plays."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.models.hafm.config import TINY
from backline.models.stream import ChunkInput, SessionConfig
from backline.music.fluidsynth import missing
from backline.music.world import NARROW
from backline.packs.pack import load_stream, read_pack
from backline.training.codec import CodecTraining
from backline.training.default_pack import PARTS, Recipe, train_default_pack
from backline.training.loop import LoopConfig
from backline.training.stages import StageTraining

TOY_STAGE = StageTraining(clip=Fraction(6, 5), rows=2, batches_held=2, served=Fraction(2, 5), chunks=(Fraction(2, 5),))
TOY_CODEC = ConvNeXtCodecConfig(latent=8, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)


class Toy(Recipe):
    """Two seconds for every part, however the machine is."""

    def loop(self, run: Path, part: str) -> LoopConfig:
        return dataclasses.replace(super().loop(run, part), minutes=2 / 60)


def toy(**changes: object) -> Toy:
    return Toy(
        world=dataclasses.replace(NARROW, bars=4),
        codec=CodecTraining(codec=TOY_CODEC, rows=2, frames=24, songs=4),
        network=TINY,
        stages=dict.fromkeys(TINY.stages(), TOY_STAGE),
        semantic_songs=2,
        shard_songs=2,
        held_out_songs=1,
        **changes,  # type: ignore[arg-type]
    )


def test_parts_that_do_not_exist_or_come_too_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such part: drums"):
        train_default_pack(tmp_path, tmp_path / "pack", toy(), ("drums",))
    with pytest.raises(ValueError, match="train the part 'semantics' first"):
        train_default_pack(tmp_path, tmp_path / "pack", toy(), ("coarse",))


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_the_recipe_trains_every_part_and_its_pack_plays(tmp_path: Path) -> None:
    run, out, lines = tmp_path / "run", tmp_path / "toy", list[str]()
    train_default_pack(run, out, toy(), PARTS[:3], lines.append)
    assert any("coarse, fine not trained" in line for line in lines)
    assert not out.exists()
    train_default_pack(run, out, toy(), PARTS, lines.append)  # goes on: semantics, codec and stage 1 are there

    pack = read_pack(out)
    card = pack.config["card"]
    assert card["seed"] == 0
    assert all(card["steps"][part] > 0 for part in ("codec", "semantic", "coarse", "fine"))
    assert 0 < card["validation"]["coarse"]["loss"] < 8
    stream = load_stream(pack)
    chunk = Fraction(2, 5)
    row = stream.open(
        SessionConfig(24_000, 1, chunk, 0.4, seed=1, parameters={p.name: p.default for p in stream.spec.parameters})
    )
    voice = np.sin(np.arange(stream.required_input(row)) * 0.05).astype(np.float32)[None]
    parameters = {parameter.name: parameter.default for parameter in stream.spec.parameters}
    output = stream.step([ChunkInput(row, voice, None, parameters)])[0]
    assert output.frames is not None
    assert output.frames.shape == (30, 8)
    assert np.isfinite(output.audio[0]).all()

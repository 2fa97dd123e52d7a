"""Training of a stems network, and the whole recipe at toy size."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.codecs.hcodec.network import HCodec
from backline.corpus.songs import Composer
from backline.models.stems.config import MelConfig, StemsConfig
from backline.models.stream import ChunkInput, SessionConfig
from backline.music.fluidsynth import missing
from backline.music.stems import SAMPLE_RATE
from backline.music.world import BAND, PEOPLE
from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig
from backline.packs.pack import load_stream, read_pack, read_tensors
from backline.packs.registry import PackRegistry
from backline.training.loop import Moment, read_log
from backline.training.stems import ABLATION_WEIGHTS, PAPER_WEIGHTS, StemsTrainer, StemsTraining
from backline.training.stems_pack import PARTS, SHARES, StemsRecipe, card, train_stems_pack
from tests.training.test_hcodec import TOY as TOY_CODEC_TRAINING
from tests.training.test_hcodec import TOY_CODEC, tones

TOY_NETWORK = StemsConfig(
    encoder=ConformerConfig(1, 16, 2, norm="layer"),
    decoder=LlamaConfig(1, 16, 2, 32),
    mel=MelConfig(bands=20, floor=1e-5),
    codebooks=TOY_CODEC.codebooks,
    codebook_size=TOY_CODEC.codebook_size,
    condition="aligned",
    track_embedding=True,
    readout="mean",
)
TOY = StemsTraining(network=TOY_NETWORK, weights=(2.0, 1.0), rows=1, passes=2, batches=2)
COMPOSER = Composer(BAND, SAMPLE_RATE)
RECIPE = StemsRecipe(minutes=0.12, device="cpu", codec=TOY_CODEC_TRAINING, network=TOY, held_out_songs=1)


def make(config: StemsTraining = TOY) -> StemsTrainer:
    torch.manual_seed(0)
    return StemsTrainer(config, HCodec(TOY_CODEC), tones, 0, torch.device("cpu"))


def test_the_weights_are_the_papers() -> None:
    assert (len(PAPER_WEIGHTS), sum(PAPER_WEIGHTS)) == (16, 17)
    assert (len(ABLATION_WEIGHTS), sum(ABLATION_WEIGHTS)) == (16, 33)


def test_training_brings_both_losses_down() -> None:
    trainer = make(replace(TOY, rate=5e-3))
    losses = [trainer.step(Moment(step, 0.0, 0.0)) for step in range(100)]
    for name in ("codes", "vectors"):
        first, last = (np.mean([step[name] for step in part]) for part in (losses[:10], losses[-10:]))
        assert last < 0.9 * first


@pytest.mark.parametrize(
    "changed",
    [
        {"order": "delay", "condition": "prefix"},
        {"order": "flat", "tracks": "parallel"},
        {"tracks": "parallel", "condition": "prefix"},
    ],
)
def test_every_layout_learns(changed: dict[str, str]) -> None:
    trainer = make(replace(TOY, network=replace(TOY_NETWORK, **changed), passes=1, rate=3e-3))  # type: ignore[arg-type]
    lesson = trainer.lesson()
    before = float(trainer.losses(lesson, lesson.positions)["codes"].detach())
    trainer.lessons.make = lambda: lesson
    for step in range(15):
        trainer.step(Moment(200 + step, 0.0, 0.0))
    assert float(trainer.losses(lesson, lesson.positions)["codes"].detach()) < before


def test_another_rows_codes_keep_their_places() -> None:
    trainer = make(replace(TOY, rows=3))
    positions = torch.arange(3)[:, None, None, None].expand(3, 4, 100, 2) * 1000 + torch.arange(100)[:, None]
    others = trainer.other_rows(positions)
    assert torch.equal(others % 1000, positions % 1000)
    assert (others != positions).all()
    mixed = trainer.mixed(positions, others, 1.0)
    shares = (mixed != positions).float().mean(dim=(1, 2, 3))
    assert ((shares > 0) & (shares < 1)).any()
    assert torch.equal(trainer.mixed(positions, others, 0.0), positions)


@pytest.mark.parametrize("changed", [{}, {"tracks": "parallel"}, {"order": "delay"}])
def test_what_the_network_would_tell_is_likeliest_at_each_place(changed: dict[str, str]) -> None:
    trainer = make(replace(TOY, network=replace(TOY_NETWORK, **changed)))  # type: ignore[arg-type]
    config = trainer.network.config
    hidden = torch.randn(2, config.segments, len(trainer.table) + 1, 16)
    with torch.no_grad():
        told = trainer.likeliest(hidden)
        for segment, lane, position, book in [(0, 0, 7, 1), (config.segments - 1, config.lanes - 1, 20, 0)]:
            heads = trainer.network.heads[lane, trainer.table[position, book] % 2, book]
            expected = (hidden[1, segment, position] @ heads.T).argmax()
            assert told[1, segment * config.lanes + lane, position, book] == expected


def test_with_a_trusted_past_the_truth_is_told() -> None:
    trainer = make(replace(TOY, own=0.0, misheard=0.0))
    lesson = trainer.lesson()
    assert torch.equal(trainer.past(lesson), lesson.positions)


def test_a_network_that_knows_the_codes_has_no_loss_but_smoothing() -> None:
    trainer = make(replace(TOY, smoothing=0.1))
    positions = torch.zeros(1, 4, 100, 2, dtype=torch.long)
    with torch.no_grad():  # entry 0 and the end are told whatever the hidden state, as long as that is a constant
        trainer.network.heads.zero_()
        trainer.network.heads[..., 0, :] = 40.0
        trainer.network.end.zero_()
        hidden = torch.zeros(1, 4, 101, 16)
        hidden[:, :, :-1, 0] = 1
        losses = trainer.code_losses(hidden, positions, trainer.table)
        sharp = make(TOY)
        sharp.network.heads.copy_(trainer.network.heads)
        exact = sharp.code_losses(hidden, positions, sharp.table)
    assert float(exact[1]) == pytest.approx(0, abs=1e-5)
    assert float(losses[1]) == pytest.approx(0.1 * 15 / 16 * 40, rel=1e-3)  # a tenth, spread over 16 entries
    # One of 101 acoustic places of the first codebook tells the end, and here all 17 classes are equally likely.
    assert float(exact[0]) == pytest.approx(np.log(17) / 51 / 2, rel=1e-2)


def test_tables_start_as_the_codebooks_so_that_neighbours_stay_neighbours() -> None:
    trainer = make()
    vectors, heads = trainer.codebooks[0, 0], trainer.network.heads.detach()[0, 0, 0]
    near = torch.cdist(vectors, vectors).flatten()
    seen = torch.cdist(heads, heads).flatten()
    assert float(torch.corrcoef(torch.stack([near, seen]))[0, 1]) > 0.7


def test_parts_that_do_not_exist_or_come_too_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such part: drums; use codec, network"):
        train_stems_pack(tmp_path, tmp_path / "pack", RECIPE, ("drums",))
    with pytest.raises(ValueError, match="train the part 'codec' first"):
        train_stems_pack(tmp_path, tmp_path / "pack", RECIPE, ("network",))


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_the_recipe_trains_both_parts_and_its_pack_separates(
    tmp_path: Path, seconds_a_step: Callable[[float], None]
) -> None:
    seconds_a_step(0.4)
    run, out, lines = tmp_path / "run", tmp_path / "toy", list[str]()
    train_stems_pack(run, out, RECIPE, ("codec",), lines.append)
    assert "network" in lines[-1]
    assert not out.exists()
    train_stems_pack(run, out, RECIPE, PARTS, lines.append)
    assert lines[-1] == f"pack written to {out}"
    assert sum(SHARES.values()) == pytest.approx(1)

    pack = read_pack(out)
    card = pack.config["card"]
    assert card["world"] == "band"
    assert card["steps"] == {part: read_log(run / part)[-1]["step"] for part in PARTS}
    assert card["validation"]["network"]["mel"] > 0
    stream = load_stream(pack)
    parameters = {parameter.name: parameter.default for parameter in stream.spec.parameters}
    row = stream.open(SessionConfig(48_000, 2, Fraction(24, 25), 1.44, seed=1, parameters=parameters))
    needed = stream.required_input(row)
    mixture = 0.1 * np.random.default_rng(0).standard_normal((2, needed), np.float32)
    stems = stream.step([ChunkInput(row, mixture, None, parameters)])[0].audio
    assert [port.name for port in stream.spec.ports] == ["vocals", "drums", "bass", "other"]
    assert np.abs(np.sum(stems, axis=0) - mixture[:, : stems[0].shape[1]]).max() < 1e-4

    # Another run goes on from the pack: it has its sizes, and after next to no training its codec and network still.
    usual = StemsRecipe.of(0.02, 0, "cpu", COMPOSER, pack)
    assert (usual.codec.codec, usual.network.network) == (TOY_CODEC, TOY_NETWORK)
    assert usual.codec.rate < StemsRecipe().codec.rate
    warm = replace(RECIPE, minutes=0.001, start=pack)
    train_stems_pack(tmp_path / "warm", tmp_path / "warmer", warm, PARTS, lines.append)
    again = read_pack(tmp_path / "warmer")
    assert again.config["card"]["from"] == "stems 0.1.0"
    assert again.config["card"]["command"].endswith("--from stems")
    before, after = read_tensors(pack), read_tensors(again)
    for name in ("codec.quantizers.semantic.codebooks", "codec.decoder.head.weight", "stems.heads"):
        assert float((after[name] - before[name]).std()) < 0.3 * float(before[name].std())


def test_a_world_of_people_trains_on_more_vocals_and_is_told_from_the_band(tmp_path: Path) -> None:
    people, band = (StemsRecipe.of(1, 0, "cpu", Composer(world, SAMPLE_RATE), None) for world in (PEOPLE, BAND))
    assert band == StemsRecipe(1, 0, "cpu")
    assert people.codec.voices > band.codec.voices == 0
    made = card(tmp_path, people)
    assert made["world"] == "people"
    assert made["command"] == "backline train stems-pack --minutes 1 --seed 0 --world people"
    assert "klettres-data (GPL-2+)" in made["data"]
    assert "klettres" not in card(tmp_path, band)["data"]


def test_only_a_stems_pack_is_a_start() -> None:
    other = read_pack(PackRegistry([]).entry("default").folder)
    with pytest.raises(ValueError, match=r"cannot start from default: .*\[codec\] kind is 'convnext'"):
        StemsRecipe.of(1, 0, "cpu", COMPOSER, other)

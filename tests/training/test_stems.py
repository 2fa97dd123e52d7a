"""Training of a stems network, and the whole recipe at toy size."""

from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.semantics import base_config
from backline.codecs.hubert import hubert_layout, hubert_names
from backline.corpus.multitrack import TRACKS, Multitrack
from backline.corpus.songs import Composer
from backline.models.stems.config import MelConfig, StemsConfig
from backline.models.stream import ChunkInput, SessionConfig
from backline.music.fluidsynth import missing
from backline.music.stems import SAMPLE_RATE
from backline.music.world import BAND, OPEN, PEOPLE
from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig
from backline.packs.pack import Pack, load_stream, read_pack, read_tensors, write_pack
from backline.packs.registry import PackRegistry
from backline.training.hcodec import packed as packed_codec
from backline.training.loop import Moment, read_log
from backline.training.stems import (
    ABLATION_WEIGHTS,
    PAPER_SMALL,
    PAPER_WEIGHTS,
    Ablation,
    StemsTrainer,
    StemsTraining,
    ablated,
)
from backline.training.stems_pack import PARTS, SHARES, StemsRecipe, Wish, card, regrouped, train_stems_pack
from tests.support.hcodec_checkpoint import HUBERT, hubert_checkpoint
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


def test_the_papers_preset_is_section_3_2() -> None:
    paper = StemsRecipe.of(1, 0, "cpu", COMPOSER, target=codec_pack(HCodecConfig()), wish=Wish(preset="paper"))
    training, network = paper.network, paper.network.network
    assert network == StemsConfig()  # whose sizes test_config.py has
    assert (network.condition, network.readout, network.phase, network.decoder.dropout) == (
        *("prefix", "codes", "codec"),
        0.1,
    )
    assert training.weights == PAPER_WEIGHTS
    assert (training.rate, training.warmup_steps, training.smoothing, training.rows) == (5e-4, 2000, 0.1, 24)
    assert (training.vectors, training.own, training.misheard, training.passes) == (0, 0, 0, 1)
    assert (training.augmentation.silent, training.augmentation.early, training.augmentation.levels) == (0, 0, (0, 0))
    assert paper.parts == ("network",)
    assert paper.loop(Path("run"), "network").minutes == 1


def test_the_papers_learning_rate_is_the_trainers_step_by_step() -> None:
    trainer = make(replace(PAPER_SMALL, network=replace(TOY_NETWORK, condition="prefix"), rows=1))
    steps = [0, 999, 1999, 2000, 51_999]
    rates = [trainer.rate(Moment(step, 0.0, progress)) for step, progress in zip(steps, (0, 0.9, 0, 1, 0), strict=True)]
    assert rates == pytest.approx([2.5e-7, 2.5e-4, 5e-4, 5e-4 * 0.99998, 5e-4 * 0.99998**50_000])
    losses = trainer.step(Moment(1999, 0.0, 0.0))
    assert losses["rate"] == pytest.approx(5e-4)
    assert "vectors" not in losses, "the paper has no such loss"
    lesson = trainer.lesson()
    assert trainer.past(lesson) is lesson.positions, "and no past but the true one"


def test_the_papers_training_brings_its_loss_down() -> None:
    trainer = make(
        replace(PAPER_SMALL, network=replace(TOY_NETWORK, condition="prefix"), rows=1, rate=5e-3, warmup_steps=1)
    )
    lesson = trainer.lesson()
    trainer.lessons.make = lambda: lesson
    losses = [trainer.step(Moment(step, 0.0, 0.0))["codes"] for step in range(40)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("ablation", ["a1", "a2", "a3"])
def test_every_ablation_changes_what_the_paper_changes_and_learns(ablation: Ablation) -> None:
    usual = replace(TOY, network=replace(TOY_NETWORK, hubert_width=HUBERT.dimension), passes=1)
    config = ablated(usual, ablation)
    same = replace(config.network, listener="conformer", tracks="sequential")
    assert replace(config, network=same, weights=usual.weights) == usual, "and nothing else"
    assert config.network.listener == ("hubert" if ablation == "a1" else "conformer")
    assert config.weights == (ABLATION_WEIGHTS if ablation == "a2" else TOY.weights)
    assert config.network.lanes == (4 if ablation == "a3" else 1)
    torch.manual_seed(0)
    hubert = hubert_names(hubert_checkpoint(), HUBERT) if ablation == "a1" else None
    trainer = StemsTrainer(replace(config, rate=3e-3), HCodec(TOY_CODEC), tones, 0, torch.device("cpu"), hubert)
    learning = trainer.network.state_dict()
    assert any(name.startswith("encoder.blocks") for name in learning) == (ablation != "a1")
    assert not any("hubert" in name for name in learning)
    heard = None if trainer.network.hubert is None else trainer.network.hubert(torch.from_numpy(tones(0)[:1, None]))
    lesson = trainer.lesson()
    before = float(trainer.losses(lesson, lesson.positions)["codes"].detach())
    trainer.lessons.make = lambda: lesson
    for step in range(15):
        trainer.step(Moment(200 + step, 0.0, 0.0))
    assert float(trainer.losses(lesson, lesson.positions)["codes"].detach()) < before
    if trainer.network.hubert is not None:
        assert torch.equal(trainer.network.hubert(torch.from_numpy(tones(0)[:1, None])), heard), "it stays as it was"


def test_wishes_that_cannot_be_had_are_refused_with_what_to_do() -> None:
    refused = [
        ({"wish": Wish(preset="paper")}, "frozen codec: name a pack that has an HCodec, --codec PACK"),
        ({"wish": Wish(preset="papers")}, "no preset 'papers' in size None: use --preset ours --size small"),
        ({"wish": Wish(rate=0.0)}, "rate is 0 of the usual one: use more than 0"),
        ({"wish": Wish(size="paper")}, "no preset 'ours' in size 'paper'"),
        ({"wish": Wish(ablation="a4")}, "no ablation 'a4': use a1, a2, a3"),
        ({"wish": Wish(ablation="a1")}, "no HuBERT to listen through: give its weights with --hubert"),
        ({"wish": Wish(stems=("vocals", "drums"))}, "do not make the song: .* one name more"),
        ({"wish": Wish(stems=("vocals", "band", "rest"))}, "do not make the song"),
        ({"wish": Wish(window_seconds=1.6)}, "chunk_seconds is 0.96: use a multiple of 0.08 s, .* up to 0.64 s"),
        ({"old": COMPOSER}, "name one with --from, or drop --keep-world"),
        ({"target": read_pack(PackRegistry([]).entry("default").folder)}, "default has no codec to tell in"),
        ({"start": read_pack(PackRegistry([]).entry("stems").folder), "wish": Wish(ablation="a3")}, "decides size"),
    ]
    for changes, message in refused:
        with pytest.raises(ValueError, match=message):
            StemsRecipe.of(1, 0, "cpu", COMPOSER, **changes)  # type: ignore[arg-type]


def test_tracks_are_taken_by_name_and_all_others_as_one() -> None:
    stems = np.arange(4, dtype=np.float32)[:, None] + np.float32([[0, 10]])
    assert regrouped(stems, ("vocals", "drums", "bass", "other")) is stems
    np.testing.assert_array_equal(regrouped(stems, ("band", "vocals")), [[6, 36], [0, 10]])
    np.testing.assert_array_equal(regrouped(stems, ("other", "bass", "drums", "vocals")), stems[::-1])


def codec_pack(config: HCodecConfig, folder: Path = Path("nowhere")) -> Pack:
    """A pack that has a codec of such sizes, and no weights."""
    table = {"kind": "hcodec", **asdict(config)}
    return Pack(folder, {"codec": table}, "a-codec", "1.0.0", "codec", "A codec", "MIT", ())


def test_a_frozen_codec_is_told_in_and_stays_as_it_is_to_the_last_bit(
    tmp_path: Path, seconds_a_step: Callable[[float], None]
) -> None:
    """As part of a recipe with two tracks and another window: the whole way to a pack that plays."""
    seconds_a_step(0.4)
    torch.manual_seed(7)
    table, tensors = packed_codec(HCodec(TOY_CODEC), torch.float32)
    lent = write_pack(
        tmp_path / "lent",
        {"name": "lent", "version": "1.0.0", "family": "codec", "description": "x", "license": "MIT", "codec": table},
        tensors,
    )
    recipe = StemsRecipe.of(
        0.05, 0, "cpu", Tones(), target=lent, wish=Wish(stems=("vocals", "band"), window_seconds=3.2)
    )
    network = recipe.network.network
    assert (network.codebooks, network.codebook_size, network.window_frames) == (2, 16, 40)
    toy = replace(TOY_NETWORK, stems=network.stems, window_frames=network.window_frames)
    recipe = replace(recipe, network=replace(TOY, network=toy), held_out_songs=1)
    run, out, lines = tmp_path / "run", tmp_path / "pack", list[str]()
    with pytest.raises(ValueError, match="codec of lent stays as it is"):
        train_stems_pack(run, out, recipe, ("codec",))
    train_stems_pack(run, out, recipe, PARTS, lines.append)
    assert lines[-1] == f"pack written to {out}"
    pack = read_pack(out)
    found = read_tensors(pack)
    kept = {name: value for name, value in tensors.items() if "feature_decoder" not in name}
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    card = pack.config["card"]
    assert card["codec"] == "of lent 1.0.0, MIT, as it is"
    assert card["command"].endswith("--stems vocals,band --window 3.2 --codec lent")
    assert list(card["steps"]) == ["network"]
    assert pack.description == "Separates a song into vocals, band, in tokens, 3.2 seconds at a time"
    stream = load_stream(pack)
    assert [port.name for port in stream.spec.ports] == ["vocals", "band"]
    row = stream.open(SessionConfig(48_000, 1, Fraction(24, 25), 1.44, seed=1))
    mixture = 0.1 * np.random.default_rng(0).standard_normal((1, stream.required_input(row)), np.float32)
    parts = stream.step([ChunkInput(row, mixture, None, {})])[0].audio
    assert np.abs(np.sum(parts, axis=0) - mixture[:, : parts[0].shape[1]]).max() < 1e-4

    # A run that has lost its codec goes on in that of the pack that it starts from.
    warm = replace(recipe, target=None, start=pack, minutes=0.01, old=Tones())
    train_stems_pack(tmp_path / "warm", tmp_path / "warmer", warm, ("network",), lines.append)
    again = read_pack(tmp_path / "warmer")
    assert again.config["card"]["codec"] == "of stems 0.1.0, Apache-2.0, as it is"
    assert "network: mel " in again.config["card"]["fine_tuned"]
    assert "old_mel" in again.config["card"]["fine_tuned"]
    assert all(torch.equal(read_tensors(again)[name], value) for name, value in kept.items())


def test_ablation_a1_listens_through_the_hubert_of_the_frozen_codec_and_its_pack_plays(
    tmp_path: Path, seconds_a_step: Callable[[float], None]
) -> None:
    seconds_a_step(0.4)
    torch.manual_seed(7)
    hubert = hubert_names(hubert_checkpoint(), HUBERT)
    table, tensors = packed_codec(HCodec(replace(TOY_CODEC, features="hubert", feature_width=HUBERT.dimension)))
    manifest = {"name": "lent", "version": "1.0.0", "family": "codec", "description": "x", "license": "MIT"}
    lent = write_pack(
        tmp_path / "lent",
        manifest | {"codec": table},
        tensors | {f"codec.hubert.{name}": hubert[name] for name in hubert_layout(base_config(hubert))},
    )
    recipe = StemsRecipe.of(0.03, 0, "cpu", Tones(), target=lent, wish=Wish(ablation="a1"))
    network = recipe.network.network
    assert (network.listener, network.hubert_width) == ("hubert", HUBERT.dimension)
    toy = replace(TOY_NETWORK, listener="hubert", hubert_width=network.hubert_width)
    recipe = replace(recipe, network=replace(TOY, network=toy), held_out_songs=1)
    train_stems_pack(tmp_path / "run", tmp_path / "pack", recipe, PARTS, lambda line: None)
    pack = read_pack(tmp_path / "pack")
    found = read_tensors(pack)
    assert torch.equal(found[f"codec.hubert.{PROJECTION}"], hubert[PROJECTION])
    assert torch.equal(found[f"stems.hubert.{PROJECTION}"], hubert[PROJECTION].half())
    assert pack.config["card"]["command"].endswith("--ablation a1 --codec lent")
    stream = load_stream(pack)
    row = stream.open(SessionConfig(48_000, 1, Fraction(24, 25), 1.44, seed=1))
    mixture = 0.1 * np.random.default_rng(0).standard_normal((1, stream.required_input(row)), np.float32)
    answer = stream.step([ChunkInput(row, mixture, None, {"consistency": 0.0})])[0]
    assert all(part.any() for part in answer.audio)


PROJECTION = "encoder.feature_projection.projection.weight"


class Tones:
    """`Songs` that are four tones."""

    def song(self, seed: int) -> Multitrack:
        return ToneSong(seed)

    def test_songs(self) -> None:
        return None

    def people(self) -> bool:
        return False

    def card(self) -> dict[str, Any]:
        return {"data": "tones"}

    def options(self) -> str:
        return "--world tones"


class ToneSong:
    """A `Multitrack` of `tones`."""

    seconds = 2.0

    def __init__(self, seed: int) -> None:
        self.title, self.sounds = f"tones {seed}", tones(seed)
        self.labels = dict(zip(TRACKS, TRACKS, strict=True))

    def read(
        self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None
    ) -> NDArray[np.float32]:
        assert (sample_rate, begin, seconds) == (48_000, 0.0, None)
        return self.sounds[[TRACKS.index(stem)]]


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
    slow = StemsRecipe.of(0.02, 0, "cpu", COMPOSER, pack, wish=Wish(rate=0.1))
    assert (slow.codec.rate, slow.network.rate) == pytest.approx((1e-4, 1e-4))
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


def test_the_card_of_the_open_world_lists_all_that_its_songs_were_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kits = tmp_path / "hydrogen" / "data" / "drumkits"
    for name in ("GMRockKit", "TR808EmulationKit", "Audiophob", "BJA_Pacific", "ForzeeStereo", "ElectricEmpireKit"):
        (kits / name).mkdir(parents=True)
        soundfile.write(kits / name / "hit.wav", np.zeros(100), 48_000)
        drums = "".join(f"<instrument><name>{drum}</name><filename>hit.wav</filename></instrument>"
                        for drum in ("Kick", "Snare"))  # fmt: skip
        (kits / name / "drumkit.xml").write_text(f"<kit><license>licence of {name}</license>{drums}</kit>")
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    told = card(tmp_path, StemsRecipe.of(1, 0, "cpu", Composer(OPEN, SAMPLE_RATE), None))["data"]
    for package in ("fluid-soundfont-gm (MIT)", "musescore-general-soundfont (MIT", "klettres-data (GPL-2+)", "pysinsy",
                    "asterisk-core-sounds-es-g722 (CC BY-SA 3.0)", "asterisk-core-sounds-ru-g722 (CC BY 3.0)",
                    "O'Neill's Music of Ireland, 1903 of music21 (public domain",
                    "pedalboard (GPL-3", "Red_Zeppelin_4_LV2.sf2 of avldrums.lv2-soundfont (CC BY-SA 3.0)",
                    "BJA_Pacific of hydrogen-drumkits (licence of BJA_Pacific)"):  # fmt: skip
        assert package in told
    assert "asterisk-core-sounds-it" not in told  # for testing only, as the next
    assert "Black Pearl" not in told  # for testing only
    assert "no sample and no recording is part of the pack" in told


def test_only_a_stems_pack_is_a_start() -> None:
    other = read_pack(PackRegistry([]).entry("default").folder)
    with pytest.raises(ValueError, match=r"cannot start from default: .*\[codec\] kind is 'convnext'"):
        StemsRecipe.of(1, 0, "cpu", COMPOSER, other)

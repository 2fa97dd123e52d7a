"""The trainer of HAFM's stages as published: table 1, its learning rate and loss, passes, processes, resuming."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.corpus.pair_tokens import Tokens, batch_of, crop
from backline.measures.stages import others, stage_losses
from backline.models.hafm.interleaved.config import PAPER, three_stages, without_semantic
from backline.models.hafm.interleaved.layout import paper
from backline.models.hafm.interleaved.network import StageNetwork, parameter_count, quantizer_losses
from backline.training.interleaved import TABLE_1, Clips, StageTrainer, StageTraining, chosen, drawn_layout, train_stage
from backline.training.loop import LoopConfig, Moment

TOY = three_stages(layers=1, width=32, heads=2, head_width=16, vocabulary=12, codebooks=4, entries=16)
TRAINING = StageTraining(Fraction(2, 5), batch=4, accumulate=1, steps=30)
CPU = torch.device("cpu")


def songs(count: int, seconds: int = 2, seed: int = 0) -> list[Tokens]:
    """Songs whose band follows the voice: every frame's token is the voice's, and one more."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        vocal = draw.integers(0, 12, size=(1, 50 * seconds)).astype(np.int16)
        codes = draw.integers(0, 16, size=(4, 75 * seconds)).astype(np.int16)
        made.append({"vocal": vocal, "instrumental": (vocal + 1) % 12, "codes": codes})
    return made


def test_the_stages_have_the_sizes_clips_steps_and_batches_of_the_paper() -> None:
    with torch.device("meta"):
        sizes = {name: parameter_count(StageNetwork(stage)) for name, stage in PAPER.stages().items()}
    assert {name: round(size / 1e6, 2) for name, size in sizes.items()} == {
        "semantic": 38.53,
        "coarse": 42.47,
        "fine": 44.06,
    }
    table = {name: (t.batch, t.clip, t.steps, t.accumulate) for name, t in TABLE_1.items()}
    assert table == {"semantic": (210, 10, 100_000, 1), "coarse": (42, 5, 200_000, 2), "fine": (140, 3, 150_000, 1)}
    lengths = {name: len(paper(stage, TABLE_1[name].clip)) for name, stage in PAPER.stages().items()}
    assert lengths == {"semantic": 1000, "coarse": 500 + 1500, "fine": 225 + 900}  # table 1 counts predictions alone
    assert {name: len(stage.sources) + 1 for name, stage in PAPER.stages().items()} == {
        "semantic": 2,
        "coarse": 3,
        "fine": 2,
    }


@pytest.mark.parametrize("training", TABLE_1.values(), ids=TABLE_1)
def test_the_learning_rate_is_the_papers(training: StageTraining) -> None:
    """3e-4 after 4,000 steps of linear warm-up, then a cosine down to 1e-6."""
    assert training.rate(0) == pytest.approx(3e-4 / 4000, rel=1e-12)
    assert training.rate(1999) == pytest.approx(1.5e-4, rel=1e-12)
    assert training.rate(3999) == 3e-4
    half = 4000 + (training.steps - 4000) // 2 - 1
    assert training.rate(half) == pytest.approx((3e-4 + 1e-6) / 2, rel=1e-12)
    assert training.rate(training.steps - 1) == pytest.approx(1e-6, rel=1e-12)
    torch_like = [1e-6 + (3e-4 - 1e-6) * (1 + math.cos(math.pi * n / (training.steps - 4000))) / 2 for n in (1, 777)]
    assert [training.rate(3999 + n) for n in (1, 777)] == pytest.approx(torch_like, rel=1e-12)


def test_the_optimiser_is_the_papers() -> None:
    trainer = StageTrainer("semantic", TOY.stages()["semantic"], TRAINING, songs(3), 0, CPU, "float32")
    [group] = trainer.optimizer.param_groups
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.98), 0.01)
    assert sum(p.numel() for p in group["params"]) == parameter_count(trainer.network)
    assert (TRAINING.clip_norm, TRAINING.drop) == (1.0, 0.1)


def test_the_loss_is_equation_6() -> None:
    """Written out slowly: the mean over quantizers of the mean over their frames of -log P."""
    logits, targets = torch.randn(2, 3, 5, 7), torch.randint(7, (2, 3, 5))
    total = 0.0
    for row in range(2):
        for quantizer in range(3):
            for frame in range(5):
                scores = logits[row, quantizer, frame].double()
                total -= float(scores[targets[row, quantizer, frame]] - scores.exp().sum().log()) / (2 * 3 * 5)
    assert float(quantizer_losses(logits, targets).mean()) == pytest.approx(total, rel=1e-5)


def test_two_passes_of_half_a_batch_have_the_gradient_of_their_mean() -> None:
    stage = TOY.coarse
    trainer = StageTrainer(
        "coarse", stage, replace(TRAINING, batch=2, accumulate=2, drop=0.0), songs(4), 3, CPU, "float32"
    )
    start = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    expected = StageNetwork(stage)
    expected.load_state_dict(start)
    clips = [
        clip
        for number in range(2)
        for clip in trainer.clips.draw(2, np.random.default_rng([3, len("coarse"), 0, number, 1]))
    ]
    conditions, targets = batch_of(clips, "coarse", stage)
    quantizer_losses(expected(conditions, targets, paper(stage, TRAINING.clip)), targets).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    found = trainer.step(Moment())
    assert found["norm"] == pytest.approx(float(norm), rel=1e-4)
    for got, wanted in zip(trainer.network.parameters(), expected.parameters(), strict=True):
        assert got.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(got.grad, wanted.grad, atol=1e-6, rtol=1e-3)


def test_about_a_tenth_of_the_clips_do_without_all_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = TOY.coarse
    trainer = StageTrainer("coarse", stage, replace(TRAINING, batch=50), songs(3), 0, CPU, "float32")
    seen = []
    forward = trainer.network.forward

    def watched(conditions: object, targets: torch.Tensor, layout: object, drop: torch.Tensor) -> torch.Tensor:
        seen.append(drop)
        return forward(conditions, targets, layout, drop)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.network, "forward", watched)
    for step in range(12):
        trainer.step(Moment(step))
    dropped = torch.cat(seen)
    assert dropped.shape == (600, 2)
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert 0.06 < dropped[:, 0].float().mean() < 0.14


def test_clips_come_from_everywhere_and_both_sides_from_the_same_place() -> None:
    (song,) = songs(1, seconds=1)
    clips = Clips([song], Fraction(2, 5)).draw(200, np.random.default_rng(0))
    starts = set()
    for clip in clips:
        assert {name: array.shape[1] for name, array in clip.items()} == {"vocal": 20, "instrumental": 20, "codes": 30}
        [start] = [n for n in range(16) if np.array_equal(crop(song, n, 10)["vocal"], clip["vocal"])]
        assert np.array_equal(crop(song, start, 10)["codes"], clip["codes"])
        starts.add(start)
    assert starts == set(range(16))


def test_a_stream_is_trained_in_chunks_and_in_whole_clips() -> None:
    stage, training = TOY.stages()["semantic"], replace(TRAINING, clip=Fraction(4), order="stream")
    lengths = {len(drawn_layout(stage, training, np.random.default_rng(n)).predictions) for n in range(20)}
    firsts = {int(drawn_layout(stage, training, np.random.default_rng(n)).predictions[0]) for n in range(40)}
    assert lengths == {200}
    assert len(firsts) > 5
    assert max(firsts) == 200


def test_it_learns_to_follow_the_voice_and_the_measure_says_so(tmp_path: Path) -> None:
    stage = TOY.stages()["semantic"]
    training = replace(TRAINING, batch=16, steps=300, peak=4e-3)
    train_stage(
        "semantic", stage, training, LoopConfig(tmp_path, steps=300), songs(64), songs(12, seed=9), CPU, "float32"
    )
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 300
    assert last["gain"] > 2 * last["gain_error"]
    assert last["gain_over_shuffled"] > 2 * last["gain_over_shuffled_error"]


def test_a_network_that_ignores_the_voice_gains_nothing_by_it() -> None:
    stage = TOY.stages()["semantic"]
    torch.manual_seed(0)
    network = StageNetwork(stage)
    network.conditions["vocal"].data.zero_()
    conditions, targets = batch_of([crop(song, 0, 10) for song in songs(6)], "semantic", stage)
    figures = stage_losses(network, conditions, targets, paper(stage, Fraction(2, 5))).figures()
    assert figures["gain"].mean == pytest.approx(0, abs=1e-6)
    assert figures["gain over shuffled"].mean == pytest.approx(0, abs=1e-6)
    assert figures["gain over shuffled voice"].mean == pytest.approx(0, abs=1e-6)
    assert figures["loss"].mean == pytest.approx(math.log(12), rel=0.05)


def test_a_stage_that_hears_the_voice_among_others_is_judged_by_the_voice_alone_too() -> None:
    torch.manual_seed(0)
    network = StageNetwork(TOY.coarse)
    network.conditions["vocal"].data.zero_()
    conditions, targets = batch_of([crop(song, 0, 10) for song in songs(6)], "coarse", TOY.coarse)
    losses = stage_losses(network, conditions, targets, paper(TOY.coarse, Fraction(2, 5)))
    assert np.abs(losses.by_condition["another voice"] - losses.by_condition["own"]).max() < 1e-6
    assert np.abs(losses.by_condition["others"] - losses.by_condition["own"]).max() > 1e-5


def test_voices_are_exchanged_between_songs_only() -> None:
    of_song = np.array([0, 0, 0, 1, 1, 2])
    assert (of_song[others(of_song).numpy()] != of_song).all()


def test_resuming_changes_nothing(tmp_path: Path) -> None:
    stage = TOY.fine

    def trained(folder: Path, *until: int) -> dict[str, torch.Tensor]:
        for steps in until:
            training = replace(TRAINING, steps=8)
            loop = LoopConfig(folder, steps=steps, seed=5)
            train_stage("fine", stage, training, loop, songs(5), songs(3, seed=1), CPU, "float32")
        return torch.load(folder / "checkpoint.pt", weights_only=False)["state"]["model"]

    at_once, in_two = trained(tmp_path / "a", 8), trained(tmp_path / "b", 3, 8)
    assert all(torch.equal(at_once[name], in_two[name]) for name in at_once)


def test_two_processes_that_torchrun_starts_share_each_batch(tmp_path: Path) -> None:
    """Both end with the same weights, which are those of one process that steps by the mean of their gradients."""
    script = Path(__file__).parent.parent / "support" / "train_in_team.py"
    port = 29_000 + os.getpid() % 2_000
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    seen = {**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[2]), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, timeout=240, env=seen)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if entry["kind"] == "validation"] == [3]  # the first alone writes
    expected = torch.load(tmp_path / "expected.pt")
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4)


def test_precision_follows_the_device() -> None:
    assert chosen("float32", CPU) is torch.float32
    assert chosen("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        chosen("float16", CPU)


def test_two_stages_of_three_hear_the_voice_alone() -> None:
    network = without_semantic(TOY)
    assert list(network.stages()) == ["coarse", "fine"]
    assert [source.name for source in network.coarse.sources] == ["vocal"]
    assert type(network).from_dict(network.to_dict()) == network

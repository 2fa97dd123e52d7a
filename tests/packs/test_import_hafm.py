"""A HAFM of three foreign checkpoints becomes a pack that plays as the network it comes from, or is refused wholly."""

import argparse
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from backline.cli.main import app
from backline.codecs.hubert import HubertConfig, hubert_layout
from backline.models.errors import PackError
from backline.models.hafm.interleaved.config import PAPER, InterleavedConfig, StageConfig, three_stages
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.load import build
from backline.models.hafm.stream import HafmStream
from backline.packs.importers.encodec import read_encodec
from backline.packs.importers.hafm import HafmFiles, import_hafm, infer_config, read_stage
from backline.packs.importers.hubert import read_hubert
from backline.packs.importers.roles import map_stage
from backline.packs.pack import load_stream, read_pack
from tests.support.encodec_checkpoint import write_official_layout
from tests.support.foreign_hafm import BLOCKS, foreign
from tests.support.hafm import Player, play, session, voice

HUBERT = HubertConfig(
    layers=2, dimension=32, heads=4, feed_forward=64, conv_channels=16, position_kernel=16, position_groups=4
)
SMALL = three_stages(
    layers=2, width=32, heads=2, head_width=16, windows=(1000, 2000, 1125), distances=(1000, 1500, 900)
)
STAGES = ("semantic", "coarse", "fine")


def network(config: StageConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of a stage by Backline's names, norms included, so that none passes for another."""
    torch.manual_seed(seed)
    return {name: 0.3 * torch.randn(t.shape) for name, t in StageNetwork(config).state_dict().items()}


NETWORKS = {name: network(config, number) for number, (name, config) in enumerate(SMALL.stages().items())}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hubert.pth, centroids.npy and encodec.th."""
    folder = tmp_path_factory.mktemp("front")
    torch.manual_seed(0)
    torch.save({name: 0.1 * torch.randn(shape) for name, shape in hubert_layout(HUBERT).items()}, folder / "hubert.pth")
    np.save(folder / "centroids.npy", np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32))
    write_official_layout(folder / "encodec.th")
    return folder


def files(front: Path, folder: Path, stages: dict[str, dict[str, Tensor]]) -> HafmFiles:
    """Checkpoints as trainers save them, each in a folder of its own."""
    paths = {}
    for name, tensors in stages.items():
        paths[name] = folder / f"ar_{name}" / "ckpt_best.pt"
        paths[name].parent.mkdir()
        torch.save({"model_state": tensors, "global_step": 7, "args": argparse.Namespace(stage=name)}, paths[name])
    return HafmFiles(
        **paths, hubert=front / "hubert.pth", centroids=front / "centroids.npy", encodec=front / "encodec.th"
    )


def played(stream: HafmStream) -> np.ndarray:
    player = Player(stream, session(0.4, 0.2, seed=3), voice(2))
    play([player], 3)
    stream.close(player.row)
    return player.codes()


@pytest.fixture(scope="module")
def source(front: Path) -> np.ndarray:
    """What the networks play that the checkpoints are written from."""
    codec, semantics = (
        read_encodec(front / "encodec.th"),
        read_hubert(front / "hubert.pth", front / "centroids.npy", HUBERT),
    )
    tensors = codec.tensors | semantics.tensors
    for name, own in NETWORKS.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    tables = {"name": "source", "network": SMALL.to_dict(), "codec": codec.table, "semantics": semantics.table}
    return played(build(tables, tensors, "cpu", "bfloat16"))


@pytest.mark.parametrize("named", ["own", "foreign"])
def test_the_imported_pack_plays_the_tokens_of_the_source(
    named: str, front: Path, source: np.ndarray, tmp_path: Path
) -> None:
    stages = NETWORKS if named == "own" else {name: foreign(own) for name, own in NETWORKS.items()}
    imported = import_hafm(files(front, tmp_path, stages), tmp_path / "hafm", hubert=HUBERT)
    pack = read_pack(tmp_path / "hafm")
    assert pack == imported.pack
    assert InterleavedConfig.from_dict(pack.config["network"]) == SMALL
    stream = load_stream(pack)
    assert isinstance(stream, HafmStream)
    np.testing.assert_array_equal(played(stream), source)
    assert len(np.unique(source)) > 100


@pytest.mark.parametrize("style", BLOCKS)
@pytest.mark.parametrize("stage", STAGES)
def test_foreign_names_are_told_apart(stage: str, style: str) -> None:
    own = NETWORKS[stage]
    mapped = map_stage(stage, foreign(own, style)).tensors
    assert mapped.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(mapped[name], tensor), name


def test_the_papers_sizes_are_read_off_the_shapes() -> None:
    for name, config in PAPER.stages().items():
        with torch.device("meta"):
            own = StageNetwork(config).state_dict()
        tensors = map_stage(name, foreign(own, "paper")).tensors
        assert infer_config(name, tensors, config.max_distance) == config


@pytest.mark.parametrize("width", [32, 48, 192, 256, 512])
@pytest.mark.parametrize("feed_forward", [31, 85, 100, 1365, 1366, 2048])
def test_any_inner_width_has_a_multiple(width: int, feed_forward: int) -> None:
    tensors = dict(NETWORKS["semantic"])
    tensors["prediction"] = torch.zeros(1, 501, width)
    tensors["transformer.blocks.0.gate.weight"] = torch.zeros(feed_forward, width)
    assert infer_config("semantic", tensors, 1000).feed_forward == feed_forward


def test_what_only_order_told_is_said(tmp_path: Path) -> None:
    warnings = map_stage("coarse", foreign(NETWORKS["coarse"])).warnings
    assert "assumed by their order: gate is blocks.N.ffn.w1.weight, up ffn.w2.weight" in warnings
    assert (
        "assumed by their order: the voice's table is cond_emb.0.weight, the instruments' cond_emb.1.weight" in warnings
    )
    assert not any("gate" in warning for warning in map_stage("coarse", foreign(NETWORKS["coarse"], "llama")).warnings)


def test_names_beat_order() -> None:
    tensors = foreign(NETWORKS["coarse"], "llama")
    first, second = tensors.pop("cond_emb.0.weight"), tensors.pop("cond_emb.1.weight")
    turned = dict(reversed(tensors.items())) | {"cond_emb.inst.weight": second, "cond_emb.vocal.weight": first}
    mapped = map_stage("coarse", turned)
    for name, tensor in NETWORKS["coarse"].items():
        assert torch.equal(mapped.tensors[name], tensor), name
    assert not any("order:" in warning for warning in mapped.warnings)


def test_tables_may_be_stacked_and_heads_may_know_the_begin_token() -> None:
    own = NETWORKS["fine"]
    tensors = {name: t for name, t in foreign(own).items() if not re.match(r"(cond_emb|pred_emb|heads)\.", name)}
    tensors |= {"cond_emb": own["conditions.coarse"], "pred_emb": own["prediction"]}
    tensors["lm_head"] = torch.cat([own["heads"], torch.ones(4, 1, 32)], dim=1)
    mapped = map_stage("fine", tensors)
    for name, tensor in own.items():
        assert torch.equal(mapped.tensors[name], tensor), name
    assert any("lm_head is BOS" in warning for warning in mapped.warnings)


def test_what_changes_nothing_is_left_out_and_said() -> None:
    tensors = foreign(NETWORKS["semantic"])
    tensors["heads.0.bias"] = torch.zeros(500)
    tensors["causal_mask"] = torch.ones(9, 9, dtype=torch.bool)
    del tensors["q_offset.weight"]
    mapped = map_stage("semantic", tensors)
    assert not mapped.tensors["quantizer_offset"].any()
    assert any("zeros are the same" in warning for warning in mapped.warnings)
    assert any(re.search("left out.*heads.0.bias, causal_mask", warning) for warning in mapped.warnings)


def test_names_may_begin_with_the_module_that_holds_them_all() -> None:
    """Even where its name would pass for a hint."""
    tensors = {f"conditional_head.{name}": tensor for name, tensor in foreign(NETWORKS["coarse"]).items()}
    mapped = map_stage("coarse", tensors).tensors
    for name, tensor in NETWORKS["coarse"].items():
        assert torch.equal(mapped[name], tensor), name


def test_a_short_table_is_no_table_of_tokens_whatever_its_name() -> None:
    own = NETWORKS["coarse"]
    tensors = foreign(own)
    tensors["source_emb.weight"] = tensors.pop("seg_emb.weight")
    tensors |= {f"codebook_emb.{q}.weight": tensors.pop(f"pred_emb.{q}.weight") for q in range(4)}
    mapped = map_stage("coarse", tensors).tensors
    assert torch.equal(mapped["segment"], own["segment"])
    assert torch.equal(mapped["prediction"], own["prediction"])


def refused(stage: str, tensors: dict[str, Tensor]) -> tuple[str, ...]:
    with pytest.raises(PackError) as caught:
        map_stage(stage, tensors)
    *problems, remedy = caught.value.problems
    assert "give its tensors Backline's own names" in remedy
    return tuple(problems)


def test_all_that_a_stage_lacks_or_has_in_other_shapes_is_reported_at_once() -> None:
    tensors = foreign(NETWORKS["coarse"])
    tensors["blocks.1.attn.qkv.weight"] = torch.zeros(95, 32)
    del tensors["blocks.0.ffn.w3.weight"]
    del tensors["heads.2.weight"]
    tensors["extra"] = torch.zeros(3, 3, 3)
    problems = refused("coarse", tensors)
    assert "blocks.1.attn.qkv.weight is [95, 32], must be [96, 32] as in other blocks" in problems
    assert "blocks.0.ffn.w3.weight [32, 85] is missing: other blocks have it" in problems
    assert any("heads.0.weight + heads.1.weight + heads.3.weight 3 x [1024] (heads)" in p for p in problems)
    assert "extra [3, 3, 3] has no role in a stage" in problems


def test_what_no_tensor_can_be_is_named() -> None:
    tensors = {name: t for name, t in foreign(NETWORKS["fine"]).items() if "attn.out" not in name}
    del tensors["seg_emb.weight"]
    del tensors["final_norm.weight"]
    problems = refused("fine", tensors)
    assert any("nothing is left for out" in problem for problem in problems)
    assert any("nothing is left for segment" in problem for problem in problems)
    assert any("the final norm [32] should be one of: nothing" in problem for problem in problems)


def test_tensors_that_only_a_guess_could_tell_apart_are_refused_with_their_candidates() -> None:
    tensors = foreign(NETWORKS["semantic"])
    tensors["a.weight"], tensors["b.weight"] = tensors.pop("cond_emb.0.weight"), tensors.pop("pred_emb.0.weight")
    [problem] = refused("semantic", tensors)
    assert "2 ways" in problem
    assert "a.weight 1 x [501] (conditions or heads or prediction)" in problem
    assert "b.weight 1 x [501] (conditions or heads or prediction)" in problem


def test_biases_and_layer_norms_are_refused() -> None:
    tensors = foreign(NETWORKS["semantic"])
    tensors["heads.0.bias"] = torch.ones(500)
    tensors["final_norm.bias"] = torch.zeros(32)
    problems = refused("semantic", tensors)
    assert any("heads.0.bias is a bias that is not zero" in problem for problem in problems)
    assert any("final_norm.bias makes a LayerNorm of final_norm" in problem for problem in problems)


def test_two_networks_in_one_file_are_refused() -> None:
    tensors = foreign(NETWORKS["semantic"])
    tensors |= {f"ema.{name}": tensor for name, tensor in tensors.items()}
    [problem] = refused("semantic", tensors)
    assert "several stacks of blocks: blocks., ema.blocks." in problem


def test_something_else_than_a_stage_is_refused() -> None:
    [problem] = refused("semantic", {"conv.weight": torch.zeros(3, 2), "norm": torch.zeros(2)})
    assert "no stack of numbered blocks among conv.weight [3, 2]" in problem


def test_our_own_names_are_checked_tensor_by_tensor(tmp_path: Path) -> None:
    tensors = dict(NETWORKS["coarse"])
    del tensors["transformer.blocks.1.up.weight"]
    tensors["segment"] = torch.zeros(2, 32)
    torch.save(tensors, tmp_path / "stage.pt")
    with pytest.raises(PackError) as caught:
        read_stage("coarse", tmp_path / "stage.pt", 1500)
    assert caught.value.problems == (
        "coarse.transformer.blocks.1.up.weight [85, 32] is missing",
        "coarse.segment is [2, 32], must be [3, 32]",
    )


def test_one_stage_is_not_taken_for_another(tmp_path: Path) -> None:
    torch.save(NETWORKS["coarse"], tmp_path / "own.pt")
    torch.save(foreign(NETWORKS["coarse"]), tmp_path / "foreign.pt")
    with pytest.raises(PackError, match="coarse is missing: is this the fine stage"):
        read_stage("fine", tmp_path / "own.pt", 900)
    with pytest.raises(PackError, match="a fine stage has"):
        read_stage("fine", tmp_path / "foreign.pt", 900)


def test_a_distance_within_the_exact_buckets_is_refused() -> None:
    with pytest.raises(PackError, match="max_distance is 16: use more than 16"):
        infer_config("semantic", NETWORKS["semantic"], 16)


def test_our_own_options_are_read_off_our_own_names(tmp_path: Path) -> None:
    config = three_stages(
        layers=1,
        width=32,
        heads=2,
        windows=(1000, 2000, 1125),
        distances=(99, 99, 99),
        transport=True,
        chunk_clock=True,
    ).semantic
    torch.save(network(config), tmp_path / "stage.pt")
    read = read_stage("semantic", tmp_path / "stage.pt", 99).config
    assert read == dataclasses.replace(config, max_distance=99)


def test_every_part_that_does_not_fit_is_reported_at_once(front: Path, tmp_path: Path) -> None:
    broken = {name: foreign(own) for name, own in NETWORKS.items()}
    del broken["semantic"]["rel_bias.weight"]
    del broken["fine"]["final_norm.weight"]
    given = dataclasses.replace(
        files(front, tmp_path, broken), hubert=front / "encodec.th", encodec=front / "absent.th"
    )
    with pytest.raises(PackError) as caught:
        import_hafm(given, tmp_path / "hafm", hubert=HUBERT)
    said = "\n".join(caught.value.problems)
    assert "semantic (ckpt_best.pt): the relative position bias [buckets, 2] should be one of: nothing" in said
    assert "fine (ckpt_best.pt): the final norm [32]" in said
    assert "semantics (encodec.th): " in said
    assert "codec (absent.th): there is no such file" in said
    assert not (tmp_path / "hafm").exists()


def test_parts_of_different_models_are_refused(front: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((20, 32), np.float32))
    given = dataclasses.replace(files(front, tmp_path, NETWORKS), centroids=tmp_path / "few.npy")
    with pytest.raises(PackError, match="knows 500 vocal tokens, the semantic encoder has 20"):
        import_hafm(given, tmp_path / "hafm", hubert=HUBERT)


class Malicious:
    """A pickle of this runs code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_a_malicious_stage_is_not_run(tmp_path: Path) -> None:
    torch.save({"model_state": NETWORKS["semantic"], "evil": Malicious()}, tmp_path / "stage.pt")
    with pytest.raises(PackError, match="may run code, so it is not read"):
        read_stage("semantic", tmp_path / "stage.pt", 1000)


def test_distances_that_no_file_tells_are_the_users(front: Path, tmp_path: Path) -> None:
    imported = import_hafm(files(front, tmp_path, NETWORKS), tmp_path / "hafm", (500, 600, 700), HUBERT)
    network = InterleavedConfig.from_dict(imported.pack.config["network"])
    assert [stage.max_distance for stage in network.stages().values()] == [500, 600, 700]
    assert any("coarse: assumed" in w and "max_distance = 600" in w for w in imported.warnings)


def test_the_command_names_every_file_that_is_not_there(tmp_path: Path) -> None:
    parts = ("semantic", "coarse", "fine", "hubert", "centroids", "encodec")
    options = [word for part in parts for word in (f"--{part}", str(tmp_path / f"{part}.pt"))]
    options += ["--max-distance", "500", "600", "700", "-o", str(tmp_path / "hafm")]
    said = CliRunner().invoke(app, ["packs", "import", "hafm", *options])
    assert isinstance(said.exception, PackError)
    for part in parts[:4]:
        assert f"{part}.pt): there is no such file" in str(said.exception)

"""MGE-LDM's published files become a pack that computes what the published code does; what is none is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.codecs.vae.config import OobleckConfig
from backline.codecs.vae.load import load
from backline.codecs.vae.oobleck import Oobleck
from backline.models.errors import PackError
from backline.models.mge.clap import ClapConfig, load_clap
from backline.models.mge.config import PAPER, MgeConfig
from backline.models.mge.network import MgeNetwork, read_network
from backline.nn.bert import BertConfig
from backline.nn.dit import DiTConfig
from backline.nn.tables import read_table
from backline.packs.importers import mge as importer
from backline.packs.importers.clap import read_clap
from backline.packs.importers.mge import import_mge, published_name, read_autoencoder
from backline.packs.importers.oobleck import read_oobleck
from backline.packs.pack import load_stream, read_tensors
from tests.support import mge_checkpoint as published
from tests.support.hcodec_checkpoint import noise

# What the authors' code (e180d9a) made of the same checkpoint and the same input, at a few places.
LATENTS = [
    [-0.01483987, 0.23663291, 0.24424464, -0.39074421, -0.27487779, -0.40582183],
    [0.00197972, 0.29540166, 0.27289408, -0.38393205, -0.31544998, -0.38354135],
]  # channels 0 and 3, every second frame
LATENTS_RMS, DEVIATIONS_RMS = 0.32074374, 0.67804772
AUDIO_AT = [0, 1, 63, 64, 100, 200, 300, 383]
AUDIO = [
    [0.0742449, 0.03792863, 0.10385036, 0.05105609, 0.08280498, 0.05095711, 0.07022353, 0.08291619],
    [0.07417735, 0.03800779, 0.10318935, 0.05172084, 0.08326314, 0.05142972, 0.07021464, 0.08299648],
]
AUDIO_RMS = 0.07640784
VELOCITIES = [
    [0.57205987, 0.52607673, -0.39321414, 1.02033854, 0.37982649, -0.88623995, 0.15114722, -0.07199222, -0.14291155,
     -1.59545851, 0.67127734, -1.42292953],
    [-0.70804703, 0.12564601, 0.26390541, -0.52351964, 0.50385535, 0.10970058, -0.14178438, 0.95241308, -0.83976525,
     0.27517825, -1.05663419, -0.18263157],
]  # dimensions 0, 5 and 11 of the three tracks' 12, every third frame  # fmt: skip
VELOCITIES_RMS = 0.72373767
HOP = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mge")
    published.write_autoencoder(folder / "unwrapped_AE.ckpt")
    published.write_network(folder / "unwrapped_DiT.ckpt")
    published.write_clap(folder / "clap.pt")
    published.write_tokenizer(folder / "roberta-base")
    return folder


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def test_latents_deviations_and_sound_are_those_of_the_published_autoencoder(files: Path) -> None:
    component = read_autoencoder(files / "unwrapped_AE.ckpt")
    vae = load(component.table, component.tensors)
    assert (vae.sample_rate, vae.hop, vae.latent_channels) == (16_000, HOP, published.LATENT)
    mean, variance = vae.posterior(noise(7000, 0.3, 2, 6 * HOP))
    assert torch.allclose(mean[:, [0, 3], ::2].flatten(1), torch.tensor(LATENTS), atol=1e-5)
    assert rms(mean) == pytest.approx(LATENTS_RMS, rel=1e-5)
    assert rms((variance / 2).exp()) == pytest.approx(DEVIATIONS_RMS, rel=1e-5)
    sound = vae.decode(mean)
    assert torch.allclose(sound[:, AUDIO_AT], torch.tensor(AUDIO), atol=1e-6)
    assert rms(sound) == pytest.approx(AUDIO_RMS, rel=1e-5)


def test_velocities_are_those_of_the_published_transformer(files: Path) -> None:
    component = importer.read_network(torch.load(files / "unwrapped_DiT.ckpt")["state_dict"], "unwrapped_DiT.ckpt")
    network = read_network(read_table(MgeConfig, component.table, "mge"), component.tensors).requires_grad_(False)
    noisy, condition = noise(7001, 1.0, 2, 3, published.LATENT, 10), noise(7002, 1.0, 2, 3, published.CONDITION)
    times = torch.tensor([[0.0, 0.7, 0.7], [0.3, 0.3, 0.3]])[..., None]
    velocities = network(noisy, times, condition).flatten(1, 2)
    assert torch.allclose(velocities[:, [0, 5, 11], ::3].flatten(1), torch.tensor(VELOCITIES), atol=2e-5)
    assert rms(velocities) == pytest.approx(VELOCITIES_RMS, rel=1e-5)


def test_the_papers_sizes_have_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = MgeNetwork(PAPER).state_dict()
        autoencoder = Oobleck(OobleckConfig()).state_dict()
    theirs = published.network_shapes(64, 512, 24, 512, 256)
    mapped = {published_name(name): tuple(like.shape) for name, like in ours.items() if name not in importer.OURS}
    assert mapped.keys() == theirs.keys()
    assert all(np.prod(mapped[name]) == np.prod(theirs[name]) for name in theirs)
    shapes = published.autoencoder_shapes(1, 128, (1, 2, 4, 8, 16), (2, 4, 4, 8, 8), 64)
    assert autoencoder.keys() == {name.replace("_v", "") for name in shapes if not name.endswith("_g")}
    assert round(sum(like.numel() for like in ours.values()) / 1e6) == 1023


@pytest.mark.parametrize("multiples", [(1, 2, 4), (1, 1, 3)])
def test_stable_audios_autoencoder_in_stereo_and_by_torchs_newer_names_is_the_same(multiples: tuple[int, ...]) -> None:
    shapes = published.autoencoder_shapes(2, 4, multiples, (2, 5, 6), 8)
    tensors = published.valued(shapes, 1)
    older = read_oobleck(tensors, 44_100, "model.ckpt")
    assert older.table["audio_channels"] == 2
    assert (older.table["multiples"], older.table["strides"]) == (multiples, (2, 5, 6))
    newer = {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for name, tensor in tensors.items()
    }
    again = read_oobleck(newer, 44_100, "model.ckpt")
    assert again.table == older.table
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in older.tensors.items())
    folded = {name.removeprefix("vae."): tensor for name, tensor in older.tensors.items()}
    assert read_oobleck(folded, 44_100, "model.ckpt").tensors.keys() == older.tensors.keys()
    audio = noise(1, 0.3, 1, 60)
    vae = load(older.table, older.tensors)
    assert vae.decode(vae.encode(audio)).shape == audio.shape


def test_a_prompt_is_read_as_clap_reads_it(files: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install 'backline[text]'")
    component = read_clap(files / "clap.pt", files / "roberta-base")
    config = read_table(ClapConfig, component.table, "clap")
    assert config == ClapConfig(BertConfig(2, 64, 1, 96, 40, 20, 2, 1, 1e-5), published.CONDITION)
    clap = load_clap(component.tensors, config)
    tokens = torch.tensor([[0, 32, 9, 33, 5, 34, 2]])  # <s> th e Ġb a ss </s>
    raw = torch.load(files / "clap.pt")["state_dict"]
    hidden = clap.network.bert(tokens, torch.ones_like(tokens, dtype=torch.bool))[:, 0]
    pooled = torch.tanh(F.linear(hidden, *(raw[f"module.text_branch.pooler.dense.{x}"] for x in ("weight", "bias"))))
    first = F.linear(pooled, *(raw[f"module.text_projection.0.{x}"] for x in ("weight", "bias"))).relu()
    wanted = F.linear(first, *(raw[f"module.text_projection.2.{x}"] for x in ("weight", "bias")))[0]
    found = clap.embed("the bass")
    assert torch.allclose(found, wanted / wanted.norm(), atol=1e-6)
    assert not clap.embed(" \n!").any()
    assert not clap.embed("").any()
    assert clap.embed("\N{FIRE}" * 200 + "x").isfinite().all()  # longer than it has positions


def test_numbers_that_claps_trainer_left_are_passed_over_and_code_is_not_run(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install 'backline[text]'")
    content = torch.load(files / "clap.pt") | {"best": np.float64(90.14)}
    torch.save(content, tmp_path / "clap.pt")
    found, plain = (read_clap(folder / "clap.pt", files / "roberta-base") for folder in (tmp_path, files))
    assert found.table == plain.table

    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("run",))

    torch.save(content | {"best": Harmful()}, tmp_path / "clap.pt")
    with pytest.raises(PackError, match="print"):
        read_clap(tmp_path / "clap.pt", files / "roberta-base")


@pytest.mark.parametrize("alone", [True, False])
def test_the_files_become_one_pack(files: Path, tmp_path: Path, alone: bool) -> None:
    pytest.importorskip("tokenizers", reason="pip install 'backline[text]'")
    dit, autoencoder = files / "unwrapped_DiT.ckpt", files / "unwrapped_AE.ckpt"
    if alone:
        published.write_network(tmp_path / dit.name, with_autoencoder=False)
        dit = tmp_path / dit.name
    given = (files / "clap.pt", files / "roberta-base", autoencoder if alone else None)
    pack = import_mge(dit, *given, tmp_path / "pack", 100).pack
    tensors = read_tensors(pack)
    assert pack.config["mge"]["window_frames"] == 100
    assert {file.path for file in pack.files} == {"vae.safetensors", "mge.safetensors", "clap.safetensors"}
    vae = load(pack.config["vae"], tensors)
    assert torch.allclose(
        vae.encode(noise(7000, 0.3, 2, 6 * HOP))[:, [0, 3], ::2].flatten(1), torch.tensor(LATENTS), atol=1e-5
    )
    network = read_table(MgeConfig, pack.config["mge"], "mge")
    assert network.network == DiTConfig(published.LATENT, published.CONDITION, 3, 32, 2, 3, 4, published.TIME)
    read_network(network, tensors)
    assert load_clap(tensors, read_table(ClapConfig, pack.config["clap"], "clap")).dimension == published.CONDITION
    stream = load_stream(pack)
    assert stream.spec == pack.spec()
    assert stream.settings.sampling("extract", {}) == stream.settings.sampling("impute", {}) == (250, 2.0)  # type: ignore[attr-defined]


def test_everything_that_does_not_fit_is_reported_by_the_names_in_the_file() -> None:
    tensors = {f"model_dit.{name}": tensor for name, tensor in published.network().items()}
    del tensors["model_dit.transformer.layers.1.ff_norm.gamma"]
    tensors["model_dit.transformer.layers.0.pre_norm.beta"] = torch.ones(96)
    tensors["model_dit.postprocess_conv.weight"] = torch.zeros(12, 12, 3)
    tensors["model_dit.to_cross_cond_embed.0.weight"] = torch.zeros(3)
    tensors["model_dit.transformer.rotary_pos_emb.inv_freq"] = torch.ones(16)
    with pytest.raises(PackError) as caught:
        importer.read_network(tensors, "dit.ckpt")
    assert set(caught.value.problems) == {
        "model_dit.transformer.layers.1.ff_norm.gamma [96] is missing",
        "model_dit.transformer.layers.0.pre_norm.beta is not zero, MGE-LDM's norms have no shift of their own",
        "model_dit.postprocess_conv.weight is [12, 12, 3], must be [12, 12]",
        "model_dit.to_cross_cond_embed.0.weight is not part of MGE-LDM",
        "model_dit.transformer.rotary_pos_emb.inv_freq are not the speeds of rotary positions in heads of 32",
        "give unwrapped_DiT.ckpt of yoongi43/MGE-LDM",
    }


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("transformer.layers.999999.x", torch.zeros(1), "layers is 1000000: use 1 to 128"),
        (f"transformer.layers.{'9' * 5000}.x", torch.zeros(1), "is not part of MGE-LDM"),
        ("transformer.project_in.weight", torch.zeros(0, 12), "width is 0"),
        ("transformer.rotary_pos_emb.inv_freq", torch.zeros(()), "are not the speeds of rotary positions"),
    ],
)
def test_sizes_that_no_network_has_are_refused_before_one_is_made(name: str, tensor: Tensor, said: str) -> None:
    tensors = {f"model_dit.{key}": value for key, value in published.network().items()}
    with pytest.raises(PackError, match=said):
        importer.read_network(tensors | {f"model_dit.{name}": tensor}, "dit.ckpt")


def test_a_file_in_half_precision_is_read() -> None:
    tensors = {f"model_dit.{name}": tensor.half() for name, tensor in published.network().items()}
    assert importer.read_network(tensors, "dit.ckpt").tensors["mge.dit.embed.weight"].dtype == torch.float16


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("encoder.layer.999999.x", (1,), "layers is 1000000: use 1 to 128"),
        ("embeddings.word_embeddings.weight", (40, 200), r"width is 200: use a multiple of heads \(3\)"),
        ("embeddings.position_embeddings.weight", (2, 64), "first_position is 2"),
    ],
)
def test_a_clap_of_impossible_sizes_is_refused(
    files: Path, tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    content = torch.load(files / "clap.pt")
    content["state_dict"][f"module.text_branch.{name}"] = torch.zeros(shape)
    torch.save(content, tmp_path / "clap.pt")
    with pytest.raises(PackError, match=said):
        read_clap(tmp_path / "clap.pt", files / "roberta-base")


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("encoder.layers.0.weight_v", (4, 3, 7), "audio_channels is 3: use 1 to 2"),
        ("encoder.layers.0.weight_v", (), "must have three axes"),
        ("encoder.layers.5.weight", (), "latent_channels is 0"),
    ],
)
def test_an_autoencoder_of_impossible_sizes_is_refused(name: str, shape: tuple[int, ...], said: str) -> None:
    tensors = published.autoencoder()
    if name.endswith(".weight"):
        del tensors[f"{name}_g"], tensors[f"{name}_v"]
    with pytest.raises(PackError, match=said):
        read_oobleck(tensors | {name: torch.zeros(shape)}, 16_000, "AE.ckpt")


def test_an_autoencoder_that_is_none_is_refused(tmp_path: Path) -> None:
    tensors = published.autoencoder()
    del tensors["decoder.layers.0.weight_g"]
    torch.save(tensors, tmp_path / "half.ckpt")
    with pytest.raises(PackError, match=r"decoder\.layers\.0\.weight_g is missing; give unwrapped_AE\.ckpt"):
        read_autoencoder(tmp_path / "half.ckpt")
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(PackError, match="holds no autoencoder in the layout of stable-audio-tools"):
        read_autoencoder(tmp_path / "other.ckpt")


def test_files_that_do_not_belong_together_make_no_pack(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install 'backline[text]'")
    torch.save(published.valued(published.autoencoder_shapes(latent=6), 1), tmp_path / "AE.ckpt")
    given = (files / "unwrapped_DiT.ckpt", files / "clap.pt", files / "roberta-base", tmp_path / "AE.ckpt")
    with pytest.raises(PackError, match=r"the autoencoder has 6 channels, unwrapped_DiT\.ckpt hears 4"):
        import_mge(*given, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_a_vocabulary_of_another_network_is_refused(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="pip install 'backline[text]'")
    content = torch.load(files / "clap.pt")
    name = "module.text_branch.embeddings.word_embeddings.weight"
    content["state_dict"][name] = content["state_dict"][name][:20]
    torch.save(content, tmp_path / "clap.pt")
    with pytest.raises(PackError, match=r"it has 35 words, clap\.pt knows 20: give that of roberta-base"):
        read_clap(tmp_path / "clap.pt", files / "roberta-base")
    with pytest.raises(PackError, match=r"holds no tokenizer\.json"):
        read_clap(files / "clap.pt", tmp_path)

"""int8 weights come back within half a step of what they were, and what is not all there is refused."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.models.errors import PackError
from backline.packs import toml
from backline.packs.pack import read_manifest, read_pack, read_tensors, write_pack
from backline.packs.quantized import quantize, restore
from tests.packs.test_pack import CONFIG

SHAPES = {  # of a tensor -> of its scales: as many leading axes as leave rows of 32 elements or more
    (128, 64): (128,),
    (2, 40, 64): (2, 40),  # tables of several codebooks: a row is one entry
    (64, 96, 1): (64,),  # a convolution of one tap
    (32, 64, 7): (32,),  # and of seven: 7 would be too short a row
}


def weights(*shape: int) -> torch.Tensor:
    """Normal, each row on a scale of its own, over six decades."""
    generator = torch.Generator().manual_seed(0)
    level = 10.0 ** (-6 * torch.rand(shape[0], generator=generator))
    return torch.randn(shape, generator=generator) * level.view(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize(("shape", "scaled"), SHAPES.items())
def test_no_element_is_off_by_more_than_half_a_step_of_its_row(shape: tuple[int, ...], scaled: tuple[int, ...]) -> None:
    tensor = weights(*shape)
    stored = quantize({"a.weight": tensor})
    steps, scale = stored["a.weight.int8"], stored["a.weight.scale"]
    assert steps.shape == shape
    assert steps.dtype == torch.int8
    assert scale.shape == scaled
    assert scale.dtype == torch.float32
    wide = scale.view(*scaled, *[1] * (len(shape) - len(scaled)))
    exact = steps.double() * wide.double()  # float64 holds these products exactly
    assert bool(((exact - tensor.double()).abs() <= wide.double() / 2).all())
    assert torch.equal(restore(stored)["a.weight"], exact.float())


def test_a_row_is_scaled_by_its_largest_element() -> None:
    tensor = torch.zeros(64, 64)
    tensor[0, :5] = torch.tensor([127.0, -127.0, 63.4, 63.6, 0.4])
    tensor[1, :2] = torch.tensor([-0.5, 0.25])
    stored = quantize({"a": tensor})
    assert stored["a.int8"][0, :5].tolist() == [127, -127, 63, 64, 0]
    assert stored["a.int8"][1, :2].tolist() == [-127, 64]  # 63.5 rounds to the even step
    assert stored["a.scale"][0] == 1.0
    assert not restore(stored)["a"][2:].any()  # silent rows stay silent


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(1e-30, 1e30))
def test_quantising_again_what_was_restored_changes_nothing(seed: int, level: float) -> None:
    tensor = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)) * level
    once = quantize({"a": tensor})
    again = quantize(restore(once))
    assert torch.equal(once["a.int8"], again["a.int8"])
    torch.testing.assert_close(once["a.scale"], again["a.scale"], rtol=3e-7, atol=0.0)


def test_what_is_small_or_kept_or_no_float_stays_as_it_is() -> None:
    tensors = {
        "a.bias": torch.ones(8192, dtype=torch.float16),
        "a.small": torch.ones(60, 60),
        "a.thin": torch.ones(4096, 31),
        "a.table": torch.zeros(64, 64, dtype=torch.int64),
        "codec.quantizer.codebooks": torch.ones(64, 64),
    }
    stored = quantize(tensors, keep=("codec.quantizer.",))
    assert stored.keys() == tensors.keys()
    assert all(stored[name] is tensor for name, tensor in tensors.items())


def test_a_quantised_pack_reads_back_as_floats_and_says_what_it_is(tmp_path: Path) -> None:
    tensors = {"codec.weight": weights(128, 256), "codec.norm.scale": torch.ones(7), "table.whole": torch.ones(9)}
    stored = quantize(tensors)
    pack = write_pack(tmp_path / "echo", CONFIG, stored)
    assert {file.path: file.quantization for file in pack.files} == {
        "codec.safetensors": "int8",
        "table.safetensors": "",
    }
    read = read_tensors(read_pack(tmp_path / "echo"))
    assert read.keys() == tensors.keys()
    assert read["codec.weight"].dtype == torch.float32
    assert all(torch.equal(read[name], restored) for name, restored in restore(stored).items())
    assert (tmp_path / "echo" / "codec.safetensors").stat().st_size < 128 * 256 * 1.1


def test_names_that_only_look_quantised_are_left_alone_in_a_file_that_does_not_say_so(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, quantize({"codec.weight": weights(64, 64)}))
    manifest = tmp_path / "echo" / "pack.toml"
    manifest.write_text(manifest.read_text().replace('quantization = "int8"\n', ""))
    assert read_tensors(read_pack(tmp_path / "echo")).keys() == {"codec.weight.int8", "codec.weight.scale"}


def test_scales_that_are_missing_or_do_not_fit_are_all_named() -> None:
    stored = quantize({name: weights(64, 64) for name in "abcde"})
    del stored["a.scale"]
    stored["b.scale"] = stored["b.scale"][:-1]
    stored["c.scale"] = stored["c.scale"].half()
    stored["d.int8"] = stored["d.int8"].float()
    with pytest.raises(ValueError) as raised:
        restore(stored)
    said = str(raised.value).split("; ")
    assert [text.split(" ")[0] for text in said] == ["a.scale", "b.scale", "c.scale", "d.int8"]
    assert said[0] == "a.scale is missing, the scale of a.int8"
    assert "[63], must be float32 with the leading axes of b.int8 [64, 64]" in said[1]


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), ()])
def test_a_scale_must_leave_rows(shape: tuple[int, ...]) -> None:
    stored = quantize({"a": weights(64, 64)}) | {"a.scale": torch.ones(shape)}
    with pytest.raises(ValueError, match=re.escape(f"a.scale is torch.float32 {list(shape)}")):
        restore(stored)


def test_a_pack_whose_scale_is_missing_is_damaged(tmp_path: Path) -> None:
    stored = quantize({"codec.weight": weights(64, 64)})
    del stored["codec.weight.scale"]
    with pytest.raises(PackError, match=r"codec\.safetensors: codec\.weight\.scale is missing.*: install the pack"):
        read_tensors(write_pack(tmp_path / "echo", CONFIG, stored))


def test_a_quantization_that_nobody_knows_is_named(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, quantize({"codec.weight": weights(64, 64)}))
    manifest = tmp_path / "echo" / "pack.toml"
    said = tomllib.loads(manifest.read_text())
    said["files"][0]["quantization"] = "int4"
    manifest.write_text(toml.dumps(said))
    with pytest.raises(PackError, match="quantization is 'int4': use int8"):
        read_manifest(tmp_path / "echo")

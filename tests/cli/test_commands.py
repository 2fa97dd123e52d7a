"""What whoever types a command can rely on: help with examples, exit codes, and errors in one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Typed

Backline = Callable[..., Typed]

COMMANDS = [
    "serve",
    "render",
    "live",
    "doctor",
    "demo",
    "access add",
    "access list",
    "access revoke",
    "scenes check",
    "packs list",
    "packs show",
    "packs verify",
    "packs share",
    "packs card",
    "packs import encodec",
    "packs import hafm",
    "packs import ear-vae",
    "packs import hcodec",
    "packs import mge",
    "music compose",
    "data prepare",
    "data show",
    "train default-pack",
    "train semantics",
    "train codec",
    "train stage",
    "train vae",
    "train towers",
    "train mge-pack",
    "train duotok",
    "evaluate accompaniment",
    "evaluate codec",
    "evaluate grid",
    "evaluate drift",
    "evaluate voices",
    "evaluate prompts",
]


def write_pack(folder: Path, **values: object) -> Path:
    """A passthrough of two ports in a folder of packs; `values` go into its manifest."""
    manifest = {"format": 1, "name": '"pair"', "version": '"1"', "family": '"passthrough"'} | values
    manifest |= {"description": '"two copies"', "license": '"Apache-2.0"'}
    (folder / "pair").mkdir(parents=True)
    lines = [f"{key} = {value}" for key, value in manifest.items()]
    (folder / "pair" / "pack.toml").write_text("\n".join([*lines, "[passthrough]", 'ports = ["drums", "bass"]']))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(backline: Backline, command: str) -> None:
    said = backline(*command.split(), "--help")
    assert said.code == 0
    assert f"backline {command}" in said.out


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, backline.cli.main; print(sorted({'torch', 'numba', 'grpc', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["render", "in.wav"], "--output"),
        (["render", "in.wav", "-o", "o.wav", "--set", "temperature"], "NAME=VALUE"),
        (["render", "in.wav", "-o", "o.wav", "--set", "temperature=hot"], "NAME=VALUE"),
        (["render", "in.wav", "-o", "o.wav", "--signature", "waltz"], "3/4"),
        (["serve", "--device", "abacus"], "cpu"),
        (["train", "stage", "coarser"], "coarse"),
        (["train", "stems-pack", "--world", "flat"], "people"),
        (["train", "vae", "--world", "flat"], "people"),
        (["train", "towers", "--world", "flat"], "ensemble"),
        (["train", "mge-pack", "--world", "flat"], "ensemble"),
        (["train", "mge-pack", "--size", "huge"], "paper, small, tiny"),
        (["train", "duotok", "--world", "flat"], "duo"),
        (["train", "duotok", "--size", "huge"], "paper, small"),
        (["data", "prepare", ".", "-o", "corpus", "--split", "exam"], "training, validation, test"),
        (["data", "prepare", ".", "-o", "corpus", "--drop", "bad"], "loud voice"),
        (["data", "prepare", "no-such-folder", "-o", "corpus"], "no-such-folder"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_a_wrong_command_line_ends_with_2(backline: Backline, arguments: list[str], remedy: str) -> None:
    said = backline(*arguments)
    assert said.code == 2
    assert remedy in said.err


def test_training_says_before_it_begins_what_its_world_lacks(
    backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    said = backline("train", "stems-pack", "--world", "open", "--run", str(tmp_path / "run"))
    assert said.code == 1
    assert "apt-get install" in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["packs", "show", "no-such-pack"], "passthrough"),
        (["render", "missing.wav", "-o", "o.wav"], "there is no file missing.wav"),
        (["render", "missing.wav", "-o", "o.text"], "use .wav"),
        (["render", "missing.wav", "-o", "no-such-folder/o.wav"], "make it first"),
        (["serve", "--address", "256.0.0.1:x"], "cannot listen at 256.0.0.1:x"),
        (["packs", "import", "encodec", "missing.th"], "there is no such file"),
        (["train", "stems-pack", "--from", "no-such-pack"], "passthrough"),
        (["train", "duotok", "--stage", "4", "--run", "no-such-run"], "name a run of `train duotok`"),
        (["data", "show", "."], "backline data prepare"),
        (["data", "prepare", ".", "-o", "corpus"], "no song could be taken from ."),
        (["data", "prepare", ".", "-o", "corpus", "--separator", "no-such-pack"], "passthrough"),
        (["data", "prepare", ".", "-o", "corpus", "--separator", "passthrough"], "not the stems of a song"),
        (["train", "stems-pack", "--from", "default"], "cannot start from default"),
        (["train", "default-pack", "--from", "stems"], "cannot start from stems"),
        (["train", "stems-pack", "--keep-world", "band"], "name one with --from"),
        (["train", "stems-pack", "--preset", "paper"], "--codec PACK"),
        (["train", "stems-pack", "--ablation", "a1", "--codec", "stems"], "--hubert"),
        (["train", "stems-pack", "--codec", "default"], "has no codec to tell in"),
        (["train", "stems-pack", "--stems", "vocals"], "vocals,band"),
        (["packs", "import", "ear-vae", "missing.pt"], "there is no such file"),
        (["packs", "share", "stems", "--with", "default"], "no file in common with default"),
        (["packs", "import", "hcodec", "missing.pt", "--hubert", "missing.bin"], "there is no such file"),
        (["packs", "import", "mge", "--dit", "a", "--clap", "b", "--tokenizer", "c"], "there is no such file"),
        (["train", "vae", "--from", "default"], "default is no pack to start from"),
    ],
)
def test_what_fails_says_why_in_one_line_and_ends_with_1(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], remedy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = backline(*arguments)
    assert said.code == 1
    lines = [line for line in said.err.splitlines() if "add_port" not in line]  # gRPC's own log
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert remedy in lines[0]


def test_a_stage_needs_what_comes_before_it(backline: Backline, tmp_path: Path) -> None:
    said = backline("train", "stage", "acoustic", "--run", tmp_path / "run")
    assert said.code == 1
    assert "train the part" in said.err


def test_packs_are_listed_and_shown(backline: Backline, tmp_path: Path) -> None:
    folder = write_pack(tmp_path / "packs")
    listed = backline("packs", "list", "--packs", folder)
    assert listed.code == 0
    assert "pair" in listed.out
    assert "passthrough" in listed.out
    shown = backline("packs", "show", "pair", "--packs", folder)
    assert shown.code == 0
    for fact in ("two copies", "drums", "bass", "Apache-2.0"):
        assert fact in shown.out


def test_a_damaged_pack_is_listed_with_its_problem_and_does_not_verify(backline: Backline, tmp_path: Path) -> None:
    folder = write_pack(tmp_path / "packs", format=99)
    assert "damaged" in backline("packs", "list", "--packs", folder).out
    assert backline("packs", "verify", "passthrough").code == 0
    verified = backline("packs", "verify", "pair", "--packs", folder)
    assert verified.code == 1
    assert "format" in verified.out
    shown = backline("packs", "show", "pair", "--packs", folder)
    assert shown.code == 1
    assert "damaged" in shown.err


@pytest.mark.slow
def test_doctor_names_what_is_installed_how_fast_packs_are_and_each_problem(backline: Backline, tmp_path: Path) -> None:
    said = backline("doctor", "--packs", write_pack(tmp_path / "packs", format=99))
    assert said.code == 1  # the damaged pack is a problem
    for fact in ("torch", "soundfile", "CPU", "pack passthrough", "real-time factor", "problem:"):
        assert fact in said.out


def test_the_metres_that_a_pack_knows_are_shown(backline: Backline) -> None:
    assert "metres: 4/4" in backline("packs", "show", "default").out
    assert "metres" not in backline("packs", "show", "passthrough").out

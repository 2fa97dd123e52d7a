"""Ardour and the parameters: it hides what cannot be automated, reads a list only once, and restarts no plugin."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.plugin.hosts import at_home, found, scan_for_ardour
from tests.plugin.test_clap_parameters import NAMES

SCRIPT = Path(__file__).with_name("ardour_parameters.lua")
SECONDS = 120  # after which Ardour counts as hanging
CONNECTING = "1.0"  # the Status

pytestmark = [pytest.mark.hosts, pytest.mark.slow]


@pytest.fixture(scope="module")
def said(vst3_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What the script says, in a home where the plugin remembers a pack of its own."""
    program, home = found("bin/ardour7-lua", "ardour"), tmp_path_factory.mktemp("home")
    shutil.copytree(vst3_bundle, home / ".vst3" / vst3_bundle.name)
    scan_for_ardour(home / ".vst3" / vst3_bundle.name, home)
    remembered = home / ".local" / "state" / "backline" / "packs"
    remembered.parent.mkdir(parents=True)
    remembered.write_text("mine\n")
    done = subprocess.run(
        [program, SCRIPT, home / "song", remembered],
        # Without ARDOUR_FPU_FLAGS 7.3 writes beyond its buffers where there is AVX-512 (d023ea0d77, in 8.5).
        env={**at_home(home), "BACKLINE_ADDRESS": f"unix:{home}/none", "ARDOUR_FPU_FLAGS": "0"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]


def test_every_parameter_is_there_and_can_be_set(said: list[list[str]]) -> None:
    listed = [line[1:] for line in said if line[0] == "parameter"]
    assert [name for name, *_ in listed] == NAMES
    assert all(writable == "true" for _, writable, _, _ in listed), "the status too: else it is a bare number"
    ranges = {name: (float(lower), float(upper)) for name, _, lower, upper in listed}
    assert ranges["Pack"] == (0.0, 4.0), "the packs that ship, and the one that is remembered"


def test_mode_and_budget_take_effect_while_it_plays(said: list[list[str]]) -> None:
    latencies = {after: int(samples) for kind, after, samples, *_ in said if kind == "latency"}
    assert latencies == {"inserted": 144_000, "raised": 72_000, "live": 0, "loaded": 0}


def test_the_status_cannot_be_set(said: list[list[str]]) -> None:
    shown = {when: value for kind, when, *rest in said if kind == "value" and rest[0] == "Status" for value in rest[1:]}
    assert shown == {"connecting": CONNECTING, "set": CONNECTING}


def test_a_session_keeps_the_pack_that_ardour_has_no_place_for(said: list[list[str]]) -> None:
    loaded = {rest[0]: float(rest[1]) for kind, when, *rest in said if kind == "value" and when == "loaded"}
    assert loaded == pytest.approx({"Pack": 4.0, "Mode": 1.0, "Gain": -12.0, "Latency budget": 1.5})

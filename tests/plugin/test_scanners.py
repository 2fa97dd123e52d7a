"""The scanners of real hosts accept the binaries."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.plugin.hosts import SCAN_SECONDS, found, scan_for_ardour

pytestmark = pytest.mark.hosts


def test_qtractor_finds_the_clap_plugin_with_its_ports(clap_file: Path) -> None:
    scanner = found("lib/*/qtractor/qtractor_plugin_scan", "qtractor")
    done = subprocess.run(
        [scanner],
        input=f"CLAP:{clap_file}\n",
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=SCAN_SECONDS,
        check=True,
    )
    assert "Backline" in done.stdout, done.stdout + done.stderr


def test_ardour_finds_the_vst3_plugin_with_its_ports(vst3_bundle: Path, tmp_path: Path) -> None:
    """Debian's qtractor is built without VST3; Ardour's scanner knows it."""
    (line,) = [line for line in scan_for_ardour(vst3_bundle, tmp_path).splitlines() if "<VST3Info" in line]
    for told in ('name="Backline"', 'n_inputs="2"', 'n_outputs="2"', 'n_aux_inputs="2"', 'n_aux_outputs="10"',
                 'n_midi_inputs="1"'):  # fmt: skip
        assert told in line

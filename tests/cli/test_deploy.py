"""The systemd unit and the Dockerfile: read by the programs that know them, where they are, and held to our own."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from backline.cli.serve import serve

ROOT = Path(__file__).parents[2]
UNIT, DOCKERFILE = ROOT / "server" / "deploy" / "backline.service", ROOT / "server" / "deploy" / "Dockerfile"
INSTRUCTIONS = {
    "FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
    "ENTRYPOINT", "CMD",
}  # fmt: skip

app = typer.Typer(add_completion=False)
app.command()(serve)
COMMAND = typer.main.get_command(app)


def logical(path: Path) -> list[str]:
    """The lines of a file without comments, those that are continued as one."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def chosen(arguments: list[str]) -> dict[str, object]:
    """What `serve` makes of them."""
    return dict(COMMAND.make_context("serve", ["--config", "none", *arguments]).params)


def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "backline.service"
    # It looks for the program, and for the user.
    unit.write_text(
        UNIT.read_text().replace("/opt/backline/bin/backline", "/bin/true").replace("=backline\n", "=root\n")
    )
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "backline" in line]
    assert (done.returncode, said) == (0, [])
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restrat=on-failure"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert "Restrat" in done.stderr  # it does look


def test_the_unit_starts_the_server_as_it_is() -> None:
    (start,) = [line for line in logical(UNIT) if line.startswith("ExecStart=")]
    program, command, *arguments = shlex.split(start.removeprefix("ExecStart="))
    assert (Path(program).name, command) == ("backline", "serve")
    options = chosen(arguments)
    loaded = {line.partition("=")[2].partition(":")[0] for line in logical(UNIT) if line.startswith("LoadCredential")}
    given = (options["tls_cert"], options["tls_key"])
    assert {Path(str(path)).name for path in given} == loaded
    (stop,) = [line for line in logical(UNIT) if line.startswith("TimeoutStopSec=")]
    from backline.engine.engine import CLOSING_SECONDS
    from backline.service.server import DRAIN_SECONDS

    assert int(stop.partition("=")[2]) > DRAIN_SECONDS + CLOSING_SECONDS


def test_the_image_holds_what_it_is_made_of_and_starts_the_server() -> None:
    lines = [line.strip() for line in logical(DOCKERFILE) if line.strip()]
    parts = [line.partition(" ") for line in lines]
    assert {name for name, _, _ in parts} <= INSTRUCTIONS
    assert parts[0][0] == "FROM"
    for _, _, rest in (part for part in parts if part[0] == "COPY"):
        *sources, _ = rest.split()
        assert all((ROOT / source).exists() for source in sources), rest
    said = {name: rest for name, _, rest in parts}
    assert json.loads(said["ENTRYPOINT"]) == ["backline"]
    command, *arguments = json.loads(said["CMD"])
    options = chosen(arguments)
    assert command == "serve"
    assert str(options["address"]).endswith(f":{said['EXPOSE']}")
    assert options["tls_cert"]
    assert f"http://{options['metrics']}/readyz" in said["HEALTHCHECK"]
    assert json.loads(said["HEALTHCHECK"].partition("CMD ")[2])[0] == "python"
    pinned = re.search(r"pip install -q torch==(\S+)", (ROOT / "Makefile").read_text())
    assert pinned is not None
    assert f"torch=={pinned[1]} " in DOCKERFILE.read_text()

"""The file of settings: every option of `serve`, overruled by the command line; all that is wrong is named at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from backline.cli.console import UserError
from backline.cli.doctor import Findings, look_at_doors
from backline.cli.serve import serve
from backline.cli.settings import ITSELF, effective, read_settings
from backline.service.access import add_key
from tests.cli.test_commands import Backline
from tests.support.certificates import Authority

app = typer.Typer(add_completion=False)
app.command()(serve)
COMMAND = typer.main.get_command(app)
SAMPLES = {  # what each option may be; the rest is a text
    "packs": "['.']", "load": "['default', 'stems']", "rows": "3", "max-sessions": "8", "load-limit": "1.5",
    "idle": "60", "lease": "60", "tls-cert": "'cert.pem'", "trust-network": "true", "log-audio": "true",
    "device": "'cpu'", "log": "'json'",
}  # fmt: skip
OPTIONS = [parameter.opts[0].removeprefix("--") for parameter in COMMAND.params]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_every_option_of_serve_can_be_set(tmp_path: Path) -> None:
    names = [name for name in OPTIONS if name not in ITSELF]
    lines = [f"{name} = {SAMPLES.get(name, repr('x:1'))}" for name in names]
    settings = read_settings(write(tmp_path, "\n".join(["[serve]", *lines])), COMMAND)
    assert set(settings) == {name.replace("-", "_") for name in names}
    chosen = effective(COMMAND, settings)
    assert (chosen["max_sessions"], chosen["load"], chosen["idle"]) == (8, ["default", "stems"], 60.0)
    assert (chosen["trust_network"], chosen["log"]) == (True, "json")
    assert chosen["tls_cert"] == tmp_path / "cert.pem"
    assert chosen["packs"] == [tmp_path]


def test_the_command_line_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, '[serve]\nmax-sessions = 8\nload = "stems"\nidle = 60')
    for arguments in (["--config", str(path), "--max-sessions", "2"], ["--max-sessions", "2", "--config", str(path)]):
        chosen = COMMAND.make_context("serve", list(arguments)).params
        assert (chosen["max_sessions"], chosen["load"], chosen["idle"]) == (2, ["stems"], 60.0)
    chosen = COMMAND.make_context("serve", ["--config", str(path), "--load", "default"]).params
    assert chosen["load"] == ["default"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert COMMAND.make_context("serve", []).params["max_sessions"] == 64
    (tmp_path / "backline").mkdir()
    path.rename(tmp_path / "backline" / "config.toml")
    assert COMMAND.make_context("serve", []).params["max_sessions"] == 8
    assert COMMAND.make_context("serve", ["--config", "none"]).params["max_sessions"] == 64


WRONG = """# my studio
adress = "127.0.0.1:50505"
[serve]
max-session = 3
max-sessions = 0
rows = "many"
load-limit = nan
device = ["cpu", "cuda"]
trust-network = "yes"
log = "xml"
packs = ["no-such-folder"]
load = [true]
config = "other.toml"
idle = 45
[plugins]
"""


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, WRONG)
    with pytest.raises(UserError) as caught:
        read_settings(path, COMMAND)
    said = str(caught.value).splitlines()
    wanted = [
        (2, "'adress' is nothing that is set here: write options below [serve]"),
        (4, "there is no option 'max-session': did you mean max-sessions?"),
        (5, "max-sessions: "),
        (6, "rows: "),
        (7, "load-limit: "),
        (8, "device: use one value, without [brackets]"),
        (9, "trust-network: use true or false"),
        (10, "log: "),
        (11, "there is no folder"),
        (12, 'load: use a number, or a text in "quotes"'),
        (13, "there is no option 'config': "),
        (15, "'plugins' is nothing that is set here"),
    ]
    assert [line.split(": ")[0] for line in said] == [f"{path}, line {number}" for number, _ in wanted]
    for line, (_, text) in zip(said, wanted, strict=True):
        assert text in line


@pytest.mark.parametrize(
    ("text", "said"), [("[serve\nidle = 3", "line 1"), ("serve = 3", "write options below [serve]"), ("\0", "TOML")]
)
def test_a_file_that_is_no_toml_is_named(backline: Backline, tmp_path: Path, text: str, said: str) -> None:
    told = backline("serve", "--config", write(tmp_path, text))
    assert told.code == 1
    assert said in told.err
    assert str(tmp_path) in told.err
    missing = backline("serve", "--config", tmp_path / "none.toml")
    assert (missing.code, "there is no file" in missing.err) == (1, True)


def test_a_server_obeys_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[serve]\naddress = "127.0.0.1:0"\nsocket = "here"\nmetrics = "127.0.0.1:0"\ndevice = "cpu"')
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--config", str(path), "--socket", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(2)]
            assert said[0].startswith("listening on http://127.0.0.1:")
            assert said[1].startswith("listening on 127.0.0.1:")
        finally:
            process.terminate()


def test_doctor_looks_at_settings_keys_tls_and_every_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "backline"
    folder.mkdir()

    def found(text: str) -> Findings:
        write(folder, text)
        findings = Findings()
        look_at_doors(findings)
        return findings

    well = found('[serve]\naddress = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"')
    assert well.problems == []
    assert {("door address", "free", "127.0.0.1:0"), ("door metrics", "free", "127.0.0.1:0")} <= set(well.rows)
    (problem,) = found("[serve]\nmetrix = 3").problems
    assert "line 2" in problem
    assert "did you mean metrics?" in problem
    (problem,) = found('[serve]\naddress = "0.0.0.0:0"').problems
    assert "--tls-cert" in problem
    authority = Authority(folder, "studio")
    authority.sign("server")
    secure = '[serve]\naddress = "0.0.0.0:0"\ntls-cert = "server.pem"\ntls-key = "server.key"'
    (problem,) = found(secure).problems
    assert "nobody has an access key" in problem
    add_key(folder / "access.toml", "ann")
    ready = found(secure)
    assert ready.problems == []
    assert ("access keys", "1", "ann") in ready.rows
    (problem,) = found(secure.replace("server.key", "studio.key")).problems
    assert "cannot be used for TLS" in problem

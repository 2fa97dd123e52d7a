"""The server that the commands talk to, and a way to type a command."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from backline.cli.console import console, error_console
from backline.cli.main import main
from tests.support.server import address, client

__all__ = ["address", "client"]


@dataclass
class Typed:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def backline(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Typed]:
    """Runs `backline` with the given arguments in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    for lines in (console, error_console):  # made by whatever imported them first
        monkeypatch.setattr(lines, "width", 400)
    monkeypatch.setenv("NO_COLOR", "1")

    def type_command(*arguments: object) -> Typed:
        monkeypatch.setattr(sys, "argv", ["backline", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Typed(code, *capfd.readouterr())

    return type_command

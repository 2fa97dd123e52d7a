"""One file of settings, `~/.config/backline/config.toml`: every option of `backline serve` by its name.

    [serve]
    address = "0.0.0.0:50505"
    load = ["default"]
    tls-cert = "server.pem"      # paths are relative to the file

What is given on the command line goes before what stands here.
"""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

TABLE = "serve"
ITSELF = ("config", "help")  # options that no file sets
KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))\s*=""")
HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]")


def settings_file() -> Path:
    """The user's."""
    from backline.service.access import config_folder

    return config_folder() / "config.toml"


def read_settings(path: Path, command: Any) -> dict[str, Any]:
    """What the file sets of `command`, by the names of its function's arguments.

    Raises:
        UserError: the file cannot be read, or entries are wrong: all of them are named, each with its line and remedy.
    """
    from backline.cli.console import UserError

    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: write one, or leave --config out") from None
    except ValueError as error:
        raise UserError(f"{path} is no TOML ({error}): correct it there") from None
    lines = text.splitlines()
    problems = [
        (_line(lines, None, name), f"{name!r} is nothing that is set here: write options below [{TABLE}]")
        for name in content
        if name != TABLE
    ]
    table = content.get(TABLE, {})
    if not isinstance(table, Mapping):
        raise UserError(f"{path}: {TABLE!r} is no table: write options below [{TABLE}]")
    options = {parameter.opts[0].removeprefix("--"): parameter for parameter in command.params}
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    settings: dict[str, Any] = {}
    for name, value in table.items():
        line = _line(lines, TABLE, name)
        option = options.get(name)
        if option is None or name in ITSELF:
            near = difflib.get_close_matches(name, [other for other in options if other not in ITSELF], 1)
            remedy = f"did you mean {near[0]}?" if near else "see `backline serve --help`"
            problems.append((line, f"there is no option {name!r}: {remedy}"))
            continue
        problem = _wrong_kind(option, value)
        if problem is None:
            value = [value] if option.multiple and not isinstance(value, list) else value
            if "Path" in str(hints.get(option.name)):
                value = _beside(path, value)
            problem = _refused(command, option.name, value)
            settings[option.name] = value
        if problem is not None:
            problems.append((line, f"{name}: {problem}"))
    if problems:
        raise UserError("\n".join(f"{path}, line {line}: {text}" for line, text in sorted(problems)))
    return settings


def configured(context: typer.Context, path: Path | None) -> Path | None:
    """Callback of `--config`, which comes before all other options: takes what the file says as their defaults."""
    if path == Path("none"):
        context.default_map = {}
    if context.default_map is None:
        try:
            place = path or settings_file()
        except OSError:  # a service may have no home
            return path
        if path is not None or place.exists():
            context.default_map = read_settings(place, context.command)
    return path


def effective(command: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Every option of `command` as it is with these settings."""
    parameters: dict[str, Any] = command.make_context(TABLE, [], default_map=settings).params
    return parameters


def _wrong_kind(option: Any, value: Any) -> str | None:
    """What is wrong with the kind of a value, whatever it is."""
    if option.is_flag:
        return None if isinstance(value, bool) else "use true or false"
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float):
            return 'use a number, or a text in "quotes"'
    if isinstance(value, list) and not option.multiple:
        return "use one value, without [brackets]"
    return None


def _refused(command: Any, name: str, value: Any) -> str | None:
    """What `command` itself says against a value."""
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]  # of any kind; Typer gives it no name
    try:
        command.make_context(TABLE, [], default_map={name: value})
    except usage_error as error:
        return str(getattr(error, "message", error))
    return None


def _beside(file: Path, value: Any) -> Any:
    """Paths as seen from the folder of the file; ~ is the user's home."""
    if isinstance(value, list):
        return [_beside(file, entry) for entry in value]
    return str(file.absolute().parent / Path(str(value)).expanduser())


def _line(lines: list[str], table: str | None, name: str) -> int:
    """Where a key stands, or a table begins; 1 where it is written in some rarer way."""
    at: str | None = None
    for number, line in enumerate(lines, 1):
        if header := HEADER.match(line):
            at = header[1]
            if table is None and at == name:
                return number
        elif at == table and (key := KEY.match(line)) and name in key.groups():
            return number
    return 1

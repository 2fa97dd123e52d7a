"""Set lists: TOML files of scenes, each of which says what the band is to be from a bar on. `backline scenes check`."""

from __future__ import annotations

import math
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backline.cli import options
from backline.cli.console import UserError

if TYPE_CHECKING:
    from backline_client import Client, SessionOptions, Transport
    from backline_protos.v1 import backline_pb2 as pb

SET_BYTES = 1 << 20  # of a file: a set list of a thousand scenes is a tenth of that

scenes = typer.Typer(help="Set lists for `backline live --scenes`: pack, tempo, seed and more, scene by scene.")


@dataclass(frozen=True)
class Scene:
    """What is played from one bar on."""

    name: str
    pack: str
    options: SessionOptions
    ports: tuple[str, ...] = ()  # of the pack's outputs, those that are heard; none: all
    transport: Transport | None = None  # tempo and signature from its first bar on; None: as they are


@scenes.callback()
def _group() -> None:
    pass


@scenes.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The set list, a TOML file.")],
    server: options.Server = None,
    packs: options.PackFolders = None,
) -> None:
    """Name every fault of a set list, by its packs here or on a server, and what to do about each.

    Example: [cyan]backline scenes check set.toml[/]
    """
    from backline.cli.connection import connected
    from backline.cli.console import console

    listed = read_set(file, Scene("", "default", {}))
    with connected(server, packs or [], "cpu") as client:
        checked(client, file, listed)
    console.print(f"{file}: {len(listed)} scenes, no fault", soft_wrap=True)


# ---- the file --------------------------------------------------------------------------------------------


def read_set(path: Path, common: Scene) -> list[Scene]:
    """The scenes of a file in their order; what one leaves out is as in `common`.

    Raises:
        UserError: it is no file of at most SET_BYTES, or has faults: the message names all, and what to do about each.
        OSError: it cannot be read.
    """
    # Looked at before it is opened: a pipe would wait for who writes.
    if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > SET_BYTES:
        raise UserError(f"{path} is no file of at most {SET_BYTES} bytes: give the path of a set list")
    try:
        with open(path, "rb") as file:
            content = tomllib.loads(file.read(SET_BYTES).decode())
    except (ValueError, RecursionError) as error:  # tomllib's own, of UTF-8, of numbers, and of what is nested too deep
        raise UserError(f'{path} is no TOML ({error}): begin each scene with [[scene]], then name = "verse"') from error
    faults = [f"{key!r} is no key of a set list: use [[scene]] for each scene" for key in content if key != "scene"]
    tables = content.get("scene", [])
    if not (isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)):
        faults.append("there is no scene: begin each with [[scene]]")
        tables = []
    found: list[Scene] = []
    for number, table in enumerate(tables, 1):
        where = f"scene {number}" + (f" ({table['name']})" if isinstance(table.get("name"), str) else "")
        values, wrong = _values(table)
        if "name" not in table:
            wrong.append('it has no name: add one such as name = "verse"')
        elif values.get("name") in {scene.name for scene in found}:
            wrong.append("another scene has its name: give it one of its own")
        scene, more = _scene(values, common)
        found.append(scene)
        faults += [f"{where}: {each}" for each in wrong + more]
    _raise(path, faults)
    return found


def checked(client: Client, path: Path | None, listed: Sequence[Scene]) -> Client:
    """Its client, once the scenes of a file have been held against the packs that its server has.

    Raises:
        UserError: a pack, or what it is to be given, is not there; the message names all such faults.
    """
    if path is None:
        return client
    known = {pack.name: pack for pack in client.packs()}
    faults = []
    for number, scene in enumerate(listed, 1):
        if scene.pack not in known:
            said = [f"there is no pack {scene.pack!r}: use {', '.join(known) or 'another server, this one has none'}"]
        else:
            said = list(_against(known[scene.pack], scene))
        faults += [f"scene {number} ({scene.name}): {each}" for each in said]
    _raise(path, faults)
    return client


def _raise(path: Path, faults: Sequence[str]) -> None:
    if faults:
        raise UserError("\n  ".join([f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}", *faults]))


def _scene(values: Mapping[str, Any], common: Scene) -> tuple[Scene, list[str]]:
    """The scene of these values, and what does not go together in it."""
    wanted: Any = dict(common.options)
    for key, option in OPTIONS.items():
        if key in values:
            wanted[option] = {**wanted.get(option, {}), **values[key]} if isinstance(values[key], dict) else values[key]
    faults, transport = list[str](), None
    if "tempo" in values:
        try:
            [transport] = options.parse_transport(values["tempo"], values.get("signature", "4/4"), 0.0)
        except typer.BadParameter as error:
            faults.append(str(error))
    scene = replace(
        common,
        name=values.get("name", ""),
        pack=values.get("pack", common.pack),
        options=wanted,
        ports=tuple(values.get("ports", common.ports)),
        transport=transport,
    )
    return scene, faults


def _values(table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a scene says, as far as that can be used, and what cannot."""
    values, faults = dict[str, Any](), list[str]()
    for key, value in table.items():
        if key not in KEYS:
            faults.append(f"{key!r} is no key of a scene: use {', '.join(KEYS)}")
            continue
        use, fits = KEYS[key]
        if fits(value):
            values[key] = value
        else:
            faults.append(f"{key} = {_shown(value)}: use {use}")
    if "signature" in table and "tempo" not in table:
        faults.append("a signature needs a tempo: add one such as tempo = 96")
    return values, faults


def _against(pack: pb.Pack, scene: Scene) -> list[str]:
    """What a pack has not got of what a scene wants of it."""
    from backline.models.stream import Parameter

    if pack.problem:
        return [pack.problem]
    faults = []
    task = scene.options.get("task")
    tasks = {each.name: each for each in pack.tasks}
    chosen = tasks.get(task) if task else next(iter(pack.tasks), None)
    if task and chosen is None:
        faults.append(f"{pack.name} has no task {task!r}: use {', '.join(tasks) or 'none'}")
    for kind, wanted, has in (
        ("output", scene.ports, pack.ports),
        ("parameter", scene.options.get("parameters", {}), pack.parameters),
        ("text", scene.options.get("texts", {}), pack.texts),
    ):
        names = [each.name for each in has]
        if chosen is not None:
            of_task = {"output": chosen.ports, "parameter": chosen.parameters, "text": chosen.texts}[kind]
            names = [name for name in names if name in of_task]
        for name in wanted:
            if name not in names:
                faults.append(f"{pack.name} has no {kind} {name!r}: use {', '.join(names) or 'none'}")
    for each in pack.parameters:
        if each.name in scene.options.get("parameters", {}):
            known = Parameter(each.name, each.default_value, each.minimum, each.maximum, each.unit, "", each.integer)
            try:
                known.check(scene.options["parameters"][each.name])
            except ValueError as error:
                faults.append(str(error))
    return faults


def _shown(value: Any) -> str:
    try:
        return repr(str(value)[:40])
    except ValueError:
        return "a number of thousands of digits"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.strip() == value != "" and value.isprintable()


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _is_table(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(_is_word(key) and fits(each) for key, each in value.items())


KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {  # what to write, and whether that was done
    "name": ("a name that is no number", lambda value: _is_word(value) and not value.isdecimal()),
    "pack": ("the name of a pack", _is_word),
    "task": ("the name of one of the pack's tasks", _is_word),
    "tempo": ("1 to 999 quarter notes a minute", lambda value: _is_number(value) and 1 <= value <= 999),
    "signature": ('a text such as "3/4"', _is_word),
    "seed": (
        "a whole number from 0 to 2^64 - 1",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64,
    ),
    "chunk": ("seconds above 0", lambda value: _is_number(value) and value > 0),
    "visibility": ("seconds; below 0 it plays ahead", _is_number),
    "ports": (
        'a list of outputs such as ["drums"]',
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_word, value)),
    ),
    "parameters": ("a table of numbers such as { temperature = 0.9 }", _is_table(_is_number)),
    "texts": ('a table of texts such as { prompt = "a rhodes" }', _is_table(lambda value: isinstance(value, str))),
}
OPTIONS = {  # of a session, by the keys that they have here
    "task": "task", "seed": "seed", "chunk": "chunk_seconds", "visibility": "visibility_seconds",
    "parameters": "parameters", "texts": "texts",
}  # fmt: skip

"""Options that stand together in several commands: told once, as the fields of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

from backline.cli import options

if TYPE_CHECKING:
    from backline_client import SessionOptions, Transport


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator of a command with parameters that are dataclasses of options: typer sees the fields in their place.

    Such a parameter's default says what its options' defaults are; without one, the dataclass does.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown = []
    for parameter in inspect.signature(command).parameters.values():
        if (group := groups.get(parameter.name)) is None:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        given = group() if parameter.default is parameter.empty else parameter.default
        kinds = get_type_hints(group, include_extras=True)
        shown += [
            parameter.replace(
                name=field.name,
                kind=inspect.Parameter.KEYWORD_ONLY,
                default=getattr(given, field.name),
                annotation=kinds[field.name],
            )
            for field in fields(group)
        ]

    @wraps(command)
    def run(**said: Any) -> None:
        for name, group in groups.items():
            said[name] = group(**{field.name: said.pop(field.name) for field in fields(group)})
        command(**said)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run


@dataclass(frozen=True)
class ServerOptions:
    """Which server plays: one at an address, or one inside with these packs."""

    server: options.Server = None
    key_file: options.KeyFile = None
    ca: options.Authority = None
    client_cert: options.ClientCertificate = None
    packs: options.PackFolders = None
    device: options.Device = "auto"

    def credentials(self) -> options.Credentials:
        """What a `Client` shows to the server."""
        return options.credentials(self.server, self.key_file, self.ca, self.client_cert)


@dataclass(frozen=True)
class PlayOptions:
    """How a pack is to play along."""

    seed: options.Seed = None
    chunk: options.Chunk = None
    visibility: options.Visibility = None
    guidance: options.Guidance = None
    temperature: options.Temperature = None
    settings: options.Settings = None
    texts: options.Texts = None
    task: options.Task = None
    inputs: options.Inputs = None
    tempo: options.Tempo = None
    signature: options.Signature = "4/4"
    downbeat: options.Downbeat = 0.0
    layout: options.Layout = options.ChannelLayout.AUTO

    def parameters(self) -> dict[str, float]:
        """Of the pack, by name."""
        return options.parse_settings(self.settings, guidance=self.guidance, temperature=self.temperature)

    def transport(self) -> list[Transport]:
        """The beat of the whole input; nothing where no tempo is given."""
        return options.parse_transport(self.tempo, self.signature, self.downbeat)

    def session(self) -> SessionOptions:
        """What a session is asked for beside the transport."""
        return options.session_options(
            self.chunk,
            self.visibility,
            self.seed,
            self.parameters(),
            self.layout,
            self.texts,
            self.task,
            self.inputs,
        )


HERE, PLAIN = ServerOptions(), PlayOptions()  # with nothing asked for

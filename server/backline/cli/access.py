"""`backline access`: keys by which clients on other machines come in."""

from __future__ import annotations

from typing import Annotated

import typer

from backline.cli import options

access = typer.Typer(
    help="Keys for clients on other machines; `backline serve --tls-cert ... --tls-key ...` asks for them.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is: letters, digits, dots and dashes.")]


@access.command()
def add(
    name: Name,
    sessions: Annotated[int | None, typer.Option(help="Sessions that it may hold at the same time.", min=1)] = None,
    packs: Annotated[
        list[str] | None, typer.Option(help="A pack that it may play, and no others; may be given several times.")
    ] = None,
    messages_per_second: Annotated[
        float | None, typer.Option(help="That its clients may send; a live session sends one a block.", min=1)
    ] = None,
    bytes_per_second: Annotated[
        float | None,
        typer.Option(
            help="That its clients may send; 48 kHz in stereo is 384000, and a quarter more is let through.", min=1
        ),
    ] = None,
    keys: options.KeysFile = None,
) -> None:
    """Make a key, and show it this once. What sends more than its key may is slowed down if it renders, and ends if it
    plays live; the two are reckoned apart.

    Example: [cyan]backline access add studio --sessions 4 --packs default > studio.key[/]
    """
    from backline.cli.console import error_console
    from backline.service.access import access_file, add_key

    path = keys or access_file()
    key = add_key(
        path,
        name,
        sessions=sessions,
        packs=packs or [],
        messages_per_second=messages_per_second,
        bytes_per_second=bytes_per_second,
    )
    typer.echo(key)
    error_console.print(
        f"This is shown once: {path} keeps its hash. Clients take it by --key-file or BACKLINE_KEY.", soft_wrap=True
    )


@access.command(name="list")
def list_keys(keys: options.KeysFile = None) -> None:
    """Show whose keys there are, and what each may.

    Example: [cyan]backline access list[/]
    """
    from rich.table import Table

    from backline.cli.console import console
    from backline.service.access import access_file, read_keys

    table = Table("name", "added", "sessions", "packs", "messages/s", "bytes/s", "")
    for key in read_keys(keys or access_file()):
        limits = (key.sessions, ", ".join(key.packs), key.messages_per_second, key.bytes_per_second)
        shown = [f"{limit:g}" if isinstance(limit, float) else str(limit or "any") for limit in limits]
        table.add_row(key.name, str(key.added), *shown, f"revoked {key.revoked}" if key.revoked else "")
    console.print(table)


@access.command()
def revoke(name: Name, keys: options.KeysFile = None) -> None:
    """Let a key open nothing any more; what plays with it ends within a second.

    Example: [cyan]backline access revoke studio[/]
    """
    from backline.service.access import access_file, revoke_key

    revoke_key(keys or access_file(), name)

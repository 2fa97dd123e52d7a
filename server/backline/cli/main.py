"""The `backline` command. Nothing heavy is imported before a command runs, so that help comes at once."""

from __future__ import annotations

import io
import os
import sys

import typer

from backline.cli.access import access
from backline.cli.data import data
from backline.cli.demo import demo
from backline.cli.doctor import doctor
from backline.cli.evaluate import evaluate
from backline.cli.live import live
from backline.cli.music import music
from backline.cli.packs import packs
from backline.cli.render import render
from backline.cli.scenes import scenes
from backline.cli.serve import serve
from backline.cli.tokens import tokens
from backline.cli.train import train

app = typer.Typer(
    help="Music models that play along: serve them, render files with them, play live with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
for command in (serve, render, live, doctor, demo):
    app.command()(command)
app.add_typer(access, name="access")
app.add_typer(packs, name="packs")
app.add_typer(scenes, name="scenes")
app.add_typer(tokens, name="tokens")
app.add_typer(data, name="data")
app.add_typer(train, name="train")
app.add_typer(music, name="music")
app.add_typer(evaluate, name="evaluate")


def main() -> None:
    """Runs the command line. Exit code 2 for a wrong command line, 1 for what failed, with one line that says why."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand beside ours
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what no text does
    try:
        app()
    except Exception as error:
        from backline.cli.console import error_console, explanation, labelled

        text = explanation(error)
        if text is None:
            raise
        error_console.print(labelled("error", text, "bold red"), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

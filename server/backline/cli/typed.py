"""What is typed while `backline live` plays: lines, and the texts that they set."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from backline.cli.console import UserError, error_console, labelled

if TYPE_CHECKING:
    from backline_client import Client, Session

MAIN_TEXT = "query"  # that a line sets which names none, where the pack has it
SET, REFUSED = "text", "text refused"  # labels of what is told of texts


def read_lines(descriptor: int, obey: Callable[[str], None]) -> None:
    """Hands on what is written there, line by line, until it ends; on a thread of its own."""

    def read() -> None:
        # Without a buffer, whose lock the end would wait for. There may be nothing to read from at all.
        with suppress(OSError), open(descriptor, "rb", buffering=0, closefd=False) as lines:
            for line in lines:
                obey(line.decode("utf-8", "replace").strip())

    threading.Thread(target=read, name="lines", daemon=True).start()


def texts_of(client: Client, pack: str, session: Session) -> list[str]:
    """The names of the texts that a session on this pack has, in the pack's order."""
    return [text.name for text in client.pack(pack).texts if text.name in session.ready.texts]


def set_text(line: str, session: Session, names: list[str]) -> tuple[str, str]:
    """Sets the text that a line says, WORDS or NAME=WORDS, as soon as possible; tells of it and gives name and words.

    Raises:
        UserError: there is no text among `names`, or these words are none.
        BacklineError: the session has ended.
    """
    from backline.engine.limits import TEXT_BYTES

    if not names:
        raise UserError("what plays hears no text: `backline packs show` tells which packs do")
    name, equals, words = (part.strip() for part in line.partition("="))
    if not equals or name not in names:
        name, words = MAIN_TEXT if MAIN_TEXT in names else names[0], line.strip()
    if "\0" in words or len(words.encode()) > TEXT_BYTES:
        raise UserError(f"a text is at most {TEXT_BYTES} bytes of UTF-8, without NUL: write less")
    session.text(name, words)
    error_console.print(labelled(SET, f"{name} = {words}", "green"), soft_wrap=True)
    return name, words

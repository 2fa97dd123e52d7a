"""A pack's card for the page: its README as HTML, and its pictures."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt

from backline.engine.errors import NotFound
from backline.packs.registry import PackEntry

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def html(entry: PackEntry) -> str:
    """The card. Whoever has written it, it holds no HTML of its own, and shows pictures of the pack's folder alone."""
    path = entry.folder / "README.md"
    if not path.is_file():
        return "<p>This pack has no card.</p>"
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(path.read_text("utf-8", "replace"))
    for token in tokens:
        token.attrs.pop("style", None)  # of a column that is aligned: the page takes styles from its own file only
        for each in token.children or []:
            if each.type == "image":
                each.attrSet("src", f"/packs/{quote(entry.name, '')}/{quote(str(each.attrGet('src')), '')}")
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def picture(entry: PackEntry, name: str) -> tuple[Path, str]:
    """A picture's file and its media type.

    Raises:
        NotFound: the pack's folder holds none of that name.
    """
    path = (entry.folder / Path(name).name).resolve()
    kind = PICTURES.get(path.suffix.lower())
    if kind is None or path.parent != entry.folder.resolve() or not path.is_file():
        raise NotFound(f"pack {entry.name!r} has no picture of that name")
    return path, kind

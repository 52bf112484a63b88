"""The model card as a page shows it: Markdown whose own HTML is text, and whose pictures are those of its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PICTURE = re.compile(r"[A-Za-z0-9_-]+\.png")
_FOLLOWED = ("https://", "http://")


def rendered(card: str, pictures: str) -> Markup:
    """HTML of a card; headings begin at level 2, a picture ``x.png`` is asked for below the address `pictures`."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    def picture(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        name, words = str(tokens[index].attrs["src"]), tokens[index].content
        if not _PICTURE.fullmatch(name):
            return str(escape(words))
        return str(Markup('<img src="{}/{}" alt="{}">').format(pictures, quote(name), words))

    def opened(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>'

    def closed(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>"

    for name, rule in (("image", picture), ("table_open", opened), ("table_close", closed)):
        markdown.add_render_rule(name, rule)
    tokens = markdown.parse(_COMMENT.sub("", card))
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        _drop_links(token.children or [])
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704 - escaped by the renderer


def _drop_links(tokens: Sequence[Token]) -> None:
    """Links into the folder of the model lead nowhere on the web: only their words stay."""
    is_dropped = False
    for token in tokens:
        if token.type == "link_open":
            is_dropped = not str(token.attrs["href"]).startswith(_FOLLOWED)
        if token.type in {"link_open", "link_close"}:
            token.hidden = is_dropped

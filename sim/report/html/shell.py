"""The file around the sections: templates, style, script and policy in one HTML file that loads nothing.

The policy forbids all requests and every script and style but those of the page, which it names by their hashes. Data
in the page cannot end its element, for `<` is written as an escape. The modules of the script are joined into one.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sim.report.html.pictures import colour_rules
from sim.report.html.sections import CATEGORY_NAMES

__all__ = ["render_page"]

_HERE: Final = Path(__file__).parent
_IMPORT: Final = re.compile(r"^import [^;]*;\n|^export (?=\w)", re.MULTILINE)
"""What only modules have: imports, and the word `export`."""

_SCRIPTS: Final = (
    "format.js",
    "columns.js",
    "spans.js",
    "view.js",
    "layout.js",
    "drawing.js",
    "timeline.js",
    "curves.js",
    "heatmap.js",
    "page.js",
)
"""The files of the script, in the order in which they stand in the page."""


def render_page(
    content: Mapping[str, Any], sections: Sequence[tuple[str, str, str]], payload: Mapping[str, Any], columns: str
) -> str:
    """Return a page.

    Parameters
    ----------
    content
        What the templates show; a section is on the page where its id has something here.
    sections
        Of each section: id (and template), name in the navigation, heading.
    payload
        Data of the script; nothing where the page draws nothing.
    columns
        Columns of the script as text.
    """
    shown = [
        {"id": name, "short": short, "title": title, "template": f"{name}.html"}
        for name, short, title in sections
        if content.get(name)
    ]
    style = Markup((_HERE / "report.css").read_text("utf-8") + colour_rules())
    script = Markup('"use strict";\n(() => {\n' + _script() + "})();\n")
    return (
        _environment()
        .get_template("page.html")
        .render(
            content,
            sections=shown,
            policy=_policy(style, script),
            style=style,
            script=script,
            version=_version(),
            names=CATEGORY_NAMES,
            payload=_json(payload) if payload else "",
            columns=columns,
        )
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _script() -> str:
    """Return the modules as one script: what they import from one another stands in it before."""
    return "\n".join(_IMPORT.sub("", (_HERE / "scripts" / name).read_text("utf-8")) for name in _SCRIPTS)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: nothing but this style, this script, and pictures that lie in the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _json(value: object) -> Markup:
    """Return JSON that cannot end the element in which it stands."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _version() -> str:
    try:
        return version("moesim")
    except PackageNotFoundError:
        return ""

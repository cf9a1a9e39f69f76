"""Whether a document says what a claim quotes: word for word, apart from Markdown, capitals and the sign of a product.

Model
-----
Quote and document are both reduced to plain words: marks of Markdown (headings, bullets, numbers of lists, bold, code)
and capitals are taken off, `×` becomes `x`, and blanks and line ends become one space. The quote must then stand in the
document, and no letter or digit may touch its ends: "26M tokens" does not stand in "126M tokens".
"""

import re
from pathlib import Path
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.file_bytes import read_input_text

__all__ = ["plain_words", "read_document", "stands_in"]

_MAX_BYTES: Final = 1 << 22
"""The largest document that is read."""
_LINE_MARKS: Final = re.compile(r"^[ \t]*(?:>[ \t]*)*(?:#{1,6}[ \t]+|[-*+][ \t]+|\d+[.)][ \t]+)*", re.MULTILINE)
"""Marks at the start of a line: quotations, headings, bullets, numbers of a list."""
_INLINE_MARKS: Final = re.compile(r"[*`|]+|(?<![^\W_])_{1,3}|_{1,3}(?![^\W_])")
"""Marks of bold, italics, code and cells; an underscore inside of a word stays."""


def plain_words(text: str) -> str:
    """Return a text without Markdown, in small letters, with one space between words.

    >>> plain_words("2. **GPU Count**:  `PP × TP`"), plain_words("- EP64_TP16_PP4 is __valid__")
    ('gpu count: pp x tp', 'ep64_tp16_pp4 is valid')
    """
    bare = _INLINE_MARKS.sub("", _LINE_MARKS.sub("", text))
    return " ".join(bare.replace("×", "x").lower().split())


def stands_in(quote: str, document_words: str) -> bool:
    """Tell whether a quote stands in a document, given as its plain words.

    >>> document = plain_words("- Expected throughput: **26M** tokens/second")
    >>> stands_in("26M tokens/second", document), stands_in("6M tokens/second", document), stands_in("26M", "126m")
    (True, False, False)
    """
    words = plain_words(quote)
    around = rf"(?<!\w){re.escape(words)}" if words[:1].isalnum() else re.escape(words)
    around += r"(?!\w)" if words[-1:].isalnum() else ""
    return bool(words) and re.search(around, document_words) is not None


def read_document(path: Path) -> str:
    """Return the plain words of a document.

    Raises
    ------
    InvalidValueError
        The file cannot be read, is too large, or holds no words.
    """
    text = read_input_text(path, _MAX_BYTES, field="the document", hint="Name a text file, such as claims.md.")
    words = plain_words(text)
    if not words:
        raise InvalidValueError(
            "the document", "hold words", "none", "Name the text that the claims quote.", file=str(path)
        )
    return words

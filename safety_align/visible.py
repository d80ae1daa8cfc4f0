r"""Text from outside, made safe to show: on a terminal, in a page, in a table.

Escape sequences move a terminal's cursor and change its title; overrides of the writing direction and characters without
width make a text read as another. What a user, a model or a file said is shown through here, so that they stand there as
`\x1b`, `\u202e`. What programs read (JSON) stays exact.
"""

import unicodedata

LINES = "\n\t"
"""What may stay where a text has lines of its own."""

# Controls, formats (directions, no width, tags, the byte order mark), halves of surrogate pairs, line and paragraph ends.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, keep: str = "") -> str:
    """`text` with an escape in place of every character that is not seen; those of `keep` stay.

    By character, so a text may be shown piece by piece.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(c) if c not in keep and unicodedata.category(c) in _HIDDEN else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()

"""What is not seen is shown; what is seen stays as it is."""

import unicodedata

from safety_align import distributed
from safety_align.visible import LINES, visible


def test_escapes_in_place_of_what_is_not_seen():
    cases = {
        "\x1b]0;title\x07": "\\x1b]0;title\\x07", "\u202eabc\u2066": "\\u202eabc\\u2066", "a\u200bb\ufeff": "a\\u200bb\\ufeff",
        "a\u2028b": "a\\u2028b", "\ud800": "\\ud800", "\x7f\x9b": "\\x7f\\x9b", "a\nb\tc\r": "a\\nb\\tc\\r", "\U000e0041": "\\U000e0041",
    }  # fmt: skip
    for text, shown in cases.items():
        assert visible(text) == shown and shown.isprintable()
    assert visible("a\nb\tc\r\x1b", LINES) == "a\nb\tc\\r\\x1b"


def test_text_of_any_language_stays():
    for text in ("Grüße, 世界! 🙂", "नमस्ते", "עברית", "a\u00a0b\u3000c", "\\x1b", ""):
        assert visible(text) == text
    assert all(visible(c) == c for c in map(chr, range(0x20, 0x500)) if unicodedata.category(c)[0] in "LMNPS")


def test_what_is_said_is_seen(capsys):
    distributed.say("a\x1b[2Jb\nc")
    assert capsys.readouterr() == ("", "a\\x1b[2Jb\\nc\n")


def test_a_text_may_be_shown_piece_by_piece():
    text = "one\x1b[31m two\u202e\n"
    assert "".join(map(visible, text)) == visible(text)

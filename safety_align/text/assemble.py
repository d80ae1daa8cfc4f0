"""Parts of a conversation → ids and spans.

A part is a control id, or text that is content (a `[CLS]` may read it) or not. Neighbouring texts are encoded as one, as
the model saw them in training; a token is content if any of its characters is.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from safety_align.text.tokenizer import Before

Part = int | tuple[str, bool]
"""A control id, or (text, is content)."""

SEPARATOR = "\n\n"
"""Stands between an answer that broke off and what goes on behind it."""


def split_controls(tokenizer, text: str) -> list[Part]:
    """A template's own text, cut at the control tokens in it, the longest first."""
    if not text or not tokenizer.controls:
        return [(text, False)] if text else []
    names = sorted(tokenizer.controls, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    return [tokenizer.controls[p] if p in tokenizer.controls else (p, False) for p in pieces if p]


def assemble(tokenizer, parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """ids [P] int32 and content [P] bool of `parts`."""
    ids: list[int] = []
    content: list[bool] = []
    for texts, control in _runs(tokenizer, parts):
        new, marks = _encode_run(tokenizer, texts, "control" if ids else "nothing")
        ids.extend(new)
        content.extend(marks)
        if control is not None:
            ids.append(control)
            content.append(False)
    return np.array(ids, np.int32), np.array(content, bool)


def encode_answer(tokenizer, opening: Sequence[Part], prefix: str, text: str) -> np.ndarray:
    """Ids [R] int32 of an answer that `opening` (the end of a prompt) opens.

    They are those that the answer's text has within the whole conversation: no space is put before it that the text
    before, or `prefix` (what the template writes before an answer), already gives.
    """
    texts, _ = list(_runs(tokenizer, opening))[-1]
    before: Before = "text" if any(text for text, _ in texts) else "control"
    if before == "control" and prefix == " " and tokenizer.prepends_space:
        prefix = ""
    return np.array(tokenizer.encode(prefix + text, before), np.int32)


def encode_continuation(tokenizer, text: str) -> np.ndarray:
    """Ids [R] int32 of `text` behind an answer that already has text: a paragraph of its own."""
    return np.array(tokenizer.encode(SEPARATOR + text, "text"), np.int32)


def _runs(tokenizer, parts: Sequence[Part]) -> Iterator[tuple[list[tuple[str, bool]], int | None]]:
    """Each run of texts with the control id behind it; the last has none (and may be empty).

    A control token that strips its neighbours takes the white space beside it, as in `tokenizers`.
    """
    texts: list[tuple[str, bool]] = []
    strip_left = False
    for part in [*parts, None]:
        if isinstance(part, tuple):
            texts.append(part)
            continue
        left, right = tokenizer.strips.get(part, (False, False))
        texts = _strip(texts, str.lstrip, 1) if strip_left else texts
        texts = _strip(texts, str.rstrip, -1) if left else texts
        yield texts, part
        texts, strip_left = [], right


def _strip(texts: list[tuple[str, bool]], strip, step: int) -> list[tuple[str, bool]]:
    """`texts` without white space at one end, however many of them it takes."""
    ordered = texts[::step]
    for number, (text, is_content) in enumerate(ordered):
        ordered[number] = (strip(text), is_content)
        if ordered[number][0]:
            break
    return ordered[::step]


def _encode_run(tokenizer, texts: Sequence[tuple[str, bool]], before: Before) -> tuple[list[int], list[bool]]:
    """Ids of joined texts, and which of them touch content."""
    whole = "".join(text for text, _ in texts)
    if not whole:
        return [], []
    marked = np.repeat([is_content for _, is_content in texts], [len(text) for text, _ in texts])
    seen = np.concatenate([[0], np.cumsum(marked)])  # content characters before each character
    ids, spans = tokenizer.encode_spans(whole, before)
    if not ids:  # a normaliser may take all of it
        return [], []
    starts, stops = np.array(spans).T
    return ids, (seen[np.maximum(starts, stops)] > seen[starts]).tolist()

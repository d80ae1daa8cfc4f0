"""Parts of a conversation → ids and spans.

A part is a control id, or text that is content (a `[CLS]` may read it) or not. Neighbouring texts are encoded as one, as
the model saw them in training; a token is content if any of its characters is.
"""

from collections.abc import Sequence

import numpy as np

Part = int | tuple[str, bool]
"""A control id, or (text, is content)."""


def assemble(tokenizer, parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """ids [P] int32 and content [P] bool of `parts`."""
    ids: list[int] = []
    content: list[bool] = []
    texts: list[tuple[str, bool]] = []
    for part in [*parts, None]:
        if isinstance(part, tuple):
            texts.append(part)
            continue
        new, marks = _encode_run(tokenizer, texts, first=not ids)
        ids.extend(new)
        content.extend(marks)
        texts = []
        if part is not None:
            ids.append(part)
            content.append(False)
    return np.array(ids, np.int32), np.array(content, bool)


def _encode_run(tokenizer, texts: Sequence[tuple[str, bool]], first: bool) -> tuple[list[int], list[bool]]:
    """Ids of joined texts, and which of them touch content."""
    whole = "".join(text for text, _ in texts)
    if not whole:
        return [], []
    marked = np.repeat([is_content for _, is_content in texts], [len(text) for text, _ in texts])
    before = np.concatenate([[0], np.cumsum(marked)])  # content characters before each character
    ids, spans = tokenizer.encode_spans(whole, first)
    return ids, [bool(before[max(stop, start)] > before[start]) for start, stop in spans]

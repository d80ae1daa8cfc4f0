"""Which segments share a row."""

from collections.abc import Iterator, Sequence

from safety_align.errors import InputError
from safety_align.placement import Pair, RowShape, Segment

POOL = 16
"""Segments that wait for a row with room."""


def pack(segments: Sequence[Segment | Pair], shape: RowShape) -> list[int]:
    """Which of `segments` go into the next row: the oldest, then, as long as one fits, the longest that does."""
    room, copies, pairs, chosen = shape.slots, shape.checks, shape.pairs, []
    by_length = sorted(range(1, len(segments)), key=lambda i: (-segments[i].length, i))
    for i in [0, *by_length]:
        segment = segments[i]
        if segment.length <= room and len(segment.checks) <= copies and segment.pairs <= pairs:
            chosen.append(i)
            room -= segment.length
            copies -= len(segment.checks)
            pairs -= segment.pairs
    if not chosen and segments[0].pairs > pairs:
        raise InputError("the mixture holds preference pairs; give data.pairs_per_row, room for them in a row")
    if not chosen:
        raise InputError(f"a segment has {len(segments[0].checks)} checks; data.checks_per_row is {shape.checks}")
    return chosen


def pack_all(segments: Sequence[Segment | Pair], shape: RowShape, pool: int = POOL) -> Iterator[list[int]]:
    """Which of `segments` go into each row, until every one is in one; `pool` of them wait at a time."""
    waiting = list(range(len(segments)))
    while waiting:
        chosen = pack([segments[i] for i in waiting[:pool]], shape)
        yield [waiting[i] for i in chosen]
        taken = set(chosen)
        waiting = [index for i, index in enumerate(waiting) if i not in taken]

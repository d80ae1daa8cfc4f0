"""What one turn of a compiled loop moves to and from a TPU chip's memory, read from the program's text.

XLA's own "bytes accessed" counts what an instruction takes and gives wherever it lies: on-chip memory too, and an update in place as
a whole read and a whole write. Here on-chip memory (`S(n)` in a layout) is free, a slice counts what is sliced, an update what is
written, and sizes are those of the tiles that a layout pads to.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast while conditional call after-all partition-id iota optimization-barrier".split()
)
"""Instructions that move nothing themselves; nor do the ends of transfers, `…-done`."""

UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
"""Instructions that write a part of their first operand: which operand is that part."""

JOINS = frozenset(["ConcatBitcast"])
"""Custom calls that only give a name to what lies side by side."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array as it lies: its bits an entry, its axes, its layout's text."""

    bits: int
    dims: tuple[int, ...]
    layout: str

    @property
    def off_chip(self) -> bool:
        return "S(" not in self.layout

    @property
    def bytes(self) -> int:
        """As its tiles are padded."""
        dims = list(self.dims)
        order = re.match(r"\{([\d,]*)", self.layout)
        tile = re.search(r"T\(([\d,]+)\)", self.layout)
        if order and order[1] and tile:
            minor = [int(n) for n in order[1].split(",")]
            for size, axis in zip(reversed([int(n) for n in tile[1].split(",")]), minor, strict=False):
                if len(dims) > 1:  # a vector lies in one row of tiles
                    dims[axis] = -(-dims[axis] // size) * size
        return math.prod(dims) * self.bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation: its name, the arrays of its result, its kind, the names that it takes, the rest of the line."""

    name: str
    result: tuple[Shape, ...]
    kind: str
    operands: tuple[str, ...]
    rest: str

    @property
    def calls(self) -> str | None:
        """The computation of a fusion, of a call, or of a loop's body."""
        found = re.search(r"\b(?:calls|body|to_apply)=%([\w.\-]+)", self.rest)
        return found[1] if found else None

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional, of which one is run."""
        listed = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        named = re.findall(r"(?:true|false)_computation=%([\w.\-]+)", self.rest)
        return re.findall(r"%([\w.\-]+)", listed[1]) if listed else named

    @property
    def scope(self) -> str:
        """Where in the source it comes from; empty if that is not known."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


class Program:
    """The computations of a compiled module's text, each read when it is asked for."""

    def __init__(self, text: str):
        self._texts: dict[str, list[str]] = {}
        lines = None
        for line in text.splitlines():
            if (start := re.match(r"(?:ENTRY )?%([\w.\-]+) \(.*\{$", line)) is not None:
                lines = self._texts[start[1]] = []
            elif line.startswith("}"):
                lines = None
            elif lines is not None:
                lines.append(line)
        self.computation = functools.cache(self._computation)

    def _computation(self, name: str) -> dict[str, Instruction]:
        return {found.name: found for line in self._texts[name] if (found := _instruction(line)) is not None}

    def root(self, name: str) -> Instruction:
        """The instruction that a computation returns."""
        return next(_instruction(line) for line in self._texts[name] if line.lstrip().startswith("ROOT "))

    def loop(self, scope: str) -> str:
        """The name of the body of the loop that comes from there."""
        for name in self._texts:
            for one in self.computation(name).values():
                if one.kind == "while" and one.scope == scope:
                    return one.calls
        raise ValueError(f"no loop of the program comes from {scope}")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of one turn: read and written, by the axes of the array that they are part of. Of a conditional the branch that moves
    most counts, of a loop within one turn."""

    read: collections.Counter
    written: collections.Counter

    @property
    def total(self) -> int:
        return self.read.total() + self.written.total()


def step_traffic(text: str) -> Traffic:
    """Of a step of the compiled `decode`, by its text."""
    program = Program(text)
    return traffic(program, program.loop("jit(decode)/while/body/while"))


def traffic(program: Program, body: str) -> Traffic:
    """Of one turn of the loop whose body that is."""
    found = Traffic(collections.Counter(), collections.Counter())
    here = program.computation(body)
    for one in here.values():
        inner = [one.calls] if one.kind in ("while", "call") else one.branches if one.kind == "conditional" else []
        if inner:
            most = max((traffic(program, name) for name in inner), key=lambda moved: moved.total)
            found.read.update(most.read)
            found.written.update(most.written)
        if (
            one.kind in FREE
            or one.kind.endswith("-done")
            or any(f'custom_call_target="{join}"' in one.rest for join in JOINS)
        ):
            continue
        for index, operand in enumerate(one.operands):
            source = here[operand].result
            if len(source) == 1 and source[0].off_chip:
                found.read[source[0].dims] += min(_taken(program, one, index, source[0]), source[0].bytes)
        for shape, size in _written(program, one):
            found.written[shape.dims] += size
    return found


def _taken(program: Program, one: Instruction, index: int, source: Shape) -> int:
    """Bytes that an instruction reads of its operand `index`."""
    if one.kind in ("slice-start", "dynamic-slice", "gather", "slice"):
        return min(shape.bytes for shape in one.result if shape.dims) if index == 0 else source.bytes
    if one.kind in UPDATES and index == 0:
        return 0
    if one.kind == "fusion":
        return _of_parameter(program, one.calls, index, source)
    return source.bytes


def _of_parameter(program: Program, name: str, index: int, source: Shape) -> int:
    """Bytes that a fused computation reads of its parameter `index`."""
    here = program.computation(name)
    known = {one.name for one in here.values() if one.kind == "parameter" and one.rest.startswith(f"({index})")}
    read = 0
    for one in here.values():
        places = [i for i, operand in enumerate(one.operands) if operand in known]
        if places and _is_view(program, one):
            known.add(one.name)
        elif places:
            read += sum(_taken(program, one, place, source) for place in places)
    return read


def _is_view(program: Program, one: Instruction) -> bool:
    """Only another name, or shape, of what it takes."""
    if one.kind == "bitcast":
        return True
    return one.kind == "fusion" and all(
        each.kind in ("parameter", "bitcast") for each in program.computation(one.calls).values()
    )


def _written(program: Program, one: Instruction) -> Iterator[tuple[Shape, int]]:
    """(array, bytes that are written of it) of a result that lies off-chip."""
    if one.kind.endswith("-start"):
        # Of a copy the first is where it goes, the second where it comes from; of all others the last is where it goes.
        places = [shape for shape in one.result if shape.dims]
        target = places[0 if one.kind == "copy-start" else -1]
        if target.off_chip:
            yield target, target.bytes
        return
    updates = _updates(program, one)
    for place, shape in enumerate(one.result):
        if shape.off_chip and shape.dims:
            yield shape, min(shape.bytes, updates.get(place, shape.bytes))


def _updates(program: Program, one: Instruction) -> dict[int, int]:
    """Place in the result of a fusion → bytes of the update of a parameter that it is. What is updated after it was computed is
    written whole; and so, to be safe, is an update on its own line, or in a fusion within."""
    if one.kind != "fusion":
        return {}
    here, root = program.computation(one.calls), program.root(one.calls)
    found = {}
    for place, name in enumerate(root.operands if root.kind == "tuple" else (root.name,)):
        part = _behind_views(program, here, name)
        if part.kind in UPDATES and _behind_views(program, here, part.operands[0]).kind == "parameter":
            found[place] = here[part.operands[UPDATES[part.kind]]].result[0].bytes
    return found


def _behind_views(program: Program, here: dict[str, Instruction], name: str) -> Instruction:
    """What stands behind other names and shapes of it."""
    part = here[name]
    while part.operands and _is_view(program, part):
        part = here[part.operands[0]]
    return part


_LINE = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = (.*)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](\{[^}]*\})?")


def _instruction(line: str) -> Instruction | None:
    found = _LINE.match(line)
    if found is None:
        return None
    name, text = found[1], found[2]
    end = _closing(text) if text.startswith("(") else text.index(" ")
    kind, taken = text[end:].lstrip().split("(", 1)
    close = _closing("(" + taken) - 1
    inside, rest = taken[:close], taken[close + 1 :]
    if kind == "parameter":
        return Instruction(name, _shapes(text[:end]), kind, (), f"({inside})")
    return Instruction(name, _shapes(text[:end]), kind, tuple(re.findall(r"%([\w.\-]+)", inside)), rest)


def _closing(text: str) -> int:
    """The place behind the parenthesis that closes the first one."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced: {text[:60]}")


def _shapes(text: str) -> tuple[Shape, ...]:
    return tuple(
        Shape(
            8 if kind == "pred" else int(re.search(r"\d+", kind)[0]),
            tuple(int(n) for n in dims.split(",") if n),
            layout or "",
        )
        for kind, dims, layout in _ARRAY.findall(text)
    )

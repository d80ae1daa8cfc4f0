"""A Jinja environment in which a template from outside stays small: bounded in time, output, values and recursion.

Jinja's own sandbox keeps a template from Python's objects, but lets it double a string forty times. Here every place
where a template can repeat something, or make a value out of others, is counted: loops and output by rewriting the
template's tree, operators, calls and filters by wrapping them. What is made is weighed (the characters and items in it,
containers taken apart), so that no single step that Jinja or Python then takes can be long; between steps, the clock is
read. Filters and methods that no chat template needs and that are hard to bound are not there.
"""

import contextlib
import contextvars
import datetime
import json
import re
import string
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import jinja2
import jinja2.ext
import jinja2.nodes as nodes
import jinja2.runtime
import jinja2.sandbox
import jinja2.visitor

from safety_align.errors import InputError

SECONDS = 0.5
"""Processor time of one rendering."""
STEPS = 100_000
"""Turns of loops, calls, filters and outputs of one rendering, beside ten for each character of the conversation."""
VALUE = 200_000
"""Weight of one value, beside ten for each character of the conversation."""
MADE = 100
"""Weight of everything that is made, in units of the largest value."""
DEPTH = 40
"""Calls within calls."""
SOURCE = 100_000
"""Characters of a template."""
ITEM = 10
"""Weight of a container's item, beside what it holds."""
PATTERN = 1_000
"""Characters of a text that is looked for."""

_METHODS = {
    str: frozenset(
        "capitalize casefold count endswith find format index isalnum isalpha isascii isdecimal isdigit isidentifier "
        "islower isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix removesuffix "
        "replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper".split()
    ),
    dict: frozenset(("get", "items", "keys", "values", "copy")),
    list: frozenset(("index", "count", "copy")),
    tuple: frozenset(("index", "count")),
}
_FILTERS = (
    "abs attr capitalize count d default dictsort e escape first float format groupby indent int items join last length "
    "list lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title trim "
    "truncate unique upper urlencode wordcount"
).split()
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_PLAIN = (str, bytes, range)


class RunsAway(InputError):
    """A template that leaves its bounds."""


class _Namespace(jinja2.utils.Namespace):
    """Its text says nothing of what it holds, which may be itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace takes no {name!r}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


class Budget:
    """What one rendering may still use."""

    def __init__(self, characters: int):
        self.steps = STEPS + 10 * characters
        self.value = VALUE + 10 * characters
        self.made = MADE * self.value
        self.depth = 0
        self.end = time.thread_time() + SECONDS + characters / 1e6

    def step(self) -> None:
        """One turn of a loop, a call, an output."""
        self.steps -= 1
        if self.steps < 0 or time.thread_time() > self.end:
            raise RunsAway("the model's chat template does not come to an end")

    def check(self, weight: int) -> None:
        """Refuses a value of that weight before it is made."""
        if weight > self.value:
            raise RunsAway("the model's chat template computes something too large")

    def weigh(self, value: Any) -> Any:
        """`value`, weighed."""
        weight = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, _PLAIN):
                weight += len(item)
            elif isinstance(item, int):
                weight += item.bit_length() // 64 * 1000  # numbers stay small
            elif isinstance(item, dict):
                weight += 2 * ITEM * len(item)
                self.check(weight)
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, frozenset, *_VIEWS)):
                weight += ITEM * len(item)
                self.check(weight)
                waiting += item
            weight += 1
            if weight > self.value:
                self.check(weight)
        self.made -= weight
        if self.made < 0:
            raise RunsAway("the model's chat template computes too much")
        return value


_BUDGET: contextvars.ContextVar[Budget] = contextvars.ContextVar("budget")


@contextlib.contextmanager
def budget(characters: int) -> Iterator[None]:
    """Renderings in the body share a budget for a conversation of so many characters."""
    token = _BUDGET.set(Budget(characters))
    try:
        yield
    finally:
        _BUDGET.reset(token)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Chat templates as `transformers` compiles them, counted. Rendering needs a `budget`."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols], finalize=_written
        )
        counted = {name: _counted(name, self.filters[name]) for name in _FILTERS}
        self.filters.clear()
        self.filters |= counted | {
            "tojson": _counted("tojson", _to_json),
            "<made>": _made,
            "<concat>": _concat,
            "<loop>": _loop,
        }
        self.filters["<step>"] = _step
        given = dict(
            dict=dict, namespace=_Namespace, range=jinja2.sandbox.safe_range, raise_exception=_raise, strftime_now=_now
        )
        self.globals.clear()
        self.globals |= given | {"cycler": jinja2.utils.Cycler, "joiner": jinja2.utils.Joiner}
        self._callables = tuple(given.values())

    def compile_chat(self, source: str) -> jinja2.Template:
        """The template of a source text; InputError where it does not parse."""
        if len(source) > SOURCE:
            raise InputError(f"the model's chat template has {len(source):,} characters, more than {SOURCE:,}")
        try:
            return self.from_string(source)
        except Exception as error:  # also RecursionError and what Python says of the code that Jinja writes
            raise InputError(f"the model's chat template does not parse: {visible(error)}") from None

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Counting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def call(__self, __context, __obj, *args, **kwargs):
        """Calls macros, loops, our own functions, and methods of texts and containers that are known to be small."""
        current = _BUDGET.get()
        current.step()
        _check_call(current, __self._callables, __obj, args, kwargs)
        if isinstance(__obj, jinja2.runtime.LoopContext):
            args = (_steps(current, args[0]), *args[1:])
        current.depth += 1
        if current.depth > DEPTH:
            raise RunsAway("the model's chat template calls itself too deeply")
        try:
            return current.weigh(super().call(__context, __obj, *args, **kwargs))
        finally:
            current.depth -= 1

    def call_binop(self, context, operator: str, left, right):
        """An operator that can make a value larger than its parts."""
        current = _BUDGET.get()
        current.step()
        if operator == "**":
            raise RunsAway("the model's chat template computes something too large")
        if operator == "*":
            sizes = [len(x) for x in (left, right) if isinstance(x, (*_PLAIN, list, tuple))]
            counts = [x for x in (left, right) if isinstance(x, int)]
            if sizes and counts:
                current.check(sizes[0] * counts[0])
        if operator == "%" and isinstance(left, str):
            _check_format(current, left, [right], r"%[^a-zA-Z%]*(\d{4}|\*)")
        return current.weigh(super().call_binop(context, operator, left, right))


class _Counting(jinja2.visitor.NodeTransformer):
    """Puts the counting filters into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        node = self.generic_visit(node)
        node.iter = _filtered(node.iter, "<loop>")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        # The template's own text too goes through `finalize`, as a constant: a block in a loop can be long.
        node = self.generic_visit(node)
        node.nodes = [
            nodes.Const(child.data, lineno=child.lineno) if isinstance(child, nodes.TemplateData) else child
            for child in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        node = self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "<concat>")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        node = self.generic_visit(node)
        node.expr = _filtered(node.expr, "<step>")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        node = self.generic_visit(node)
        node.node = _filtered(node.node, "<step>")
        return node

    def visit_List(self, node: nodes.List | nodes.Tuple | nodes.Dict) -> nodes.Node:
        node = self.generic_visit(node)
        if all(isinstance(item, nodes.Const) for item in node.iter_child_nodes()):
            return node  # as long as it is written
        return node if getattr(node, "ctx", "load") == "store" else _filtered(node, "<made>")

    visit_Tuple = visit_Dict = visit_List


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, which marks an answer for training and writes what stands in it."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller) -> str:
        return caller()


def visible(error: object) -> str:
    """The text of an error, short and on one line; what no terminal should get is escaped."""
    text = str(error)[:300]
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _steps(current: Budget, items: Iterable) -> Iterator:
    for item in items:
        current.step()
        yield item


# These read the context so that Jinja does not compute them while it compiles.


@jinja2.pass_context
def _loop(context, items) -> Iterator:
    return _steps(_BUDGET.get(), items)


@jinja2.pass_context
def _step(context, value):
    _BUDGET.get().step()
    return value


@jinja2.pass_context
def _made(context, value):
    return _BUDGET.get().weigh(value)


@jinja2.pass_context
def _concat(context, values: list) -> str:
    _BUDGET.get().weigh(values)
    return (jinja2.runtime.markup_join if context.eval_ctx.autoescape else jinja2.runtime.str_join)(values)


@jinja2.pass_context
def _written(context, value):
    current = _BUDGET.get()
    current.step()
    return current.weigh(value)


def _counted(name: str, function):
    """A filter that is weighed before and after."""
    wanted = jinja2.utils._PassArg.from_obj(function)
    given = {
        jinja2.utils._PassArg.context: lambda context: (context,),
        jinja2.utils._PassArg.eval_context: lambda context: (context.eval_ctx,),
        jinja2.utils._PassArg.environment: lambda context: (context.environment,),
    }.get(wanted, lambda context: ())

    @jinja2.pass_context
    def counted(context, value, *args, **kwargs):
        current = _BUDGET.get()
        current.step()
        _check_filter(current, name, value, args, kwargs)
        return current.weigh(function(*given(context), value, *args, **kwargs))

    return counted


def _check_filter(current: Budget, name: str, value, args: tuple, kwargs: dict) -> None:
    """Refuses what a filter would make too large."""
    options = [*args, *kwargs.values()]
    if name in (
        "first",
        "last",
        "length",
        "count",
        "default",
        "d",
        "map",
        "select",
        "reject",
        "selectattr",
        "rejectattr",
    ):
        return
    for item in (value, *options):
        current.weigh(item)
    if name == "format":
        _check_format(current, str(value), options, r"%[^a-zA-Z%]*(\d{4}|\*)")
    elif name == "replace":
        _check_replaced(current, str(value), *map(str, (*args, *kwargs.values())))
    elif name in ("indent", "tojson"):
        widths = [len(x) if isinstance(x, str) else x for x in options if isinstance(x, (int, str))]
        if sum(abs(width) for width in widths) > 100:
            raise RunsAway(f"the model's chat template gives the filter {name!r} too large a width")
    elif name == "join":
        separators = sum(len(str(x)) for x in options)
        current.check(separators * (len(value) if hasattr(value, "__len__") else 1))
    elif name == "sum" and any(not isinstance(x, (int, float, str)) for x in options):
        raise RunsAway("the model's chat template sums what are no numbers")
    elif name == "trim" and any(len(x) > PATTERN for x in options if isinstance(x, str)):
        raise RunsAway("the model's chat template trims too many characters")


def _check_call(current: Budget, callables: tuple, target, args: tuple, kwargs: dict) -> None:
    """Refuses calls that are not known to be small."""
    if isinstance(target, (jinja2.runtime.Macro, jinja2.runtime.LoopContext, jinja2.runtime.BlockReference)):
        return
    if isinstance(target, jinja2.Undefined):
        return  # Jinja says what is wrong
    owner = getattr(target, "__self__", None)
    name = getattr(target, "__name__", "")
    if isinstance(owner, _Generation | jinja2.utils.Cycler | jinja2.runtime.LoopContext):
        return
    if isinstance(target, jinja2.utils.Joiner) or any(
        target is known for known in (*callables, jinja2.utils.Cycler, jinja2.utils.Joiner)
    ):
        return
    if hasattr(target, "__wrapped__"):  # Jinja's own guard around str.format
        owner = getattr(target.__wrapped__, "__self__", None)
    allowed = next((names for kind, names in _METHODS.items() if isinstance(owner, kind)), frozenset())
    if name not in allowed:
        raise RunsAway(
            f"the model's chat template calls {visible(name or type(target).__name__)}, which is not allowed"
        )
    if not isinstance(owner, str):
        return
    if name == "format":
        fields = list(string.Formatter().parse(owner))
        if any(spec and re.search(r"\d{4}|\{", spec) for _, _, spec, _ in fields):
            raise RunsAway("the model's chat template formats a value too wide")
        _check_format(current, owner, [*args, *kwargs.values()], r"(?!)")
    elif name == "replace":
        _check_replaced(current, owner, *(x for x in (*args, *kwargs.values()) if isinstance(x, str)))
    elif name == "join":
        items = list(args[0]) if args else []
        current.weigh(items)
        current.check(len(owner) * len(items))
    elif any(isinstance(x, str) and len(x) > PATTERN for x in args):
        raise RunsAway(f"the model's chat template gives {name} too long a text")


def _check_format(current: Budget, form: str, values: list, wide: str) -> None:
    current.weigh(values)
    longest = max((len(str(value)) for value in values), default=0)
    if re.search(wide, form):
        raise RunsAway("the model's chat template formats a value too wide")
    current.check(len(form) + (form.count("%") + form.count("{")) * longest)


def _check_replaced(current: Budget, text: str, old: str = "", new: str = "", *_: str) -> None:
    if len(old) > PATTERN:
        raise RunsAway("the model's chat template replaces too long a text")
    current.check(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _to_json(value, **options) -> str:
    return json.dumps(value, **{"ensure_ascii": False} | options)


def _raise(message: str):
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    if re.search(r"%(?![-_0^#]?[a-zA-Z%])", form) or len(form) > PATTERN:
        raise RunsAway(f"the model's chat template asks for a date in an odd form: {visible(form)}")
    return datetime.datetime.now().strftime(form)

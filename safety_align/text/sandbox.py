"""A Jinja environment in which a template from outside stays small: bounded in time, output, values and recursion.

Jinja's own sandbox keeps a template from Python's objects, but lets it double a string forty times. Here every place
where a template can repeat something, or make a value out of others, is counted: loops and output by rewriting the
template's tree, operators, calls and filters by wrapping them. What is made is weighed (the characters and items in it,
containers taken apart), so that no single step that Jinja or Python then takes can be long; between steps, the clock is
read. Filters and methods that no chat template needs and that are hard to bound are not there.
"""

import datetime
import functools
import json
import re
import string
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import jinja2
import jinja2.ext
import jinja2.nodes as nodes
import jinja2.runtime
import jinja2.sandbox
import jinja2.visitor

from safety_align.errors import InputError
from safety_align.text import budget
from safety_align.text.budget import DEPTH, FLAT, Budget, RunsAway, said

SOURCE = 100_000
"""Characters of a template."""
PATTERN = 1_000
"""Characters of a text that is looked for."""

TODAY = datetime.datetime(2024, 7, 26)
"""What a template is told of the date [ours]: a prompt that changed by the day would be another than the run was trained
and measured with. It is the one that Llama 3 templates take where they are told none."""

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


_NO_COPY = frozenset("first last length count default d map select reject selectattr rejectattr".split())
"""Filters that make nothing, or one item at a time."""
_WIDTH_OF_ANOTHER = re.compile(r"%(\([^%]*\))?[-+ #0]*\d*\.?\*")


class _Namespace(jinja2.utils.Namespace):
    """Its text says nothing of what it holds, which may be itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace takes no {name!r}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


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
            "<step>": _step,
        }
        self.tests |= {name: _stepped(test) for name, test in self.tests.items()}
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
            raise InputError(f"the model's chat template does not parse: {said(error)}") from None

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Counting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def call(__self, __context, __obj, *args, **kwargs):
        """Calls macros, loops, our own functions, and methods of texts and containers that are known to be small."""
        used = budget.current()
        used.step()
        _check_call(used, __self._callables, __obj, args, kwargs)
        if isinstance(__obj, jinja2.runtime.LoopContext):
            args = (_steps(used, args[0]), *args[1:])
        used.depth += 1
        if used.depth > DEPTH:
            raise RunsAway("the model's chat template calls itself too deeply")
        try:
            return used.weigh(super().call(__context, __obj, *args, **kwargs))
        finally:
            used.depth -= 1

    def call_binop(self, context, operator: str, left, right):
        """An operator that can make a value larger than its parts."""
        used = budget.current()
        used.step()
        if operator == "**":
            raise RunsAway("the model's chat template computes something too large")
        if operator == "*":
            sizes = [len(x) for x in (left, right) if isinstance(x, (*FLAT, list, tuple))]
            counts = [x for x in (left, right) if isinstance(x, int)]
            if sizes and counts:
                used.check(sizes[0] * counts[0])
        if operator == "%" and isinstance(left, str):
            _check_format(used, left, [right])
        return used.weigh(super().call_binop(context, operator, left, right))


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


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _steps(used: Budget, items: Iterable) -> Iterator:
    for item in items:
        used.step()
        yield item


# These read the context so that Jinja does not compute them while it compiles.


@jinja2.pass_context
def _loop(context, items) -> Iterator:
    return _steps(budget.current(), items)


@jinja2.pass_context
def _step(context, value):
    budget.current().step()
    return value


@jinja2.pass_context
def _made(context, value):
    return budget.current().weigh(value)


@jinja2.pass_context
def _concat(context, values: list) -> str:
    used = budget.current()
    used.weigh(values)
    return used.weigh((jinja2.runtime.markup_join if context.eval_ctx.autoescape else jinja2.runtime.str_join)(values))


@jinja2.pass_context
def _written(context, value):
    used = budget.current()
    used.step()
    return used.weigh(value)


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
        used = budget.current()
        used.step()
        if name == "join" and not hasattr(value, "__len__"):
            value = list(value)
        _check_filter(used, name, value, args, kwargs)
        return used.weigh(function(*given(context), value, *args, **kwargs))

    return counted


def _stepped(test):
    """A test that is counted: `select` may ask it of many items."""

    @functools.wraps(test)
    def stepped(*args, **kwargs):
        budget.current().step()
        return test(*args, **kwargs)

    return stepped


def _check_filter(used: Budget, name: str, value, args: tuple, kwargs: dict) -> None:
    """Refuses what a filter would make too large."""
    if name in _NO_COPY:
        return
    options = [*args, *kwargs.values()]
    if any(isinstance(x, int) and abs(x) > 10_000 for x in options):
        raise RunsAway(f"the model's chat template gives the filter {name!r} too large a number")
    for item in (value, *options):
        used.weigh(item)
    if name == "format":
        _check_format(used, str(value), options)
    elif name == "replace":
        old, new = (*args, "", "")[:2]
        _check_replaced(used, str(value), str(kwargs.get("old", old)), str(kwargs.get("new", new)))
    elif name in ("indent", "tojson"):
        widths = [len(x) if isinstance(x, str) else x for x in options if isinstance(x, (int, str))]
        if sum(abs(width) for width in widths) > 100:
            raise RunsAway(f"the model's chat template gives the filter {name!r} too large a width")
    elif name == "join":
        separators = sum(len(str(x)) for x in options)
        used.check(separators * len(value))
    elif name == "sum" and any(not isinstance(x, (int, float, str)) for x in options):
        raise RunsAway("the model's chat template sums what are no numbers")
    elif name == "trim" and any(len(x) > PATTERN for x in options if isinstance(x, str)):
        raise RunsAway("the model's chat template trims too many characters")


def _check_call(used: Budget, callables: tuple, target, args: tuple, kwargs: dict) -> None:
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
        raise RunsAway(f"the model's chat template calls {said(name or type(target).__name__)}, which is not allowed")
    if not isinstance(owner, str):
        return
    if name == "format":
        if any("{" in (spec or "") for _, _, spec, _ in string.Formatter().parse(owner)):
            raise RunsAway("the model's chat template formats a value as wide as another says")
        _check_format(used, owner, [*args, *kwargs.values()])
    elif name == "replace":
        old, new = (*args, "", "")[:2]
        _check_replaced(used, owner, str(old), str(new))
    elif name == "join":
        items = list(args[0]) if args else []
        used.weigh(items)
        used.check(len(owner) * len(items))
    elif any(isinstance(x, str) and len(x) > PATTERN for x in args):
        raise RunsAway(f"the model's chat template gives {name} too long a text")


def _check_format(used: Budget, form: str, values: list) -> None:
    """`form` has fields for `values`; every number in it may be a width."""
    used.weigh(values)
    if _WIDTH_OF_ANOTHER.search(form):
        raise RunsAway("the model's chat template formats a value as wide as another says")
    longest = max((len(str(value)) for value in values), default=0)
    widths = sum(int(number[:12]) for number in re.findall(r"\d+", form))
    used.check(len(form) + widths + (form.count("%") + form.count("{")) * longest)


def _check_replaced(used: Budget, text: str, old: str, new: str) -> None:
    if len(old) > PATTERN:
        raise RunsAway("the model's chat template replaces too long a text")
    used.check(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _to_json(value, **options) -> str:
    return json.dumps(value, **{"ensure_ascii": False} | options)


def _raise(message: str):
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    """`strftime_now` of `transformers`, on a day that stands still."""
    if re.search(r"%(?![-_0^#]?[a-zA-Z%])", form) or len(form) > PATTERN:
        raise RunsAway(f"the model's chat template asks for a date in an odd form: {said(form)}")
    return TODAY.strftime(form)

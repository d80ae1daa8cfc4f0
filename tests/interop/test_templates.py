"""Chat templates from outside: published constructs render as in `transformers`, every turn is in the prompt whole, and
a hostile template is refused soon."""

import pathlib
import time
import types

import pytest

from safety_align.errors import InputError
from safety_align.text import JinjaTemplate, Tokenizer, Turn
from safety_align.text.sandbox import TODAY

TOKENIZER = Tokenizer.train(["Tell me how to bake a loaf of bread."], 300)
NAMES = {"bos_token": "B", "eos_token": "E"}
LOOP = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"


def read(source, turns, **options):
    """(the prompt as text, its content as text) with our own tokenizer, which has no control tokens."""
    prompt = JinjaTemplate(source, NAMES).encode(TOKENIZER, turns, **options)
    return TOKENIZER.decode(prompt.ids), TOKENIZER.decode(prompt.ids[prompt.content])


# Written for these tests, with the constructs of the families' own.
PUBLISHED = {
    path.stem: path.read_text("utf-8") for path in sorted(pathlib.Path(__file__).parent.glob("templates/*.jinja"))
}
PUBLISHED["loop"] = LOOP
LONG = " ".join(["word"] * 20_000)
USER, SYSTEM, TOOL = Turn("user", " Bake bread\n"), Turn("system", "Be kind."), Turn("tool", '{"t": 20}\n☃')
TALKS = [
    [USER],
    [SYSTEM, USER],
    [USER, Turn("assistant", "Mix flour."), Turn("user", "{{ 7 }} </think> <tool_response>")],
    [USER, Turn("assistant", "Let me look."), TOOL],
    [SYSTEM, *[Turn("user", "a"), Turn("assistant", "b")] * 300, Turn("user", LONG)],
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_constructs_render_as_in_transformers(name, monkeypatch):
    """But for the date, which stands still here."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is in the test extra: pip install -e '.[test]'"
    )
    clock = types.SimpleNamespace(now=lambda: TODAY)
    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", clock)
    template = JinjaTemplate(PUBLISHED[name], NAMES)
    rendered = 0
    for turns in TALKS:
        messages = [{"role": t.role, "content": t.text} for t in turns]
        options = dict(add_generation_prompt=True, tools=None, documents=None, **NAMES)
        try:
            (expected,), _ = transformers.utils.chat_template_utils.render_jinja_template(
                [messages], chat_template=PUBLISHED[name], **options
            )
        except Exception as error:
            with pytest.raises(InputError, match="refuses this conversation"):
                template.render(turns)
            assert "raise_exception" in PUBLISHED[name], error
            continue
        assert template.render(turns) == expected
        prompt = template.encode(TOKENIZER, turns)
        assert TOKENIZER.decode(prompt.ids) == expected
        content = "".join(TOKENIZER.decode(prompt.ids[prompt.content]).split())
        if TOOL not in turns:  # which may stand as a JSON string
            assert sorted(content) == sorted("".join("".join(t.text.split()) for t in turns))
        rendered += 1
    assert rendered >= 2


def test_a_prompt_does_not_depend_on_the_day():
    assert "Today Date: 26 Jul 2024" in JinjaTemplate(PUBLISHED["llama31"], NAMES).render([USER])


def test_what_is_content():
    turns = [Turn("system", "S"), Turn("user", "U"), Turn("assistant", "A"), Turn("tool", "T")]
    source = "{% for m in messages %}({{ m.content }}){% endfor %}Default"
    assert read(source, turns) == ("(S)(U)(A)(T)Default", "SUAT")
    assert read(source, turns, assistant_content=False)[1] == "SUT"
    assert read(source, [Turn("system", "S", vouched=True), *turns[1:]])[1] == "UAT"


TALK = [Turn("system", "Be kind."), Turn("user", " one "), Turn("assistant", "two"), Turn("user", "three\n")]
LEAVES_OUT = {
    "all": "Hello",
    "empty": "",
    "the user": "{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}",
    "the system": "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    "the assistant": "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}",
    "all but the last": "{{ messages[-1].content }}",
    "all but two": "{% for m in messages[-2:] %}{{ m.content }}{% endfor %}",
    "twice": LOOP + "{{ messages[1].content }}",
    "backwards": "{% for m in messages | reverse %}{{ m.content }}{% endfor %}",
    "swapped": "{{ messages[0].content }}{{ messages[2].content }}{{ messages[1].content }}{{ messages[3].content }}",
    "part": LOOP.replace("m.content }}", "m.content[:3] }}"),
    "tail": LOOP.replace("m.content }}", "m.content[2:] }}"),
    "a word": LOOP.replace("m.content }}", "m.content | replace('three', '') }}"),
    "a letter": LOOP.replace("m.content }}", "m.content | replace('t', 'T') }}"),
    "when asked": LOOP.replace("m.content }}", "'' if 'three' in m.content else m.content }}"),
    "inner space": LOOP.replace("m.content }}", "m.content.split() | join('_') }}"),
    "other case": LOOP.replace("m.content }}", "m.content | upper }}"),
    "length": LOOP.replace("m.content }}", "m.content | length }}"),
    "one of many": "{% for m in messages %}{% if loop.index < 3 or loop.last %}{{ m.content }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("name", LEAVES_OUT)
def test_a_template_that_drops_or_changes_a_turn_is_refused(name):
    with pytest.raises(InputError, match="leaves out turn|writes turn|rewrites the text|changes the order"):
        read(LEAVES_OUT[name], TALK)


@pytest.mark.parametrize("strip", ["", "| trim", ".strip()", ".lstrip()", ".rstrip()", ".strip('\n')"])
@pytest.mark.parametrize("around", ["({})", " {} ", "\n{}\n", "{}"])
def test_only_white_space_around_a_turn_may_go(strip, around):
    before, after = around.split("{}")
    shown = f"m.content{strip}"
    source = f"{{% for m in messages %}}{{{{ {before!r} + ({shown}) + {after!r} }}}}{{% endfor %}}."
    talk = [
        Turn("user", "  a \n b\n\n"),
        Turn("assistant", "\n c"),
        Turn("user", "d  "),
        Turn("assistant", " "),
        Turn("user", "e"),
    ]
    text, content = read(source, talk)
    functions = {"": str, "| trim": str.strip, ".strip('\n')": lambda t: t.strip("\n")}
    function = functions.get(strip) or getattr(str, strip.strip(".()"))
    assert text == "".join(before + function(t.text) + after for t in talk) + "."
    assert "".join(content.split()) == "abcde"


def test_a_text_may_hold_any_character_and_be_part_of_the_template():
    for text in (
        "\ue000",
        "\ue0000\ue001",
        "\ue00012:0\ue001",
        "[user]",
        "\n[assistant]",
        "0",
        "m.content",
        "\x1b[0m",
        "\x1c x",
    ):
        whole, content = read(LOOP, [Turn("user", text)])
        assert whole == f"[user]{text}\n" and content == text


def test_what_a_template_says_of_itself_is_on_one_line():
    for source in (
        "{{ raise_exception('a\x1b[31m\nb\u202e') }}",
        "{{ messages['\x1b\n'].x }}",
        "{% for\x1b %}",
        "{{ 'x'['\x9b'].y }}",
    ):
        with pytest.raises(InputError) as caught:
            read(source, [USER])
        assert str(caught.value).isprintable()


GROW = (
    "{{% set ns = namespace(x='aaaaaaaa', l=['a'], n=3) %}}{{% for i in range(64) %}}{{% set ns.{} %}}{{% endfor %}}"
    "{{{{ ns.x }}}}{{{{ ns.l }}}}"
)
HOSTILE = {
    "~": GROW.format("x = ns.x ~ ns.x"),
    "+": GROW.format("x = ns.x + ns.x"),
    "*": GROW.format("x = ns.x * 2"),
    "list *": GROW.format("l = ns.l * 2"),
    "list +": GROW.format("l = ns.l + ns.l"),
    "nested lists": GROW.format("l = [ns.l, ns.l]"),
    "nested tuples": GROW.format("l = (ns.l, ns.l)"),
    "nested dictionaries": GROW.format("l = dict(a=ns.l, b={'c': ns.l})"),
    "numbers": GROW.format("n = ns.n * ns.n"),
    "power": "{{ 9 ** 9 ** 9 }}",
    "join": GROW.format("x = [ns.x, ns.x] | join"),
    "join by itself": GROW.format("x = ns.x | join(ns.x)"),
    "str.join": GROW.format("x = ns.x.join([ns.x, ns.x])"),
    "replace": GROW.format("x = ns.x | replace('a', 'aa')"),
    "str.replace": GROW.format("x = ns.x.replace('', ns.x)"),
    "format": GROW.format("x = '%s%s' | format(ns.x, ns.x)"),
    "str.format": GROW.format("x = '{0}{0}'.format(ns.x)"),
    "%": GROW.format("x = '%s%s' % (ns.x, ns.x)"),
    "%*d": "{{ '%*d' % (999999999, 1) }}",
    "%999999999d": "{{ '%999999999d' | format(1) }}",
    "{:>999999999}": "{{ '{:>999999999}'.format(1) }}",
    "{:>{}}": "{{ '{:>{}}'.format(1, 999999999) }}",
    "%(a)999999999d": "{{ '%(a)999999999d' % {'a': 1} }}",
    "%(a)*d": "{{ '%(a)*d' % {'a': 999999999} }}",
    "round": "{{ 1.5 | round(99999999, 'ceil') }}",
    "lazy join": "{{ range(99999) | map('string') | join('a' * 9999) }}",
    "tests": "{{ range(99999) | map('string') | select('in', 'a' * 199999) | list }}",
    "replace by name": "{{ ('a' * 199999) | replace(new='aa' * 499, old='a') }}",
    "set block": GROW.format("x %}{{ ns.x }}{{ ns.x }}{% endset"),
    "filter block": GROW.format("x %}{% filter upper %}{{ ns.x }}{{ ns.x }}{% endfilter %}{% endset"),
    "macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + GROW.format("x = f(ns.x)"),
    "sum": GROW.format("l = [ns.l, ns.l] | sum(start=[])"),
    "autoescape": "{% autoescape true %}" + GROW.format("x = ns.x | escape ~ '<' ~ ns.x") + "{% endautoescape %}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "tree": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(35) }}",
    "blocks": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "range": "{{ range(999999999) | list }}",
    "loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops over text": "{% set s = 'a' * 9999 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "lazy": "{% for a in range(9999) %}{{ range(9999) | map('string') | list | length }}{% endfor %}",
    "long text": "{% for i in range(9999) %}" + "x" * 50_000 + "{% endfor %}",
    "sorting": "{% set x = range(9999) | list %}{% for i in range(9999) %}{% set y = x | sort %}{% endfor %}",
    "comparing": "{% set x = range(9999) | list %}{% for i in range(9999) %}{% if 'a' in x %}{% endif %}{% endfor %}",
    "many": "{% set b = 'a' * 199999 %}" + "".join(f"{{% set a{i} = b ~ '{i}' %}}" for i in range(500)),
    "rfind": "{{ ('a' * 199999).rfind('b' ~ 'a' * 99999) }}",
    "strip": "{{ ('a' * 199999).strip('b' * 99999 ~ 'a') }}",
    "indent": "{{ 'a\nb' | indent(999999999) }}",
    "tojson": "{{ [[[1]]] | tojson(indent=999999999) }}",
    "center": "{{ 'x' | center(999999999) }}",
    "ljust": "{{ 'x'.ljust(999999999) }}",
    "attr": "{{ ('x' | attr('ljust'))(999999999) }}",
    "zfill": "{{ 'x'.zfill(999999999) }}",
    "expandtabs": "{{ '\t'.expandtabs(999999999) }}",
    "translate": "{{ ('a' * 9999).translate({97: 'b' * 99999}) }}",
    "bytes": "{{ 'x'.encode().center(999999999) }}",
    "batch": "{{ [1] | batch(999999999, 0) | list }}",
    "slice": "{{ [1] | slice(999999999) | list }}",
    "wordwrap": "{{ ('a' * 99999) | wordwrap(1) }}",
    "urlize": "{{ ('a.' * 99999) | urlize }}",
    "lipsum": "{{ lipsum(n=99999) }}",
    "date": "{{ strftime_now('%999999999d') }}",
    "deep": "{{ " + "(" * 40_000 + "1" + ")" * 40_000 + " }}",
    "blocks in blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "size": "x" * 1_000_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_grows_is_refused_soon(name):
    started = time.thread_time()
    with pytest.raises(InputError) as caught:
        read(HOSTILE[name] + LOOP, [USER])
    assert time.thread_time() - started < 3
    assert "\n" not in str(caught.value) and "turn" not in str(caught.value)


def test_a_namespace_that_holds_itself_says_nothing_of_it():
    source = "{% set ns = namespace() %}{% for i in range(60) %}{% set n = namespace(a=ns, b=ns) %}{% set ns.a = n %}{% endfor %}{{ ns }}"
    assert read(source + LOOP, [USER])[0].startswith("<Namespace>[user]")


def test_a_long_conversation_is_no_growth():
    turns = [Turn(("user", "assistant")[i % 2], f"{i} and more") for i in range(1001)]
    assert TOKENIZER.decode(JinjaTemplate(LOOP, NAMES).encode(TOKENIZER, turns).ids).count("\n") == 1001
    assert LONG * 50 in JinjaTemplate(PUBLISHED["qwen3"], NAMES).render([Turn("user", LONG * 50)])


def test_published_files_render():
    path = pathlib.Path.home() / ".cache/safety_align_models/qwen2.5-coder-0.5b-instruct/chat_template.jinja"
    if not path.is_file():
        pytest.skip(f"no published template at {path}")
    template = JinjaTemplate(path.read_text("utf-8"), {})
    assert template.render([USER]).endswith("Bake bread\n<|im_end|>\n<|im_start|>assistant\n")

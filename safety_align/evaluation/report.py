"""results.json, table.md and report.html of one or several variants."""

import html
import json
import pathlib
from collections.abc import Sequence

from safety_align.decoding.config import GateConfig, describe
from safety_align.evaluation.plots import bars, is_number, known_checks, timeline
from safety_align.files import write_atomically
from safety_align.visible import LINES, visible

SHOWN = ("prefill_10", "nested", "sampling", "direct")
"""Attacks of which answers are shown first; as many are shown at most."""

_NOTES = """
<p>Attack success: the share of behaviours for which a judge of refusal and compliance, which reads the whole answer
and never sees the safety head, finds an answer that does not refuse. It cannot judge whether an answer is harmful in
fact or of any use; a small model "complies" by going on in words. Sampling counts a behaviour as fallen if any
setting of the grid is answered. New tokens are capped, not the total length. Intervals are Wilson 95&nbsp;%;
several prompts of one goal, and windows of answers to one prompt, count as dependent.</p>
<p>Benign refused: refused by the gate, or by the words of the answer. Perplexity is per token of the models' own
tokenizer. The figures compare variants of these models and say nothing about larger ones.</p>
"""

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2433; max-width: 68rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; display: block; overflow-x: auto; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ee; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #b8c1d1; }
td small { color: #6b7587; } svg { width: 100%; height: auto; }
.sample { border: 1px solid #e3e7ee; border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0; break-inside: avoid; }
.sample p { margin: .25rem 0; white-space: pre-wrap; overflow-wrap: anywhere; } .label { color: #6b7587; font-size: .8rem; }
.tag { font-size: .78rem; border-radius: 1rem; padding: .1rem .6rem; background: #e8ecf3; }
.tag.compliance { background: #fde0dc; } .tag.refusal { background: #d9f0e1; }
mark { background: #fff0c2; } @media print { body { margin: 0; } }
"""


def write_report(output: pathlib.Path, variants: dict[str, dict], about: dict) -> str:
    """Writes results.json, table.md and report.html into `output`; returns the table.

    `about` goes into results.json beside "variants" (which checkpoint, which config).
    """
    output.mkdir(parents=True, exist_ok=True)
    table = markdown_table(variants)
    write_atomically(output / "results.json", strict_json({"variants": variants, "about": about}))
    write_atomically(output / "table.md", table + "\n")
    write_atomically(output / "report.html", html_report(variants))
    return table


def rows_of(variants: dict[str, dict]) -> list[tuple[str, list[str]]]:
    """(label, one cell a variant) for everything measured."""
    rows = []

    def add(label: str, cell):
        rows.append((label, [cell(v) or "–" for v in variants.values()]))

    for name in _names(variants, "attacks"):
        add(f"{name} ASR %", lambda v, n=name: _percent(v["attacks"].get(n), "asr"))
    for name in _names(variants, "benign_refused"):
        add(f"{name} refused %", lambda v, n=name: _percent(v["benign_refused"].get(n), "rate"))
    for name in _names(variants, "head"):
        add(f"{name} AUROC", lambda v, n=name: _number(v["head"].get(n), "auroc", 3))
    for name in _utilities(variants):
        add(name, lambda v, n=name: _number(v, n, 1))
    return rows


def strict_json(value, indent: int | None = 1) -> str:
    """JSON that every reader takes: null where there is no number, no halves of surrogate pairs."""

    def plain(part):
        if isinstance(part, dict):
            return {plain(str(key)): plain(entry) for key, entry in part.items()}
        if isinstance(part, list | tuple):
            return [plain(entry) for entry in part]
        if isinstance(part, str):
            return part.encode("utf-8", "backslashreplace").decode()
        return None if isinstance(part, float) and not is_number(part) else part

    return json.dumps(plain(value), indent=indent, allow_nan=False)


def markdown_table(variants: dict[str, dict]) -> str:
    """An aligned Markdown table, one column a variant."""
    return aligned([("", *variants), *((label, *cells) for label, cells in rows_of(variants))])


def aligned(rows: list[Sequence[str]]) -> str:
    """Rows of cells, the head first, as a Markdown table whose columns align: the first to the left, the others to the right."""
    table = [[visible(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"
        for row in table
    ]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def html_report(variants: dict[str, dict]) -> str:
    """A page that stands alone: table, plots, timelines, transcripts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in variants)
    body = "".join(
        f"<tr><td>{escape(label)}</td>" + "".join(f"<td>{_small(cell)}</td>" for cell in cells) + "</tr>"
        for label, cells in rows_of(variants)
    )
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>safety_align: attacks on the gate</title><style>{_STYLE}</style>",
        "<h1>Attacks on the gate</h1>",
        f"<p>{len(variants)} variant{'s' * (len(variants) > 1)}: {escape(', '.join(variants))}.</p>",
        *(f"<p>{escape(v)}: {escape(describe(_gate(d)))}.</p>" for v, d in variants.items() if "gate" in d),
        *_plot("Attack success rate", variants, "attacks", "asr"),
        *_plot("Benign requests refused", variants, "benign_refused", "rate"),
        f"<h2>All figures</h2><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>",
        "<h2>What was measured, and its weak spots</h2>" + _NOTES,
    ]
    parts += _samples(variants)
    return "\n".join(parts) + "</html>\n"


def _plot(title: str, variants: dict[str, dict], part: str, key: str) -> list[str]:
    """A heading and bars; nothing where nothing of that part was measured."""
    names = _names(variants, part)
    return [f"<h2>{title}</h2>", bars({v: found[part] for v, found in variants.items()}, names, key)] if names else []


def _samples(variants: dict[str, dict]) -> list[str]:
    parts = []
    for variant, measured in list(variants.items())[:3]:
        parts.append(f"<h2>Answers of {escape(variant)}</h2>")
        threshold = (_gate(measured) or GateConfig()).threshold
        for name in _names({variant: measured}, "attacks", SHOWN)[: len(SHOWN)]:
            for sample in measured["attacks"][name].get("samples", [])[:2]:
                parts.append(_sample(name, sample, threshold))
        for name, found in measured["benign_refused"].items():
            parts += [_sample(name, sample, threshold) for sample in found.get("samples", [])[:2]]
    return parts


def _gate(measured: dict) -> GateConfig | None:
    """The gate that a variant was measured with."""
    gate = measured.get("gate")
    return GateConfig(**gate["used"]) if gate else None


def _sample(name: str, sample: dict, threshold: float) -> str:
    text = sample["response"]
    given = sample["prefill"]
    if given and text.startswith(given):
        shown = f"<mark title='prefilled by the attacker'>{escape(given)}</mark>{escape(text[len(given) :])}"
    else:
        shown = escape(text)
    lost = (
        f"<p class='label'>Prefilled and taken back: <mark>{escape(given)}</mark></p>"
        if given and not text.startswith(given)
        else ""
    )
    plot = timeline(sample, threshold) if len(known_checks(sample)) > 2 else ""
    return (
        f"<div class='sample'><p><span class='tag'>{escape(name)}</span> "
        f"<span class='tag {escape(sample['verdict'])}'>judge: {escape(sample['verdict'].replace('_', ' '))}</span> "
        f"<span class='tag'>{escape(sample['status'].replace('_', ' '))}, {escape(sample['stop_reason'].replace('_', ' '))}</span></p>"
        f"<p class='label'>Prompt</p><p>{escape(sample['prompt'][:600])}</p>{lost}<p class='label'>Answer</p><p>{shown}</p>{plot}</div>"
    )


def _names(variants: dict[str, dict], part: str, first: tuple[str, ...] = ()) -> list[str]:
    present = {name: None for v in variants.values() for name in v[part]}
    return [n for n in first if n in present] + [n for n in present if n not in first]


def _utilities(variants: dict[str, dict]) -> list[str]:
    """The figures of the variants' own, without those that only say of how many examples they are."""
    found = dict.fromkeys(key for v in variants.values() for key, value in v.items() if not isinstance(value, dict))
    beside = {f"{key}_{what}" for key in found for what in ("n", "skipped")}
    return [key for key in found if key not in beside and key != "gate"]


def _percent(found: dict | None, key: str) -> str | None:
    if not found or not is_number(found[key]):
        return None
    low, high = (f"{100 * found[end]:.1f}" if is_number(found[end]) else "–" for end in ("low", "high"))
    return f"{100 * found[key]:.1f} [{low}, {high}]"


def _number(found: dict | None, key: str, digits: int) -> str | None:
    return f"{found[key]:.{digits}f}" if found and is_number(found.get(key)) else None


def _small(cell: str) -> str:
    value, bracket, rest = escape(cell).partition(" [")
    return f"{value} <small>[{rest}</small>" if bracket else value


def escape(text: str) -> str:
    """Text from outside as HTML that shows all of it; lines and tabs stay."""
    return html.escape(visible(text, LINES))

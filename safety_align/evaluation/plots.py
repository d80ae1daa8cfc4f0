"""Plots of the report as inline SVG."""

import functools
import io
import math

from safety_align.visible import visible

STYLE = {
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a $ in a name is a $
}

COLOURS = ("#c0504d", "#2f6db5", "#3f9a6b", "#d09a2c", "#7a5ea8", "#4aa3a2", "#8c6d5a", "#7f8896")


@functools.cache
def _pyplot():
    import matplotlib  # here: importing it takes half a second

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # after the backend is chosen

    plt.rcParams.update(STYLE)
    return plt


def bars(variants: dict[str, dict[str, dict]], names: list[str], key: str) -> str:
    """Grouped bars in per cent with their intervals; one group a name, one colour a variant."""
    figure, axes = _pyplot().subplots(figsize=(10.5, 3.6))
    width = 0.8 / max(len(variants), 1)
    for i, (variant, found) in enumerate(variants.items()):
        xs, values, below, above = [], [], [], []
        for x, name in enumerate(names):
            entry = found.get(name)
            if entry and is_number(entry[key]):
                low, high = (entry[end] if is_number(entry[end]) else entry[key] for end in ("low", "high"))
                xs.append(x - 0.4 + (i + 0.5) * width)
                values.append(100 * entry[key])
                below.append(100 * max(0.0, entry[key] - low))
                above.append(100 * max(0.0, high - entry[key]))
        axes.bar(xs, values, width * 0.92, color=COLOURS[i % len(COLOURS)], label=visible(variant))
        axes.errorbar(xs, values, [below, above], fmt="none", ecolor="#1d2433", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(names)), [visible(name).replace("_", "\n", 1).replace("_", " ") for name in names])
    axes.set_ylim(0, 105)
    axes.set_ylabel("per cent")
    axes.grid(axis="y", color="#e3e7ee")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=min(len(variants), 4), loc="lower left", bbox_to_anchor=(0, 1.0))
    return _svg(figure)


def timeline(sample: dict, threshold: float) -> str:
    """Probability of "malicious" at each check of one answer, over generated tokens; a line at the gate's `threshold`."""
    figure, axes = _pyplot().subplots(figsize=(8.5, 1.7))
    checks = known_checks(sample)
    axes.axhline(threshold, color="#8a93a3", linewidth=0.8, linestyle="--")
    axes.plot(*zip(*checks, strict=True), color="#2f6db5", linewidth=1, marker="o", markersize=3)
    bad = [(s, v) for s, v in checks if v >= threshold]
    if bad:
        axes.plot(*zip(*bad, strict=True), "o", color="#c0504d", markersize=4)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("generated tokens (0: query, prefilled answer)", fontsize=8)
    axes.set_ylabel("P(malicious)", fontsize=8)
    return _svg(figure)


def is_number(value: float | None) -> bool:
    """Whether there is a figure to show: not None, NaN or infinite."""
    return value is not None and math.isfinite(value)


def known_checks(sample: dict) -> list[tuple[int, float]]:
    """The checks of an answer that have a probability."""
    return [(step, value) for step, value in sample["checks"] if is_number(value)]


def _svg(figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    _pyplot().close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]

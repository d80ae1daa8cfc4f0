"""Plots of the report as inline SVG."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

plt.rcParams.update({"svg.fonttype": "path", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})

COLOURS = ("#c0504d", "#2f6db5", "#3f9a6b", "#d09a2c", "#7a5ea8", "#4aa3a2", "#8c6d5a", "#7f8896")


def bars(variants: dict[str, dict[str, dict]], names: list[str], key: str) -> str:
    """Grouped bars in per cent with their intervals; one group a name, one colour a variant."""
    figure, axes = plt.subplots(figsize=(10.5, 3.6))
    width = 0.8 / max(len(variants), 1)
    for i, (variant, found) in enumerate(variants.items()):
        xs, values, below, above = [], [], [], []
        for x, name in enumerate(names):
            entry = found.get(name)
            if entry and entry[key] is not None:
                xs.append(x - 0.4 + (i + 0.5) * width)
                values.append(100 * entry[key])
                below.append(100 * max(0.0, entry[key] - entry["low"]))
                above.append(100 * max(0.0, entry["high"] - entry[key]))
        axes.bar(xs, values, width * 0.92, color=COLOURS[i % len(COLOURS)], label=variant)
        axes.errorbar(xs, values, [below, above], fmt="none", ecolor="#1d2433", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n", 1).replace("_", " ") for name in names])
    axes.set_ylim(0, 105)
    axes.set_ylabel("per cent")
    axes.grid(axis="y", color="#e3e7ee")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=min(len(variants), 4), loc="lower left", bbox_to_anchor=(0, 1.0))
    return _svg(figure)


def timeline(sample: dict) -> str:
    """Probability of "malicious" at each check of one answer, over generated tokens."""
    figure, axes = plt.subplots(figsize=(8.5, 1.7))
    steps, values = zip(*sample["checks"], strict=True)
    axes.axhline(0.5, color="#8a93a3", linewidth=0.8, linestyle="--")
    axes.plot(steps, values, color="#2f6db5", linewidth=1, marker="o", markersize=3)
    bad = [(s, v) for s, v in sample["checks"] if v >= 0.5]
    if bad:
        axes.plot(*zip(*bad, strict=True), "o", color="#c0504d", markersize=4)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("generated tokens (0: query, prefilled answer)", fontsize=8)
    axes.set_ylabel("P(malicious)", fontsize=8)
    return _svg(figure)


def _svg(figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]

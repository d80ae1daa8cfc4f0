"""Where metrics go (JSON lines, TensorBoard), and the one that ranks: AUROC."""

import json
import pathlib

import numpy as np

from safety_align.files import write_atomically


def auroc(malicious: np.ndarray, benign: np.ndarray) -> float:
    """Probability that a malicious item scores above a benign one, ties counting half; NaN if either is empty, or an
    item has no score."""
    if not len(malicious) or not len(benign):
        return float("nan")
    scores = np.concatenate([malicious, benign])
    if np.isnan(scores).any():
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1 on; equal ones share their mean
    above = ranks[: len(malicious)].sum() - len(malicious) * (len(malicious) + 1) / 2
    return float(above / (len(malicious) * len(benign)))


class MetricsWriter:
    """Appends metrics to `workdir/metrics.jsonl` and to TensorBoard files in `workdir/tensorboard`.

    A resumed run drops what was written after the step it resumes from, so no step is there twice.
    """

    def __init__(self, workdir: pathlib.Path, resume_step: int):
        from tensorboardX import SummaryWriter  # here: importing it takes a second

        path = workdir / "metrics.jsonl"
        kept = []
        if path.is_file():
            for line in path.read_text("utf-8", errors="replace").split("\n"):
                try:
                    step = json.loads(line)["step"]  # a loss may be NaN here, which strict JSON would not have
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # half a line, cut off by an interruption
                if isinstance(step, int) and step <= resume_step:
                    kept.append(line + "\n")
        write_atomically(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Notes `metrics` of `step`."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


class NoMetrics:
    """What the other processes have in place of a `MetricsWriter`."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

"""Labels plain text with a guard model: python -m launch.label --config=FILE --guard=DIR --output=DIR

The guard is a training run or a Hugging Face directory (Llama-Guard, say); the text is what the config names. DIR gets
passages with the probability that they are unsafe, for the source "text_labelled" (data.labelled=DIR). Interrupted, the
same command goes on; with --distributed every process labels its share, and any number of processes may go on.
"""

import dataclasses
import pathlib
import sys

from tqdm import tqdm

from launch import cli
from safety_align import distributed
from safety_align.claims import owned
from safety_align.data.labelled import PART, read_labelled, write_part
from safety_align.data.parts import part_path
from safety_align.data.sources import load_source
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.files import expanded


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """What to label.

    sources: (source, passages at most) pairs; data_dir, cache_dir: as in training; safe, unsafe: the guard's answers as
    it writes them; max_length, batch_size: of the guard's prompts.
    """

    sources: tuple[tuple[str, int], ...]
    data_dir: str
    cache_dir: str
    safe: str = "safe"
    unsafe: str = "unsafe"
    max_length: int = 1024
    batch_size: int = 32

    def __post_init__(self):
        check_fields(self, max_length=1, batch_size=1)
        if not self.sources or any(limit < 1 for _, limit in self.sources):
            raise InputError("label config: name at least one source, and of each how many passages, at least 1")


def passages(config: LabelConfig) -> list:
    """The plain text examples to label: of each source its "test" split, then "train", up to its limit."""
    chosen = []
    for name, limit in config.sources:
        splits = [
            load_source(name, split, data_dir=config.data_dir, cache_dir=expanded(config.cache_dir, "cache_dir"))
            for split in ("test", "train")
        ]
        found = [examples[i] for examples in splits for i in range(min(len(examples), limit))][:limit]
        if any(example.turns for example in found):
            raise InputError(f"source {name!r} holds conversations; plain text is labelled, as in text_imdb")
        chosen += found
    return chosen


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--guard", required=True, metavar="DIR", help="a training run or a Hugging Face directory")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the labelled passages go")
    cli.add_distributed(parser)
    arguments, config = cli.parse_with_config(parser)
    distributed.start(arguments.distributed)
    import jax

    from safety_align import sharding
    from safety_align.interop import load_model

    values = config.to_dict()
    try:
        config = LabelConfig(**values | {"sources": tuple(values["sources"].items())})
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the config is not a label config: {error}") from error
    output, texts = pathlib.Path(arguments.output), passages(config)
    # A guard that fits the devices of one process: parameters split over them, text split over processes.
    bundle = load_model(arguments.guard, sharding.make_mesh(data=1, fsdp=-1, devices=jax.local_devices()), test=False)
    identity = {"guard": bundle.config, "step": bundle.step, "config": values, "passages": len(texts)}
    taken = f"{output} holds the labels of another guard, text or config"
    with owned(output, "about.json", identity, taken, "choose another --output"):
        label(bundle, config, texts, output)
    return cli.EXIT_OK


def label(bundle, config: LabelConfig, texts: list, output: pathlib.Path) -> None:
    """Labels what `output` lacks, each process its share, and prints a summary."""
    import jax

    from safety_align.guard import Guard

    guard = Guard(bundle, config.safe, config.unsafe, config.max_length, config.batch_size)
    process, processes = jax.process_index(), jax.process_count()
    mine = range(process, -(-len(texts) // PART), processes)
    todo = [part for part in mine if not part_path(output, part).is_file()]
    total = sum(len(texts[part * PART : (part + 1) * PART]) for part in todo)
    with tqdm(total=total, desc="label", unit="passage", disable=not distributed.is_main(), file=sys.stderr) as bar:
        for part in todo:
            examples = texts[part * PART : (part + 1) * PART]
            write_part(
                part_path(output, part), examples, guard.probabilities([e.response for e in examples], bar.update)
            )
    distributed.sync("labelled")
    if distributed.is_main():
        labels = [example.text_label for example in read_labelled(output)]
        print(f"passages         {len(labels)}\nunsafe           {sum(p > 0.5 for p in labels)}")
        print(f"mean probability {sum(labels) / max(len(labels), 1):.4f}")


if __name__ == "__main__":
    cli.run(main)

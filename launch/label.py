"""Labels plain text with a guard model: python -m launch.label --config=FILE --guard=DIR --output=DIR

The guard is a training run or a Hugging Face directory (Llama-Guard, say); the text is what the config names. DIR gets
passages with the probability that they are unsafe, for the source "text_labelled" (data.labelled=DIR). Interrupted, the
same command goes on; with --distributed every process labels its share, and any number of processes may go on.
"""

import pathlib

from launch import cli, devices
from safety_align import distributed


def label_text(guard: str, values: dict, output: pathlib.Path) -> None:
    """Labels what `output` lacks of the text that a label config's `values` name, by the model in the directory `guard`.
    InputError for an `output` of another guard, text or config. All processes call it together."""
    import jax

    from safety_align import sharding
    from safety_align.claims import Owner
    from safety_align.guard import Guard
    from safety_align.interop import load_model
    from safety_align.labelling import label, passages, to_label_config

    config = to_label_config(values)
    texts = passages(config)
    # A guard that fits the devices of one process: parameters split over them, text split over processes.
    bundle = load_model(
        devices.located(guard), sharding.make_mesh(data=1, fsdp=-1, devices=jax.local_devices()), test=False
    )
    identity = {"guard": bundle.config, "step": bundle.step, "config": values, "passages": len(texts)}
    owner = Owner(identity, f"{output} holds the labels of another guard, text or config")
    with owner.holding(output, "about.json"):
        label(Guard(bundle, config.safe, config.unsafe, config.max_length, config.batch_size), texts, output)


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--guard", required=True, metavar="DIR", help="as --checkpoint of launch.generate")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the labelled passages go")
    cli.add_distributed(parser)
    arguments, config = cli.parse_with_config(parser)
    distributed.start(arguments.distributed)
    from safety_align.data.labelled import read_labelled

    output = pathlib.Path(arguments.output)
    label_text(arguments.guard, config.to_dict(), output)
    if distributed.is_main():
        labels = [example.text_label for example in read_labelled(output)]
        print(f"passages         {len(labels)}\nunsafe           {sum(p > 0.5 for p in labels)}")
        print(f"mean probability {sum(labels) / max(len(labels), 1):.4f}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)

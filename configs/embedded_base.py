"""Warm-up of the quickstart's language model (0.8 M parameters) on the embedded corpus: manuals, benign and unsafe.

Half a minute on two cores. A base model that can go on with any manual is the point: it is what alignment starts from.

    python -m launch.train --config=configs/embedded_base.py --workdir=runs/embedded_base
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            model=dict(preset="mini", vocab_size=1536, safety_signal=False),
            template="plain",
            tokenizer_texts=4000,
            data=dict(
                data_dir="",
                cache_dir="~/.cache/safety_align",
                sequence_length=96,  # most manuals whole: on a CPU, attention over short rows costs as much as all the rest
                batch_size=48,
                checks_per_row=24,
                seed=1,
                mixture=dict(embedded_text=3.0, embedded=1.0),
                drop_leaks=False,
                max_bad_fraction=0.01,
                validation_examples=200,
                system_turns=0.0,
                other_roles=0.0,
            ),
            optimizer=dict(learning_rate=6e-3, schedule="cosine", warmup=20, final=0.1, weight_decay=0.05, clip=1.0),
            routing=dict(r1=10, r2=10, r3=10, windows=2),
            lambda_cls=0.0,
            steps=140,
            accumulation=1,
            init_from="",
            seed=0,
            log_every=10,
            eval_every=1000,
            save_every=1000,
            keep=1,
            mesh=dict(data=-1, fsdp=1, sequence=1, tensor=1),
        )
    )  # fmt: skip

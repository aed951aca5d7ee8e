"""Package definition: versions are bounded here; requirements*.txt pin what was tested."""

from setuptools import find_packages, setup

# `configs/` stands at the top of the checkout, where people look for it and edit it, and travels
# in the wheel as `unclip_jax.configs`.
CONFIG_PACKAGES = ["unclip_jax.configs"] + [
    f"unclip_jax.configs.{name}" for name in find_packages("configs")
]

setup(
    name="unclip_jax",
    version="0.1.0",
    description="DALL-E 2 (unCLIP) in JAX and Flax: train, sample and study, from laptop to pod",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["unclip_jax", "unclip_jax.*"]) + CONFIG_PACKAGES,
    package_dir={"unclip_jax.configs": "configs"},
    package_data={"unclip_jax": ["bundles/**", "data/sets/*.txt", "evals/paper*.*"]},
    entry_points={"console_scripts": ["unclip = unclip_jax.cli.main:main"]},
    install_requires=[
        "absl-py>=2.1,<3",
        "array_record>=0.8,<0.9",
        "click>=8.1,<9",
        "clu>=0.0.12,<0.1",
        "flatbuffers>=24,<26",  # what jax.export writes programs with; needs nothing itself
        "flax>=0.12,<0.13",
        "ftfy>=6.1,<7",
        "grain>=0.2.10,<0.3",
        "importlib_resources>=6,<8",  # tensorflow-datasets imports it, but asks for it before 3.9
        "jax>=0.10.2,<0.13",
        "jaxtyping>=0.3,<0.4",
        "matplotlib>=3.9,<4",
        "ml_collections>=1.0,<2",
        "ml_dtypes>=0.5,<0.7",
        "numpy>=2.0,<3",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.12,<0.13",
        "pillow>=11,<14",
        "protobuf>=5.28,<8",  # whose errors tensorflow-datasets raises
        "resvg_py>=0.3,<0.6",
        "safetensors>=0.5,<0.9",
        "scipy>=1.14,<2",
        "tensorboardX>=2.6,<3",
        "tensorflow-datasets>=4.9.8,<5",
        "tokenizers>=0.21,<0.24",
        "tqdm>=4.66,<5",
        "transformers>=5,<6",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2,<0.13"],
        "cuda": ["jax[cuda12]>=0.10.2,<0.13"],
        "cuda13": ["jax[cuda13]>=0.10.2,<0.13"],
        "demo": ["gradio>=6.31,<7"],
        "test": [
            "beartype>=0.19,<0.24",
            "gradio>=6.31,<7",
            "hypothesis>=6.100,<7",
            "ipykernel>=6.29,<8",
            "nbclient>=0.10,<0.12",
            "pytest>=8.3,<10",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.15,<0.18",
            "selenium>=4.25,<5",
        ],
        "parity": [
            "torch>=2.5,<3",
            "diffusers>=0.36,<0.43",
            "accelerate>=1,<2",
            "regex>=2024.5,<2027",
        ],
        "plan": ["libtpu>=0.0.40,<0.1"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.7,<10",
            "mkdocstrings[python]>=1,<2",
        ],
    },
)

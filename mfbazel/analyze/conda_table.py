"""Conda packages whose distribution the mapping of the wheel ``conda-pypi`` lacks, or has wrong.

Read by :mod:`mfbazel.analyze.conda_names`, before that mapping. All names are in lower case, with ``-`` for ``_``
and ``.``. To add one: put it into :data:`DISTRIBUTIONS` when one distribution on the Python index holds the same
modules, into :data:`CANDIDATES` when several could be meant, and into :data:`NO_DISTRIBUTION` when none does, above
all where the index has something else of that name.
"""

from __future__ import annotations

import re

DISTRIBUTIONS = {
    # PyTorch and what is built on it
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "torchvision-cpu": "torchvision",
    "torchvision-gpu": "torchvision",
    "pyg": "torch-geometric",
    "pytorch-geometric": "torch-geometric",
    "pytorch-scatter": "torch-scatter",
    "pytorch-sparse": "torch-sparse",
    "pytorch-cluster": "torch-cluster",
    "pytorch-spline-conv": "torch-spline-conv",
    # TensorFlow: one distribution holds both the CPU's and the GPU's code
    "tensorflow-base": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    # other libraries that conda splits into parts or variants
    "brotli-python": "brotli",
    "cyipopt": "cyipopt",
    "faiss": "faiss-cpu",
    "matplotlib-base": "matplotlib",
    "psycopg2": "psycopg2-binary",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "pyarrow-all": "pyarrow",
    "pyarrow-core": "pyarrow",
    "python-tzdata": "tzdata",
    "ray-all": "ray[all]",
    "ray-client": "ray[client]",
    "ray-core": "ray",
    "ray-data": "ray[data]",
    "ray-default": "ray[default]",
    "ray-rllib": "ray[rllib]",
    "ray-serve": "ray[serve]",
    "ray-train": "ray[train]",
    "ray-tune": "ray[tune]",
    "ruamel-yaml": "ruamel.yaml",
    "sentencepiece-python": "sentencepiece",
    # the mapping has the name of a file there
    "django-jsoneditor": "django-jsoneditor",
    "jupyter-pivottablejs": "jupyter-pivottablejs",
    "pyelastix": "pyelastix",
    "vcversioner": "vcversioner",
}
"""The distribution (it may name extras) by conda name."""

CANDIDATES = {
    "cupy": ("cupy-cuda12x", "cupy-cuda11x"),
    "cupy-core": ("cupy-cuda12x", "cupy-cuda11x"),
    "faiss-gpu": ("faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-cpu"),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "py-opencv": ("opencv-python-headless", "opencv-python"),
    "pyqt": ("pyqt5", "pyqt6"),
}
"""The distributions that could be meant; the flow's author chooses."""

_CUDA = "the wheels of the Python index bring the CUDA libraries that they need"
_CHOICE = "it only chooses a variant of other packages"
_LIBRARY = "it is a library that wheels bring with them, or a package of the base image"
_PROGRAM = "it is a program: take it from the base image"

NO_DISTRIBUTION = {
    **dict.fromkeys(
        ("cuda", "cudatoolkit", "cudnn", "cutensor", "nccl", "pytorch-cuda", "tensorrt-libs", "magma-cuda121"), _CUDA
    ),
    **dict.fromkeys(
        ("blas", "cpuonly", "nomkl", "mpi", "pytorch-mutex", "python-abi"), _CHOICE
    ),
    **dict.fromkeys(
        (
            "arrow-cpp", "blosc", "boost", "boost-cpp", "brotli", "bzip2", "c-ares", "ca-certificates", "cairo",
            "cyrus-sasl", "eigen", "expat", "fftw", "fontconfig", "freetype", "gdal", "geos", "gettext", "glib", "gmp",
            "grpc-cpp", "gsl", "harfbuzz", "hdf5", "icu", "ipopt", "jpeg", "krb5", "lapack", "leveldb", "llvm-openmp",
            "llvmdev", "lz4-c", "mpich", "ncurses", "openblas", "openmpi", "openssl", "pango", "proj", "readline",
            "rocksdb", "snappy", "spacy-models", "sqlite", "tk", "tzdata", "unixodbc", "xz", "yaml", "zeromq", "zlib",
            "zstd",
        ),
        _LIBRARY,
    ),
    **dict.fromkeys(
        (
            "aria2", "bash", "bazel", "bcftools", "bedtools", "blast", "bowtie2", "bwa", "c-compiler", "clang",
            "cmdstan",
            "compilers",
            "coreutils", "curl", "cxx-compiler", "fastqc", "ffmpeg", "fortran-compiler", "gawk", "gcc",
            "gfortran", "ghostscript", "git", "git-lfs", "gnuplot", "go", "gradle",
            "grep", "gxx", "gzip", "htslib",
            "imagemagick", "java-jdk", "julia", "make", "mafft", "mamba", "maven", "micromamba", "mongodb",
            "mysql",
            "nodejs", "openjdk", "openssh", "p7zip", "pandoc", "parallel", "perl", "pkg-config", "poppler",
            "postgresql",
            "r", "r-base", "rsync", "ruby", "rust", "samtools", "scala", "sed", "spark", "star", "tar",
            "texlive-core",
            "unzip", "yarn", "zip",
        ),
        _PROGRAM,
    ),
    "conda": "the step has no conda environment",
    "graphviz": "it is a program: take it from the base image; the Python module is `python-graphviz`",
    "jq": "it is a program: take it from the base image",
    "kubernetes": "it is a program; the Python module is `python-kubernetes`",
    "redis": "it is a server; the Python module is `redis-py`",
    "tesseract": "it is a program: take it from the base image; the Python module is `pytesseract`",
    "wget": "it is a program: take it from the base image; the Python module is `python-wget`",
    "python": "the decorator's `python=` chooses the interpreter",
    "python-freethreading": "the decorator's `python=` chooses the interpreter",
}  # fmt: skip
"""Why there is no distribution, by conda name; the index may have another thing of that name."""

NO_DISTRIBUTION_PATTERNS = (
    (re.compile(r"_.+"), _CHOICE),
    (re.compile(r"(r|rb|perl|bioconductor|ghc|xorg|m2|m2w64|go|rust)-.+"), _LIBRARY),
    (re.compile(r"(cuda|libcu|libnv|libnpp)(?!-python$|-bindings$|-core$|-pathfinder$)[a-z]*-.+"), _CUDA),
    (re.compile(r"spacy-model-.+"), "the Python index has no models of spaCy: write `@pypi` with the model's URL"),
    (re.compile(r"(.+-)?linux-(64|aarch64)|ld-impl-.+|sysroot-.+|binutils(-.+)?|lib[a-z0-9-]+"), _LIBRARY),
)
"""The same by pattern, for names that the mapping does not have either."""

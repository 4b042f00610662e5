"""mfbazel: Metaflow flows whose steps run in container images that Bazel built."""

__version__ = "0.1.0"

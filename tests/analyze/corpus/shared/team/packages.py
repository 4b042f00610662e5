"""The versions that the team has agreed on."""

PYTHON = "3.12"
NUMERICS = {"numpy": "2.1.0"}
MACHINE_LEARNING = {**NUMERICS, "scikit-learn": "1.5.2"}
PLOTS = NUMERICS | {"matplotlib": "3.9.2"}
IMAGES = {"cpu": "registry.example.com/base:1", "gpu": "registry.example.com/base-gpu:1"}
REGISTRY = "registry.example.com"

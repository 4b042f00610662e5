"""Steps in their images on this machine: by podman, docker or bubblewrap.

Only the standard library is used: the package also runs in the process that launches a flow.
"""

from mfbazel.container.bazel import build_images
from mfbazel.container.engines import AUTO, ENGINES
from mfbazel.container.errors import ContainerError
from mfbazel.container.images import Wanted, prepare
from mfbazel.container.model import Image, Mount, Plan
from mfbazel.container.tasks import ENGINE_VARIABLE, IMAGE_VARIABLE, plan

__all__ = [
    "AUTO",
    "ENGINES",
    "ENGINE_VARIABLE",
    "IMAGE_VARIABLE",
    "ContainerError",
    "Image",
    "Mount",
    "Plan",
    "Wanted",
    "build_images",
    "plan",
    "prepare",
]

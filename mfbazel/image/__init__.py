"""Images from descriptors: manifests and configurations are written, layers are linked and never read.

``layout`` (OCI layouts), ``options`` (what an image's configuration can say), ``assemble`` (images and indexes),
``images_json`` (a flow's images), ``tarball`` (archives for container engines), ``debian`` (a base image's layer).
"""

from mfbazel.image.errors import ImageError

__all__ = ["ImageError"]

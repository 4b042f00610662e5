"""From wheels to layers, in one pass: nothing is unpacked, nothing is read twice.

The modules, from the inside out: ``paths`` (which paths are safe), ``record`` (RECORD), ``scripts`` (entry points),
``wheel`` (one checked wheel), ``install`` (where its files go), ``tar`` and ``compression`` (bytes), ``blob`` (the
pass), ``filelist`` (who owns what).
"""

from mfbazel.layer.blob import Outputs, write_layer
from mfbazel.layer.descriptor import Descriptor, read_descriptor
from mfbazel.layer.errors import LayerError

__all__ = ["Descriptor", "LayerError", "Outputs", "read_descriptor", "write_layer"]

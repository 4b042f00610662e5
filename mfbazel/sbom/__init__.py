"""What is in a step image and how it was made, from the lock: SBOMs (SPDX, CycloneDX) and a provenance statement.

``inventory`` (lock and image in, facts out), ``licenses``, ``purls``, ``times``; one module per format: ``spdx_json``,
``cyclonedx_json``, ``provenance``, each with the library of that format, which nobody else imports.
"""

from mfbazel.sbom.errors import SbomError

__all__ = ["SbomError"]

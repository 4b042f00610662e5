"""What a platform team allows, in ``mfbazel.toml``: bases, registries, indexes, licences and packages.

    contact = "the channel #ml-platform"             # whom to ask; every refusal says it

    [allowed]                                        # where a list is given, nothing else is allowed
    bases = ["@python_base", "sha256:…"]             # targets of images, or digests
    registries = ["registry.example.com/ml"]         # and everything below
    indexes = ["https://packages.example.com/*"]     # `public`: the index of pip and uv that nobody configures
    licences = ["MIT", "BSD-3-Clause", "LicenseRef-NVIDIA-*"]
    packages = ["numpy>=2", "nvidia-*"]

    [refused]                                        # the same keys; wins over [allowed]
    packages = ["tensorflow<2.12"]

    [exempt]
    licences = ["some-package"]                      # packages whose licence somebody looked at
    files = ["/usr/bin/su", "**/tests/*.pem"]        # of layers, which an audit does not count

    [signing]                                        # what is pushed there is signed
    required = ["registry.example.com/prod"]

Only the standard library and ``packaging`` are used: Metaflow's launching process reads it as well.
"""

from mfbazel.policy.checks import Violation, check_base, check_index, check_packages, check_registry, refuse
from mfbazel.policy.errors import PolicyError
from mfbazel.policy.rules import FILE, TABLES, Rules, parse_rules, read_rules, workspace_registries, workspace_rules
from mfbazel.policy.signing import KINDS, SigningRules, check_signing, parse_signing, read_signing, workspace_signing

__all__ = [
    "FILE",
    "KINDS",
    "PolicyError",
    "Rules",
    "SigningRules",
    "TABLES",
    "Violation",
    "check_base",
    "check_index",
    "check_packages",
    "check_registry",
    "check_signing",
    "parse_rules",
    "parse_signing",
    "read_rules",
    "read_signing",
    "refuse",
    "workspace_registries",
    "workspace_rules",
    "workspace_signing",
]

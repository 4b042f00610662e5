"""What mfbazel adds to Metaflow; Metaflow finds this file by its name.

Neither this directory nor the ones above hold an ``__init__.py``: with one, Metaflow does not start. What is imported
from here also runs in containers, where the package ``mfbazel`` is missing: nothing may import it at module level.
"""

CLIS_DESC = [("flow-spec", ".bazel_flow_spec_cli.cli")]

ENVIRONMENTS_DESC = [("bazel", ".bazel_environment.BazelEnvironment")]

STEP_DECORATORS_DESC = [
    ("pypi", ".bazel_dependencies.BazelPyPIStepDecorator"),
    ("conda", ".bazel_dependencies.BazelCondaStepDecorator"),
    ("bazel_local", ".bazel_local.BazelLocalDecorator"),
    ("container", ".bazel_container.ContainerDecorator"),
]

FLOW_DECORATORS_DESC = [
    ("pypi_base", ".bazel_dependencies.BazelPyPIFlowDecorator"),
    ("conda_base", ".bazel_dependencies.BazelCondaFlowDecorator"),
]

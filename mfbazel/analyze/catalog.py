"""Metaflow's decorators: which there are, and which attributes they have (Metaflow 2.19)."""

from __future__ import annotations

STEP_PACKAGES = ("pypi", "conda")
FLOW_PACKAGES = ("pypi_base", "conda_base")
REMOTES = ("batch", "kubernetes")
HARDWARE = (*REMOTES, "resources")
READ = frozenset((*STEP_PACKAGES, *FLOW_PACKAGES, *HARDWARE))
"""The decorators whose attributes count."""

_TMPFS = "tmpfs_path tmpfs_size tmpfs_tempdir use_tmpfs"
_SENSOR = "description exponential_backoff mode name poke_interval pool soft_fail timeout"

STEP_DECORATORS = {
    "airflow_internal": "",
    "argo_workflows_internal": "auto-emit-argo-events",
    "batch": "aws_batch_tags cpu efa efs_volumes ephemeral_storage executable execution_role gpu host_volumes iam_role "
    f"image inferentia log_driver log_options max_swap memory privileged queue shared_memory swappiness "
    f"trainium {_TMPFS}",
    "card": "customize id options rank refresh_interval save_errors scope timeout type",
    "catch": "print_exception var",
    "conda": "disabled libraries packages python",
    "environment": "vars",
    "kubernetes": "annotations compute_pool cpu disk executable extended_resources gpu gpu_vendor "
    "hostname_resolution_timeout image image_pull_policy image_pull_secrets labels memory namespace node_selector "
    f"persistent_volume_claims port qos secrets security_context service_account shared_memory tolerations {_TMPFS}",
    "parallel": "",
    "pypi": "disabled packages python",
    "pytorch_parallel": "master_port",
    "resources": "cpu disk gpu memory shared_memory",
    "retry": "minutes_between_retries times",
    "secrets": "allow_override role sources",
    "step_functions_internal": "",
    "timeout": "hours minutes seconds",
    "unbounded_test_foreach_internal": "",
}
"""The attributes of each decorator of steps."""

FLOW_DECORATORS = {
    "airflow_external_task_sensor": "allowed_states check_existence execution_delta external_dag_id external_task_ids "
    f"failed_states {_SENSOR}",
    "airflow_s3_key_sensor": f"aws_conn_id bucket_key bucket_name verify wildcard_match {_SENSOR}",
    "conda_base": "disabled libraries packages python",
    "exit_hook": "on_error on_success options",
    "project": "branch name production",
    "pypi_base": "disabled packages python",
    "schedule": "cron daily hourly timezone weekly",
    "trigger": "event events options",
    "trigger_on_finish": "flow flows options",
}
"""The attributes of each decorator of flows."""

REPEATABLE = frozenset(("card", "exit_hook", "airflow_external_task_sensor", "airflow_s3_key_sensor"))
"""Decorators that may stand more than once on a step or a flow."""

EXTENSION_STEP_DECORATORS = frozenset(
    (
        "checkpoint",
        "deepspeed",
        "gpu_profile",
        "huggingface_hub",
        "metaflow_ray",
        "model",
        "mpi",
        "nvct",
        "nvidia",
        "ray_parallel",
        "skypilot_step",
        "slurm",
        "snowpark",
        "tensorflow_parallel",
        "torchrun",
    )
)
"""Decorators of steps that published extensions add to ``metaflow``; they do not change what a step installs."""

PARALLEL = frozenset(
    (
        "parallel",
        "pytorch_parallel",
        "deepspeed",
        "metaflow_ray",
        "mpi",
        "ray_parallel",
        "tensorflow_parallel",
        "torchrun",
    )
)
"""Decorators of steps that run as a gang, after ``self.next(…, num_parallel=…)``."""

FLOW_SPEC = ("metaflow.FlowSpec", "metaflow.flowspec.FlowSpec")
STEP = ("metaflow.step", "metaflow.decorators.step")
MUTATORS = tuple(
    f"metaflow.{module}{name}"
    for module, name in (
        ("", "FlowMutator"),
        ("", "StepMutator"),
        ("user_decorators.user_flow_decorator.", "FlowMutator"),
        ("user_decorators.user_step_decorator.", "StepMutator"),
    )
)
USER_STEP_DECORATORS = tuple(
    f"metaflow.{module}{name}"
    for module in ("", "user_decorators.user_step_decorator.")
    for name in ("UserStepDecorator", "user_step_decorator")
)
"""What makes a decorator that acts while a task runs, and not before."""

TRANSPARENT = frozenset(
    f"{module}.{name}"
    for module in ("typing", "typing_extensions", "abc")
    for name in ("override", "final", "no_type_check", "abstractmethod", "deprecated")
)
"""Decorators of the standard library that return what they are given."""

"""@pypi, @conda and their ``_base`` forms, which the environment ``bazel`` only reads.

Metaflow's own refuse every environment but those that install packages. Under the environment ``bazel`` these merge
what the flow and the step declare, as Metaflow's do, and install nothing; under any other they are Metaflow's own.
"""

from __future__ import annotations

from typing import Any

from metaflow import decorators
from metaflow.plugins.pypi.conda_decorator import CondaFlowDecorator, CondaStepDecorator
from metaflow.plugins.pypi.pypi_decorator import PyPIFlowDecorator, PyPIStepDecorator

from .bazel_environment import BazelEnvironment


class BazelPyPIStepDecorator(PyPIStepDecorator):  # type: ignore[misc]
    """@pypi."""

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Merge the flow's packages under the step's."""
        if not _is_bazel(environment):
            super().step_init(flow, graph, step, decos, environment, flow_datastore, logger)
            return
        self.flow, self.step = flow, step
        _merge(self, "pypi_base")


class BazelCondaStepDecorator(CondaStepDecorator):  # type: ignore[misc]
    """@conda."""

    def init(self) -> None:
        """Fold ``libraries`` into ``packages``. Metaflow calls only a class's own ``init``, never an inherited one."""
        super().init()

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Merge the flow's packages under the step's; the decorator has nothing to do when tasks start."""
        if not _is_bazel(environment):
            super().step_init(flow, graph, step, decos, environment, flow_datastore, logger)
            return
        self.flow, self.step, self.environment, self.datastore = flow, step, environment, flow_datastore
        _merge(self, "conda_base")
        self.disabled = True


class BazelPyPIFlowDecorator(PyPIFlowDecorator):  # type: ignore[misc]
    """@pypi_base."""

    def flow_init(
        self,
        flow: Any,
        graph: Any,
        environment: Any,
        flow_datastore: Any,
        metadata: Any,
        logger: Any,
        echo: Any,
        options: Any,
    ) -> None:
        """Attach @pypi to every step."""
        if _is_bazel(environment):
            _attach("pypi", flow, graph, environment, flow_datastore, logger)
        else:
            super().flow_init(flow, graph, environment, flow_datastore, metadata, logger, echo, options)


class BazelCondaFlowDecorator(CondaFlowDecorator):  # type: ignore[misc]
    """@conda_base."""

    def init(self) -> None:
        """Fold ``libraries`` into ``packages``. Metaflow calls only a class's own ``init``, never an inherited one."""
        super().init()

    def flow_init(
        self,
        flow: Any,
        graph: Any,
        environment: Any,
        flow_datastore: Any,
        metadata: Any,
        logger: Any,
        echo: Any,
        options: Any,
    ) -> None:
        """Attach @conda to every step."""
        if _is_bazel(environment):
            _attach("conda", flow, graph, environment, flow_datastore, logger)
        else:
            super().flow_init(flow, graph, environment, flow_datastore, metadata, logger, echo, options)


def _is_bazel(environment: Any) -> bool:
    return bool(environment.TYPE == BazelEnvironment.TYPE)


def _attach(name: str, flow: Any, graph: Any, environment: Any, flow_datastore: Any, logger: Any) -> None:
    """Attach the step decorator ``name`` where the user did not, and initialise it."""
    decorators._attach_decorators(flow, [name])
    decorators._process_late_attached_decorator([name], flow, graph, environment, flow_datastore, logger)


def _merge(deco: Any, base_name: str) -> None:
    """Merge the attributes of the flow's ``base_name`` under those of the step's decorator, as Metaflow does.

    ``declared_python`` is what the flow's author wrote, None where nothing was; ``own_attributes`` is what the step's
    decorator says without the flow's. Metaflow may call it twice.
    """
    bases = deco.flow._flow_decorators.get(base_name)
    attributes = deco.attributes
    if not hasattr(deco, "own_attributes"):
        deco.own_attributes = dict(attributes)
    if bases:
        base = bases[0]
        deco._attributes_with_user_values.update(base._attributes_with_user_values)
        attributes["packages"] = {**base.attributes["packages"], **attributes["packages"]}
        attributes["python"] = attributes["python"] or base.attributes["python"]
        if attributes["disabled"] is None:
            attributes["disabled"] = base.attributes["disabled"]
    attributes["disabled"] = attributes["disabled"] or False
    deco.declared_python = attributes["python"]

"""Starting a flow on the machine of its user: Metaflow's command line, and one interpreter per step.

Only the standard library is used: the launcher runs before there is an environment with anything else in it.
"""

from mfbazel.launch.errors import LaunchError
from mfbazel.launch.flow import FlowLaunch, prepare
from mfbazel.launch.venv import Interpreter, create_venv, probe

__all__ = ["FlowLaunch", "Interpreter", "LaunchError", "create_venv", "prepare", "probe"]

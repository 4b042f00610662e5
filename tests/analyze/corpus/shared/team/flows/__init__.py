"""The base flow of the team, under a shorter name."""

from team.flows.base import TrainingFlow

__all__ = ["TrainingFlow"]

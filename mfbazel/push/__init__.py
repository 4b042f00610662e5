"""Pushes step images to a registry with crane, and records them once the registry has confirmed every digest."""

from mfbazel.push.crane import Crane, CraneError, find_crane
from mfbazel.push.embedded import EmbeddedRegistry, Running
from mfbazel.push.errors import PushError
from mfbazel.push.flow import FlowPush, push_flow
from mfbazel.push.images import Images, read_images
from mfbazel.push.layout import Layout, read_layout
from mfbazel.push.load import load_images
from mfbazel.push.repository import Repository, parse_repository

__all__ = [
    "Crane",
    "CraneError",
    "EmbeddedRegistry",
    "FlowPush",
    "Images",
    "Layout",
    "PushError",
    "Repository",
    "Running",
    "find_crane",
    "load_images",
    "parse_repository",
    "push_flow",
    "read_images",
    "read_layout",
]

"""Pushes step images to registries, every byte once, and records them once every digest is confirmed."""

from mfbazel.push.delivery import Content, Delivery, ManifestContent
from mfbazel.push.embedded import EmbeddedRegistry, Running, find_crane
from mfbazel.push.engine import Engine
from mfbazel.push.errors import PushError
from mfbazel.push.flow import FlowResult, Pushed, Settings, push_flow, push_flows
from mfbazel.push.images import Images, read_images
from mfbazel.push.layout import Layout, read_layout
from mfbazel.push.load import load_images
from mfbazel.push.prepare import FlowPush
from mfbazel.push.repository import Repository, parse_repository

__all__ = [
    "Content",
    "Delivery",
    "EmbeddedRegistry",
    "Engine",
    "FlowPush",
    "FlowResult",
    "Images",
    "Layout",
    "ManifestContent",
    "PushError",
    "Pushed",
    "Repository",
    "Running",
    "Settings",
    "find_crane",
    "load_images",
    "parse_repository",
    "push_flow",
    "push_flows",
    "read_images",
    "read_layout",
]

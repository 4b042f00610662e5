"""A small Kubernetes API server: it keeps what is posted, and runs the pods of Jobs and JobSets, one container each.

It answers what Metaflow and Argo's clients ask: objects are created, read, listed by label, replaced, patched and
removed (Kubernetes API conventions; batch/v1 Job, v1 Pod, jobset.x-k8s.io JobSet; any other kind is only kept).
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.e2e.http_server import HttpServer
from tests.e2e.processes import LOOPBACK

Object = dict[str, Any]

_PATH = re.compile(r"/apis?/(?:.+/)?v\w+/namespaces/(?P<namespace>[\w-]+)/(?P<kind>\w+)(?:/(?P<name>[\w.-]+))?")
_TIME = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Pod:
    """What a node is told to run."""

    name: str
    image: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    hosts: tuple[str, ...] = field(default=())
    """Names by which the pods of one JobSet find each other."""


Node = Callable[[Pod], int]
"""Runs a pod to its end and returns the exit code of its container."""


class Cluster:
    """Objects by kind and name; usable from several threads."""

    def __init__(self, node: Node | None) -> None:
        """Hold nothing; ``node`` runs pods. Without one, those stay pending."""
        self._node = node
        self._lock = threading.RLock()
        self._objects: dict[tuple[str, str], Object] = {}

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind, such as ``jobs``, in the order of their creation."""
        with self._lock:
            return [found for (kept, _), found in self._objects.items() if kept == kind]

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object, None where there is none."""
        with self._lock:
            return self._objects.get((kind, name))

    def create(self, namespace: str, kind: str, posted: Object) -> Object:
        """Keep an object, with a name where it asks for one, and start the pods that it means."""
        metadata = posted.setdefault("metadata", {})
        metadata["namespace"] = namespace
        metadata.setdefault("name", f"{metadata.get('generateName', '')}{uuid.uuid4().hex[:8]}")
        metadata |= {"uid": str(uuid.uuid4()), "resourceVersion": "1", "creationTimestamp": _TIME}
        self._put(kind, posted)
        if kind == "jobs":
            posted["spec"].setdefault("parallelism", 1)
            self._start(posted, [_pod_of(posted, metadata["name"], posted["spec"], {"job-name": metadata["name"]})])
        elif kind == "jobsets":
            self._start(posted, list(_pods_of_jobset(posted)))
        return posted

    def replace(self, kind: str, name: str, posted: Object) -> Object | None:
        """Put another object in the place of one; None where there is none."""
        with self._lock:
            if (kind, name) not in self._objects:
                return None
            self._put(kind, posted)
            return posted

    def patch(self, kind: str, name: str, changes: Object) -> Object | None:
        """Merge ``changes`` into an object (RFC 7396); None where there is none."""
        with self._lock:
            found = self._objects.get((kind, name))
            if found is not None:
                _merge(found, changes)
            return found

    def remove(self, kind: str, name: str) -> Object | None:
        """Remove an object and return it; None where there is none."""
        with self._lock:
            return self._objects.pop((kind, name), None)

    def _put(self, kind: str, posted: Object) -> None:
        with self._lock:
            self._objects[kind, posted["metadata"]["name"]] = posted

    def _start(self, owner: Object, pods: list[Object]) -> None:
        """Run the pods of a Job or a JobSet beside each other."""
        for pod in pods:
            self._put("pods", pod)
        self._tell(owner, pods)
        if self._node is not None:
            for pod in pods:
                threading.Thread(target=self._run, args=(self._node, owner, pods, pod), daemon=True).start()

    def _run(self, node: Node, owner: Object, pods: list[Object], pod: Object) -> None:
        code = 255
        try:
            code = node(_described(pod, owner))
        finally:
            with self._lock:
                pod["status"] = _ended(pod, code)
                self._tell(owner, pods)

    def _tell(self, owner: Object, pods: list[Object]) -> None:
        """Write the status of a Job or a JobSet, from that of its pods."""
        with self._lock:
            if "replicatedJobs" not in owner["spec"]:
                owner["status"] = _counted(pods)
                return
            jobs = owner["spec"]["replicatedJobs"]
            phases = {pod["status"]["phase"] for pod in pods}
            over = [("Failed", "Failed" in phases), ("Completed", phases == {"Succeeded"})]
            owner["status"] = {
                "replicatedJobsStatus": [
                    {"name": job["name"], "ready": 0, **_counted(_replicas(pods, job["name"]))} for job in jobs
                ],
                "conditions": [{"type": kind, "status": "True"} for kind, holds in over if holds],
            }


class KubernetesApi(HttpServer):
    """The server, on a free port of loopback."""

    def __init__(self, node: Node | None = None) -> None:
        """Bind the port; ``node`` runs pods."""
        cluster = Cluster(node)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kind, name, query = self._place()
                if name:
                    self._answer(cluster.get(kind, name))
                else:
                    wanted = query.get("labelSelector", [""])[0]
                    found = [item for item in cluster.all(kind) if _matches(item, wanted)]
                    self._answer({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found})

            def do_POST(self) -> None:
                match = _PATH.fullmatch(urlsplit(self.path).path)
                body = self._body()
                self._answer(cluster.create(match["namespace"], match["kind"], body) if match else None, 201)

            def do_PUT(self) -> None:
                kind, name, _ = self._place()
                self._answer(cluster.replace(kind, name, self._body()))

            def do_PATCH(self) -> None:
                kind, name, _ = self._place()
                self._answer(cluster.patch(kind, name, self._body()))

            def do_DELETE(self) -> None:
                kind, name, _ = self._place()
                self._body()
                self._answer(cluster.remove(kind, name))

            def _place(self) -> tuple[str, str, dict[str, list[str]]]:
                url = urlsplit(self.path)
                match = _PATH.fullmatch(url.path)
                return (match["kind"], match["name"] or "", parse_qs(url.query)) if match else ("", "nothing", {})

            def _body(self) -> Any:
                data = self.rfile.read(int(self.headers.get("Content-Length") or "0"))
                return json.loads(data) if data else {}

            def _answer(self, content: Object | None, status: int = 200) -> None:
                if content is None:
                    status, content = 404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": self.path}
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        super().__init__(Handler)
        self.cluster = cluster
        """What was posted."""

    def write_configuration(self, path: Path) -> Path:
        """Write a kubeconfig (JSON is YAML) that names this server, and return its path."""
        name = "here"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": self.address}}],
            "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


def images_of(content: Any) -> Iterator[str]:
    """Yield every ``image`` of a specification, wherever it is: also in manifests that are text within it."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key == "image" and isinstance(value, str):
                yield value
            elif key == "manifest" and isinstance(value, str):
                yield from re.findall(r"\"?image\"?: *\"?([^\s\",}]+)", value)
            else:
                yield from images_of(value)
    elif isinstance(content, list):
        for value in content:
            yield from images_of(value)


def _pod_of(owner: Object, name: str, spec: Object, labels: Mapping[str, str]) -> Object:
    """Return the pod that a Job's ``spec`` describes."""
    template = spec["template"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{uuid.uuid4().hex[:5]}",
            "namespace": owner["metadata"]["namespace"],
            "uid": str(uuid.uuid4()),
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": dict(metadata.get("annotations") or {}),
        },
        "spec": template["spec"],
        "status": {"phase": "Pending", "hostIP": LOOPBACK},
    }


def _pods_of_jobset(owner: Object) -> Iterator[Object]:
    """Yield a pod per replica, labelled and annotated as JobSet's controller does."""
    name = owner["metadata"]["name"]
    for job in owner["spec"]["replicatedJobs"]:
        for index in range(job["replicas"]):
            said = {
                "jobset.sigs.k8s.io/jobset-name": name,
                "jobset.sigs.k8s.io/replicatedjob-name": job["name"],
                "jobset.sigs.k8s.io/job-index": str(index),
                "jobset.sigs.k8s.io/restart-attempt": "0",
            }
            pod = _pod_of(owner, f"{name}-{job['name']}-{index}", job["template"]["spec"], said)
            pod["metadata"]["annotations"] |= said
            yield pod


def _described(pod: Object, owner: Object) -> Pod:
    """Return what a node needs to know, with the downward API resolved."""
    (container,) = pod["spec"]["containers"]
    variables = {
        entry["name"]: str(entry["value"]) if "value" in entry else _field(pod, entry["valueFrom"])
        for entry in container.get("env") or ()
    }
    jobs = owner["spec"].get("replicatedJobs", ())
    name, domain = owner["metadata"]["name"], f"{pod['metadata']['namespace']}.svc.cluster.local"
    hosts = tuple(f"{name}-{job['name']}-{n}-0.{name}.{domain}" for job in jobs for n in range(job["replicas"]))
    return Pod(pod["metadata"]["name"], container["image"], tuple(container["command"]), variables, hosts)


def _field(pod: Object, source: Object) -> str:
    """Return what a ``fieldRef`` names; empty where the pod does not say."""
    path = source["fieldRef"]["fieldPath"]
    if quoted := re.fullmatch(r"metadata\.(annotations|labels)\['([^']+)'\]", path):
        return str(pod["metadata"][quoted[1]].get(quoted[2], ""))
    found: Any = pod
    for key in path.split("."):
        found = (found or {}).get(key)
    return str(found or "")


def _ended(pod: Object, code: int) -> Object:
    """Return the status of a pod whose container ended."""
    (container,) = pod["spec"]["containers"]
    terminated = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": _TIME, "finishedAt": _TIME}
    return {
        "phase": "Failed" if code else "Succeeded",
        "hostIP": LOOPBACK,
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": terminated},
            }
        ],
    }


def _counted(pods: list[Object]) -> Object:
    phases = [pod["status"]["phase"] for pod in pods]
    counts = {"active": "Pending", "succeeded": "Succeeded", "failed": "Failed"}
    return {key: phases.count(phase) for key, phase in counts.items()}


def _replicas(pods: list[Object], job: str) -> list[Object]:
    return [pod for pod in pods if pod["metadata"]["labels"]["jobset.sigs.k8s.io/replicatedjob-name"] == job]


def _matches(item: Object, selector: str) -> bool:
    """Say whether an object has every label of ``name=value,…``."""
    labels = item["metadata"].get("labels") or {}
    return all(
        labels.get(name) == value for name, _, value in (part.partition("=") for part in selector.split(",") if part)
    )


def _merge(into: Object, changes: Object) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], dict(value))
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = value

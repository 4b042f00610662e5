"""Asking registries whether they have images, all at once and within one limit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

from mfbazel.registry.client import Client
from mfbazel.registry.errors import Failure, Kind, Problem, RegistryError, Subject, explain
from mfbazel.registry.reference import Reference, parse_reference
from mfbazel.registry.transport import Deadline

_AT_ONCE = 16


def confirm(references: Iterable[str], *, timeout: float, insecure: bool = False) -> dict[str, Problem | None]:
    """Ask for the manifest of each reference; return what is wrong with each, ``None`` for those that are there.

    Each different reference is asked for once, up to 16 at a time. It takes no longer than ``timeout`` seconds,
    whatever the registries do: those that have not answered by then are problems of the kind ``TIMEOUT``. It raises
    nothing.

    Args:
        references: ``host/path@sha256:…`` or ``host/path:tag``.
        timeout: seconds for all of them together.
        insecure: allow plain HTTP and unverifiable certificates.
    """
    deadline = Deadline(timeout)
    found: dict[str, Problem | None] = {}
    asked: list[tuple[str, Reference]] = []
    wanted = list(dict.fromkeys(references))
    for text in wanted:
        try:
            asked.append((text, parse_reference(text)))
        except RegistryError as error:
            found[text] = error.problem
    answers: queue.Queue[tuple[str, Problem | None]] = queue.Queue()
    _start(asked, answers, deadline, insecure)
    for _ in asked:
        try:
            text, problem = answers.get(timeout=deadline.remaining())
        except queue.Empty:
            break
        found[text] = problem
    for text, reference in asked:
        if text not in found:
            failure = Failure(Kind.TIMEOUT, f"no answer within {timeout:g} s")
            found[text] = explain(failure, Subject(reference.host, text, "asking for the manifest")).problem
    return {text: found[text] for text in wanted}


def _start(
    asked: list[tuple[str, Reference]],
    answers: queue.Queue[tuple[str, Problem | None]],
    deadline: Deadline,
    insecure: bool,
) -> None:
    """Start the threads that ask.

    They do not keep the process alive: resolving a name, for one, has no limit of its own.
    """
    waiting: queue.SimpleQueue[tuple[str, Reference]] = queue.SimpleQueue()
    for item in asked:
        waiting.put(item)
    clients = _Clients(deadline, insecure)

    def work() -> None:
        while True:
            try:
                text, reference = waiting.get_nowait()
            except queue.Empty:
                return
            answers.put((text, _problem(clients, text, reference)))

    for _ in range(min(_AT_ONCE, len(asked))):
        threading.Thread(target=work, name="mfbazel-confirm", daemon=True).start()


class _Clients:
    """One client per registry, made when it is first asked for."""

    def __init__(self, deadline: Deadline, insecure: bool) -> None:
        self._deadline = deadline
        self._insecure = insecure
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> Client:
        """Return the client of a registry."""
        with self._lock:
            if host not in self._clients:
                self._clients[host] = Client(host, self._insecure, deadline=self._deadline)
            return self._clients[host]


def _problem(clients: _Clients, text: str, reference: Reference) -> Problem | None:
    """Ask for one manifest."""
    subject = Subject(reference.host, text, "asking for the manifest")
    try:
        if clients.of(reference.host).head_manifest(reference.path, reference.name):
            return None
    except RegistryError as error:
        return error.problem
    except Exception as error:  # of a thread nobody would hear, and the caller would wait for an answer
        return explain(Failure(Kind.MALFORMED, f"{type(error).__name__}: {error}"), subject).problem
    return explain(Failure(Kind.MISSING), subject).problem

"""Pushes during which something goes wrong, at random: what completes, what is sent twice, and what is wrong after it.

Each run pushes a flow of three to six small images that share layers, to docker's registry, to crane's, or to docker's
behind a proxy that keeps upload sessions. During the first push one fault happens, chosen at random with its place and
its time; then a second push has to complete. A state is wrong when, after either push, images.json is neither what it
was nor whole, a tag names what is not there whole, an error does not name registry and repository, a blob that had
arrived is sent again, or a byte of one where sessions are kept, or when the second push fails.

Pauses between attempts are shortened. Whoever interrupts it gets the table of the runs so far.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import email.utils
import json
import os
import random
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from bench.push_rig import random_content
from mfbazel.registry import transport, upload
from tests.push.fault_rig import (
    Flow,
    Outcome,
    count_events,
    ended,
    killed_at,
    sent_again,
    wrong_record,
    wrong_registry,
    wrong_state,
)
from tests.push.faulty_proxy import (
    Action,
    Change,
    Cut,
    Fault,
    FaultyProxy,
    Forget,
    LoseAnswer,
    Reply,
    Slow,
    TokenService,
    Truncate,
    Wait,
)
from tests.push.forward_proxy import forward_proxy
from tests.push.registries import PASSWORD, REGISTRIES, USERNAME, Registry

_KINDS = ("docker", "crane", "docker, sessions kept")
_RUNS_OF_A_REGISTRY = 10
_DISK = 2 << 30  # bytes, of memory: docker's registry waits for a real disk
_SMALL_DISK = 64 << 20
_LARGE = 4_500_000  # bytes; what is smaller goes without chunks
_NAME = "registry.test"
_BODY, _UPLOADS, _ANY = "PATCH|PUT", "/blobs/uploads/.", "HEAD|POST|PATCH|PUT"
_EVENTS = 150
_OTHER = f"sha256:{'0' * 64}"


@dataclass
class Site:
    """One run: a flow, the proxy that it is pushed through, and how to push.

    Attributes:
        chance: decides.
        registry: behind the proxy.
        proxy: may be replaced by a fault.
        flow: what is pushed.
        scratch: of this run.
        push: the first push; a fault may make it another.
        events: how many events of the proxy a push makes, about.
        broken: what is undone before the second push.
        until_end: what is undone after it.
        apart: pushes that know nothing of one another may send the same.
    """

    chance: random.Random
    registry: Registry
    proxy: FaultyProxy
    flow: Flow
    scratch: Path
    push: Callable[[], Outcome]
    events: int
    broken: ExitStack = field(default_factory=ExitStack)
    until_end: ExitStack = field(default_factory=ExitStack)
    apart: bool = False

    def use(self, registry: AbstractContextManager[Registry]) -> None:
        """Push to a registry of this run's own."""
        self.registry = self.until_end.enter_context(registry)
        self.proxy.upstream = self.registry.host

    def somewhere(self, action: Action, method: str = _BODY, path: str = _UPLOADS) -> None:
        """Let ``action`` happen, once or several times, at one of the first requests, after some of the body."""
        times = self.chance.choice((1, 1, 2, 3, 0))
        after = self.chance.choice((0, 1, self.chance.randrange(1_000_000)))
        nth = self.chance.randrange(1, 5)
        self.proxy.script(Fault(action, method, path, nth, times, after))


def _status(*statuses: int) -> Callable[[Site], None]:
    def fault(site: Site) -> None:
        status = site.chance.choice(statuses)
        headers = {"Retry-After": "0"} if site.chance.random() < 0.5 else {}
        site.somewhere(Reply(status, headers), *site.chance.choice(((_BODY, _UPLOADS), (_ANY, ""))))

    return fault


def _slow(site: Site) -> None:
    rate = site.chance.choice((2_000_000, 10_000_000))
    site.somewhere(site.chance.choice((Wait(0.3), Slow(rate), Slow(20_000, answer=True))), _ANY, "")


def _other_digest(site: Site) -> None:
    change = Change({"Docker-Content-Digest": _OTHER})
    site.somewhere(change, site.chance.choice(("HEAD", "PUT")), site.chance.choice(("/manifests/", _UPLOADS)))


def _token_expires(site: Site) -> None:
    basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    ends = {site.chance.randrange(1, 40) for _ in range(site.chance.randrange(1, 4))}
    service = TokenService(f"http://{site.proxy.host}/token", f"Basic {basic}", ends=ends)
    site.proxy.guard = service
    config = Path(os.environ["DOCKER_CONFIG"], "config.json")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"auths": {site.proxy.host: {"auth": basic}}}))


def _disk_full(site: Site) -> None:
    site.use(REGISTRIES[site.registry.kind](site.scratch / "small", disk=_SMALL_DISK))
    site.registry.fill()
    if site.chance.random() < 0.5:  # in the middle
        filler = site.registry.filler
        os.truncate(filler, filler.stat().st_size - site.chance.randrange(6_000_000))
    site.broken.callback(site.registry.free)


def _unknown_name(site: Site) -> None:
    site.flow.repository = site.flow.repository.replace("127.0.0.1", "localhost")
    known, left = socket.getaddrinfo, [site.chance.randrange(1, 20)]

    def look_up(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return known(*arguments, **options)  # type: ignore[arg-type]

    socket.getaddrinfo = look_up  # type: ignore[assignment]
    site.broken.callback(setattr, socket, "getaddrinfo", known)


def _tls(site: Site, days: tuple[int, int]) -> None:
    """Let the proxy speak TLS, with a certificate that is good between two days from now; trust its authority later."""
    ca, now = trustme.CA(), datetime.datetime.now(datetime.UTC)

    def context(days: tuple[int, int]) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        dates = [now + datetime.timedelta(days=count) for count in days]
        ca.issue_cert("127.0.0.1", _NAME, not_before=dates[0], not_after=dates[1]).configure_cert(made)
        return made

    site.proxy.tls = context(days)
    ca.cert_pem.write_to_path(str(site.scratch / "ca.pem"))
    site.broken.callback(os.environ.update, {"SSL_CERT_FILE": str(site.scratch / "ca.pem")})
    site.broken.callback(setattr, site.proxy, "tls", context((-1, 1)))


def _clock(site: Site) -> None:
    now, skew = time.time(), site.chance.choice((-3600, 3600))
    dates = {"Date": now + skew, "Retry-After": now + skew + 1}
    headers = {name: email.utils.formatdate(value, usegmt=True) for name, value in dates.items()}
    if site.chance.random() < 0.7:
        site.somewhere(Reply(429, headers))
        return
    _tls(site, site.chance.choice(((1, 2), (-2, -1))))
    os.environ["SSL_CERT_FILE"] = str(site.scratch / "ca.pem")


def _company_proxy(site: Site) -> None:
    _tls(site, (-1, 1))
    os.environ["SSL_CERT_FILE"] = str(site.scratch / "ca.pem")
    company = site.until_end.enter_context(forward_proxy({f"{_NAME}:443": site.proxy.host}))
    os.environ.update(company.variables)
    site.flow.repository = site.flow.repository.replace(site.proxy.host, _NAME)
    company.refusal = site.chance.choice(("403 Forbidden", "407 Who are you", "502 Bad Gateway", ""))
    site.broken.callback(setattr, company, "refusal", "")


def _killed(site: Site) -> None:
    later = site.chance.choice((0.0, site.chance.uniform(0.001, 0.05)))
    moment = site.chance.randrange(site.events)
    site.push = lambda: killed_at(site.flow, site.proxy, moment, later)


def _two_at_once(site: Site) -> None:
    site.apart = site.chance.random() < 0.5
    other = {name: str(site.scratch / "other" / name) for name in ("MFBAZEL_STATE_DIR", "XDG_CACHE_HOME")}

    def push() -> Outcome:
        processes = [site.flow.start(), site.flow.start(variables=other if site.apart else {})]
        outcomes = [ended(process) for process in processes]
        return max(outcomes, key=lambda outcome: abs(outcome.code))

    site.push = push


def _registry_ends(site: Site) -> None:
    if site.registry.kind == "crane":  # which would come back without its manifests
        site.somewhere(Cut(), _ANY, "")
        return
    site.use(REGISTRIES[site.registry.kind](site.scratch / "lasting"))  # whose disk does not end with it
    moment, seen = site.chance.randrange(site.events), [0]

    def on_event() -> None:
        seen[0] += 1
        if seen[0] == moment + 1:
            site.registry.stop()

    site.proxy.on_event = on_event

    def restart() -> None:
        site.proxy.on_event = lambda: None
        site.registry.stop()
        site.registry.start()

    site.broken.callback(restart)


FAULTS: dict[str, Callable[[Site], None]] = {
    "reset in the middle of a blob": lambda site: site.somewhere(Cut()),
    "closed in the middle of a blob": lambda site: site.somewhere(Cut(reset=False)),
    "reset anywhere": lambda site: site.somewhere(Cut(), _ANY, ""),
    "the answer is lost": lambda site: site.somewhere(LoseAnswer(), _ANY, ""),
    "the answer is cut off": lambda site: site.somewhere(Truncate(10), "GET|HEAD|POST|PUT|PATCH", ""),
    "429 with Retry-After": _status(429),
    "500": _status(500),
    "502": _status(502),
    "503": _status(503, 504),
    "slow": _slow,
    "a token expires": _token_expires,
    "another digest returned": _other_digest,
    "the upload is lost": lambda site: site.somewhere(Forget()),
    "disk full": _disk_full,
    "the registry ends": _registry_ends,
    "no such name": _unknown_name,
    "unknown authority": lambda site: _tls(site, (-1, 1)),
    "HTTP proxy": _company_proxy,
    "clocks differ": _clock,
    "two pushes at once": _two_at_once,
    "kill -9": _killed,
}


@dataclass
class Row:
    """What became of the runs with one fault."""

    runs: int = 0
    first: int = 0
    second: int = 0
    twice: int = 0
    wrong: list[str] = field(default_factory=list)


def build(flow: Flow, chance: random.Random, run: int) -> None:
    """Build three to six images; each has some of seven layers, of up to 1.5 MB but for one."""
    sizes = [_LARGE, *(chance.choice((100, 20_000, 300_000, 1_500_000)) for _ in range(6))]
    layers = {f"layer{number}": random_content(f"{chance.random()} {run}", size) for number, size in enumerate(sizes)}
    for step in range(chance.randrange(3, 7)):
        names = sorted({"layer0", *chance.sample(list(layers), chance.randrange(1, 4))})
        flow.build(f"step{step}", {name: layers[name] for name in names})


@contextmanager
def site_of(run: int, seed: int, registries: dict[str, Registry], scratch: Path) -> Iterator[Site]:
    """Prepare a run: in half of them an earlier push is recorded."""
    chance = random.Random(f"{seed} {run}")
    kind = chance.choice(_KINDS)
    directory = scratch / str(run)
    for name in ("HOME", "MFBAZEL_STATE_DIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        os.environ[name] = str(directory / "user" / name)
    registry = registries[kind.partition(",")[0]]
    with FaultyProxy(registry.host, keeps_sessions="kept" in kind, whole_manifests=kind == "crane") as proxy:
        flow = Flow(directory / "flow", f"{proxy.host}/ml/run{run}", options=("--tag=v1",))
        events = count_events(proxy)
        if chance.random() < 0.5:
            build(flow, chance, run)
            assert flow.push().code == 0
        site = Site(chance, registry, proxy, flow, directory, flow.push, events[0] or _EVENTS)
        before = set(flow.layouts)
        build(flow, chance, run)
        for step in before - {f"step{number}" for number in range(3)}:  # perhaps not of the new flow
            flow.layouts.pop(step, None)
            flow.digests.pop(step, None)
        proxy.on_event = lambda: None
        with site.until_end:
            yield site


def try_fault(name: str, site: Site, row: Row) -> None:
    """Push while a fault happens, then without it, and note what came of it."""
    flow, proxy = site.flow, site.proxy
    before = flow.recorded()
    FAULTS[name](site)
    wrong: list[str] = []
    with site.broken:
        first = site.push()
    path = flow.repository.partition("/")[2]
    if first.code > 0:
        wrong += [
            f"{part!r} is not in the error {first.error!r}" for part in (flow.repository,) if part not in first.error
        ]
        if flow.recorded() != before and name != "two pushes at once":
            wrong.append("a failed push has changed images.json")
    wrong += wrong_state(flow, proxy.upstream, before)
    proxy.script()
    second = flow.push()
    if second.code:
        wrong.append(f"the second push fails: {second.error}")
    else:
        wrong += [*wrong_record(flow, None), *wrong_registry(proxy.upstream, path, list(flow.digests.values()))]
    if not site.apart:
        wrong += sent_again(flow, proxy)
        twice = proxy.twice(flow.blobs)
        if proxy.keeps_sessions and twice:
            wrong.append(f"{twice} bytes were sent twice although the sessions were kept")
    row.runs += 1
    row.first += not first.code
    row.second += not second.code
    row.twice += proxy.twice(flow.blobs, lost=True)
    row.wrong += wrong


@contextmanager
def running(scratch: Path) -> Iterator[dict[str, Registry]]:
    """Run the registries, on disks of their own."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(start(scratch / kind, disk=_DISK)) for kind, start in REGISTRIES.items()}


def main() -> int:
    """Run the benchmark; return 1 when any state was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs with a random fault (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=50, help="runs that are killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what happens (default: %(default)s)")
    parser.add_argument("--only", choices=FAULTS, help="one fault for all runs")
    parser.add_argument("--run", type=int, help="only this run, to look at what was wrong")
    options = parser.parse_args()
    upload._FIRST_PAUSE = transport._FIRST_PAUSE = 0.01
    for name in list(os.environ):
        if name.upper().endswith(("_PROXY", "_CA_BUNDLE")) or name.startswith(("SSL_CERT", "REGISTRY_", "XDG_")):
            del os.environ[name]
    rows: dict[str, Row] = {}
    began = time.monotonic()
    total = options.runs + options.kills
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="push_faults_") as directory:
        numbers = [options.run] if options.run is not None else list(range(total))
        for start in range(0, len(numbers), _RUNS_OF_A_REGISTRY):
            scratch = Path(directory, str(start))
            with running(scratch) as registries:
                for run in numbers[start : start + _RUNS_OF_A_REGISTRY]:
                    one_run(run, options, registries, scratch, rows)
    report(rows, options.seed, time.monotonic() - began)
    return 1 if any(row.wrong for row in rows.values()) else 0


def one_run(
    run: int, options: argparse.Namespace, registries: dict[str, Registry], scratch: Path, rows: dict[str, Row]
) -> None:
    """Do one run; one that is killed when its number is that of a kill."""
    environment = dict(os.environ)
    try:
        with site_of(run, options.seed, registries, scratch) as site:
            random_ones = [name for name in FAULTS if name != "kill -9"]
            name = options.only or ("kill -9" if run >= options.runs else site.chance.choice(random_ones))
            row = rows.setdefault(name, Row())
            known = len(row.wrong)
            try_fault(name, site, row)
            for wrong in row.wrong[known:]:
                print(f"run {run}, {name}, {site.registry.kind}: {wrong}", file=sys.stderr, flush=True)
    finally:
        os.environ.clear()
        os.environ.update(environment)


def report(rows: dict[str, Row], seed: int, seconds: float) -> None:
    """Print the table."""
    print(f"{'fault':32} {'runs':>5} {'first':>6} {'second':>7} {'MB twice':>9} {'wrong':>6}")
    whole = Row()
    for name in FAULTS:
        if row := rows.get(name):
            whole.runs, whole.first, whole.second = (
                whole.runs + row.runs,
                whole.first + row.first,
                whole.second + row.second,
            )
            whole.twice, whole.wrong = whole.twice + row.twice, whole.wrong + row.wrong
            _print(name, row)
    _print("all", whole)
    print(f"seed {seed}, {seconds:.0f} s; first, second: completed at the first push, by the second one")


def _print(name: str, row: Row) -> None:
    print(f"{name:32} {row.runs:5} {row.first:6} {row.second:7} {row.twice / 1e6:9.2f} {len(row.wrong):6}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

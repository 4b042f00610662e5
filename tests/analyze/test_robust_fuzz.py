"""Inputs that once made the reader fail, and a short session of random changes to flows."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mfbazel.analyze import AnalyzeError
from mfbazel.analyze.mutations import only_read, touched
from mfbazel.analyze.source import Module, parse
from tests.analyze.fuzz.inputs import crashers, seeds
from tests.analyze.fuzz.mutate import MUTATORS, mutate
from tests.analyze.fuzz.target import MEGABYTES, Crash, crash_of, run, write

INPUTS = seeds()


@pytest.mark.parametrize("file", crashers(), ids=lambda file: str(file.stem))
def test_what_once_failed_is_read_or_refused(tmp_path: Path, file: Path) -> None:
    assert crash_of(file.read_bytes(), tmp_path / "input") is None


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 1 << 32), number=st.integers(0, len(INPUTS) - 1))
def test_a_changed_flow_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, seed: int, number: int) -> None:
    data = mutate(INPUTS[number], Random(seed), INPUTS)
    crash = crash_of(data, tmp_path_factory.getbasetemp() / "input")
    assert crash is None, (crash, data)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    assert run(data, tmp_path_factory.getbasetemp() / "input") == "AnalyzeError"


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), number=st.integers(0, len(INPUTS) - 1))
def test_the_quick_look_at_constants_agrees_with_the_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, number: int
) -> None:
    file = write(mutate(INPUTS[number], Random(seed), INPUTS), tmp_path_factory.getbasetemp() / "input")
    try:
        module = parse(file, file.name)
    except AnalyzeError:
        return
    for path in touched(module):
        assert not only_read(module, path.partition(".")[0]), path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("P = {}\nP['a'] = 1\n", "P"),
        ("P = {}\nP.update(a=1)\n", "P"),
        ("P = {}\nQ = P\nQ['a'] = 1\n", "P"),
        ("P = {}\nf(P)\n", "P"),
        ("P = {}\nf(1, P)\n", "P"),
        ("P = {}\ndef f():\n    global P\n    P = 1\n", "P"),
        ("from x import P; P['a'] = 1\n", "P"),
        ("from x import P as Q\nQ['a'] = 1\n", "P"),
        ("from x import A, \\\n    P\nP['a'] = 1\n", "P"),
        ("P = {}\nx = {**P['a'], **P.pop('b')}\n", "P"),
        ("P = {}\nP == 1\n", "P"),
        ("P = {}\n\uff30['a'] = 1\n", "P"),
        ("P = {}\n", ""),
    ],
)
def test_the_quick_look_at_constants_doubts(tmp_path: Path, text: str, name: str) -> None:
    module = _module(tmp_path, text)
    assert not only_read(module, name)


@pytest.mark.parametrize(
    "text",
    [
        "P = {'a': '1'}\nPQ['a'] = 1\nQP['a'] = 1\n",
        "P = {}\n@pypi(packages=P)\ndef f(): pass\n@pypi(packages={**P, 'b': '1'}, libraries={**P})\ndef g(): pass\n",
        "from lib import A, P, B\n@pypi(python='3.12', packages=P)\ndef f(): pass\n",
    ],
)
def test_the_quick_look_at_constants_sees_what_only_reads(tmp_path: Path, text: str) -> None:
    assert only_read(_module(tmp_path, text), "P")


def _module(tmp_path: Path, text: str) -> Module:
    (tmp_path / "m.py").write_text(text, encoding="utf-8")
    return parse(tmp_path / "m.py", "m.py")


@pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: str(mutator.__name__))
def test_every_kind_of_change_changes_something(mutator: object) -> None:
    assert callable(mutator)
    flow = (Path(__file__).parent / "fuzz" / "seeds" / "smallest.txt").read_bytes()
    made = set()
    for seed in range(20):
        try:
            made.add(mutator(flow, Random(seed), INPUTS))
        except (SyntaxError, LookupError):  # cannot be made of these: another one takes its place
            continue
    assert len(made - {flow}) >= 5


def test_changes_keep_many_inputs_parseable() -> None:
    """Otherwise the parser alone would be fuzzed."""
    flow = (Path(__file__).parent / "fuzz" / "seeds" / "smallest.txt").read_bytes()
    parsed = 0
    for seed in range(200):
        try:
            ast.parse(mutate(flow, Random(seed), INPUTS))
            parsed += 1
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    assert parsed > 80


class TestTheHarness:
    """What it calls a crash."""

    def crash(self, tmp_path: Path) -> Crash:
        crash = crash_of(b"", tmp_path / "input")
        assert crash is not None
        return crash

    def test_another_exception_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.analyze.fuzz.target.read_flow", lambda *_: [].pop())
        assert self.crash(tmp_path).key == "IndexError-target"

    def test_taking_too_long_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forever(*_: object) -> None:
            while True:
                pass

        monkeypatch.setattr("tests.analyze.fuzz.target.read_flow", forever)
        monkeypatch.setattr("tests.analyze.fuzz.target.SECONDS", 0.2)
        assert self.crash(tmp_path).key == "SlowError-target"

    def test_taking_too_much_memory_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        peaks = iter([1_000_000, 2_000_000 + MEGABYTES * 1_000_000, 2_000_000 + MEGABYTES * 1_000_000])
        monkeypatch.setattr("tests.analyze.fuzz.target._peak", lambda: next(peaks))
        assert self.crash(tmp_path).key.startswith("Misbehaviour-")

    def test_an_endless_message_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.analyze.fuzz.target.LONGEST_MESSAGE", 3)
        assert self.crash(tmp_path).key.startswith("Misbehaviour-")

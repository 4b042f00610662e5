"""Which imports count for which step."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze.imports import read_imports
from mfbazel.analyze.model import Inferred, Place, Reading
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow, RawStep
from mfbazel.analyze.requirements import Attributes
from mfbazel.analyze.source import Sources, parse

STEPS = ("start", "train", "end")
HEAD = "from metaflow import FlowSpec, step, pypi, card\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def flow_text(top: str = "", train: str = "pass", methods: str = "", decorators: str = "") -> str:
    """A flow with three steps; ``train`` is the body of the middle one."""
    body = textwrap.indent(textwrap.dedent(train).strip("\n"), "        ")
    more = textwrap.indent(textwrap.dedent(methods).strip("\n"), "    ")
    marks = textwrap.indent(textwrap.dedent(decorators).strip("\n"), "    ")
    return (
        f"{HEAD}{textwrap.dedent(top)}\nclass Flow(FlowSpec):\n    @step\n    def start(self):\n"
        f"        self.next(self.train)\n{marks}\n    @step\n    def train(self):\n{body}\n"
        f"        self.next(self.end)\n    @step\n    def end(self):\n        pass\n{more}\n"
    )


def inferred(
    tmp_path: Path, text: str, *roots: Path, python: str = "3.14", raw: RawFlow | None = None
) -> dict[str, tuple[Inferred, ...]]:
    """Return what the steps of the flow ``text`` import; places are found by name unless ``raw`` gives them."""
    path = write(tmp_path / "flow.py", text)
    sources = Sources([tmp_path, *roots])
    module = parse(path, "flow.py")
    sources.add(module)
    lines = {
        name: next((i for i, line in enumerate(text.splitlines(), 1) if f"def {name}(self" in line), 0)
        for name in STEPS
    }
    steps = tuple(RawStep(name, "linear", (), Place("flow.py", lines[name])) for name in STEPS)
    raw = raw or RawFlow("Flow", "flow.py", "start", steps, Reading("static", ""))
    return read_imports(raw, module, sources, ReadOptions(python=python))


def modules(tmp_path: Path, text: str, *roots: Path, python: str = "3.14") -> dict[str, set[str]]:
    """Return the names of the modules alone."""
    found = inferred(tmp_path, text, *roots, python=python)
    return {name: {item.module for item in items} for name, items in found.items()}


def test_module_level_imports_count_for_every_step_and_others_for_their_own(tmp_path: Path) -> None:
    found = modules(tmp_path, flow_text("import numpy", "import sklearn.svm"))
    assert found == {"start": {"numpy"}, "train": {"numpy", "sklearn.svm"}, "end": {"numpy"}}


def test_members_are_merged_per_module_and_the_flows_own_file_is_the_place(tmp_path: Path) -> None:
    write(tmp_path / "a_helper.py", "from google.cloud import bigquery\n")
    text = flow_text("import a_helper", "from google.cloud import storage\nfrom google.cloud import storage as s")
    found = inferred(tmp_path, text)
    line = text.splitlines().index("        from google.cloud import storage") + 1
    assert found["train"] == (Inferred("google.cloud", "flow.py", line, ("bigquery", "storage")),)
    assert found["end"] == (Inferred("google.cloud", "a_helper.py", 1, ("bigquery",)),)


def test_a_star_names_no_member(tmp_path: Path) -> None:
    assert inferred(tmp_path, flow_text("from numpy import *"))["end"] == (Inferred("numpy", "flow.py", 2, ()),)


@pytest.mark.parametrize(
    "code",
    [
        "if TYPE_CHECKING:\n    import thing",
        "if typing.TYPE_CHECKING:\n    import thing",
        "if not TYPE_CHECKING:\n    pass\nelse:\n    import thing",
        "if TYPE_CHECKING and x:\n    import thing",
        "if False:\n    import thing",
        "try:\n    import thing\nexcept ImportError:\n    thing = None",
        "try:\n    import a_missing_one\nexcept ModuleNotFoundError:\n    import thing",
        "try:\n    x()\n    import thing\nexcept (KeyError, ImportError):\n    pass",
        "try:\n    import thing\n    HAS = True\nexcept Exception:\n    HAS = False",
        "try:\n    import thing\nexcept:\n    pass",
        "try:\n    import thing\nexcept ImportError:\n    pass\nelse:\n    import thing.more",
        "try:\n    import importlib\n    importlib.import_module('thing')\nexcept ImportError:\n    pass",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import thing",
        "from contextlib import suppress\nwith suppress(OSError, ModuleNotFoundError):\n    import thing",
        "def f():\n    import thing",
        "async def f():\n    import thing",
        "f = lambda: __import__('thing')",
        "class C:\n    def f(self):\n        import thing",
        "if sys.version_info < (3, 11):\n    import thing",
        "if sys.platform == 'win32':\n    import thing",
        "if not sys.platform.startswith('linux'):\n    import thing",
        "if os.name != 'posix':\n    import thing\nelif x:\n    pass",
        "if sys.version_info[0] and sys.version_info >= (3, 15):\n    import thing",
    ],
)
def test_imports_that_may_fail_or_do_not_run_do_not_count(tmp_path: Path, code: str) -> None:
    found = modules(tmp_path, flow_text(code))
    assert "thing" not in found["end"] | found["train"]
    assert "thing.more" not in found["end"]


@pytest.mark.parametrize(
    "code",
    [
        "if not TYPE_CHECKING:\n    import thing",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import thing",
        "if x:\n    import thing",
        "try:\n    import thing\nfinally:\n    pass",
        "try:\n    import thing\nexcept KeyError:\n    pass",
        "try:\n    import thing\nexcept ImportError as error:\n    raise RuntimeError('install it') from error",
        "try:\n    main()\n    import thing\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    pass\nfinally:\n    import thing",
        "with open('x') as stream:\n    import thing",
        "for i in range(3):\n    import thing",
        "match x:\n    case 1:\n        import thing",
        "class C:\n    import thing",
        "if sys.version_info >= (3, 11):\n    import thing",
        "if sys.platform != 'win32':\n    import thing",
        "if sys.platform.startswith(WHAT):\n    import thing",
        "if other.platform == 'win32':\n    import thing",
        "if sys.version_info < (3, 15) and x:\n    import thing",
        "if __name__ == '__main__':\n    import thing",
        "import importlib\nimportlib.import_module('thing')",
        "import importlib as il\nx = [il.import_module(name='thing')]",
        "from importlib import import_module as load\nload('thing')",
        "NAME = 'thing'\nimport importlib\nimportlib.import_module(NAME)",
        "__import__('thing')",
        "def f():\n    import thing\nf()",
        "def f():\n    import thing\nx = [f() for _ in y]",
        "class C:\n    def __init__(self):\n        import thing\nC()",
        "def mark(f):\n    import thing\n    return f\n@mark\ndef g(): pass",
        "def mark(n):\n    import thing\n    return lambda f: f\nclass C:\n    @mark(1)\n    def g(self): pass",
        "def default():\n    import thing\ndef g(x=default()): pass",
    ],
)
def test_what_loading_the_file_runs_counts_for_every_step(tmp_path: Path, code: str) -> None:
    found = modules(tmp_path, flow_text(code))
    assert found["start"] == found["train"] == found["end"] == {"thing"}


@pytest.mark.parametrize(
    ("top", "train", "methods"),
    [
        ("", "import thing", ""),
        ("", "if self.x:\n    for i in y:\n        from thing import z", ""),
        ("", "self.help()", "def help(self):\n    import thing"),
        ("", "self.help()", "def help(self):\n    self.more()\ndef more(self):\n    import thing"),
        ("", "getattr(self, 'help')()", "def help(self):\n    import thing"),
        ("", "x = self.value", "@property\ndef value(self):\n    import thing"),
        ("", "list(map(self.help, []))", "def help(self, x):\n    import thing"),
        ("", "self.help()", "if True:\n    def help(self):\n        import thing"),
        ("", "cls = type(self)\ncls.help()", "@classmethod\ndef help(cls):\n    import thing"),
        ("", "Flow.help()", "@staticmethod\ndef help():\n    import thing"),
        ("def help():\n    import thing", "help()", ""),
        ("def help():\n    import thing", "run(callback=help)", ""),
        ("def help():\n    import thing", "def inner():\n    return help()\ninner()", ""),
        ("def help():\n    import thing", "x = lambda: help()", ""),
        ("def help():\n    import thing\nTABLE = {'a': help}", "TABLE['a']()", ""),
        ("def help():\n    import thing\nalias = help", "alias()", ""),
        ("def help():\n    import thing\ndef other(call=help):\n    call()", "other()", ""),
        ("def help():\n    def inner():\n        import thing\n    inner()", "help()", ""),
        ("class C:\n    def run(self):\n        import thing", "C().run()", ""),
        ("class B:\n    def run(self):\n        import thing\nclass C(B): pass", "C().run()", ""),
        ("class C:\n    def run(self):\n        import thing\nclient = C()", "client.run()", ""),
        ("class C:\n    def run(self):\n        import thing", "self.tool.run()", "tool = C()"),
        ("from importlib import import_module", "import_module('thing')", ""),
        ("", "from importlib import import_module as go\ngo('thing')", ""),
        ("", "__import__('thing')", ""),
        ("def help():\n    import thing", "def f():\n    help = 1\nhelp()", ""),
    ],
)
def test_imports_that_a_step_reaches_count_for_it_alone(tmp_path: Path, top: str, train: str, methods: str) -> None:
    found = modules(tmp_path, flow_text(top, train, methods))
    assert found == {"start": set(), "train": {"thing"}, "end": set()}


@pytest.mark.parametrize(
    ("top", "train"),
    [
        ("def help():\n    import thing", "help = 1\nprint(help)"),
        ("def help():\n    import thing", "for help in range(3):\n    print(help)"),
        ("def help():\n    import thing", "print([help for help in range(3)])"),
        ("def help():\n    import thing", "def inner(help):\n    return help\ninner(1)"),
        ("def help():\n    import thing", "self.help = 1\nprint(self.help)"),
        ("def help():\n    import thing", "x: help = 1"),
        ("def help():\n    import thing", "def inner(a: help) -> help: pass"),
        ("", "name = input()\n__import__(name)"),
        ("", "importlib.import_module('thing')"),
        ("def __import__(x): pass", "__import__('thing')"),
    ],
)
def test_what_only_looks_like_a_reference_is_none(tmp_path: Path, top: str, train: str) -> None:
    assert modules(tmp_path, flow_text(top, train))["train"] == set()


def test_naming_the_next_step_does_not_reach_it(tmp_path: Path) -> None:
    found = modules(tmp_path, flow_text(train="import thing"))
    assert found == {"start": set(), "train": {"thing"}, "end": set()}


def test_a_steps_own_decorators_wrap_it_alone(tmp_path: Path) -> None:
    top = """
    def retrying(f):
        import at_definition
        def wrapper(self):
            import at_run
            return f(self)
        return wrapper
    """
    found = modules(tmp_path, flow_text(top, decorators="@retrying"))
    assert found["start"] == found["end"] == {"at_definition"}
    assert found["train"] == {"at_definition", "at_run"}


def test_a_flows_mutator_runs_wherever_the_flow_is_loaded(tmp_path: Path) -> None:
    top = "class M:\n    def mutate(self, flow):\n        import thing\n@M"
    assert modules(tmp_path, flow_text(top))["end"] == {"thing"}


def test_arguments_of_the_flows_decorators_belong_to_the_first_step(tmp_path: Path) -> None:
    top = "def tell():\n    import thing\n@exit_hook(on_error=[tell])"
    assert modules(tmp_path, flow_text(top)) == {"start": {"thing"}, "train": set(), "end": set()}


def test_first_party_modules_are_followed_where_they_are_reached(tmp_path: Path) -> None:
    write(
        tmp_path / "pack" / "__init__.py",
        "import of_package\nfrom .impl import *\nfrom .named import tool as renamed\n",
    )
    write(tmp_path / "pack" / "impl.py", "def starred():\n    import of_starred\n")
    write(
        tmp_path / "pack" / "named.py",
        "import of_named\ndef tool():\n    import of_tool\ndef unused():\n    import no\n",
    )
    write(tmp_path / "pack" / "lazy.py", "from . import sub\nfrom .sub import deep\nimport of_lazy\n")
    write(tmp_path / "pack" / "sub" / "__init__.py", "from ..named import unused\n")
    write(tmp_path / "pack" / "sub" / "deep.py", "if __name__ == '__main__':\n    import no\n")
    write(tmp_path / "root" / "spaces" / "here.py", "import of_space\ndef call():\n    import of_call\n")
    found = modules(
        tmp_path,
        flow_text(
            "import pack",
            "import pack.lazy\npack.starred()\npack.renamed()\nimport spaces.here as h\nh.call()",
        ),
        tmp_path / "root",
    )
    everywhere = {"of_package", "of_named"}
    assert found["end"] == everywhere
    assert found["train"] == everywhere | {"of_starred", "of_tool", "of_lazy", "of_space", "of_call"}


def test_a_first_party_import_is_followed_although_it_may_fail(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "import of_helper\n")
    top = "try:\n    from helper import x\nexcept ImportError:\n    from .helper import x"
    assert modules(tmp_path, flow_text(top))["end"] == {"of_helper"}


def test_modules_that_import_each_other_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "import b\nimport of_a\ndef f():\n    b.g()\n")
    write(tmp_path / "b.py", "import a\nimport of_b\ndef g():\n    a.f()\n    import of_g\n")
    assert modules(tmp_path, flow_text("import a", "a.f()"))["train"] == {"of_a", "of_b", "of_g"}


def test_first_party_names_are_not_third_party(tmp_path: Path) -> None:
    write(tmp_path / "pack" / "__init__.py", "")
    write(tmp_path / "google" / "local.py", "import of_local\n")
    write(tmp_path / "random.py", "import of_random\n")
    top = "import pack.missing\nfrom pack import nothing\nimport random\nfrom google import local\n"
    assert modules(tmp_path, flow_text(top))["end"] == {"of_local", "of_random"}
    found = modules(tmp_path, flow_text(top + "from google import cloud\nimport google.auth"))["end"]
    assert found == {"google", "google.auth", "of_local", "of_random"}


def test_metaflow_is_not_third_party(tmp_path: Path) -> None:
    assert modules(tmp_path, flow_text("import metaflow.cards\nfrom metaflow_extensions.x import y"))["end"] == set()


@pytest.mark.parametrize(
    ("module", "python", "third_party"),
    [
        ("distutils.core", "3.11", False),
        ("distutils.core", "3.12", True),
        ("imp", "3.11", False),
        ("imp", "3.12", True),
        ("asyncore", "3.11", False),
        ("cgi", "3.12", False),
        ("cgi", "3.13", True),
        ("tomllib", "3.10", True),
        ("tomllib", "3.11.4", False),
        ("compression.zstd", "3.13", True),
        ("compression.zstd", "3.14", False),
        ("xml.etree", "3.14", False),
        ("_thread", "3.14", False),
        ("__future__", "3.9", False),
        ("os.path", "3.99", False),
        ("cgi", "3.99", True),
        ("os", "nonsense", False),
    ],
)  # fmt: skip
def test_the_standard_library_is_that_of_the_target(
    tmp_path: Path, module: str, python: str, third_party: bool
) -> None:
    found = modules(tmp_path, flow_text(f"import {module}"), python=python)["end"]
    assert found == ({module} if third_party else set())


def test_a_steps_own_python_decides_unless_it_is_disabled(tmp_path: Path) -> None:
    text = flow_text("import cgi")
    path = write(tmp_path / "flow.py", text)
    steps = (
        RawStep("start", "start", (), Place("flow.py", 5), pypi=Attributes({}, "3.12", None)),
        RawStep("train", "linear", (), Place("flow.py", 9), pypi=Attributes({}, "3.12", True)),
        RawStep("end", "end", (), Place("flow.py", 13)),
    )
    module = parse(path, "flow.py")
    raw = RawFlow("Flow", "flow.py", "start", steps, Reading("static", ""))
    found = read_imports(raw, module, Sources([tmp_path]), ReadOptions(python="3.14"))
    assert {name: bool(items) for name, items in found.items()} == {"start": False, "train": True, "end": True}


def test_inherited_and_overridden_methods(tmp_path: Path) -> None:
    write(
        tmp_path / "bases.py",
        """
        import of_bases
        class Mixin:
            def help(self):
                import of_mixin
                self.hook()
            def hook(self):
                import overridden
        class Other:
            def help(self):
                import hidden
        """,
    )
    text = flow_text("from bases import Mixin, Other", "self.help()", "def hook(self):\n    import of_hook")
    text = text.replace("class Flow(FlowSpec)", "class Flow(Mixin, Other, FlowSpec)")
    assert modules(tmp_path, text)["train"] == {"of_bases", "of_mixin", "of_hook"}


def test_super_reaches_what_is_overridden(tmp_path: Path) -> None:
    top = """
    class Base(FlowSpec):
        def train(self):
            import of_base
        def help(self):
            import of_help
    """
    text = flow_text(top, "super().train()\nsuper(Flow, self).help()").replace(
        "class Flow(FlowSpec)", "class Flow(Base)"
    )
    lines = text.splitlines()
    train = max(i for i, line in enumerate(lines, 1) if "def train(self" in line)
    steps = tuple(
        RawStep(
            name,
            "linear",
            (),
            Place("flow.py", train if name == "train" else lines.index(f"    def {name}(self):") + 1),
        )
        for name in STEPS
    )
    raw = RawFlow("Flow", "flow.py", "start", steps, Reading("static", ""))
    found = inferred(tmp_path, text, raw=raw)
    assert {item.module for item in found["train"]} == {"of_base", "of_help"}


FACTORY = (
    HEAD
    + """
import everywhere
def make():
    class Made(FlowSpec):
        @step
        def start(self):
            import of_start
            self.help()
            self.next(self.end)
        def help(self):
            import of_help
        @step
        def end(self):
            pass
    return Made
Flow = make()
"""
)


@pytest.mark.parametrize(("line", "expected"), [(6, True), (7, True), (8, True), (13, False), (99, False)])
def test_a_class_made_by_a_factory_is_read_at_the_places_of_its_steps(
    tmp_path: Path, line: int, expected: bool
) -> None:
    path = write(tmp_path / "flow.py", FACTORY)
    module = parse(path, "flow.py")
    steps = (
        RawStep("start", "start", ("end",), Place("flow.py", line)),
        RawStep("end", "end", (), Place("/elsewhere/made.py", 3)),
        RawStep("extra", "linear", (), Place("<string>", 1)),
    )
    raw = RawFlow("Flow", "flow.py", "start", steps, Reading("dynamic", "a factory"))
    found = read_imports(raw, module, Sources([tmp_path]), ReadOptions())
    names = {name: {item.module for item in items} for name, items in found.items()}
    # `make()` runs while the file is loaded, but not the methods of the class that it makes … only their functions.
    assert "everywhere" in names["start"] & names["end"] & names["extra"]
    if expected:
        assert {"of_start", "of_help"} <= names["start"]


def test_deep_and_odd_code_is_read(tmp_path: Path) -> None:
    train = "x = " + "+".join(["1"] * 500) + "\n" + "y" + ".a" * 50 + "\nimport thing"
    assert modules(tmp_path, flow_text("from . import nothing", train))["train"] == {"thing"}

"""Any file may be given as a flow: encodings, line ends, what lies at the path, and what Python says of its syntax."""

from __future__ import annotations

import codecs
import importlib.util
import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, NeedsRunningError, ReadOptions, read_flow
from mfbazel.analyze.files import MAX_BYTES, MAX_MARKS
from mfbazel.analyze.source import Sources, code_of, parse

STATIC = ReadOptions(reading="static")
FLOW = """from metaflow import FlowSpec, step, pypi


class F(FlowSpec):
    @pypi(packages={"pandas": VERSION})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""
HOST = f"{sys.version_info.major}.{sys.version_info.minor}"


def flow(version: str = '"3.1.0"', before: str = "") -> str:
    """Return a flow whose first step asks for pandas ``version``, with ``before`` as its first lines."""
    return before + FLOW.replace("VERSION", version)


def read(tmp_path: Path, content: bytes | str) -> FlowSpec:
    file = tmp_path / "flow.py"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_flow(file, [], STATIC)


def refused(tmp_path: Path, content: bytes | str) -> str:
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, content)
    return str(error.value)


def asked_for(spec: FlowSpec) -> str:
    return spec.step("start").declared[0].requirement


class TestEncodings:
    """PEP 263, as Python itself has it."""

    @pytest.mark.parametrize(
        "cookie",
        [
            "# -*- coding: latin-1 -*-\n",
            "# vim: set fileencoding=iso-8859-15 :\n",
            "#!/usr/bin/env python\n# coding=cp1252\n",
            "\f\n \t# coding: Latin_1-unix\n",
        ],
    )
    def test_the_comment_of_the_first_two_lines_names_it(self, tmp_path: Path, cookie: str) -> None:
        text = cookie + flow(before="NAME = 'Zoë'\n")
        assert asked_for(read(tmp_path, text.encode("latin-1"))) == "pandas==3.1.0"

    def test_bytes_beside_the_comment_may_be_in_it_as_well(self, tmp_path: Path) -> None:
        read(tmp_path, ("# Zoë -*- coding: latin-1 -*- ë\n" + flow()).encode("latin-1"))

    def test_other_encodings_of_text_are_read(self, tmp_path: Path) -> None:
        text = "# coding: shift_jis\n" + flow(before="NAME = '予測'\n")
        read(tmp_path, text.encode("shift_jis"))

    def test_a_comment_in_the_third_line_or_after_code_means_nothing(self, tmp_path: Path) -> None:
        for before in (
            "\n\n# coding: nonsense\n",
            "import os\n# coding: nonsense\n",
            "x = '''\n# coding: nonsense'''\n",
        ):
            read(tmp_path, flow(before=before))

    def test_the_byte_order_mark_of_utf_8_is_no_part_of_the_text(self, tmp_path: Path) -> None:
        spec = read(tmp_path, codecs.BOM_UTF8 + flow(before="# coding: utf-8\n").encode())
        assert spec.step("start").line == 8

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"# ok\nx = '\xe9'\n", "flow.py:2:6: the byte 0xe9 is not utf-8: "),
            (b"\xef\xbb\xbf# ok\nx = '\xe9'\n", "flow.py:2:6: the byte 0xe9 is not utf-8: "),
            ("é = 1; ".encode() + b"\xff", "flow.py:1:8: the byte 0xff is not utf-8: "),
            (b"# coding: ascii\n# \xc3\xa9\n", "flow.py:2:3: the byte 0xc3 is not ascii: "),
            (b"# coding: nope\n", "flow.py:1:1: 'nope' is no encoding of Python source: correct the comment"),
            (b"\n# coding: zlib\n", "flow.py:2:1: 'zlib' is no encoding"),
            (b"# coding: rot13\n", "flow.py:1:1: 'rot13' is no encoding"),
            (b"# coding: undefined\n", "flow.py:1:1: 'undefined' is no encoding"),
            (b"# coding: punycode\n" + b"a" * 1_000_000, "flow.py:1:1: 'punycode' is no encoding"),
            (b"# coding: idna\n" + b"a." * 300_000, "flow.py:1:1: 'idna' is no encoding"),
            (b"# coding: utf-7\nx = '+2AA-'\n", "flow.py:2:6: 'utf-7' makes half a surrogate pair"),
            (b"# coding: unicode_escape\nx = '\\ud800'\n", "flow.py:2:6: 'unicode_escape' makes half a surrogate pair"),
            (b"\xef\xbb\xbf# coding: latin-1\n", "begins with the byte order mark of UTF-8: remove one of the two"),
            (
                "x = 1\n".encode("utf-16"),
                "flow.py:1:1: the file is UTF-16, which Python does not read: save it as UTF-8",
            ),
            ("x = 1\n".encode("utf-32"), "flow.py:1:1: the file is UTF-32"),
            (codecs.BOM_UTF16_BE + b"\0x", "flow.py:1:1: the file is UTF-16"),
            (b"x = 1\ny = '\0'\n", "flow.py:2:6: the file does not parse: a NUL byte is in it"),
            (b"\x7fELF\x02\x01\x01\0\0\0", "flow.py:1:8: the file does not parse: a NUL byte is in it"),
        ],
    )
    def test_what_is_no_text_in_its_encoding_is_refused_with_line_and_column(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        assert message in refused(tmp_path, content)

    def test_an_unknown_byte_of_utf_8_is_answered_with_the_comment_to_write(self, tmp_path: Path) -> None:
        assert "# -*- coding: latin-1 -*-" in refused(tmp_path, b"\xe9")

    def test_the_answer_is_that_of_python(self, tmp_path: Path) -> None:
        """Whatever first two lines a file has: it is read where Python compiles it, with the same text."""
        lines = (
            b"",
            b"# x",
            b"#coding:latin-1",
            b" # coding=utf8",
            b"x = 1",
            b"# coding : latin-1",
            b"# coding: \t cp1250",
        )
        for first in lines:
            for second in lines:
                for bom in (b"", codecs.BOM_UTF8):
                    content = bom + b"\r\n".join([first, second, b"NAME = '\xc3\xa9'"])
                    file = tmp_path / "module.py"
                    file.write_bytes(content)
                    expected = _with_python(content)
                    assert _with_us(file) == expected, content


def _with_python(content: bytes) -> object:
    names: dict[str, object] = {}
    try:
        exec(compile(content, "module.py", "exec"), names)
    except SyntaxError:
        return None
    return names["NAME"]


def _with_us(file: Path) -> object:
    try:
        return getattr(parse(file, file.name).tree.body[-1], "value").value  # noqa: B009 - of any statement
    except AnalyzeError:
        return None


class TestLines:
    """Ends of lines, and what else is white."""

    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
    def test_every_end_of_line_gives_the_same_flow(self, tmp_path: Path, end: str) -> None:
        spec = read(tmp_path, flow(before="TEXT = '''a\n\nb'''\n").replace("\n", end))
        assert (spec.step("start").line, spec.step("end").line) == (10, 14)

    def test_ends_of_lines_may_be_mixed_and_the_last_one_missing(self, tmp_path: Path) -> None:
        spec = read(tmp_path, flow(before="a = 1\rb = 2\r\nc = 3\n").rstrip("\n"))
        assert spec.step("start").line == 10

    def test_other_separators_of_unicode_end_no_line(self, tmp_path: Path) -> None:
        spec = read(tmp_path, flow(before="A = '\x0b \x1c \x85 \u2028 \u2029'\n# \u2028\n"))
        assert spec.step("start").line == 9

    def test_tabs_and_form_feeds_are_read(self, tmp_path: Path) -> None:
        spec = read(tmp_path, flow(before="\f\n").replace("    ", "\t").replace("\tdef end", "\f\tdef end"))
        assert [step.name for step in spec.steps] == ["start", "end"]

    def test_tabs_mixed_with_spaces_are_refused_as_python_refuses_them(self, tmp_path: Path) -> None:
        message = refused(tmp_path, "if True:\n        x = 1\n\ty = 2\n")
        assert message.startswith("flow.py:3:")
        assert "inconsistent use of tabs and spaces" in message

    def test_a_file_of_20_000_lines_is_read(self, tmp_path: Path) -> None:
        body = "".join(f"def helper_{number}(a, b=1):\n    return a + b * {number}\n\n\n" for number in range(5_000))
        spec = read(tmp_path, flow(before=body))
        assert spec.step("start").line == 20_007

    def test_a_line_of_two_million_characters_is_read(self, tmp_path: Path) -> None:
        spec = read(tmp_path, flow(before=f"DATA = '{'x' * 2_000_000}'\n"))
        assert asked_for(spec) == "pandas==3.1.0"

    def test_an_empty_file_has_no_flow(self, tmp_path: Path) -> None:
        for content in (b"", b"\n", codecs.BOM_UTF8, b"# only a comment", b"\r", b"\f"):
            assert "flow.py: there is no flow" in refused(tmp_path, content)


class TestPlaces:
    """What may lie at the path of a flow."""

    def refused_at(self, path: Path) -> str:
        with pytest.raises(AnalyzeError) as error:
            read_flow(path, [], STATIC)
        return str(error.value)

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "flow.py").mkdir()
        assert "flow.py: " in self.refused_at(tmp_path / "flow.py")

    def test_a_pipe_is_refused_without_waiting_for_a_writer(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "flow.py")
        assert "flow.py: it is no regular file" in self.refused_at(tmp_path / "flow.py")

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
    def test_a_device_is_refused(self, device: str) -> None:
        assert device.rpartition("/")[2] in self.refused_at(Path(device))

    def test_a_circle_of_links_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "flow.py").symlink_to("other.py")
        (tmp_path / "other.py").symlink_to("flow.py")
        assert "flow.py: cannot read the file: Too many levels of symbolic links" in self.refused_at(
            tmp_path / "flow.py"
        )

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        assert "flow.py: cannot read the file: No such file" in self.refused_at(tmp_path / "flow.py")

    @pytest.mark.parametrize("name", ["a" * 300 + ".py", "a\0b.py"])
    def test_an_impossible_name_is_refused(self, tmp_path: Path, name: str) -> None:
        assert "cannot read the file" in self.refused_at(tmp_path / name)

    def test_a_name_that_is_no_utf_8_is_refused(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py"))
        path.write_text(flow())
        assert "the name of the file is no UTF-8: rename it" in self.refused_at(path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_a_file_without_the_right_to_read_it_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "flow.py"
        file.write_text(flow())
        file.chmod(0)
        assert "flow.py: cannot read the file: Permission denied" in self.refused_at(file)

    def test_a_link_to_a_flow_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "real.py").write_text(flow())
        (tmp_path / "flow.py").symlink_to("real.py")
        assert read_flow(tmp_path / "flow.py", [], STATIC).source == "flow.py"

    def test_a_file_beyond_the_limit_is_refused_and_not_read_to_its_end(self, tmp_path: Path) -> None:
        with (tmp_path / "flow.py").open("wb") as file:
            file.truncate(1 << 40)
        assert f"flow.py: the file has more than {MAX_BYTES:,} bytes" in self.refused_at(tmp_path / "flow.py")

    def test_a_file_of_the_largest_size_is_read(self, tmp_path: Path) -> None:
        text = flow()
        assert read(tmp_path, text + "#" * (MAX_BYTES - len(text))).name == "F"
        assert "more than" in refused(tmp_path, text + "#" * (MAX_BYTES - len(text) + 1))

    @pytest.mark.parametrize("piece", ["x;", "x\n", "x,", "f()\n", "import a\n", "@x\n"])
    def test_more_code_than_memory_is_for_is_refused_before_it_is_parsed(self, tmp_path: Path, piece: str) -> None:
        started = time.process_time()
        assert f"flow.py: the file has more than {MAX_MARKS:,} line ends and" in refused(
            tmp_path, piece * (MAX_MARKS + 1)
        )
        assert time.process_time() - started < 2


class TestFirstPartyModules:
    """Modules beside the flow are read with the same care, and strange ones are no modules."""

    def test_a_module_that_does_not_parse_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "lib.py").write_bytes(b"# coding: latin-1\nBASE = (\n")
        with pytest.raises(AnalyzeError, match=r"^lib\.py:2:8: "):
            Sources([tmp_path]).load("lib")

    def test_pipes_directories_and_circles_are_no_modules(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.py")
        (tmp_path / "folder.py").mkdir()
        (tmp_path / "circle.py").symlink_to("circle.py")
        sources = Sources([tmp_path])
        assert [sources.load(name) for name in ("pipe", "folder", "circle")] == [None, None, None]

    @pytest.mark.parametrize(
        "dotted",
        ["", ".", "..", "a..b", "a.", "/etc", "../x", "a b", "x" * 300, "a\0b", "\ud800", ".".join("a" * 3_000)],
    )
    def test_what_is_no_name_of_a_module_is_none(self, tmp_path: Path, dotted: str) -> None:
        sources = Sources([tmp_path / "below"])
        (tmp_path / "below").mkdir()
        (tmp_path / "x.py").write_text("")
        assert sources.load(dotted) is None
        assert not sources.is_first_party(dotted)

    def test_modules_that_import_each_other_are_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.py").write_text("from b import X\n")
        (tmp_path / "b.py").write_text("from a import X\n")
        assert Sources([tmp_path]).definition("a.X") is None


NEWER = [
    ((3, 12), "type X = int\n", 1),
    ((3, 12), "x = 1\n\ndef f[T](x: T): pass\n", 3),
    ((3, 12), "class A[T]: pass\n", 1),
    ((3, 12), "x = {'a': 1}\ny = f'{x['a']}'\n", 2),
    ((3, 12), "y = f'''{\n'\\n'.join(['a'])}'''\n", 2),
    ((3, 13), "class A[T = int]: pass\n", 1),
    ((3, 14), 'x = 1\ny = t"{x}"\n', 2),
    ((3, 14), "try:\n    pass\nexcept KeyError, ValueError:\n    pass\n", 3),
    ((3, 15), "lazy import pandas\n", 1),
    ((3, 15), "x = [*y for y in ([1], [2])]\n", 1),
]


class TestSyntax:
    """What Python says of a text, and what a newer one would say."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x = 1\nclass F(:\n", "flow.py:2:9: the file does not parse: invalid syntax"),
            ("é = (1\n", "flow.py:1:5: the file does not parse: '(' was never closed"),
            ("print 'x'\n", "flow.py:1:1: the file does not parse: Missing parentheses in call to 'print'"),
            ("exec 'x'\n", "flow.py:1:1: the file does not parse: Missing parentheses in call to 'exec'"),
            ("\n  x = 1\n", "flow.py:2:"),
            ("x = '\\N{no such}'\n", "flow.py:1:"),
            (f"x = {'1' * 5_000}\n", "flow.py:1:"),
            ("x = 0777\n", "flow.py:1:"),
            ("<<<<<<< HEAD\n", "flow.py:1:1: the file does not parse: invalid syntax"),
        ],
    )
    def test_what_does_not_parse_is_refused_with_line_and_column(self, tmp_path: Path, text: str, message: str) -> None:
        shown = refused(tmp_path, text)
        assert message in shown
        assert f"(Python {HOST})" in shown
        assert "newer" not in shown

    def test_warnings_about_the_text_are_not_shown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = flow(before="A = '\\d'\nB = 1 is 1\nC = 0x1for x in ()\nassert (1, 'x')\nD = 1 if 1else 2\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(tmp_path, text)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            read(tmp_path, text)
        assert capsys.readouterr() == ("", "")

    @pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff knows the syntax of newer Pythons")
    @pytest.mark.parametrize(("version", "text", "line"), NEWER)
    def test_syntax_of_a_newer_python_is_reported_as_that(
        self, tmp_path: Path, version: tuple[int, int], text: str, line: int
    ) -> None:
        if sys.version_info >= version:
            assert "there is no flow" in refused(tmp_path, text)
            return
        needed = ".".join(map(str, version))
        shown = refused(tmp_path, text)
        assert f"flow.py:{line}:" in shown
        assert f": this needs Python {needed} or newer, and the analyzer runs on Python {HOST} (" in shown
        assert f"run the analyzer with Python {needed} or newer" in shown

    @pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff knows the syntax of newer Pythons")
    def test_a_mistake_before_newer_syntax_stays_a_mistake(self, tmp_path: Path) -> None:
        shown = refused(tmp_path, "print 'x'\nlazy import pandas\n")
        assert "flow.py:1:1: the file does not parse: Missing parentheses" in shown

    @pytest.mark.parametrize("found", ["missing", "broken", "mute"])
    def test_without_a_parser_of_newer_syntax_pythons_own_message_is_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
    ) -> None:
        command = tmp_path / "ruff"
        if found != "missing":
            command.write_text(f"#!/bin/sh\n{'echo {}' if found == 'broken' else 'exit 3'}\n")
            command.chmod(0o755)
        monkeypatch.setattr("mfbazel.analyze.syntax._ruff", lambda: None if found == "missing" else str(command))
        assert "flow.py:1:6: the file does not parse: invalid syntax" in refused(tmp_path, "lazy import pandas\n")


class TestCodeOf:
    """Code in messages: never an error of its own."""

    def shown(self, tmp_path: Path, text: str) -> str:
        (tmp_path / "m.py").write_text(text)
        return code_of(parse(tmp_path / "m.py", "m.py").tree.body[0])

    def test_it_is_one_short_line(self, tmp_path: Path) -> None:
        assert self.shown(tmp_path, "f(\n  1,\n  2)") == "f(1, 2)"
        assert len(self.shown(tmp_path, f"x = '{'a' * 10_000}'")) == 120
        assert self.shown(tmp_path, "if x:\n    y") == "if x: y"

    def test_what_cannot_be_written_is_shown_as_its_kind(self, tmp_path: Path) -> None:
        assert self.shown(tmp_path, "x = 0x" + "f" * 10_000) == "<Assign>"
        assert self.shown(tmp_path, "x = " + "-" * 1_500 + "1") == "<Assign>"

    def test_half_a_surrogate_pair_is_escaped(self, tmp_path: Path) -> None:
        assert self.shown(tmp_path, r"x = '\ud800'").encode()


class TestConstants:
    """A name that anything but one plain assignment may change is no constant."""

    @pytest.mark.parametrize(
        "changed",
        [
            "for V in ('1', '2'): pass",
            "with open('x') as V: pass",
            "del V",
            "try: pass\nexcept ValueError as V: pass",
            "match 1:\n    case V: pass",
            "match {}:\n    case {**V}: pass",
            "def change():\n    global V\n    V = '2'\nchange()",
            "print(V := '2')",
            "V += '2'",
            "(V, x) = ('2', '3')",
            "[x, *V] = ('2', '3')",
        ],
    )
    def test_a_version_that_is_bound_again_is_not_known(self, tmp_path: Path, changed: str) -> None:
        assert read(tmp_path, flow(version="V", before="V = '1'\nx = V.strip()\nprint(V)\n")).name == "F"
        assert "`V`" in refused(tmp_path, flow(version="V", before=f"V = '1'\n{changed}\n"))

    @pytest.mark.parametrize(
        "changed",
        [
            "P.update(a='2')",
            "P['a'] = '2'",
            "del P['a']",
            "change(P)",
            "Q = P\nQ.clear()",
            "P |= {'a': '2'}",
            "P['a'] += '1'",
        ],
    )
    def test_packages_that_are_changed_in_place_are_not_known(self, tmp_path: Path, changed: str) -> None:
        text = FLOW.replace('{"pandas": VERSION}', "P")
        assert read(tmp_path, "P = {'pandas': '1'}\n" + text).name == "F"
        assert "`P`" in refused(tmp_path, f"P = {{'pandas': '1'}}\n{changed}\n" + text)

    @pytest.mark.parametrize(
        "imports",
        [
            "if x:\n    from one import V\nelse:\n    from two import V\n",
            "try:\n    from one import V\nexcept ImportError:\n    from two import V\n",
            "from one import V\nfrom two import V\n",
            "from one import V\nfrom two import *\n",
            "from one import V\nclass V: pass\n",
            "V = '1'\ndef V(): pass\n",
            "from two import *\nif x:\n    from one import V\n",
            "from three import V\n",
        ],
    )
    def test_a_name_with_two_meanings_is_not_known(self, tmp_path: Path, imports: str) -> None:
        (tmp_path / "one.py").write_text("V = '1'\n")
        (tmp_path / "two.py").write_text("V = '2'\n")
        (tmp_path / "three.py").write_text("try:\n    from one import V\nexcept ImportError:\n    from two import V\n")
        assert "`V`" in refused(tmp_path, flow(version="V", before=imports))

    def test_a_name_that_is_imported_twice_from_one_place_is_known(self, tmp_path: Path) -> None:
        (tmp_path / "one.py").write_text("V = '1'\n")
        before = "from one import V\nimport os\nimport os.path\nif os.name:\n    from one import V\n"
        assert asked_for(read(tmp_path, flow(version="V", before=before))) == "pandas==1"

    def test_a_decorator_with_two_meanings_needs_running(self, tmp_path: Path) -> None:
        before = "if x:\n    from metaflow import conda as pypi\n"
        assert "`@pypi` is unknown" in refused(tmp_path, flow().replace("\n\n\n", f"\n{before}\n\n", 1))

    def test_a_flow_of_a_base_with_two_meanings_needs_running(self, tmp_path: Path) -> None:
        names = "import FlowSpec, step, pypi\n"
        text = f"try:\n    from metaflow {names}except ImportError:\n    from one {names}"
        with pytest.raises(NeedsRunningError, match="FlowSpec"):
            read(tmp_path, text + flow().partition("\n")[2])

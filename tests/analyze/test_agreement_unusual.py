"""Flows written in unusual ways: whichever way each is read, the answer is Metaflow's own.

What a reader of source is tempted to get wrong without saying so: constants that change after they are defined, names
that mean something else than they seem to, decorators that are applied elsewhere, and files that are written oddly.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analyze.agreement import HEAD, MAIN, agree
from tests.analyze.metaflow_oracle import Oracle

FLOW = """
class F(FlowSpec):
    @pypi(packages=PACKAGES)
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self):
        pass
"""

CONSTANTS = {
    "assigned_twice": "PACKAGES = {'pandas': '1.0'}\nPACKAGES = {'pandas': '2.0'}",
    "entry_assigned": "PACKAGES = {'pandas': '1.0'}\nPACKAGES['numpy'] = '2.0'",
    "entry_deleted": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0'}\ndel PACKAGES['numpy']",
    "updated": "PACKAGES = {'pandas': '1.0'}\nPACKAGES.update(numpy='2.0')",
    "set_by_default": "PACKAGES = {'pandas': '1.0'}\nPACKAGES.setdefault('numpy', '2.0')",
    "entry_popped": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0'}\n_ = PACKAGES.pop('numpy')",
    "merged_in_place": "PACKAGES = {'pandas': '1.0'}\nPACKAGES |= {'numpy': '2.0'}",
    "changed_through_another_name": "PACKAGES = {'pandas': '1.0'}\nOTHER = PACKAGES\nOTHER['numpy'] = '2.0'",
    "changed_by_a_function": (
        "PACKAGES = {'pandas': '1.0'}\ndef add():\n    PACKAGES['numpy'] = '2.0'\nadd()"
    ),
    "changed_as_an_argument": (
        "PACKAGES = {'pandas': '1.0'}\ndef add(table):\n    table['numpy'] = '2.0'\nadd(PACKAGES)"
    ),
    "assigned_by_a_function": (
        "PACKAGES = {'pandas': '1.0'}\ndef add():\n    global PACKAGES\n    PACKAGES = {'numpy': '2.0'}\nadd()"
    ),
    "assigned_through_globals": "PACKAGES = {'pandas': '1.0'}\nglobals()['PACKAGES'] = {'numpy': '2.0'}",
    "changed_in_a_loop": "PACKAGES = {}\nfor name in ('a', 'b'):\n    PACKAGES[name] = '1'",
    "loop_variable": "for PACKAGES in ({'pandas': '1.0'}, {'numpy': '2.0'}):\n    pass",
    "chained_assignment": "OTHER = PACKAGES = {'pandas': '1.0'}\nOTHER['numpy'] = '2.0'",
    "unpacked": "PACKAGES, PYTHON = {'pandas': '1.0'}, '3.12'",
    "walrus": "print(PACKAGES := {'pandas': '1.0'})",
    "annotated": "PACKAGES: dict = {'pandas': '1.0'}",
    "with_statement": "import contextlib\nwith contextlib.nullcontext({'pandas': '1.0'}) as PACKAGES:\n    pass",
    "exception": "try:\n    PACKAGES = {'a': '1'}\n    raise OSError\nexcept OSError:\n    PACKAGES = {'b': '2'}",
    "deleted_and_defined_again": "PACKAGES = {'a': '1'}\ndel PACKAGES\nPACKAGES = {'pandas': '1.0'}",
    "nested_dictionary_changed": "ALL = {'x': {'pandas': '1.0'}}\nPACKAGES = ALL['x']\nALL['x']['numpy'] = '2.0'",
    "copied_before_the_change": "BASE = {'pandas': '1.0'}\nPACKAGES = {**BASE}\nBASE['numpy'] = '2.0'",
    "copied_after_the_change": "BASE = {'pandas': '1.0'}\nBASE['numpy'] = '2.0'\nPACKAGES = {**BASE}",
    "used_before_the_change": "PACKAGES = {'pandas': '1.0'}",
    "attribute_of_a_class": "class Pins:\n    PACKAGES = {'pandas': '1.0'}\nPACKAGES = Pins.PACKAGES",
    "copy_method": "BASE = {'pandas': '1.0'}\nPACKAGES = BASE.copy()",
    "pairs": "PACKAGES = dict([('pandas', '1.0')])",
    "zipped": "PACKAGES = dict(zip(['pandas'], ['1.0']))",
    "formatted": "PACKAGES = {'pandas': '%d.%d' % (1, 0), 'numpy': '{}.0'.format(2)}",
    "joined": "PACKAGES = {'pandas': '.'.join(['1', '0'])}",
    "number_formatted": "V = 1.50\nPACKAGES = {'pandas': f'{V}', 'numpy': f'{V:.2f}', 'scipy': f'{V!r}'}",
    "conditional_expression": "PACKAGES = {'pandas': '1.0' if sys.maxsize > 1 else '2.0'}",
    "double_key": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0', 'pandas': '3.0'}",
    "merge_order": "A = {'pandas': '1.0'}\nPACKAGES = {'pandas': '0.1', **A, 'numpy': '2.0', **{'numpy': '3.0'}}",
    "builtin_shadowed": "def dict(**k):\n    return {'numpy': '2.0'}\nPACKAGES = dict(pandas='1.0')",
    "imported_and_assigned": "from textwrap import dedent as PACKAGES\nPACKAGES = {'pandas': '1.0'}",
    "escapes": "PACKAGES = {'p\\x61ndas': '1\\x2e0', 'num' 'py': r'2.0'}",
    "spaces": "PACKAGES = {'pandas': ' 1.0 '.strip(), 'numpy': '>= 2.0'}",
}  # fmt: skip

PLAIN = FLOW.replace("PACKAGES", "{'pandas': '1.0'}")
ATTRIBUTES = {
    "image_from_the_environment": "@batch(image=__import__('os').environ.get('NO_SUCH', 'python:3.12'))",
    "image_by_function": "@kubernetes(image='{}:{}'.format('python', '3.12'))",
    "image_by_percent": "@kubernetes(image='%s:%s' % ('python', '3.12'))",
    "image_by_condition": "@batch(image='python:3.12' if sys.maxsize > 1 else None)",
    "empty_image": "@kubernetes(image='')",
    "image_and_everything_else": "@batch(**dict(image='python:3.12', cpu=3))",
    "powers_of_two": "@resources(memory=2**14, cpu=1 << 3)",
    "floats": "@resources(cpu=1e1, memory=4096.0)",
    "divided": "@resources(memory=65536 // 4, cpu=3 / 2)",
    "negative_minus_negative": "@resources(cpu=-(-2))",
    "called": "@resources(memory=int(4e3), cpu=max(2, 3))",
    "text_numbers": "@resources(memory='4096', cpu='0.5', gpu='2')",
    "nothing": "@resources(memory=None, cpu=None, gpu=None)",
    "zero": "@resources(gpu=0, cpu=0)",
    "text_zero": "@resources(gpu='0')",
    "booleans": "@pypi(packages={'pandas': '1.0'}, disabled=not True)",
    "disabled_by_number": "@pypi(packages={'pandas': '1.0'}, disabled=1)",
    "disabled_by_text": "@pypi(packages={'pandas': '1.0'}, disabled='yes')",
    "disabled_by_zero": "@pypi(packages={'pandas': '1.0'}, disabled=0)",
    "conda_and_pypi_and_one_disabled": (
        "@pypi(packages={'pandas': '1.0'})\n@conda(packages={'numpy': '1.0'}, disabled=True)"
    ),
    "conda_without_packages_below_pypi": "@pypi(packages={'pandas': '1.0'})\n@conda",
    "pypi_without_packages_above_conda": "@pypi\n@conda(packages={'numpy': '1.0'})",
    "python_of_conda_below_pypi": "@pypi(packages={'pandas': '1.0'})\n@conda(python='3.10')",
    "python_of_both": "@pypi(packages={'pandas': '1.0'}, python='3.12')\n@conda(python='3.10')",
    "python_formatted": "@pypi(python='.'.join(map(str, (3, 12))))",
    "selector_with_spaces_and_more": "@kubernetes(node_selector='disk=ssd,kubernetes.io/arch=arm64')",
    "selector_of_the_old_label": "@kubernetes(node_selector={'beta.kubernetes.io/arch': 'arm64'})",
    "selector_merged": "@kubernetes(node_selector={**{'kubernetes.io/arch': 'amd64'}, 'kubernetes.io/arch': 'arm64'})",
    "selector_computed": "@kubernetes(node_selector=dict.fromkeys(['kubernetes.io/arch'], 'arm64'))",
    "conda_version_with_spaces": "@conda(packages={'numpy': '>=1.2, <2'})",
    "conda_fuzzy_with_star": "@conda(packages={'numpy': '=1.2.*'})",
    "conda_name_in_capitals": "@conda(packages={'PyYAML': '6.0'})",
    "conda_channel_with_a_path": "@conda(packages={'https://conda.example.com/team::numpy': '1.0'})",
    "extras_with_spaces": "@pypi(packages={'requests [socks, security]': '2.0'})",
    "version_with_a_local_part": "@pypi(packages={'torch': '2.4.1+cpu'})",
    "version_with_a_letter": "@pypi(packages={'pandas': 'v2.0rc1'})",
    "epoch": "@pypi(packages={'pandas': '1!2.0'})",
}
"""Decorators with values in unusual forms."""

ODD_FILES = {
    "tabs": (HEAD + PLAIN.replace("    ", "\t")).encode(),
    "crlf": (HEAD + FLOW.replace("PACKAGES", "{\n'pandas':\n'1.0'}")).replace("\n", "\r\n").encode(),
    "byte_order_mark": b"\xef\xbb\xbf" + (HEAD + PLAIN).encode(),
    "latin_1": b"# -*- coding: latin-1 -*-\nX = '\xe9'\n" + (HEAD + PLAIN).encode(),
    "form_feeds": (HEAD + "\f\n" + PLAIN).encode(),
    "unicode_names": (HEAD + "PÄCKAGES = {'pandas': '1.0'}\n" + FLOW.replace("PACKAGES", "PÄCKAGES")).encode(),
    "no_newline_at_the_end": (HEAD + PLAIN).rstrip().encode(),
    "shebang": b"#!/usr/bin/env python3\n# vim: ts=4\n" + (HEAD + PLAIN).encode(),
}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_the_value_that_they_have_where_they_are_used(name: str, tmp_path: Path, oracle: Oracle) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(f"{HEAD}{CONSTANTS[name]}\n{FLOW}{MAIN}", encoding="utf-8")
    agree(flow, oracle)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_in_unusual_forms_mean_what_they_mean_to_metaflow(name: str, tmp_path: Path, oracle: Oracle) -> None:
    decorators = textwrap.indent(ATTRIBUTES[name], "    ")
    flow = tmp_path / "flow.py"
    flow.write_text(
        f"{HEAD}\nclass F(FlowSpec):\n{decorators}\n    @step\n    def start(self):\n        pass\n{MAIN}",
        encoding="utf-8",
    )
    agree(flow, oracle)


@pytest.mark.parametrize("name", ODD_FILES)
def test_files_written_oddly_are_read_as_metaflow_reads_them(name: str, tmp_path: Path, oracle: Oracle) -> None:
    flow = tmp_path / "flow.py"
    flow.write_bytes(ODD_FILES[name])
    agree(flow, oracle)

"""What ``--help`` shows where a front is started as a Bazel target."""

from __future__ import annotations

import argparse

from mfbazel.usage import show_target


def usage(environ: dict[str, str]) -> str:
    """Return the help of a front with one option that its target gives, and one that it does not."""
    parser = argparse.ArgumentParser(prog="python -m front")
    parser.add_argument("--images", required=True, help="given by the target")
    parser.add_argument("--repository", help="given by people")
    show_target(parser, ("images",), environ)
    assert parser.parse_args(["--images", "x"]).images == "x"
    return parser.format_help()


def test_a_target_shows_the_command_that_was_typed_and_only_what_people_give() -> None:
    said = usage({"MFBAZEL_TARGET": "//flows:my_flow.push"})
    assert "bazel run //flows:my_flow.push --" in said
    assert "--repository" in said
    assert "--images" not in said


def test_without_a_target_every_option_is_shown() -> None:
    said = usage({})
    assert "python -m front" in said
    assert "--images" in said

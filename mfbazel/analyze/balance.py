"""Whether the splits and joins of a flow belong together, as Metaflow demands before it runs one."""

from __future__ import annotations

from collections.abc import Mapping

from mfbazel.analyze.errors import AnalyzeError

_MOST = 100_000
"""Ways through a flow that are looked at; Metaflow itself, which looks at each, would run for hours."""
Open = tuple[tuple[str, str], ...]
"""The splits that are not joined yet, outermost first, each with the branch that was taken."""


def check_balance(
    start: str, types: Mapping[str, str], following: Mapping[str, tuple[str, ...]], where: Mapping[str, str]
) -> None:
    """Check that no step comes round again, and that each join ends one split, with all its branches.

    Args:
        start: the first step.
        types: Metaflow's type of each step.
        following: the steps after each.
        where: ``file:line`` of each, for errors.

    Raises:
        AnalyzeError: they do not.
    """
    _check_circles(start, types, following, where)
    arrived: dict[str, set[Open]] = {}
    stack: list[tuple[str, Open]] = [(start, ())]
    looked = 0
    while stack:
        name, opened = stack.pop()
        if opened in arrived.setdefault(name, set()):
            continue
        arrived[name].add(opened)
        looked += 1
        if looked > _MOST:
            raise AnalyzeError(f"{where[start]}: the flow has too many ways through it to be checked: simplify it")
        stack.extend(_onward(name, opened, types, following, where))
    for name, ways in arrived.items():
        if types[name] == "join":
            _check_join(name, ways, following, where)


def _onward(
    name: str,
    opened: Open,
    types: Mapping[str, str],
    following: Mapping[str, tuple[str, ...]],
    where: Mapping[str, str],
) -> list[tuple[str, Open]]:
    kind = types[name]
    if kind == "end" and opened:
        raise AnalyzeError(
            f"{where[name]}: step '{name}' is reached before the branches of step '{opened[-1][0]}' are joined: add one"
        )
    if kind == "join":
        if not opened:
            raise AnalyzeError(
                f"{where[name]}: step '{name}' is a join (it takes a second argument), but nothing branches before it: "
                "remove the argument"
            )
        opened = opened[:-1]
    if kind in ("split", "foreach"):
        return [(successor, (*opened, (name, successor))) for successor in following[name]]
    return [(successor, opened) for successor in following[name] if successor != name]


def _check_join(name: str, ways: set[Open], following: Mapping[str, tuple[str, ...]], where: Mapping[str, str]) -> None:
    splits = {tuple(split for split, _ in way) for way in ways}
    if len(splits) > 1:
        raise AnalyzeError(
            f"{where[name]}: step '{name}' joins branches of different splits: give each split a join of its own"
        )
    split = next(iter(ways))[-1][0]
    missing = sorted(set(following[split]) - {way[-1][1] for way in ways})
    if missing:
        raise AnalyzeError(
            f"{where[name]}: step '{name}' joins the branches of step '{split}', but not '{missing[0]}': lead all of "
            "them to it"
        )
    if len(set(following[split])) < len(following[split]):
        raise AnalyzeError(f"{where[split]}: step '{split}' names a branch twice: name each once")


def _check_circles(
    start: str, types: Mapping[str, str], following: Mapping[str, tuple[str, ...]], where: Mapping[str, str]
) -> None:
    """Refuse circles; a switch may lead to itself. Nothing leads to the first step."""
    done: set[str] = set()
    path: dict[str, None] = {start: None}
    stack = [(start, iter(following[start]))]
    while stack:
        name, successors = stack[-1]
        successor = next(successors, None)
        if successor is None:
            stack.pop()
            path.pop(name)
            done.add(name)
        elif successor in path:
            if successor != name or types[name] != "split-switch" or name == start:
                raise AnalyzeError(
                    f"{where[name]}: step '{name}' leads back to '{successor}': Metaflow allows no circle"
                )
        elif successor not in done:
            path[successor] = None
            stack.append((successor, iter(following[successor])))

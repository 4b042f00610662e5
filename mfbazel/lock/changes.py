"""What differs between two locks, in words."""

from __future__ import annotations

from mfbazel.lock.document import Lock


def changes(old: Lock | None, new: Lock) -> list[str]:
    """Return one line per difference; empty when the two locks' files are equal."""
    if old is None:
        return [f"{name}: new, {len(new.versions(name))} packages" for name in sorted(new.environments)]
    lines = [f"{name}: removed" for name in sorted(set(old.environments) - set(new.environments))]
    for name in sorted(new.environments):
        if name not in old.environments:
            lines.append(f"{name}: new, {len(new.versions(name))} packages")
        else:
            lines += [f"{name}: {line}" for line in _environment(name, old, new)]
    if not lines:
        lines = [
            f"{name}: other content" for name, text in sorted(new.files().items()) if old.files().get(name) != text
        ]
    return lines


def _environment(name: str, old: Lock, new: Lock) -> list[str]:
    before, after = old.versions(name), new.versions(name)
    lines = [f"+ {package} {after[package]}" for package in sorted(set(after) - set(before))]
    lines += [f"- {package} {before[package]}" for package in sorted(set(before) - set(after))]
    both = sorted(set(before) & set(after))
    lines += [
        f"{package} {before[package]} → {after[package]}" for package in both if before[package] != after[package]
    ]
    was, now = old.environments[name], new.environments[name]
    for key, title in (("python", "Python"), ("requirements", "requirements"), ("runtime", "runtime requirements")):
        if was.get(key) != now.get(key):
            lines.append(f"{title} {_shown(was.get(key))} → {_shown(now.get(key))}")
    if not lines and was.get("wheels") != now.get("wheels"):
        lines.append("other wheels of the same versions")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)

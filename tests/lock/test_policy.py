"""mfbazel.toml: what it says holds for every flow, and what is wrong in it is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment
from mfbazel.lock.policy import read_policy
from mfbazel.lock.policy_names import policy_names
from mfbazel.policy import PolicyError
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, step, resources

class Demo(FlowSpec):
    @pypi(packages={"alpha": ""})
    @step
    def start(self):
        self.next(self.end)

    @pypi(packages={"gamma": ""})
    @step
    def end(self):
        pass
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse and a flow; nothing else is known."""
    directory = tmp_path / "wheelhouse"
    wheel(directory, "metaflow", "2.19.39")
    wheel(directory, "packaging", "26.0")
    for version in ("1.0", "2.0"):
        wheel(directory, "alpha", version, ("beta>=2",))
        wheel(directory, "gamma", version)
    for version in ("1.0", "2.0", "3.0"):
        wheel(directory, "beta", version)
    (tmp_path / "demo.py").write_text(FLOW, encoding="utf-8")
    return use_only(directory, tmp_path / "home", monkeypatch)


def policy(tmp_path: Path, text: str, **files: str) -> Path:
    for name, content in files.items():
        (tmp_path / f"{name}.txt").write_text(content, encoding="utf-8")
    path = tmp_path / "mfbazel.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    arguments += ["--policy", str(tmp_path / "mfbazel.toml"), "--python", HERE, "--runtime", "packaging"]
    return cli.main([command, *arguments, *options])


def pins(tmp_path: Path, environment: str) -> dict[str, str]:
    lines = (tmp_path / "demo.lock" / f"{environment}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.removesuffix(" \\").split("==", 1) for line in lines if "==" in line)


def environments(tmp_path: Path) -> dict[str, dict[str, object]]:
    table = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, object]] = table["environments"]
    return found


CONSTRAINED = '[lock]\nconstraints = ["limits.txt"]\n'


def test_constraints_limit_what_is_required_directly_or_by_others(tmp_path: Path) -> None:
    policy(tmp_path, CONSTRAINED, limits="# why\nalpha<2  # because\n\nbeta<3\nunknown==1\n")
    assert run(tmp_path, "flow") == 0
    assert pins(tmp_path, "start") == {"alpha": "1.0", "beta": "2.0", "packaging": "26.0"}
    assert pins(tmp_path, "end")["gamma"] == "2.0"


def test_overrides_replace_what_distributions_say(tmp_path: Path) -> None:
    policy(tmp_path, '[lock]\noverrides = ["forced.txt"]\n', forced="beta==1.0\n")
    assert run(tmp_path, "flow") == 0
    assert pins(tmp_path, "start")["beta"] == "1.0"
    text = (tmp_path / "demo.lock" / "start.txt").read_text(encoding="utf-8")
    assert "#   alpha\n    #   mfbazel.toml (overrides)" in text
    assert "overrides.in" not in text


def test_a_lock_records_of_the_policy_only_what_concerns_it(tmp_path: Path) -> None:
    policy(tmp_path, CONSTRAINED, limits="beta<3\nunknown==1\n")
    run(tmp_path, "flow")
    assert environments(tmp_path)["start"]["policy"] == {"constraints": ["beta<3"]}
    assert "policy" not in environments(tmp_path)["end"]


def test_a_constraint_for_other_pythons_or_systems_concerns_no_lock(tmp_path: Path) -> None:
    here = f"beta<3 ; python_version == '{HERE}' and platform_machine == 'aarch64'\n"
    policy(tmp_path, CONSTRAINED, limits=f"beta<1 ; python_version < '3.8'\nalpha<1 ; sys_platform == 'win32'\n{here}")
    run(tmp_path, "flow")
    assert environments(tmp_path)["start"]["policy"] == {
        "constraints": [here.strip().replace(" ;", ";").replace("'", '"')]
    }


def test_only_locks_that_a_change_of_the_policy_concerns_become_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(tmp_path, CONSTRAINED, limits="unknown==1\n")
    run(tmp_path, "flow")
    policy(tmp_path, CONSTRAINED, limits="unknown==2\nanother<1\n")
    assert run(tmp_path, "test") == 0
    policy(tmp_path, CONSTRAINED, limits="unknown==2\nbeta<3\n")
    with pytest.raises(LockError) as error:
        run(tmp_path, "test")
    assert "step 'start': beta<3 is a constraint (limits.txt:2), but not locked so" in str(error.value)
    assert "'end'" not in str(error.value)
    run(tmp_path, "flow")
    assert "start: beta 3.0 → 2.0 (needed by alpha)" in capsys.readouterr().out
    policy(tmp_path, "")
    with pytest.raises(LockError, match=r"step 'start': beta<3 is a constraint when it was locked, but not any more"):
        run(tmp_path, "test")


def test_a_conflict_with_a_constraint_names_its_line(tmp_path: Path) -> None:
    policy(tmp_path, CONSTRAINED, limits="\nbeta<2\n")
    with pytest.raises(LockError, match=r"limits\.txt:2: beta<2"):
        run(tmp_path, "flow")


def test_pip_tools_follows_constraints_and_refuses_overrides(tmp_path: Path) -> None:
    policy(tmp_path, CONSTRAINED, limits="beta<3\n")
    assert run(tmp_path, "flow", "--resolver", "pip-tools") == 0
    assert pins(tmp_path, "start")["beta"] == "2.0"
    policy(tmp_path, '[lock]\noverrides = ["forced.txt"]\n', forced="beta==1.0\n")
    with pytest.raises(LockError, match=r'overrides.*`resolver = "uv"`'):
        run(tmp_path, "flow", "--resolver", "pip-tools")


def test_the_policy_gives_defaults_and_options_win_over_them(tmp_path: Path) -> None:
    policy(tmp_path, '[lock]\nplatforms = ["linux/arm64", "linux/amd64"]\nglibc = "2.31"\nresolver = "uv"\n')
    run(tmp_path, "flow")
    table = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    assert sorted(table["layers"]) == ["linux/amd64", "linux/arm64"]
    assert table["glibc"] == "2.31"
    run(tmp_path, "flow", "--glibc", "2.28", "--platform", "linux/amd64")
    table = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    assert sorted(table["layers"]) == ["linux/amd64"]
    assert table["glibc"] == "2.28"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[lock", "not TOML"),
        ("[locks]\nconstraints = []", r"unknown table or key `locks`; there are lock, allowed"),
        ("lock = 3", "`lock` is not a table"),
        ("[lock]\nconstraint = []", "unknown key `constraint`"),
        ('[lock]\nconstraints = "a.txt"', "`constraints` is not a list"),
        ("[lock]\nconstraints = [3]", "`constraints` is not a list of strings"),
        ('[lock]\nconstraints = ["missing.txt"]', "names missing.txt, which cannot be read"),
        ('[lock]\nconstraints = ["../a.txt"]', "not a path below the workspace's root"),
        ('[lock]\nconstraints = ["options.txt"]', r"options\.txt:1: '-r other\.txt' is no requirement"),
        ('[lock]\nconstraints = ["bad.txt"]', r"bad\.txt:2: 'a b c' is not a requirement"),
        ('[lock]\nconstraints = ["extras.txt"]', "names extras"),
        ('[lock]\nconstraints = ["url.txt"]', r"url\.txt:1: .* names a URL"),
        ('[lock]\nplatforms = ["linux/amd46"]', r"mfbazel\.toml: \[lock\]: `platforms`: 'linux/amd46'"),
        ('[lock]\nglibc = "2.5"', r"mfbazel\.toml: \[lock\]: `glibc`: '2\.5'"),
        ('[lock]\nresolver = "poetry"', r"mfbazel\.toml: \[lock\]: `resolver`: 'poetry'"),
        ('[[lock.index]]\nname = "a"', "'a'|number 1: `url` is missing"),
        ('[[lock.index]]\nname = "a b"\nurl = "https://x.test/"\npackages = ["p"]', "`name` consists of letters"),
        ('[[lock.index]]\nname = "a"\nurl = "https://me:pw@x.test/"\npackages = ["p"]', "holds credentials"),
        (
            '[[lock.index]]\nname = "a"\nurl = "https://x.test/"\npackages = ["p"]\ngpu = 1',
            "`gpu` is not true or false",
        ),
        ('[[lock.index]]\nname = "a"\nurl = "u"\npackages = ["p"]\n' * 2, "the name is taken"),
    ],
)
def test_a_policy_that_says_something_wrong_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    policy(
        tmp_path,
        text,
        options="-r other.txt\n",
        bad="beta<3\na b c\n",
        extras="beta[x]<3\n",
        url="b @ git+https://x.test/y\n",
    )
    with pytest.raises(LockError, match=message) as error:
        run(tmp_path, "flow")
    assert "pw" not in str(error.value).replace("pwd", "")


def test_the_first_index_that_takes_a_distribution_counts_and_gpu_steps_have_their_own(tmp_path: Path) -> None:
    table = "\n".join(
        f'[[lock.index]]\nname = "{name}"\nurl = "https://{name}.test/simple"\npackages = ["Torch", "nvidia_*"]\n{gpu}'
        for name, gpu in (("cuda", "gpu = true"), ("cpu", "gpu = false"), ("any", ""))
    )
    read = read_policy(policy(tmp_path, table))
    names = {"torch", "nvidia-nccl-cu12", "numpy"}
    found = {gpu: read.concerning(Environment("s", "3.12", (), gpu=gpu), names)["indexes"] for gpu in (True, False)}
    assert found == {
        True: {"nvidia-nccl-cu12": "cuda", "torch": "cuda"},
        False: {"nvidia-nccl-cu12": "cpu", "torch": "cpu"},
    }


def test_the_module_extension_is_told_the_files_and_indexes_that_a_policy_names() -> None:
    text = '[lock]\nconstraints = ["b.txt", "a.txt"]\noverrides = ["a.txt", 3]\n'
    index = '[[lock.index]]\nname = "own"\nurl = "https://x.test/${Y}"\npackages = ["p"]\n'
    assert policy_names(text + index) == {"files": ["a.txt", "b.txt"], "indexes": {"own": "https://x.test/${Y}"}}
    for wrong in ("[lock", "lock = 3", '[[lock.index]]\nname = "own"\n', "[lock]\nconstraints = 3\n"):
        assert policy_names(wrong) == {"files": [], "indexes": {}}


def test_packages_that_are_not_allowed_are_not_locked_and_the_old_lock_stays(tmp_path: Path) -> None:
    policy(tmp_path, '[allowed]\npackages = ["alpha", "packaging", "metaflow", "gamma"]\n')
    with pytest.raises(PolicyError, match=r"packages of //:demo that mfbazel.toml does not allow") as error:
        run(tmp_path, "flow")
    assert "beta 3.0 (start): not in [allowed] packages of mfbazel.toml, which has alpha," in str(error.value)
    assert not (tmp_path / "demo.lock").exists()


def test_a_lock_that_a_new_rule_forbids_fails_lock_test_without_being_stale(tmp_path: Path) -> None:
    policy(tmp_path, "")
    assert run(tmp_path, "flow") == 0
    policy(tmp_path, 'contact = "#ml"\n[refused]\npackages = ["beta>2"]\n[allowed]\nlicences = ["unknown"]\n')
    with pytest.raises(PolicyError, match=r"beta 3.0 \(start\): refused by \[refused\] packages.*\n.*ask #ml"):
        run(tmp_path, "test")
    policy(tmp_path, '[allowed]\nlicences = ["MIT"]\n')
    with pytest.raises(PolicyError, match=r"the licence of alpha 2.0 \(start\), unknown: not in \[allowed\] licences"):
        run(tmp_path, "test")
    policy(tmp_path, '[allowed]\nlicences = ["unknown"]\n[refused]\npackages = ["beta<2"]\n')
    assert run(tmp_path, "test") == 0


def test_an_index_that_is_not_allowed_is_not_asked(tmp_path: Path) -> None:
    policy(tmp_path, '[allowed]\nindexes = ["https://packages.example.com/*"]\n')
    with pytest.raises(PolicyError, match="indexes of your configuration") as error:
        run(tmp_path, "flow")
    assert "wheelhouse: not in [allowed] indexes of mfbazel.toml, which has https://packages.example.com/*" in str(
        error.value
    )
    policy(tmp_path, f'[allowed]\nindexes = ["{tmp_path}/wheelhouse"]\n')
    assert run(tmp_path, "flow") == 0

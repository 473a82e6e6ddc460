"""The lock files: they hold all that the ranges ask for, by hash, for every supported Python and platform."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
RUN, TEST, UV = (ROOT / "locks" / f"{name}.txt" for name in ("run", "test", "uv"))
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; (?P<marker>[^\\]+?))?(?P<more> \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
MACHINES = [
    {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.1", "sys_platform": platform,
     "platform_system": SYSTEMS[platform], "platform_machine": machine}
    for minor in (10, 11, 12, 13, 14) for platform, machine in PLATFORMS
]  # fmt: skip


@dataclass(frozen=True)
class Pin:
    """One release in a lock, and where it is installed."""

    name: str
    version: Version
    marker: str | None
    hashes: int

    def applies(self, machine: dict[str, str]) -> bool:
        return self.marker is None or Marker(self.marker).evaluate(machine)


def pins(text: str) -> list[Pin]:
    """Every release in a lock; fails for a line that is neither one, nor a hash, nor a remark."""
    found: list[Pin] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if HASH.fullmatch(line):
            last = found.pop()
            found.append(Pin(last.name, last.version, last.marker, last.hashes + 1))
            continue
        pin = PIN.fullmatch(line)
        assert pin, f"not a pinned release: {line!r}"
        found.append(Pin(pin["name"], Version(pin["version"]), pin["marker"], 0))
    return found


def needs() -> list[Requirement]:
    """What requirements.txt asks for."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def needs_of_tests() -> list[Requirement]:
    """What the tests ask for beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["optional-dependencies"]["test"]]


ASKED = [(RUN, need) for need in needs()] + [(TEST, need) for need in [*needs(), *needs_of_tests()]]


@pytest.mark.parametrize(("lock", "need"), ASKED, ids=[f"{lock.stem}-{need.name}" for lock, need in ASKED])
def test_every_machine_gets_one_release_that_the_range_admits(lock: Path, need: Requirement) -> None:
    found = [pin for pin in pins(lock.read_text()) if pin.name == canonicalize_name(need.name)]
    for machine in MACHINES:
        here = [pin for pin in found if pin.applies(machine)]
        wanted = need.marker is None or need.marker.evaluate(machine)
        assert len(here) == int(wanted), (need, machine)
        assert all(need.specifier.contains(pin.version) for pin in here), (need, here)


@pytest.mark.parametrize("lock", [RUN, TEST, UV], ids=lambda lock: lock.stem)
def test_every_release_is_known_by_hash_and_from_no_place(lock: Path) -> None:
    text = lock.read_text()
    assert pins(text) and all(pin.hashes for pin in pins(text))
    assert not re.search(r"://|\s@\s|file:|--(extra-)?index|--find-links|(^|\s)[./~]+/", text, re.MULTILINE)


def test_the_tests_run_on_what_the_application_runs_on() -> None:
    run, test = pins(RUN.read_text()), pins(TEST.read_text())
    assert set(run) <= set(test)
    assert not {pin.name for pin in set(test) - set(run)} & {pin.name for pin in run}


@pytest.mark.parametrize("need", needs(), ids=lambda need: need.name)
def test_an_upper_bound_is_the_release_after_the_newest_tested(need: Requirement) -> None:
    newest = max(pin.version for pin in pins(RUN.read_text()) if pin.name == canonicalize_name(need.name))
    bounds = [Version(one.version) for one in need.specifier if one.operator == "<"]
    exact = [Version(one.version) for one in need.specifier if one.operator == "=="]
    assert exact == [newest] or bounds == [Version(f"{newest.major}.{newest.minor + 1}")]


def test_another_build_of_pytorch_changes_nothing_else() -> None:
    command = ["awk", "-f", ROOT / "tools" / "other_torch.awk", TEST]
    made = pins(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    bare = {pin for pin in made if not pin.hashes}
    assert {pin.name for pin in bare} == {"torch", "torchvision"}
    locked = pins(TEST.read_text())
    assert {(pin.name, pin.version, pin.marker) for pin in made} <= {(p.name, p.version, p.marker) for p in locked}
    left_out = {pin.name for pin in locked} - {pin.name for pin in made}
    assert left_out and all(name.startswith(("nvidia-", "cuda-")) or name == "triton" for name in left_out)
    assert {pin for pin in locked if pin.name not in left_out} - set(made) == {
        pin for pin in locked if pin.name in ("torch", "torchvision")
    }


def test_make_test_runs_on_exactly_what_is_locked() -> None:
    if not Path(sys.prefix, ".for-test").exists():
        pytest.skip("this environment was not made by make test")
    here = [pin for pin in pins(TEST.read_text()) if pin.marker is None or Marker(pin.marker).evaluate()]
    other_cuda = ("nvidia-", "cuda-", "triton") if Path(sys.prefix, "lock-for-this-torch.txt").exists() else ()
    wrong = {
        pin.name: (version(pin.name), str(pin.version))
        for pin in here
        if not pin.name.startswith(other_cuda) and Version(version(pin.name)).public != pin.version.public
    }
    assert wrong == {}

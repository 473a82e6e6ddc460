"""What holds for every test: `gpu` tests need CUDA, and `make test` does not pass without its browser tests."""

from __future__ import annotations

from pathlib import Path

import pytest

UI_FOLDER = "tests/ui/"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-ui", action="store_true", help="fail when a browser test was skipped or none ran")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if config.getoption("--require-ui") and not is_worker:
        config.pluginmanager.register(BrowserTestsRan(config.rootpath))


def pytest_sessionstart() -> None:
    """Convolutions in float32 are computed as such: cuDNN would round what goes into them to TF32."""
    if _cuda_is_available():
        import torch

        torch.backends.cudnn.allow_tf32 = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _cuda_is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    for item in items:
        if item.nodeid.startswith(UI_FOLDER):
            item.add_marker("ui")


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


class BrowserTestsRan:
    """Turns a green run into a failure when the browser tests did not take part in it."""

    def __init__(self, root: Path) -> None:
        self.expected = any((root / UI_FOLDER).glob("test_*.py"))
        self.ran = 0
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.nodeid.startswith(UI_FOLDER):
            return
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)
        self.ran += report.when == "call" and report.passed

    def complaint(self) -> str | None:
        if self.skipped:
            return f"{len(self.skipped)} browser tests were skipped, the first of them {self.skipped[0]}."
        if self.expected and not self.ran:
            return f"No browser test of {UI_FOLDER} ran."
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.complaint() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.complaint():
            terminalreporter.section("browser tests", red=True)
            terminalreporter.line(f"{self.complaint()} Install Chromium, or run pytest without --require-ui.")

"""No serious or critical violation that axe finds, light and dark, with an answer on the page."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.ui.app.visit import ask, keep, shows


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation(visit, theme):
    page = visit(f"frames=4&sample=code-short&__theme={theme}")
    shows(page, frames=4)
    ask(page, "What code is shown?")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    keep(page, f"answered-{theme}", whole=True)
    assert not serious, "\n".join(serious)

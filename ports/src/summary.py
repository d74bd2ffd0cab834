"""A plugin of pytest that writes the results of the tests to a file, for `cargo ports`."""

import json
import os


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    names = {report.nodeid for key in ("failed", "error") for report in stats.get(key, [])}
    summary = {
        "passed": len(stats.get("passed", [])),
        "failed": sorted(names),
        "skipped": len(stats.get("skipped", [])),
        "left_out": len(stats.get("deselected", [])),
    }
    with open(os.environ["PYO3_SYNC_SUMMARY"], "w") as file:
        json.dump(summary, file)

# SPDX-License-Identifier: Apache-2.0
"""The fixtures of the system tests, for tests that only a machine of its own can run (see README.md)."""
import importlib.util
import os
import pathlib
import sys

import pytest

SYSTEM = pathlib.Path(__file__).resolve().parents[1] / "system"
sys.path.insert(0, str(SYSTEM))
_spec = importlib.util.spec_from_file_location("system_conftest", SYSTEM / "conftest.py")
_system = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_system)
globals().update({name: value for name, value in vars(_system).items() if not name.startswith("_")})


def pytest_collection_modifyitems(items):
    """They change the host: swap, AppArmor profiles, its own containerd."""
    if "TEST_VM" not in os.environ:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="for the machine of tests/vm/run only"))

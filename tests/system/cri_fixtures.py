# SPDX-License-Identifier: Apache-2.0
"""Fixtures that a file of tests of the CRI imports: a daemon for the file, and nothing left in it after each test. A file that needs
a daemon of another kind has a cri_and_image of its own."""
import pytest

from cri import cri_daemon


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout) as v:
        yield v


@pytest.fixture
def cri(cri_and_image):
    c = cri_and_image[0]
    yield c
    c.daemon.clear()


@pytest.fixture
def image(cri_and_image):
    return cri_and_image[1]

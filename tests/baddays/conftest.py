"""What several bad days begin with."""

import pytest

from tests.store.mail import Now, Post


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def post(now: Now) -> Post:
    return Post(now)

"""Pages and reports are looked at with a real browser; a server with authentication is started once for all."""

from collections.abc import Iterator

import pytest

from scripts.bench_ceiling import server
from tests.browsers import browser, shots
from tests.serve.guarded import Guarded

__all__ = ["browser", "guarded", "shots"]


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """
    Xinference with our front door, authentication, and an engine without a model.

    Ten wrong keys in a row ban their sender for an hour: a test that sends some gives a `sender` of its own, and none
    sends more than two from here.
    """
    folder = tmp_path_factory.mktemp("guarded")
    with server(auth=True, folder=folder) as (endpoint, key):
        assert key is not None
        yield Guarded(endpoint, key, next(folder.iterdir()))

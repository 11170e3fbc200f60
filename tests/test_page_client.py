import pytest

from slo.deploy.catalogue import STAND_IN_REVISION
from slo.http import ApiKey
from slo.page_client import server_facts
from tests.stub_server import Reply, StubServer

ROW = {"id": "m", "model_name": "m", "model_engine": "openvino", "dimensions": 768, "address": "10.0.0.1:1"}


def test_our_extension_tells_more_than_xinference() -> None:
    with StubServer(pages={"/slo/api/status": {"engine": "openvino", "stand_in": True}}) as server:
        facts = server_facts(server.endpoint, "m")
    assert facts == {"source": "/slo/api/status", "engine": "openvino", "stand_in": True}


def test_stock_xinference_tells_by_its_list_of_models() -> None:
    with StubServer(prefix="/x/v1", api_key="k", pages={"/x/v1/models": {"data": [{"id": "other"}, ROW]}}) as server:
        facts = server_facts(server.endpoint, "m", api_key=ApiKey("k", "here"))
    assert facts == {
        "source": "/v1/models",
        "model_name": "m",
        "model_engine": "openvino",
        "dimensions": 768,
        "stand_in": False,
    }


def test_a_stand_in_is_known_by_the_revision_that_our_registration_gives_it() -> None:
    with StubServer(pages={"/v1/models": {"data": [{**ROW, "model_revision": STAND_IN_REVISION}]}}) as server:
        assert server_facts(server.endpoint, "m")["stand_in"] is True


@pytest.mark.parametrize(
    "page",
    [
        None,
        [],
        "text",
        {"data": None},
        {"data": ["m"]},
        {"data": [{"id": "other"}]},
        Reply(status=500),
        Reply(body=b"<html>"),
        Reply(fault="reset"),
        Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_a_server_that_tells_nothing_is_no_error(page: object) -> None:
    with StubServer(pages={"/v1/models": page}) as server:
        assert server_facts(server.endpoint, "m") == {}


def test_a_server_that_is_down_tells_nothing() -> None:
    with StubServer() as server:
        endpoint = server.endpoint
    assert server_facts(endpoint, "m") == {}

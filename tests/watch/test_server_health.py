from slo.errors import Unauthorized, Unreachable
from slo.watch.server_health import ServerHealth, health_of


def test_health_is_what_the_server_says() -> None:
    def unreachable() -> list[str]:
        raise Unreachable("gone", url="http://h")

    def locked() -> list[str]:
        raise Unauthorized("HTTP 401", url="http://h", status=401)

    shedding = {"uptime_s": 5, "settings": {"admission": {"policy": "shed"}}}
    assert health_of(unreachable, dict, "m") == ServerHealth(server_up=False)
    assert health_of(locked, dict, "m") == ServerHealth(server_up=True)
    assert health_of(lambda: ["n"], dict, "m") == ServerHealth(server_up=True, model_up=False)
    young = {"replicas": [{"engine": {"age_s": 7000.0}}, {"engine": {"age_s": 12.5}}, {"engine": {}}], "model": "m"}
    other = {"replicas": [{"engine": {"age_s": 1.0}}], "model": "n"}
    aged = {"uptime_s": 9000, "models": [other, young]}
    assert health_of(lambda: ["m"], lambda: aged, "m").uptime_s == 12.5, "a model relaunched in an old server is cold"
    assert health_of(lambda: ["m"], lambda: shedding, "m") == ServerHealth(
        server_up=True, model_up=True, uptime_s=5, queueing=False
    )


def test_readiness_is_asked_where_the_extension_is_and_unknown_elsewhere() -> None:
    def broken() -> bool:
        raise Unreachable("gone", url="http://h")

    assert health_of(lambda: ["m"], lambda: {"uptime_s": 1}, "m", lambda: False).ready is False
    assert health_of(lambda: ["m"], lambda: {"uptime_s": 1}, "m", broken).ready is None
    assert health_of(lambda: ["m"], dict, "m", lambda: False).ready is None
    ordered = {"settings": {"admission": {"policy": "shed"}}, "control": {"policy": "queue"}}
    assert health_of(lambda: ["m"], lambda: ordered, "m").queueing is True

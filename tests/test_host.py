from pathlib import Path

import pytest

from slo.host import cpu_name, host_facts


def test_the_machine_is_described_by_what_explains_a_latency() -> None:
    facts = host_facts()
    assert set(facts) == {
        "cpu", "cores", "kernel", "python", "load_1m", "cpu_flags", "quota_cores", "governor", "versions",
    }  # fmt: skip
    assert facts["cores"] >= 1


def test_a_system_without_cpuinfo_has_a_processor_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert cpu_name()

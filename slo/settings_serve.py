"""The section `serve` of the configuration: batching, cache, admission and limits of the front door."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from pydantic import Field, field_validator

from slo.objective import Objective
from slo.settings import Duration, Section, Size


class BatchSection(Section):
    """Micro-batching in the API process."""

    max_tokens: int = Field(512, ge=16, le=65536)
    max_items: int = Field(256, ge=1, le=4096)
    max_wait: Duration = 0.002
    in_flight: int = Field(2, ge=1, le=8)


class CacheSection(Section):
    """Exact-text cache of computed vectors."""

    enabled: bool = True
    max_size: Size = 64 * 2**20


class AdmissionSection(Section):
    """What happens when the objective cannot be met for one more request."""

    policy: Literal["defer", "shed", "queue"] = "defer"
    deadline: Duration | None = Field(None, gt=0)
    max_wait: Duration = 5.0
    max_queue_tokens: int = Field(200_000, ge=512)
    request_timeout: Duration = Field(10.0, gt=0)

    @property
    def deadline_s(self) -> float:
        """Seconds. Nobody having said anything, those of the default objective."""
        return Objective().threshold_s if self.deadline is None else self.deadline

    @property
    def longest_wait_s(self) -> float:
        """`max_wait`, but never so long that the answer would come after `request_timeout`."""
        return min(self.max_wait, 0.75 * self.request_timeout)


class LimitsSection(Section):
    """Bounds on what one request may carry."""

    max_body: Size = Field(4 * 2**20, ge=1024)
    max_inputs: int = Field(2048, ge=1)
    max_queue: Size = 64 * 2**20


class ServeSection(Section):
    """The extension inside Xinference."""

    enabled: bool = True
    batch: BatchSection = BatchSection()
    cache: CacheSection = CacheSection()
    admission: AdmissionSection = AdmissionSection()
    limits: LimitsSection = LimitsSection()
    trusted_proxies: tuple[str, ...] = ()
    patience: Duration = Field(8.0, ge=3.0)
    drill: bool = False

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy, strict=False)  # its `ValueError` says what is wrong
        return proxies

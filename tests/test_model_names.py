"""The table of architectures: about models that there are, and in step with what the engine reads."""

from __future__ import annotations

from slo.deploy.catalogue import builtin_families
from slo.model_names import ARCHITECTURES, OUR_ARCHITECTURES


def test_every_name_is_one_of_xinferences() -> None:
    assert set(ARCHITECTURES) <= {family.name for family in builtin_families()}


def test_no_name_stands_twice_and_what_embeds_more_than_text_is_not_there() -> None:
    families = {family.name: family for family in builtin_families()}
    assert not any(families[name].abilities for name in ARCHITECTURES)
    assert sum(kind in OUR_ARCHITECTURES for kind in ARCHITECTURES.values()) == 23

"""A digest tells of everything that it stands for."""

from hypothesis import given
from hypothesis import strategies as st

from slo.watch.delivery.digest import merge
from slo.watch.model.notification import SEVERITIES, Notification
from tests.watch.delivery.sinks.receiver import note

notes = st.lists(
    st.builds(
        note,
        st.uuids().map(str),
        status=st.sampled_from(["firing", "resolved"]),
        severity=st.sampled_from(SEVERITIES),
        title=st.text(min_size=1, max_size=200),
    ),
    min_size=1,
    max_size=60,
)


@given(notes, st.integers(800, 4000))
def test_members_are_all_but_critical_ones_that_did_not_fit(notifications: list[Notification], room: int) -> None:
    digest = merge(notifications, room, 0.0)
    if digest is None:
        return
    left = [n for n in notifications if n.event_id not in digest.members]
    assert all(n.severity == "critical" for n in left)
    assert len(digest.members) + len(left) == len(notifications)
    assert f"合并 {len(digest.members)} 条告警" in digest.notification.title_zh
    assert len(digest.notification.text_zh.encode()) <= room
    assert len(digest.notification.text_en.encode()) <= room


def test_equal_titles_share_a_line_and_the_most_urgent_come_first() -> None:
    some = [note(f"t-{i}", severity="ticket", title="慢") for i in range(17)]
    digest = merge([*some, note("c", severity="critical", title="停")], 4000, 0.0)
    assert digest is not None
    assert digest.notification.text_zh == "- 🔴 停\n- 🔴 慢 ×17"
    assert digest.notification.severity == "critical"
    assert digest.notification.title_zh == "合并 18 条告警：严重 1 · 工单 17"
    assert digest.notification.title_en == "18 alerts in one message: critical 1 · ticket 17"


def test_what_does_not_fit_is_counted_by_severity() -> None:
    digest = merge([note(str(i), severity="page", title=f"告警 {i:04d}") for i in range(500)], 2000, 0.0)
    assert digest is not None
    assert len(digest.members) == 500
    assert "条未列出：告警 4" in digest.notification.text_zh


def test_the_same_members_make_the_same_id() -> None:
    one, two = note("a", severity="page"), note("b", severity="page")
    first, again = merge([one, two], 4000, 0.0), merge([two, one], 4000, 9.0)
    assert first is not None
    assert again is not None
    assert first.notification.event_id == again.notification.event_id


def test_only_resolves_make_a_resolve() -> None:
    digest = merge([note("a", status="resolved"), note("b", status="resolved")], 4000, 5.0)
    assert digest is not None
    assert (digest.notification.status, digest.notification.ends_at_s) == ("resolved", 5.0)

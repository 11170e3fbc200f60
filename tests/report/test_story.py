"""Reports from records: what they say, in both languages, and that they are whole without a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slo.bench.compare import compare
from slo.cli.main import cli
from slo.cli.main import run as run_command
from slo.objective import Verdict
from slo.records import Run, save_run
from slo.report.figure import figure
from slo.report.html import html_report, markdown_report
from slo.report.plots import BUCKETS, capacity_curve, distribution, main_plot, over_time, plots_of
from slo.report.png import HEIGHT, WIDTH, png
from slo.report.story import record_hash, tell
from slo.report.strings import LANGUAGES, WORDS, Language, Words, preferred
from slo.samples import Sample
from slo.sentences import say
from tests.report.made_runs import capacity_run, load_run, run, samples, stress_run

EVERY_KIND = {
    "baseline": run("baseline"), "load": load_run(), "capacity": capacity_run(), "stress": stress_run(),
    "missed": run("baseline", 210), "void": replace(load_run(), void=["1 % of requests left over 9.0 ms late"]),
    "failing": run("load", samples=samples(90, 600, failing=0.4)), "empty": run("plan", samples=[]),
}  # fmt: skip


class Outline(HTMLParser):
    """Tags in balance, addresses named, and the text outside scripts."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("made", EVERY_KIND.values(), ids=list(EVERY_KIND))
def test_every_kind_of_record_becomes_a_whole_page(made: Run, language: Language) -> None:
    page = html_report(tell([made], Words(language)), Words(language))
    found = outline(page)
    assert found.open == []
    assert found.addresses == []
    assert made.id in found.text
    assert "占位权重" in found.text or "Stand-in weights" in found.text
    assert record_hash(made) in found.text
    assert "{" not in found.text.replace("{}", "")


def test_a_record_speaks_chinese_in_a_chinese_report() -> None:
    made = replace(load_run(), notes=[say("closed"), say("cached", count=7), "said by nobody"])
    void = replace(made, void=[say("lost", gap="9%")])
    chinese, english = (html_report(tell([void], Words(name)), Words(name)) for name in LANGUAGES)
    assert (
        "闭环：结果只描述这些调用者" in chinese and "缓存应答 7 条，另行统计" in chinese and "said by nobody" in chinese
    )
    assert "相差 9%：有请求丢失" in chinese
    assert "closed loop: describes these callers" in english and "some were lost" in english


def test_the_policy_lets_only_the_two_scripts_run_and_nothing_be_fetched() -> None:
    page = html_report(tell([load_run()], Words("en")), Words("en"))
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[0]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_markup_in_a_record_stays_text() -> None:
    nasty = "</script><script>alert(1)</script><img src=x>"
    made = run("load", model=nasty, notes=[nasty], samples=[Sample(0, 0, 0.1, "ok", nasty) for _ in range(60)])
    page = html_report(tell([made], Words("en")), Words("en"))
    assert nasty not in page
    assert "<img" not in page.split("plotly.js")[0]
    text = markdown_report(tell([made], Words("en")), Words("en"))
    assert "<script>" not in text


def test_a_missed_run_says_so_first_and_a_void_one_gives_the_reason() -> None:
    words = Words("en")
    assert "❌ Missed" in markdown_report(tell([run("baseline", 210)], words), words).splitlines()[4]
    void = markdown_report(tell([EVERY_KIND["void"]], words), words)
    assert "🚫 Void" in void
    assert "9.0 ms late" in void


def test_the_stress_table_is_that_of_the_article() -> None:
    text = markdown_report(tell([stress_run()], Words("zh")), Words("zh"))
    for line in ("| P95 | 138 ms |", "| SLO 达成率（请求） | 98.70 % |", "| 并发请求数 | 50 |", "| 错误率 | 0.20 % |"):
        assert line in text


def test_before_and_after_stand_in_one_table() -> None:
    before, after = run("baseline", 210, id="a"), run("baseline", 95, id="b")
    words = Words("en")
    text = markdown_report(tell([before, after], words, compare(before, after)), words)
    row = next(line for line in text.splitlines() if line.startswith("| medium |"))
    assert "faster" in row
    assert "+54.8 %" in row
    assert "Missed → Met" in row


def test_bars_of_the_distribution_hold_every_request_and_respect_the_limit() -> None:
    made = run("load", samples=[Sample(0, 0, value, "ok", "short") for value in (0.1499, 0.150, 0.1501, 5.0)])
    plot = distribution(made, Words("en"))
    assert plot is not None
    trace = plot.traces[0]
    assert sum(y or 0 for y in trace.y) == pytest.approx(100)
    within = sum(y or 0 for x, y in zip(trace.x, trace.y, strict=True) if isinstance(x, float) and x < 150)
    assert within == pytest.approx(50)
    assert trace.y[-1] == pytest.approx(25)


def test_time_slices_have_enough_samples_and_leave_a_gap_for_a_failed_p95() -> None:
    plot = over_time(run("load", samples=samples(90, 600, failing=0.4)), Words("en"))
    assert plot is not None
    assert len(plot.traces[0].x) <= BUCKETS
    assert None in plot.traces[0].y
    assert over_time(run("load", samples=samples(90, 30)), Words("en")) is None


def test_the_capacity_curve_goes_by_load_and_marks_verdicts() -> None:
    plot = capacity_curve(capacity_run(), Words("en"))
    assert plot is not None
    assert list(plot.traces[0].x) == sorted(plot.traces[0].x, key=float)
    assert {trace.name: trace.tone for trace in plot.traces[1:]} == {"met": "good", "missed": "bad", "unproven": "warn"}


@pytest.mark.parametrize("made", [*EVERY_KIND.values()], ids=list(EVERY_KIND))
def test_every_plot_is_plain_json_for_plotly_and_a_picture_for_pillow(made: Run, tmp_path: Path) -> None:
    for plot in plots_of(made, Words("zh")):
        data = json.loads(json.dumps(figure(plot), allow_nan=False))
        assert data["data"]
        file = tmp_path / f"{plot.key}.png"
        file.write_bytes(png(plot, title=plot.title, subtitle="P95"))
        with Image.open(file) as picture:
            assert picture.size == (WIDTH, HEIGHT)
            colours = picture.getcolors(WIDTH * HEIGHT)
            assert colours is not None
            assert len(colours) > 20


def test_the_main_plot_is_the_one_that_tells_most() -> None:
    words = Words("en")
    cases: list[tuple[list[Run], str]] = [
        ([run("baseline", 210, id="a"), run("baseline", 95, id="b")], "before_after"), ([capacity_run()], "curve"),
        ([load_run()], "over_time"), ([run("baseline")], "distribution"), ([stress_run()], "over_time"),
    ]  # fmt: skip
    for runs, key in cases:
        plot = main_plot(runs, words)
        assert plot is not None
        assert plot.key == key
    assert main_plot([EVERY_KIND["empty"]], words) is None


def test_words_have_the_same_figures_in_both_languages() -> None:
    for key, (chinese, english) in WORDS.items():
        assert set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english)), key


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": "C"}, "en"),
        ({}, "en"),
        ({"LC_ALL": "ZH_TW"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_system(environ: dict[str, str], language: str) -> None:
    assert preferred(environ) == language


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with three records."""
    for made in (run("baseline", 210, id="20260920T1-baseline-a"), run("baseline", 95, id="20260921T9-baseline-b"),
                 load_run()):  # fmt: skip
        save_run(made, tmp_path / ".slo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> int:
    return run_command(cli, ["report", *arguments])


def test_the_command_writes_html_by_default(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--lang", "zh") == 0
    assert (state / "report.html").read_text(encoding="utf-8").count("延迟报告") >= 2
    assert "report.html" in capsys.readouterr().err


def test_the_command_prints_markdown_and_nothing_else_on_stdout(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("20260920", "20260921T9", "--markdown", "--lang", "en", "--png", "p.png") == 0
    said = capsys.readouterr()
    assert said.out.startswith("# gte-base-zh · Latency report")
    assert "Before and after" in said.out
    assert not (state / "report.html").exists()
    assert (state / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_gives_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("last:load", "--json", "--out", "x.html") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said == {"html": "x.html", "runs": ["20260921T141320-load-90"], "verdict": "met"}


def test_no_such_record_is_an_error_with_a_hint(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("nothing") == 2
    assert "is no record" in capsys.readouterr().err


def test_the_same_records_give_the_same_report(state: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        command("last", "--out", name, "--lang", "en")
        pages.append((state / name).read_bytes())
    assert pages[0] == pages[1]


def clustered(verdict: Verdict, **conclusion: object) -> Run:
    """A load in which late requests came in clusters, so that 1500 of them weigh as 75."""
    made = load_run()
    given = {"good": 1480, "total": 1500, "effective": 75.0, "advice": "", "remarks": [], **conclusion}
    return replace(made, decided=verdict, details={**made.details, "conclusion": given})


def test_a_table_says_of_the_whole_what_the_headline_says_and_nothing_of_its_parts() -> None:
    advice = say("clusters", total=1500, effective=75)
    text = markdown_report(tell([clustered(Verdict.UNPROVEN, advice=advice)], Words("en")), Words("en"))
    assert f"neither proven nor refuted: {advice}" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["overall"].rstrip(" |").endswith("Unproven")
    assert rows["short"].rstrip(" |").endswith("–")


def test_a_void_run_has_no_verdict_in_its_table_either() -> None:
    text = markdown_report(tell([replace(load_run(), void=["lost"])], Words("en")), Words("en"))
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["overall"].rstrip(" |").endswith("Void")
    assert "Met" not in rows["short"]


def test_wrong_answers_are_the_reason_and_no_proof() -> None:
    made = clustered(Verdict.MISSED, remarks=[say("wrong", wrong=1, compared=48)])
    made = replace(made, details={**made.details, "answers": {"compared": 48, "wrong": 1}})
    text = markdown_report(tell([made], Words("en")), Words("en"))
    assert "there were wrong answers: 1 of 48" in text
    assert "proven at" not in text


def test_the_interval_is_wider_where_late_requests_come_in_clusters() -> None:
    alone, together = load_run().summaries()[-1], clustered(Verdict.MET).summaries()[-1]
    assert together.p95_ms == alone.p95_ms
    assert together.p95_high_ms - together.p95_low_ms > 2.5 * (alone.p95_high_ms - alone.p95_low_ms)

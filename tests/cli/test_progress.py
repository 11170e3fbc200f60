from io import StringIO

from rich.console import Console

from slo.cli.live import progress_on


def shown(console: Console) -> None:
    with progress_on(console) as show:
        for done in range(1, 51):
            show("measure", done, 50)


def test_a_terminal_gets_a_bar() -> None:
    screen = StringIO()
    shown(Console(file=screen, force_terminal=True, width=80))
    assert "50/50" in screen.getvalue()


def test_a_log_gets_a_line_now_and_then() -> None:
    log = StringIO()
    shown(Console(file=log))
    assert log.getvalue().splitlines() == [f"measure {n}/50" for n in (10, 20, 30, 40, 50)]

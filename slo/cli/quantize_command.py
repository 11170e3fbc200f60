"""`slo quantize`: make the fast graphs of a model ahead of its first launch, and show what they cost in fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from slo.cli.options import Context, config_option, context, json_option


@click.command()
@config_option
@click.option("--model-path", type=click.Path(path_type=Path, file_okay=False), help="Model directory.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "int8", "bf16", "fp32"]),
    help="auto takes the fastest that passes the gate.  [default: server.precision]",
)
@click.option(
    "--pairs",
    "pairs_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Questions with their passages: JSON lines (query, passage) or two columns; nDCG@10 joins the gate.",
)
@click.option("--no-download", is_flag=True, help="Do not look for the model on the network.")
@json_option
def quantize(
    config_path: Path | None, model_path: Path | None, precision: str | None, pairs_path: Path | None,
    no_download: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert and quantise the model now instead of at its first launch, and print the fidelity report.

    Every precision is compared with fp32 on texts that the quantiser has not seen; the gate is a mean cosine of
    0.995, a minimum of 0.95 and a rank agreement of 0.995. What is made lies under .slo/models and is found again by
    `make launch`. Takes a minute or two per model, once.

    With --pairs, some hundreds of your own questions with the passages that answer them, a precision may also lose no
    more than 0.5 points of nDCG@10, and int8 is made by gentler recipes until it does not. Texts are embedded as they
    stand: write the model's prefixes into them. Later launches keep to the verdict.

    Example:  slo quantize --model-path /data/gte-base-zh --precision auto --pairs questions.jsonl
    Exit codes: 0 done, 2 no such model, or the precision asked for fails the gate
    """
    changes: dict[str, Any] = {"model.path": model_path, "server.precision": precision}
    if no_download:
        changes["model.download"] = False
    ctx = context(config_path, as_json=as_json, **changes)
    _quantize(ctx, pairs_path, path_required=model_path is not None)


def _quantize(ctx: Context, pairs_path: Path | None, *, path_required: bool) -> None:
    # Heavy libraries, needed by this command alone.
    from slo.deploy import source  # noqa: PLC0415
    from slo.deploy.launch_plan import absolute  # noqa: PLC0415
    from slo.serve.engine.loading import Workshop  # noqa: PLC0415
    from slo.serve.engine.retrieval import read_pairs  # noqa: PLC0415

    config = absolute(ctx.config)
    pairs = read_pairs(pairs_path) if pairs_path else None
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=ctx.err
    )
    with bar:
        task = bar.add_task("finding the model", total=1.0)
        models_dir = config.state_dir / "models"
        files = source.find(config.model, models_dir, required=path_required, say=ctx.err.print)
        workshop = Workshop(
            files.directory,
            models_dir,
            progress=lambda stage, share: bar.update(task, description=stage, completed=share),
        )
        choice = workshop.choose(config.server.precision, pairs)
    if ctx.json:
        ctx.emit_json(
            {
                "model": config.model.id,
                "directory": str(files.directory),
                "stand_in": files.stand_in,
                "precision": choice.precision,
                "reason": choice.reason,
                "fidelity": {name: figures.to_json() for name, figures in choice.fidelity.items()},
            }
        )
        return
    table = Table("precision", "mean cosine", "minimum", "rank agreement", "texts", "nDCG@10 of fp32", "lost", "gate")
    for name, figures in choice.fidelity.items():
        verdict = "passed" if figures.passes else ", ".join(figures.shortfalls)
        table.add_row(
            name,
            f"{figures.mean_cosine:.4f}",
            f"{figures.minimum_cosine:.4f}",
            f"{figures.rank:.4f}",
            str(figures.texts),
            f"{figures.ndcg:.4f} of {figures.ndcg_fp32:.4f}" if figures.pairs else "–",
            f"{figures.ndcg_loss_points:+.2f} points" if figures.pairs else "–",
            verdict,
        )
    if choice.fidelity:
        ctx.out.print(table)
    ctx.out.print(f"{config.model.id} is served in {choice.precision} ({choice.reason})", soft_wrap=True)
    if files.stand_in:
        ctx.out.print(
            "stand-in weights: the fidelity of the real model has to be measured on its own files", soft_wrap=True
        )

"""The commands that show what a training learns and how it does."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import click
import typer
from rich.text import Text

from flows.core.diagnosis.findings import Diagnosis
from flows.core.errors import InvalidArgument
from flows.core.file_names import expand_home
from flows.core.numbers import to_json
from flows.core.states import Health
from flows.core.training.values import POINTS, MetricSummary, Point
from flows.core.training_data.preview import MOST_ROWS, DataPreview, Split
from mcp_server.cli.arguments import current_folder
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, JobId
from mcp_server.cli.output import Output
from mcp_server.cli.plot import plot
from mcp_server.services.training.metrics import MetricsAnswer, MetricsQuery

_STYLE: Final = {
    Health.OK: "green",
    Health.WARNING: "yellow",
    Health.BAD: "bold red",
    Health.UNKNOWN: "dim",
}
_FILE_POINTS: Final = 100_000
_Key = Annotated[
    list[str] | None,
    typer.Option("--key", "-k", metavar="NAME", help="A metric. Default: the main ones."),
]
_Split = Annotated[
    str,
    typer.Option(
        "--split",
        click_type=click.Choice(["train", "validation", "test"]),
        metavar="SPLIT",
        help="Which data to show: train, validation or test.",
    ),
]


class TrainingCommands(Commands):
    """The methods are the commands."""

    panel = "Trainings"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"metrics": self.metrics, "diagnose": self.diagnose, "preview": self.preview}

    def metrics(
        self,
        *,
        ids: Annotated[list[str], typer.Argument(metavar="ID...", help="One to five jobs.")],
        key: _Key = None,
        points: Annotated[
            int, typer.Option("--points", min=4, help="Most points of each series.")
        ] = POINTS,
        since_step: Annotated[
            int | None, typer.Option("--since-step", min=0, help="First step to show.")
        ] = None,
        plot: Annotated[bool, typer.Option("--plot", help="Draw the curves here.")] = False,
        to: Annotated[
            str,
            typer.Option(
                "--to", metavar="FILE", help="Write to a file instead: .png, .csv or .json."
            ),
        ] = "",
        as_json: AsJson = False,
    ) -> Exit:
        """Show the metrics of jobs: loss, learning rate, evaluations, and so on."""
        target = _target(to)
        if target is not None and target.suffix != ".png":
            points = max(points, _FILE_POINTS)
        query = MetricsQuery(keys=key or [], points=points, since_step=since_step)
        draw = target is not None and target.suffix == ".png"
        answer = self._backend.use(lambda services: services.metrics.read(ids, query, draw=draw))
        if target is not None:
            _save(answer, target)
            self._output.line(f"Wrote {target}.")
            return Exit.OK
        return self._write(answer, _show_plots if plot else show_metrics, as_json=as_json)

    def diagnose(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Explain what is wrong with a training, and what to try."""
        found = self._backend.use(lambda services: services.diagnosis.diagnose(job_id))
        return self._write(found, _show_diagnosis, as_json=as_json)

    def preview(
        self,
        *,
        config: Annotated[str, typer.Argument(metavar="CONFIG", help="Oumi config (YAML).")],
        split: _Split = "train",
        rows: Annotated[
            int, typer.Option("--rows", min=0, max=MOST_ROWS, help="Rows to show.")
        ] = 3,
        as_json: AsJson = False,
    ) -> Exit:
        """Show training rows as the model will see them, and count their defects."""
        folder = str(current_folder())
        which: Split = next(one for one in _SPLITS if one == split)
        found = self._backend.use(
            lambda services: services.data.preview(
                config, client_cwd=folder, split=which, rows=rows
            )
        )
        return self._write(found, _show_preview, as_json=as_json)


_SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")


def _target(to: str) -> Path | None:
    if not to:
        return None
    path = current_folder() / expand_home(to)
    if path.suffix not in (".png", ".csv", ".json"):
        raise InvalidArgument(
            f"{to} is no .png, .csv or .json file", "Give --to a name with one of these endings"
        )
    return path


def _save(answer: MetricsAnswer, path: Path) -> None:
    try:
        if path.suffix == ".png":
            if not answer.png:
                raise InvalidArgument("There is nothing to draw yet", "Wait for the first metrics")
            path.write_bytes(answer.png)
        elif path.suffix == ".json":
            path.write_text(answer.model_dump_json() + "\n")
        else:
            _save_csv(answer, path)
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be written ({error.strerror})", "Give --to another file"
        ) from error


def _save_csv(answer: MetricsAnswer, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job_id", "name", "metric", "step", "value"])
        for job in answer.jobs:
            for one in job.keys:
                for step, value in one.series:
                    writer.writerow([job.job_id, job.name, one.key, step, to_json(value)])


def show_metrics(answer: MetricsAnswer, output: Output) -> None:
    """Show the metrics of jobs as tables."""
    output.line(answer.summary)
    for job in answer.jobs:
        if len(answer.jobs) > 1:
            output.line(f"{job.name} {job.job_id}", style="bold")
        output.table(
            ("metric", "first", "last", "best", "min", "max"),
            map(_row, job.keys),
            yielding=("best", "first", "min", "max"),
        )
        if job.other_keys:
            output.note(f"Also: {', '.join(job.other_keys)}")


def _row(one: MetricSummary) -> list[Text]:
    style = "bold red" if one.not_finite else ""
    cells = [one.first, one.last, one.best, one.min, one.max]
    return [Text(one.key, style), *(Text(_at(cell)) for cell in cells)]


def _at(point: Point | None) -> str:
    if point is None:
        return "-"
    value = to_json(point.value)
    shown = value if isinstance(value, str) else f"{value:.4g}"
    return f"{shown} @{point.step}"


def _show_plots(answer: MetricsAnswer, output: Output) -> None:
    output.line(answer.summary)
    for key in dict.fromkeys(one.key for job in answer.jobs for one in job.keys):
        output.text(plot(key, answer.jobs))


def _show_diagnosis(found: Diagnosis, output: Output) -> None:
    output.line(found.summary, style=_STYLE[found.health])
    for finding in found.findings:
        output.line(f"{finding.severity.upper():<8} {finding.kind}: {finding.evidence}")
        for step in finding.try_:
            output.line(f"         Try: {step}")


def _show_preview(found: DataPreview, output: Output) -> None:
    output.line(found.summary)
    for row in found.rows:
        count = "" if row.tokens is None else f", {row.tokens} tokens"
        trained = "" if row.trained_tokens is None else f", {row.trained_tokens} trained"
        output.line(f"{row.dataset} row {row.row}{count}{trained}", style="bold")
        output.text(row.text)
    facts = found.facts.model_dump(mode="json", exclude_none=True)
    output.rows((name, str(value)) for name, value in facts.items() if value not in (0, "", []))

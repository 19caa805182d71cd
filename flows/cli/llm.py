"""The commands about language models: a local server, and the journal of answers."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import JsonOpt
from flows.terminal.console import print_json

_HELP = "Serve a small language model; look into the journal of answers."
app = typer.Typer(name="llm", no_args_is_help=True, help=_HELP)


@app.command()
def serve(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 chooses a free one")] = 8080,
    threads: Annotated[int, typer.Option("--threads", min=1, help="at most the number of free cores")] = 1,
    slots: Annotated[int, typer.Option("--slots", min=1, help="concurrent requests")] = 4,
    model: Annotated[Path | None, typer.Option("--model", help="a GGUF file; default: the packaged model")] = None,
) -> None:
    """Serve a small language model on this machine until Ctrl-C."""
    from flows.execution.llama_server import local_server

    stop = threading.Event()
    before = {name: signal.signal(name, lambda *_: stop.set()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with local_server(port, threads=threads, slots=slots, model=model) as server:
            typer.echo(f"--llm '{server.spec}'")
            while not stop.wait(0.5) and server.process.poll() is None:
                pass
            if not stop.is_set():
                typer.echo(f"the server exited with code {server.process.poll()}", err=True)
                raise typer.Exit(1)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@app.command()
def journal(
    file: Annotated[Path, typer.Argument(help="a journal of answers", exists=True, dir_okay=False)],
    forget_failures: Annotated[
        bool, typer.Option("--forget-failures", help="drop failed requests, so that they are sent again")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Show what a journal records of each model: answers, tokens, and failures by reason."""
    from curation.llm.journal import Journal

    answers = Journal(file)
    try:
        forgotten = answers.forget_failures() if forget_failures else 0
        models: list[dict[str, Any]] = [
            {"model": name, **answers.usage(name)._asdict(), "failures_by_reason": answers.failures(name)}
            for name in answers.models()
        ]
    finally:
        answers.close()
    if as_json:
        print_json({"models": models, "forgotten": forgotten})
        return
    if forget_failures:
        typer.echo(f"forgot {forgotten} failures: they will be sent again")
    for entry in models:
        typer.echo(
            f"{entry['model']}: {entry['answers']:,} answers, {entry['failures']:,} failures, "
            f"{entry['prompt_tokens']:,} prompt tokens, {entry['completion_tokens']:,} completion tokens"
        )
        for reason, count in entry["failures_by_reason"].items():
            typer.echo(f"  failed: {reason} {count:,}")
    if not models:
        typer.echo("no answers yet")

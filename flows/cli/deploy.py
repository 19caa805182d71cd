"""The command that puts a project's deployments on a Prefect server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_manifests.errors import InputError
from flows.cli.options import JsonOpt
from flows.cli.settings import project_of
from flows.project_file import FILE_NAME
from flows.terminal.console import err, out, print_json

app = typer.Typer()

_INSTEAD = "give --only-file and run prefect deploy where the server is"


@app.command()
def deploy(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="deployments; default: all of the file")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="what is written; default: prefect.yaml beside clipcurate.toml")
    ] = None,
    only_file: Annotated[bool, typer.Option("--only-file", help="write the file and stop; needs no server")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Make Prefect deployments of clipcurate.toml's [deployments.NAME], and write them as prefect.yaml for prefect deploy."""
    from flows.execution.prefect_server import check_settings, require_server

    if (project := project_of(ctx)) is None:
        raise InputError(
            f"no {FILE_NAME} here or in a folder above",
            allowed=f"a project with {FILE_NAME}, in which tables [deployments.NAME] say what is deployed",
            fix=f'write {FILE_NAME}: [deployments.nightly] with cron = "0 3 * * *", and [deployments.nightly.parameters] with '
            "recipe, source and name",
        )
    check_settings(_INSTEAD)
    from flows.execution import deployments

    found = deployments.read_deployments(project)
    unknown = set(names or ()) - {one.name for one in found}
    if unknown:
        raise InputError(
            f"deploy {', '.join(sorted(unknown))}: not in {project.path}", allowed=", ".join(one.name for one in found)
        )
    wanted = [one for one in found if not names or one.name in names]
    if not only_file:
        require_server(_INSTEAD)
    path = file or project.path.with_name(deployments.PREFECT_FILE)
    deployments.write_prefect_file(path, deployments.prefect_file(project, found))
    if not only_file:
        deployments.deploy(path, wanted)
    if as_json:
        print_json({"file": str(path), "deployed": [] if only_file else [f"{one.flow}/{one.name}" for one in wanted]})
        return
    err.print(f"wrote {path}", soft_wrap=True, markup=False)
    for one in [] if only_file else wanted:
        out.print(f"deployed {one.flow}/{one.name} to work pool {one.work_pool} ({one.pool_type})", markup=False)
    for pool in [] if only_file else dict.fromkeys(one.work_pool for one in wanted):
        out.print(f"runs start when a worker does: prefect worker start --pool {pool}", markup=False)

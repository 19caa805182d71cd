"""Where the command starts. Ctrl-C ends it in one line from here on, while the commands themselves are still being imported."""

from __future__ import annotations

from data_manifests.interrupt import start_quietly


def main() -> None:
    """Run the command line; errors that the user can fix end in one message and exit code 2."""
    start_quietly()
    from flows.cli.app import run

    run()


if __name__ == "__main__":
    main()  # torchrun starts modules, not commands

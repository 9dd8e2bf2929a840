"""The command line: ``vitlab build``, ``vitlab zoo``, ``vitlab bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 something failed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="vitlab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="run the pages that need it and render the book")
    build.add_argument("pages", nargs="*", help="pages to run, e.g. 01-occlusion; all if none")
    build.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the pages; the result is a small book under build/custom",
    )
    build.add_argument("--profile", default="mini", help="size of the experiments (mini)")
    build.add_argument("--jobs", type=int, default=0, help="pages at a time; 0: one per core")
    build.add_argument("--no-site", action="store_true", help="run pages, do not render HTML")

    zoo = commands.add_parser("zoo", help="train the mini zoo, taking up what was broken off")
    zoo.add_argument("models", nargs="*", help="names such as mini/vit-0; all if none")
    zoo.add_argument("--fresh", action="store_true", help="throw finished and unfinished work away")

    commands.add_parser("bench", help="measure the numbers that the README promises")

    given = parser.parse_args(arguments)
    try:
        return _COMMANDS[given.command](given)
    except ValueError as error:  # bad input, in words that say what would have worked
        print(f"vitlab: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"vitlab: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vitlab: {error}; nothing that was finished is lost", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vitlab: stopped; the next run goes on from here", file=sys.stderr)
        return 130


def _build(given: argparse.Namespace) -> int:
    from vitlab import build

    parameters = {}
    for text in given.parameter:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"-p {text}: write it as NAME=VALUE")
        parameters[name] = value
    return build.build(given.pages, parameters, given.profile, given.jobs, site=not given.no_site)


def _zoo(given: argparse.Namespace) -> int:
    from vitlab import build, train

    train.train_all(given.models, build.find_root() / "build" / "zoo", given.fresh)
    return 0


def _bench(given: argparse.Namespace) -> int:
    from vitlab import bench, build

    return bench.main(build.find_root())


_COMMANDS = {"build": _build, "zoo": _zoo, "bench": _bench}

if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``vitlab build``, ``plan``, ``record``, ``data``, ``trials``, ``zoo``..."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import suppress


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
    build.add_argument(
        "--profile", default="mini", help="mini (the default), photos, colab or full"
    )
    build.add_argument("--jobs", type=int, default=0, help="pages at a time; 0: one per core")
    build.add_argument("--no-site", action="store_true", help="run pages, do not render HTML")
    build.add_argument("--pdf", action="store_true", help="print the book into one PDF, too")
    build.add_argument(
        "--verify", action="store_true", help="read all image files again, unchanged ones too"
    )
    build.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="of a Dask cluster, tcp://HOST:8786"
    )

    plan = commands.add_parser("plan", help="what a build would need, before anything starts")
    plan.add_argument("pages", nargs="*", help="pages, e.g. 01-occlusion; all if none")
    plan.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    plan.add_argument(
        "--profile",
        default="",
        help="mini, photos, colab or full; if none, the largest that the pages have",
    )

    record = commands.add_parser("record", help="keep a finished run under book/recorded")
    record.add_argument(
        "build",
        help="its folder: build/colab, or one under build/custom; or a profile, such as photos, "
        "which is built first",
    )
    record.add_argument("name", nargs="?", default="", help="what to call it; a profile's if none")
    record.add_argument("--jobs", type=int, default=0, help="as of build, for a profile")

    data = commands.add_parser("data", help="image sets: list, info, fetch, verify, path")
    actions = data.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="all sets, and which can be had right now")
    for action, what in (
        ("info", "what a set is, its licence, how to get it by hand"),
        ("fetch", "download an open set; goes on where an earlier try broke off"),
        ("verify", "read every file of a set that is here and compare"),
        ("path", "the folder of a set that is here"),
    ):
        one = actions.add_parser(action, help=what)
        one.add_argument("name", help="of the set, e.g. imagenet-c")
        if action == "fetch":
            one.add_argument("--again", action="store_true", help="download it even if it is here")

    zoo = commands.add_parser("zoo", help="train small models, taking up what was broken off")
    zoo.add_argument(
        "models", nargs="*", help="names such as mini/vit-0 or 'photos/*'; mini/* if none"
    )
    zoo.add_argument("--list", action="store_true", help="show all recipes and train nothing")
    zoo.add_argument("--check", action="store_true", help="measure finished weights again")
    zoo.add_argument("--keep", action="store_true", help="write finished weights in fewer bits")
    zoo.add_argument("--fresh", action="store_true", help="throw finished and unfinished work away")

    trials = commands.add_parser("trials", help="what is kept of all runs, image by image")
    trials.add_argument("--prune", action="store_true", help="remove what no page uses any more")

    commands.add_parser("notebooks", help="write the .ipynb files from the .md files")

    new = commands.add_parser("new-finding", help="begin a page for a paper's claim")
    new.add_argument("paper", help="its file in book/papers, e.g. naseer2021")
    new.add_argument("claim", help="its id there, e.g. occlusion-random")
    given = parser.parse_args(arguments)
    with suppress(AttributeError):  # no file, such as a notebook's
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a log is read live
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
    from vitlab.book import build

    _check_jobs(given.jobs)
    _check_scheduler(given.scheduler)
    return build.build(
        given.pages,
        _parameters(given),
        given.profile,
        given.jobs,
        site=not given.no_site,
        scheduler=given.scheduler,
        pdf=given.pdf,
        verify=given.verify,
    )


def _plan(given: argparse.Namespace) -> int:
    from vitlab.book import build, pages, plan

    root, parameters = pages.find_root(), _parameters(given)
    profile = given.profile or pages.largest_profile(root, given.pages)
    chosen = pages.choose(root, given.pages, parameters, profile)
    pages.check(chosen, sets=False)
    built = build.place(root, given.pages, parameters, profile)
    print(plan.text(chosen, built, counted=root / "build" / "operations.json"))
    return 0


def _record(given: argparse.Namespace) -> int:
    from pathlib import Path

    from vitlab.book import build, pages, profiles, recorded

    _check_jobs(given.jobs)
    where, name = Path(given.build), given.name
    recorded.check_name(name or where.name)
    if given.build in profiles.PROFILES and given.build != "mini":
        root = pages.find_root()
        if failed := build.build(profile=given.build, jobs=given.jobs, root=root, site=False):
            return failed
        where, name = build.place(root, [], {}, given.build), name or given.build
    name = name or where.name
    kept = recorded.record(where, name)
    print(f"kept as {name}: {', '.join(kept)}; build the book to see them")
    return 0


def _check_jobs(jobs: int) -> None:
    if jobs < 0:
        raise ValueError(f"--jobs {jobs}: give how many pages run at a time, 0 for one per core")


def _check_scheduler(address: str) -> None:
    if address and not re.fullmatch(r"((tcp|tls|ucx|wss?)://)?[^\s/@]+:\d{1,5}", address):
        raise ValueError(
            f"--scheduler {address}: write it as tcp://HOST:PORT, e.g. tcp://10.0.0.1:8786"
        )


def _parameters(given: argparse.Namespace) -> dict[str, str]:
    parameters = {}
    for text in given.parameter:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"-p {text}: write it as NAME=VALUE")
        parameters[name] = value
    return parameters


def _data(given: argparse.Namespace) -> int:
    from vitlab.images import catalogue, fetch

    if given.action == "list":
        for m in catalogue.manifests().values():
            size = "size ?" if m.size_gb is None else f"{m.size_gb:g} GB"
            print(f"{m.name:24}{size:>10}  {m.state:16}{m.purpose} [{m.licence}]")
        print(f"The sets lie in {catalogue.folder()} (VITLAB_DATA sets another folder).")
    elif given.action == "info":
        print(catalogue.info(given.name))
    elif given.action == "fetch":
        print(fetch.fetch(given.name, given.again))
    elif given.action == "path":
        print(catalogue.path(given.name))
    else:
        problems = fetch.verify(given.name)
        print("\n".join(problems) or f"{given.name}: all there")
        return 1 if problems else 0
    return 0


def _zoo(given: argparse.Namespace) -> int:
    from vitlab.book import pages
    from vitlab.training import index, loop

    if given.list:
        print(index.table())
    elif given.check:
        wrong, seen = [], 0
        for name, stated, measured, other in loop.check(given.models):
            seen += 1
            told = f"{name}: {measured:.4f}, stated {stated:.4f}"
            print(f"{told}; {other} other answers" if other else told, flush=True)
            # Another machine rounds otherwise: a few images of ten thousand may change sides.
            wrong += [name] * (not abs(measured - stated) <= 0.002)
        if not seen:
            raise RuntimeError("none of these models is trained; vitlab zoo --list says which are")
        if wrong:
            raise RuntimeError(f"not as stated: {', '.join(wrong)}")
    elif given.keep:
        for name, before, now in loop.keep(given.models, pages.find_root() / "build" / "zoo"):
            print(f"{name}: {now:.4f}, before {before:.4f}", flush=True)
    else:
        loop.train_all(given.models, pages.find_root() / "build" / "zoo", given.fresh)
    return 0


def _trials(given: argparse.Namespace) -> int:
    from vitlab.book import pages
    from vitlab.trials import listing

    root = pages.find_root()
    listed = listing.table(root)
    if given.prune:
        freed = listing.prune(root)
        gone = len(listed) - len(listing.table(root))
        print(f"{gone} of {len(listed)} removed, {freed / 1e6:,.1f} MB freed")
    elif len(listed):
        print(listed.to_string(index=False, float_format="{:,.3g}".format))
    else:
        print(f"{root / 'build' / 'trials'} is empty")
    return 0


def _new_finding(given: argparse.Namespace) -> int:
    from vitlab.book import finding, pages

    for path in finding.begin(pages.find_root(), given.paper, given.claim):
        print(path)
    return 0


def _notebooks(given: argparse.Namespace) -> int:
    from vitlab.book import pages

    pages.sync(pages.find_root())
    return 0


_COMMANDS = {
    "build": _build,
    "plan": _plan,
    "record": _record,
    "data": _data,
    "new-finding": _new_finding,
    "notebooks": _notebooks,
    "trials": _trials,
    "zoo": _zoo,
}

if __name__ == "__main__":
    sys.exit(main())

"""Compares searches on problems whose optimum is known, and writes ``results/search.csv``,
``results/search.json`` and figures.

A few minutes, or hours, in which what has been run already is not run again::

    OMP_NUM_THREADS=1 python benchmarks/search.py --quick
    OMP_NUM_THREADS=1 python benchmarks/search.py --jobs 4

Beside the package's own, the packages of ``requirements-search.txt`` are needed. Samplers of other
packages than Optuna are included when ``runs.py`` has run them. Searches were developed on
``--half development``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
import statistics
from typing import Any

from parallel import parallel_jobs
from parallel import times_table
from peers import PEERS
from problem import Problem
from recommendations import values_of_recommended
from record import RESULTS
from record import write_record
from runs import argument_parser
from runs import chosen_problems
from runs import Job
from runs import jobs_of
from runs import parsed
from runs import perform
from runs import Run
from scores import best_observed
from scores import COUNTS
from scores import groups
from scores import median
from scores import Outcomes
from scores import runs_of
from scores import shown
from scores import trials_to
from search_figures import draw
from searchers import OURS
from searchers import SEARCHERS
from tables import rst_table
from tables import write_csv


Row = dict[str, Any]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--results", type=Path, metavar="DIR", help="default: benchmarks/results")
    options = parsed(parser)
    folder = options.results or (options.runs / "quick" if options.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    problems = chosen_problems(options)
    own = jobs_of(options.samplers or SEARCHERS, options)
    side_by_side = parallel_jobs(own, problems)
    perform([*own, *side_by_side], options.runs, options.jobs)
    jobs = own if options.samplers else [*own, *finished_peers(options)]
    runs = runs_of(jobs, options.runs)
    rows = list(summary_rows(problems, runs, options))
    write_csv(folder / "search.csv", rows)
    results = {
        "half": options.half,
        "seeds": options.seeds,
        "problems": {f: [p.name for p in problems if p.family == f] for f in families(problems)},
        "trials_to_1_percent": list(trials_rows(problems, runs, options.trials)),
        "cpu_ms_per_trial": cpu_rows(runs),
        "workers": times_table(runs_of(side_by_side, options.runs)),
        "behind": peers_ahead(rows),
    }
    write_record(folder / "search.json", results)
    draw(rows, results["workers"], folder)
    print("\n\n".join(readme_tables(rows, results)))


def finished_peers(options: argparse.Namespace) -> list[Job]:
    """The jobs of other packages' samplers that ``runs.py`` has run all of."""
    jobs = []
    for sampler in PEERS:
        own = jobs_of([sampler], options)
        n_found = len(runs_of(own, options.runs))
        if n_found == len(own):
            jobs += own
        else:
            print(f"{sampler} is left out: {n_found} of {len(own)} searches have been run.")
    return jobs


def summary_rows(
    problems: Sequence[Problem], runs: Mapping[Job, Run], options: argparse.Namespace
) -> Iterator[Row]:
    """The rows of all groups, for the best observed and for the recommended point."""
    counts = [n for n in COUNTS if n <= options.trials]
    samplers = list(dict.fromkeys(job.sampler for job in runs))
    observed = {job: [best_observed(run)[n - 1] for n in counts] for job, run in runs.items()}
    recommended = values_of_recommended(runs, options.runs, counts, options.jobs)
    for point, values in (("observed", observed), ("recommended", recommended)):
        for row in Outcomes.of(problems, samplers, counts, values).rows():
            yield {"point": point, **{k: rounded(v) for k, v in row.items()}}


def trials_rows(
    problems: Sequence[Problem], runs: Mapping[Job, Run], n_trials: int
) -> Iterator[Row]:
    """The median number of trials to within 1 % of the optimum, by group and sampler."""
    for kind, group, chosen in groups(problems):
        members = {problems[i].name: problems[i] for i in chosen}
        numbers: dict[str, list[float]] = {}
        for job, run in runs.items():
            if job.problem in members:
                reached = trials_to(members[job.problem], run, 0.01, n_trials)
                numbers.setdefault(job.sampler, []).append(reached)
        medians = {sampler: shown(median(own), n_trials) for sampler, own in numbers.items()}
        yield {"kind": kind, "group": group, "median": medians}


def cpu_rows(runs: Mapping[Job, Run]) -> dict[str, float]:
    """The median over runs of the mean CPU time of a trial's ask and tell."""
    times: dict[str, list[float]] = {}
    for job, run in runs.items():
        times.setdefault(job.sampler, []).append(statistics.mean(run.cpu_ms))
    return {sampler: round(statistics.median(own), 2) for sampler, own in times.items()}


def peers_ahead(rows: Sequence[Row]) -> list[Row]:
    """Where a sampler of others has a better mean rank than the first of ours."""
    return [
        {key: row[key] for key in ("point", "kind", "group", "trials", "sampler", "behind")}
        for row in rows
        if row["sampler"] not in OURS and row["behind"] < 0
    ]


def readme_tables(rows: Sequence[Row], results: Row) -> Iterator[str]:
    """In reStructuredText."""
    by_key = {(r["point"], r["group"], r["trials"], r["sampler"]): r for r in rows}
    samplers = list(dict.fromkeys(r["sampler"] for r in rows))
    counts = sorted({r["trials"] for r in rows})
    families = list(results["problems"])
    middle = 20 if 20 in counts else counts[-1]

    def table(head: str, columns: Sequence[tuple[str, str, int]], measure: str) -> str:
        lines = [[head, *(title for title, _, _ in columns)]]
        for sampler in samplers:
            values = [by_key["observed", g, n, sampler][measure] for _, g, n in columns]
            lines.append([sampler, *(f"{v:.2f}" for v in values)])
        return rst_table(lines)

    groups_at = [(f"{f}, {middle}", f, middle) for f in families if len(families) > 1]
    yield table("Mean rank", [(str(n), "all", n) for n in counts] + groups_at, "mean_rank")
    yield table("Regret", [(str(n), "all", n) for n in counts] + groups_at, "regret_mean")
    yield table("Within 1 %", [(str(n), "all", n) for n in counts] + groups_at, "within_1")
    landscapes = results["problems"].get("landscape", [])
    medians = {r["group"]: r["median"] for r in results["trials_to_1_percent"]}
    lines = [["Trials to 1 %", *families, *landscapes]]
    lines += [[s, *(medians[g][s] for g in lines[0][1:])] for s in samplers]
    yield rst_table(lines)
    times = {(r["sampler"], r["workers"]): r["time_to_5_percent"] for r in results["workers"]}
    workers = sorted({n for _, n in times})
    lines = [["Time to 5 %, workers", *map(str, workers)]]
    for sampler in dict.fromkeys(s for s, _ in times):
        lines.append([sampler, *(str(times[sampler, n] or "never") for n in workers)])
    yield rst_table(lines)
    yield "\n".join(losses(rows, results["behind"]))


def losses(rows: Sequence[Row], behind: Sequence[Row]) -> Iterator[str]:
    """In words, where a sampler of others has a better mean rank."""
    peers = {row["sampler"] for row in rows if row["sampler"] not in OURS}
    n_compared = sum(row["sampler"] in peers for row in rows)
    yield f"Ahead of {rows[0]['sampler']}: {len(behind)} of {n_compared} comparisons."
    for row in behind:
        if row["kind"] != "problem":
            where = "{point}, {kind} {group}, {trials} trials".format(**row)
            yield f"{where}: {row['sampler']} by {-row['behind']:.2f} ranks"


def families(problems: Sequence[Problem]) -> list[str]:
    return list(dict.fromkeys(p.family for p in problems))


def rounded(value: Any) -> Any:
    return round(float(value), 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

"""Does the choice of experts matter in restoration? Each picture restored by many routes through one decoder.

Pictures are those of the frozen sets, each so many-th of CBSD68, another part of it for each set, so that few pictures
serve twice. Routes: the gates' own, at their price and at others; one expert everywhere (0 is the null expert, the last
the dearest); random ones, and random ones that cost the same; another picture's; the best one for all pictures within a
budget, found on training pictures (`benchmarks.restore_constants`); and the best found by looking at the result, which
is an upper bound: from the best of all that was tried, one level at a time is changed until nothing helps
(`--exhaustive` tries all). Forced swaps change one level of the chosen route. Differences are paired, their 95 %
intervals from a bootstrap over the pictures of CBSD68; a clean picture counts as 45 dB at most.

`--arm NAME=FILE` (again for each seed, or FILE,FILE, or a pattern) sets networks that were trained alike side by side
on the same pictures, in a record of its own, `restore_arms`; with `--skip-routes` nothing else is done.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks import restore_routes as routes
from benchmarks import restore_sets
from benchmarks.record import Record, Row, rows
from benchmarks.restore import thawed
from benchmarks.restore_arms import arm, compare, together, without_folders, work_of
from benchmarks.restore_constants import BUDGETS, TRAIN, worth
from benchmarks.restore_network import identity, parser, workers
from benchmarks.restore_scores import against_chance, counted, gain, shares
from moesaic.degrade.frozen import Entry

EVERY = 10
PRICES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # dB for the compute of a whole decoder
SEEDS = 3  # of random routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A picture and routes to try on it beside those that everyone tries."""

    model: str
    entry: Entry
    extra: tuple[str, ...] = ()
    exhaustive: bool = False


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--arm", action="append", default=[], type=arm, metavar="NAME=FILE,FILE")
    options.add_argument("--skip-routes", action="store_true", help="arms alone")
    options.add_argument("--train", type=Path, default=TRAIN, metavar="LIST", help="pictures to find best routes on")
    options.add_argument("--exhaustive", action="store_true", help="all routes for the best one, not a search")
    options.add_argument("--sets", metavar="NAMES", help="frozen sets by name, with commas between them")
    options.add_argument("--turns", type=int, default=9, help="of each network, when they are timed")
    asked = options.parse_args(arguments)
    names = asked.sets.split(",") if asked.sets else list(restore_sets.SETS)
    every = asked.only or EVERY
    entries = pictures(names, every)
    fixed, experts = routes.costs(asked.model)
    settings = {
        "model": identity(asked.model),
        "every": every,
        "sets": ",".join(names),
        "best": "all routes" if asked.exhaustive else "search",
        "fixed_cost": round(fixed, 5),
        "expert_costs": [" ".join(f"{cost:.5f}" for cost in level) for level in experts],
        "prices": " ".join(map(str, PRICES)),
    }
    if not asked.skip_routes:
        record = _record("restore_routing", settings, asked)
        if not record.has("constants", "all"):
            found = worth(asked.model, asked.workers, data=asked.train)
            record.put("constants", "all", {"worth": routes.told(found)})
        everywhere = routes.read(record.content["results"]["constants"]["all"]["worth"])
        try_routes(record, asked.model, entries, asked.workers, asked.exhaustive, everywhere)
        for section, table in findings(rows(record.content, "pictures"), fixed, experts).items():
            for key, row in table.items():
                record.put(section, key, row)
        record.put("work", "model", work_of(asked.model))
        for row in (*rows(record.content, "controls"), *rows(record.content, "prices")):
            print(f"{row['control']}: {row['psnr']:.3f} dB at {row['cost']:.3f} of the decoder", flush=True)
    if asked.arm:
        record = _record("restore_arms", {name: settings[name] for name in ("every", "sets")}, asked)
        compare(record, together(asked.arm), entries, asked.workers, asked.turns)


def _record(name: str, settings: Row, asked: argparse.Namespace) -> Record:
    module = "benchmarks.restore_routing"
    record = Record(name, settings=settings, folder=asked.results, resume=asked.resume, module=module)
    record.content["commands"] = [without_folders(one) for one in record.content["commands"]]
    return record


def pictures(names: list[str], every: int) -> list[Entry]:
    """Each `every`-th picture of the sets, from another place on in each set; even places, which all sets have."""
    found = []
    for place, name in enumerate(restore_sets.SETS):
        if name in names:
            found += restore_sets.entries(name, every, first=2 * place % every)
    return found


def try_routes(
    record: Record, model: str, entries: list[Entry], count: int, exhaustive: bool, everywhere: dict[str, float]
) -> None:
    """A row for each picture: routes by what they are called, and the PSNR of all that were tried.

    What each route is worth `everywhere`, on training pictures, may be unknown.
    """
    waiting = [entry for entry in entries if not record.has("pictures", entry.picture)]
    if not waiting:
        return
    with workers(count, model) as spread:
        chosen = spread(decided, [Job(model=model, entry=entry) for entry in entries])
        others = rivals(chosen, [entry.picture.partition("/")[0] for entry in entries], model, everywhere)
        lots = {entry.picture: {name: of[i] for name, of in others.items()} for i, entry in enumerate(entries)}
        for first in range(0, len(waiting), 2 * count):
            some = waiting[first : first + 2 * count]
            jobs = [
                Job(model=model, entry=e, extra=tuple(lots[e.picture].values()), exhaustive=exhaustive) for e in some
            ]
            for entry, row in zip(some, spread(tried, jobs), strict=True):
                row["routes"] |= lots[entry.picture]
                record.put("pictures", entry.picture, row)


def rivals(chosen: list[str], kinds: list[str], model: str, everywhere: dict[str, float]) -> dict[str, list[str]]:
    """Routes of all pictures that follow from all pictures' choices, by what they are called."""
    fixed, experts = routes.costs(model)
    others = {"shuffled": routes.exchanged(chosen, ["all"] * len(chosen), 0)}
    others["shuffled within kind"] = routes.exchanged(chosen, kinds, 1)
    for seed in range(SEEDS):
        others[f"random {seed}"] = routes.drawn(len(chosen), routes.counts(model), seed)
        others[f"random of the same cost {seed}"] = routes.alike_in_cost(chosen, fixed, experts, seed)
    spent = statistics.fmean(routes.cost(route, fixed, experts) for route in chosen)
    best = routes.constants(everywhere, fixed, experts, [spent, *BUDGETS])
    for budget, route in best.items():
        words = "as dear as chosen" if budget == spent else f"within {budget:g}"
        others[f"constant {words}"] = [route] * len(chosen)
    return others


def decided(job: Job) -> str:
    """The route that the gates choose for a picture."""
    return routes.Tried(job.model, *thawed(job.entry)).chosen()


def tried(job: Job) -> Row:
    """All routes of a picture."""
    picture = routes.Tried(job.model, *thawed(job.entry))
    experts = routes.counts(job.model)
    chosen = picture.chosen()
    named = {"chosen": chosen}
    named |= {f"expert {expert}": routes.uniform(expert, experts) for expert in range(max(experts))}
    named |= {f"price {price:g}": picture.chosen(price) for price in PRICES}
    swaps = [routes.swapped(chosen, level, expert) for level, n in enumerate(experts) for expert in range(n)]
    for route in (*named.values(), *swaps, *job.extra, *(routes.every(experts) if job.exhaustive else ())):
        picture.psnr(route)
    best = max(picture.known, key=picture.known.__getitem__)
    named["best"] = best if job.exhaustive else routes.climbed(best, experts, picture.psnr)
    kind, _, name = job.entry.picture.partition("/")
    return {"kind": kind, "picture": name, "routes": named, "psnr": routes.told(picture.known)}


def findings(found: list[Row], fixed: float, experts: list[list[float]]) -> dict[str, dict[str, Row]]:
    """Everything that the rows of pictures say, by section and key."""
    known = [routes.read(row["psnr"]) for row in found]
    names, kinds = [row["picture"] for row in found], [row["kind"] for row in found]
    chosen = [row["routes"]["chosen"] for row in found]
    tables: dict[str, dict[str, Row]] = {name: {} for name in ("controls", "prices", "kinds", "usage", "swaps")}

    dearest = f"expert {max(map(len, experts)) - 1}"

    def values(control: str, only: str | None = None) -> tuple[list[float], list[float]]:
        mine = [i for i, kind in enumerate(kinds) if only in (None, kind)]
        at = [found[i]["routes"][control] for i in mine]
        decibels = [known[i][r] for i, r in zip(mine, at, strict=True)]
        if only is None:
            decibels = [counted(kind, value) for kind, value in zip(kinds, decibels, strict=True)]
        return decibels, [routes.cost(r, fixed, experts) for r in at]

    def row(control: str) -> Row:
        decibels, spent = values(control)
        ahead, over = (values(rival)[0] for rival in ("chosen", dearest))
        return {
            "control": control,
            "psnr": round(statistics.fmean(decibels), 4),
            "cost": round(statistics.fmean(spent), 4),
            "chosen_ahead": gain([a - b for a, b in zip(ahead, decibels, strict=True)], names),
            "over_dearest": gain([a - b for a, b in zip(decibels, over, strict=True)], names),
        }

    for control in found[0]["routes"]:
        tables["prices" if control.startswith("price ") else "controls"][control] = row(control)
    for kind in dict.fromkeys(kinds):
        each = {c: values(c, kind) for c in found[0]["routes"] if not c.startswith("price ")}
        tables["kinds"][kind] = {
            "pictures": kinds.count(kind),
            "psnr": {control: round(statistics.fmean(p), 3) for control, (p, _) in each.items()},
            "cost": {control: round(statistics.fmean(c), 4) for control, (_, c) in each.items()},
        }
    counts = [len(level) for level in experts]
    capped = [{r: counted(kind, value) for r, value in one.items()} for kind, one in zip(kinds, known, strict=True)]
    lost = routes.swap_losses(zip(chosen, capped, strict=True), counts)
    for level, count in enumerate(counts):
        acting = [int(route[level]) for route in chosen]
        tables["usage"][f"level {level}"] = {
            "shares": shares(kinds, acting, count),
            "all": [round(acting.count(expert) / len(acting), 4) for expert in range(count)],
        } | against_chance(kinds, acting)
        together = [loss for losses in lost[level] for loss in losses]
        tables["swaps"][f"level {level}"] = {
            "lost": [round(statistics.fmean(losses), 4) if losses else None for losses in lost[level]],
            "all": round(statistics.fmean(together), 4) if together else None,
        }
    return tables


if __name__ == "__main__":
    main()

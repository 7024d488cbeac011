"""What the trainings on CamVid say: marked blocks in docs/segmentation.md, a section of docs/benchmarks.md.

`python -m benchmarks.report_segment` renews both from the records; `make report` does so with all others.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.pages import asked_for, marked, renew
from benchmarks.record import Row, rows
from benchmarks.tables import figure, origin, table

COMPARED = {"enet": "ENet", "erfnet": "ERFNet"}
NAMES = (*(f"segment_{name}" for name in COMPARED), "segment_search", "segment_cost")
BLOCKS = ("verdict", "comparisons", "search", "cost")  # of docs/segmentation.md
CONTROLS = ("dense", "widened", "uniform", "random", "position", "shuffled in use")
"""What routing must beat before it gets the credit; the other gates replaced in use are told, but are no rivals."""

WORDS = {
    "moe": "patch mixture",
    "dense": "dense",
    "widened": "dense widened to as many parameters",
    "uniform": "even average of all experts",
    "random": "random experts",
    "position": "one kernel for each position",
    "frozen": "gate that never learns",
    "shuffled in use": "itself with decisions shuffled",
    "uniform in use": "itself with all experts evenly",
    "random in use": "itself with random experts",
    "position in use": "itself with the mean decision of each position",
}
Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "segmentation.md", blocks(records))
    renew(docs / "benchmarks.md", {"segmentation": "\n\n".join(_whole(records))})


def section(records: Records) -> list[str]:
    """The part of docs/benchmarks.md, between marks."""
    return ["## Segmentation", marked("segmentation", "\n\n".join(_whole(records)))]


def blocks(records: Records) -> dict[str, str]:
    """What stands between the marks of docs/segmentation.md, by name of the mark."""
    texts = (_verdict(records), _comparisons(records), _search(records["segment_search"]), _cost(records))
    return {f"segmentation {name}": "\n\n".join(parts) for name, parts in zip(BLOCKS, texts, strict=True)}


def _whole(records: Records) -> list[str]:
    return [
        *_verdict(records),
        *_comparisons(records),
        "### What was tried to make routing help",
        *_search(records["segment_search"]),
        "### Cost",
        *_cost(records),
    ]


def standing(row: Row) -> str:
    """How routing stands against a control: "ahead" if both intervals lie above 0, "behind" if it gains nothing."""
    ends = [row.get("seeds_95"), row.get("frames_95")]
    if row["gain"] <= 0:
        return "behind"
    return "ahead" if all(end is not None and end[0] > 0 for end in ends) else "open"


def outcome(record: Row | None) -> str | None:
    """Of a comparison: "helps" if routing is ahead of every control, "does not" if behind one, else "undecided"."""
    held = record["results"].get("routed against", {}) if record else {}
    if not held:
        return None
    found = [standing(held[name]) if name in held else "open" for name in CONTROLS]
    if "behind" in found:
        return "does not"
    return "helps" if set(found) == {"ahead"} else "undecided"


def headline(outcomes: Mapping[str, str]) -> str:
    """The first sentence: does routing beat its controls, in which network?"""
    if not outcomes:
        return "Whether patch routing helps is not measured yet: no comparison on CamVid is complete."
    named: dict[str, list[str]] = {}
    for name, found in outcomes.items():
        named.setdefault(found, []).append(name)
    said = []
    if lost := named.get("does not"):
        said.append(f"patch routing does not beat its controls in {_listed(lost)}")
    if open_ := named.get("undecided"):
        said.append(f"whether patch routing helps {_listed(open_)} is undecided")
    if won := named.get("helps"):
        said.append(
            f"patch routing helps {_listed(won)}: there it beats every control, and no 95 % interval includes 0"
        )
    return f"On CamVid, {'; '.join(said)}."


def _verdict(records: Records) -> list[str]:
    held = {name: records[f"segment_{key}"] for key, name in COMPARED.items()}
    found = {name: outcome(record) for name, record in held.items()}
    parts = [headline({name: what for name, what in found.items() if what is not None})]
    parts += [_in_words(name, record) for name, record in held.items() if record is not None and found[name]]
    return parts


def _in_words(name: str, record: Row) -> str:
    """What one comparison says, against each kind of control."""
    held = record["results"]["routed against"]
    kinds: dict[str, list[str]] = {"behind": [], "open": [], "ahead": []}
    for control in CONTROLS:
        if control in held:
            kinds[standing(held[control])].append(f"{WORDS[control]} ({held[control]['gain']:+.2f})")
    told = []
    if kinds["behind"]:
        told.append(f"it gains nothing over {_listed(kinds['behind'])}")
    if kinds["open"]:
        told.append(f"its gain may be 0 over {_listed(kinds['open'])}")
    if kinds["ahead"]:
        told.append(f"it is ahead of {_listed(kinds['ahead'])}")
    if missing := [WORDS[control] for control in CONTROLS if control not in held]:
        told.append(f"it was not compared with {_listed(missing)}")
    moe = record["results"]["arms"]["moe"]
    spread = "" if moe["deviation"] is None else f", standard deviation {moe['deviation']:.2f}"
    return (
        f"{name}, {_setting(record)}: the routed network has {moe['test_miou']:.2f} mIoU on the test split (mean of "
        f"{moe['seeds']} seed{'s' * (moe['seeds'] > 1)}{spread}). In points of mIoU, {'; '.join(told)}."
    )


def _setting(record: Row) -> str:
    recipe = record["settings"]["recipe"]
    size = "480x360" if recipe["size"] is None else f"{recipe['size'][1]}x{recipe['size'][0]}"
    return f"trained at {size} for {recipe['epochs']} epochs"


def _comparisons(records: Records) -> list[str]:
    costs = _by_key(records["segment_cost"])
    parts = []
    for key, name in COMPARED.items():
        record = records[f"segment_{key}"]
        parts.append(f"### {name}")
        if record is None or not rows(record, "arms"):
            parts.append(_missing(record, f"segment_{key}", f"python -m benchmarks.segment {key}"))
            continue
        words = (
            f"Paired differences of the routed network, {_setting(record)}, in points of test mIoU; above 0 it is "
            "better. One interval is Student's over the seeds, the other a bootstrap over the frames, in blocks of ten:"
        )
        differences = _differences(record["results"].get("routed against", {}))
        parts += [origin(record, f"segment_{key}"), _arms(key, record, costs), words, differences, *_gates(record)]
    return parts


def _arms(key: str, record: Row, costs: Mapping[str, Row]) -> str:
    body = []
    for label, row in record["results"]["arms"].items():
        cost = costs.get(f"{key}/{label}")
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
        body.append(
            [
                WORDS.get(label, label),
                f"{row['parameters']:,}",
                *_three(cost),
                str(row["seeds"]),
                f"{row['test_miou']:.2f}{spread}",
            ]
        )
    head = ["arm", "parameters", "M multiply-adds", "ms", "times dense", "seeds", "test mIoU, ± deviation"]
    return table(head, body)


def _differences(held: Mapping[str, Row]) -> str:
    body = []
    for label, row in held.items():
        by_seed = ", ".join(f"{gain:+.2f}" for gain in row["by_seed"])
        intervals = [_interval(row.get("seeds_95")), _interval(row.get("frames_95"))]
        words = {"ahead": "beaten", "open": "undecided", "behind": "**not beaten**"}[standing(row)]
        body.append([WORDS.get(label, label), f"{row['gain']:+.2f}", *intervals, by_seed, words])
    return table(["against", "gain", "95 %, seeds", "95 %, frames", "by seed", ""], body)


def _gates(record: Row) -> list[str]:
    """What the learned gate did, as a mean over seeds."""
    found = [row for row in rows(record, "trainings") if row["arm"] == "moe" and row["routing"]]
    layers: dict[str, list[Row]] = {}
    for row in found:
        held = row["routing"]
        for layer, figures in ({"": held} if "routing_entropy" in held else held).items():
            layers.setdefault(layer, []).append(figures)
    said = []
    for layer, figures in layers.items():
        means = {
            what: statistics.fmean(one[what] for one in figures if one.get(what) is not None)
            for what in ("routing_entropy", "flatness", "position_information")
            if any(one.get(what) is not None for one in figures)
        }
        top = [max(one["assignment_share"]) for one in figures if one.get("assignment_share")]
        words = {
            "routing_entropy": "evenness of use {:.3f} of 1",
            "flatness": "entropy at a place {:.3f} of its largest (1: the gate does not decide)",
            "position_information": "the position explains {:.3f} of the choice",
        }
        told = [words[what].format(mean) for what, mean in means.items()]
        told += [f"the most used expert takes {statistics.fmean(top):.1%} of the assignments"] if top else []
        if told:
            said.append(f"The learned gate{f' of {layer}' if layer else ''}, mean over seeds: {'; '.join(told)}.")
    return said


def _search(record: Row | None) -> list[str]:
    if record is None or not rows(record, "arms"):
        return [_missing(record, "segment_search", "python -m benchmarks.segment search")]
    results = record["results"]
    against, in_use = results.get("against dense", {}), results.get("in use", {})
    body = []
    for label, row in results["arms"].items():
        split = "val" if "val_miou" in row and "test_miou" not in row else "test"
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
        cells = [label, f"{row['parameters']:,}", str(row["seeds"]), f"{row[f'{split}_miou']:.2f}{spread}"]
        gain = against.get(label)
        cells += ["-", "-"] if gain is None else [f"{gain['gain']:+.2f}", _interval(gain.get("frames_95"))]
        shuffled = in_use.get(f"{label}/shuffled")
        body.append([*cells, "-" if shuffled is None else f"{shuffled['gain']:+.2f}"])
    head = [
        "configuration",
        "parameters",
        "seeds",
        "mIoU, ± deviation",
        "over dense",
        "95 %, frames",
        "over itself shuffled",
    ]
    words = (
        f"Every configuration that was tried, {_setting(record)}; scored on {record['settings']['scored']}. With so "
        "many rows some look good by chance: a row is a reason to compare again, not a finding."
    )
    return [origin(record, "segment_search"), words, table(head, body)]


def _cost(records: Records) -> list[str]:
    record = records["segment_cost"]
    found = rows(record, "arms")
    if record is None or not found:
        return [_missing(record, "segment_cost", "python -m benchmarks.segment_cost")]
    held = _by_key(record)
    body = []
    for row in found:
        dense = held.get(f"{row['network']}/dense")
        more = "-" if dense is None else f"{100 * (row['multiply_adds'] / dense['multiply_adds'] - 1):+.2f} %"
        body.append([f"{row['network']}, {row['arm']}", f"{row['parameters']:,}", *_three(row), more])
    settings = record["settings"]
    height, width = settings["size"]
    words = (
        f"One {width}x{height} picture on {settings['threads']} threads, {settings['precision']}, "
        f"{settings['experts']} experts, k = {settings['k']}, a {settings['grid']}x{settings['grid']} grid. "
        "Multiply-adds are those of convolutions and matrix products as they run: for a routed layer one convolution, "
        "the mixing of its kernels, and the gate. Times are medians of turns taken alternately; the ratio is that of "
        "turns side by side."
    )
    head = ["network, arm", "parameters", "M multiply-adds", "ms", "times dense", "multiply-adds over dense"]
    return [origin(record, "segment_cost"), words, table(head, body)]


def _three(cost: Row | None) -> list[str]:
    """Millions of multiply-adds, milliseconds, and times the dense network's; dashes where they were not measured."""
    if cost is None:
        return ["-", "-", "-"]
    return [f"{cost['multiply_adds'] / 1e6:,.1f}", figure(cost["time"]["median_ms"], 1), figure(cost["times_dense"])]


def _by_key(record: Row | None) -> dict[str, Row]:
    return {f"{row['network']}/{row['arm']}": row for row in rows(record, "arms")}


def _interval(ends: Sequence[float] | None) -> str:
    return "unknown" if ends is None else f"[{ends[0]:+.2f}, {ends[1]:+.2f}]"


def _missing(record: Row | None, name: str, command: str) -> str:
    state = "is not there" if record is None else "is not complete"
    return f"Not measured: `benchmarks/results/{name}.json` {state}. Run `{command}`."


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


if __name__ == "__main__":
    main()

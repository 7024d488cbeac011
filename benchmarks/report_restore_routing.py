"""The tables of docs/restoration.md on the choice of experts, and how a difference is told."""

from __future__ import annotations

from benchmarks.record import Row, rows
from benchmarks.tables import figure, image, origin, table

LEVELS = ("1/2", "1/4", "1/8")


def told(found: Row) -> str:
    """A difference with its interval, or with its extremes where pictures are too few for one."""
    if found["low"] is None:
        return f"{found['mean']:+.2f} ({found['least']:+.2f} to {found['most']:+.2f})"
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def verdict(found: Row) -> str:
    """What an interval says of a difference: "ahead", "behind", or "no difference"; "too few pictures" without one."""
    if found["low"] is None:
        return "too few pictures"
    return "ahead" if found["low"] > 0 else "behind" if found["high"] < 0 else "no difference"


def blocks(record: Row | None, arms: Row | None, images: dict[str, str]) -> dict[str, str]:
    """Texts by the names of their marks, without "restoration "."""
    return {
        "controls": _controls(record),
        "kinds": _kinds(record),
        "usage": _usage(record, images),
        "swaps": _swaps(record),
        "prices": _prices(record, images),
        "arms": _arms(arms),
    }


def skipped(record: Row | None) -> list[str]:
    """A line on how much compute the chosen routes skip, and what that costs in quality; none without a record."""
    controls = {row["control"]: row for row in rows(record, "controls")}
    if not controls:
        return []
    dearest = max((name for name in controls if name.startswith("expert ")), key=lambda n: controls[n]["cost"])
    chosen, against = controls["chosen"], controls[dearest]["chosen_ahead"]
    share = 1 - chosen["cost"] / controls[dearest]["cost"]
    line = (
        f"- the chosen routes skip {share:.1%} of the decoder's multiply-adds"
        f" ({_of_network(record, chosen['cost']):.1%} of the network's); against the dearest experts everywhere:"
        f" {told(against)} dB"
    )
    return [line]


def _of_network(routing: Row | None, cost: float) -> float:
    """The share of the whole network's multiply-adds that a decoder at this cost leaves out."""
    work, settings = rows(routing, "work")[0], (routing or {})["settings"]
    decoder = (work["dearest_macs"] - work["cheapest_macs"]) / max(1 - settings["fixed_cost"], 1e-9)
    return float((1 - cost) * decoder / work["dearest_macs"])


def _controls(record: Row | None) -> str:
    found = rows(record, "controls")
    if not found:
        return origin(record, "restore_routing", "controls")
    words = {"best": f"best ({(record or {})['settings']['best']}, sees the clean picture)"}
    ordered = sorted(found, key=lambda row: _GROUPS.index(_group(row["control"])))
    body = [[words.get(row["control"], row["control"]), *_against(row)] for row in ordered]
    notes = (
        "A clean picture counts as 45 dB at most, as in the loss of training. Constant routes are the same for every"
        " picture, the best on training pictures within that share of the decoder. Routes of the same cost are random"
        " among the eight whose cost is closest to that of the picture's choice."
    )
    return "\n\n".join([origin(record, "restore_routing"), table(["route", *_HEAD], body), notes])


_HEAD = ("PSNR, dB", "against the dearest, dB", "decoder skipped", "chosen ahead, dB")
_GROUPS = ("chosen", "expert", "constant", "random", "shuffled", "best")


def _group(control: str) -> str:
    return next((group for group in _GROUPS if control.startswith(group)), _GROUPS[-1])


def _against(row: Row) -> list[str]:
    """The cells of a route."""
    chosen = "-" if row["control"] == "chosen" else told(row["chosen_ahead"])
    return [f"{row['psnr']:.3f}", told(row["over_dearest"]), f"{1 - row['cost']:.1%}", chosen]


def _kinds(record: Row | None) -> str:
    found = (record or {}).get("results", {}).get("kinds", {})
    if not found:
        return origin(record, "restore_routing", "kinds")
    names = [name for name in next(iter(found.values()))["psnr"] if not name.startswith(("random", "constant"))]
    body = [
        [f"{kind} ({row['pictures']})", *(f"{row['psnr'][n]:.2f}" for n in names), f"{row['cost']['chosen']:.2f}"]
        for kind, row in found.items()
    ]
    return table(["PSNR, dB", *names, "decoder, chosen"], body)


def _usage(record: Row | None, images: dict[str, str]) -> str:
    found = (record or {}).get("results", {}).get("usage", {})
    if not found:
        return origin(record, "restore_routing", "usage")
    body = []
    for level, row in zip(LEVELS, found.values(), strict=False):
        cells = ["one expert always", "-", "-"]
        if row["information"] is not None:
            chance = f"{row['chance']:.3f}, {row['chance_most']:.3f}"
            cells = [f"{row['information']:.3f}", chance, f"{row['chance_share']:.3f}"]
        body.append([level, *cells, " / ".join(f"{share:.2f}" for share in row["all"])])
    head = [
        "level",
        "explained by the kind",
        "by chance: mean, 95 %",
        "share of shuffles as high",
        "use of each expert",
    ]
    return "\n\n".join(
        filter(None, [table(head, body), image(images, "usage", "Use of each expert by kind and level")])
    )


def _swaps(record: Row | None) -> str:
    found = (record or {}).get("results", {}).get("swaps", {})
    if not found:
        return origin(record, "restore_routing", "swaps")
    experts = max(len(row["lost"]) for row in found.values())
    body = [
        [
            level,
            *(figure(loss, 3) for loss in row["lost"]),
            *["-"] * (experts - len(row["lost"])),
            figure(row["all"], 3),
        ]
        for level, row in zip(LEVELS, found.values(), strict=False)
    ]
    return table(["dB lost when forced", *(f"expert {expert}" for expert in range(experts)), "any other"], body)


def _prices(record: Row | None, images: dict[str, str]) -> str:
    found = rows(record, "prices")
    if not found:
        return origin(record, "restore_routing", "prices")
    body = [[row["control"].removeprefix("price "), *_against(row)] for row in found]
    own = (record or {})["settings"]["model"]["price"]
    head = ["price, dB a decoder", *_HEAD[:-1], f"own price ({own:g}) ahead, dB"]
    return "\n\n".join(filter(None, [table(head, body), image(images, "price", "PSNR by the share of the decoder")]))


def _arms(record: Row | None) -> str:
    found = (record or {}).get("results", {}).get("arms", {})
    if not found:
        return (
            "Not measured: `benchmarks/results/restore_arms.json` is not there. Train arms by "
            "`recipes/restore_arms_cpu.sh`, then run "
            "`python -m benchmarks.restore_routing --skip-routes --arm NAME=FILE,FILE`."
        )
    first = next(iter(found))
    body, kinds = [], []
    for name, row in found.items():
        choice = row["cheapest_macs"] < row["dearest_macs"]
        for what in ("chosen", "dearest") if choice else ("dearest",):
            mine, ahead = row[what], row[what].get("first_ahead")
            cells = [f"{name}, {what} ({row['seeds']})", f"{row['parameters'] / 1e6:.2f}"]
            cells += [f"{row['decoder'][what]:.2f}", f"{row[f'{what}_macs'] / 1e9:.2f}"]
            cells += [_plus_minus(mine.get("gain")), _plus_minus(mine["kinds"].get("clean"))]
            cells += ["-", "-"] if name == first or ahead is None else [told(ahead), verdict(ahead)]
            body.append([*cells, "-" if choice and what == "dearest" else f"{row['times_first']:.2f}"])
            kinds.append([f"{name}, {what}", *(_plus_minus(one) for one in mine["kinds"].values())])
    head = ["trained as, experts (seeds)", "million parameters", f"decoder, of {first}'s dearest", "GMACs at 481x321"]
    head += ["gain over the input, dB", "clean, dB", f"{first} ahead, dB", f"{first} is", f"times {first}'s time"]
    shown = next(iter(found.values()))["input"]
    kinds.insert(0, ["input", *(f"{value:.2f}" for value in shown.values())])
    notes = "Gains are means over kinds without clean pictures, ± the standard deviation over seeds."
    tables = [table(head, body), notes, table(["PSNR, dB", *shown], kinds)]
    return "\n\n".join([origin(record, "restore_arms"), *tables])


def _plus_minus(found: Row | None) -> str:
    if found is None:
        return "-"
    return f"{found['mean']:.2f}" + ("" if found["spread"] is None else f" ± {found['spread']:.2f}")

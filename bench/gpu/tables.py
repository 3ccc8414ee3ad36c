"""What a run found, as text: rates as burst/sustained, and ours against each peer by the time of each."""
PEERS = ("FlashAttention 2", "cuDNN", "FlexAttention")
FORMS = {"mma": ("mma",), "wgmma": ("wgmma",), "default": ("default", "head-major")}  # columns of ours, and the variants of which each has the better


def of(lines):
    parts = []
    for suite, make in (("prefill", rates), ("decode", rates), ("features", features), ("functions", functions), ("first", loads), ("first-calls", first_calls), ("host", host)):
        these = [line for line in lines if line["suite"] == suite]
        if these:
            parts.append(f"\n== {suite}\n" + aligned(make(these)))
    if any("build" in line for line in lines):
        parts.append("\n== time of this build over another's, burst (median)/sustained\n" + aligned(builds(lines)))
    return "\n".join(parts)


def grouped(lines):
    rows = {}
    for line in lines:
        rows.setdefault(line["row"], []).append(line)
    return rows


def aligned(rows):
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def best(lines, name, kind):
    times = [line[f"{kind}_us"] for line in lines if line["contender"] == name and line["status"] == "timed" and line.get(f"{kind}_us")]
    return min(times) if times else None


def cell(line):
    if line["status"] != "timed" or "burst_us" not in line:
        return {"timed": "-", "skipped": "-", "refused": "-", "wrong": "WRONG"}[line["status"]]
    prefix = "tflops" if "burst_tflops" in line else "tbps"
    form = "{:.0f}" if prefix == "tflops" else "{:.2f}"
    numbers = [line.get(f"{kind}_{prefix}") for kind in ("burst", "sustained")]
    text = "/".join("-" if number is None else form.format(number) for number in numbers)
    return text if prefix == "tflops" else f"{line['burst_us']:.1f}us {text}"


def better(lines):
    """The fastest of some lines; but what is wrong shows, whatever the others did."""
    wrong = [line for line in lines if line["status"] == "wrong" and line["contender"] == "ours"]
    timed = sorted((line for line in lines if line["status"] == "timed" and "burst_us" in line), key=lambda line: line["burst_us"])
    chosen = (wrong or timed or lines)[:1]
    return "".join(cell(line) + (" (head-major)" if line["contender"] == "ours" and line["variant"] == "head-major" else "") for line in chosen)


def rates(lines):
    rows = grouped(lines)
    forms = [form for form, variants in FORMS.items() if any(line["contender"] == "ours" and line["variant"] in variants for line in lines)]
    table = [["row", *PEERS, *(f"ours {form}" for form in forms), *(f"ours/{peer}" for peer in ("FA2", "cuDNN", "Flex")), "error"]]
    for name, these in rows.items():
        cells = [name]
        for peer in PEERS:
            cells.append(better([line for line in these if line["contender"] == peer]))
        for form in forms:
            cells.append(better([line for line in these if line["contender"] == "ours" and line["variant"] in FORMS[form]]))
        for peer in PEERS:
            ratios = [(best(these, peer, kind), best(these, "ours", kind)) for kind in ("burst", "sustained")]
            cells.append("/".join(f"{a / b:.2f}" if a and b else "-" for a, b in ratios) if ratios[0][0] and ratios[0][1] else "")
        errors = [line["error"] for line in these if line["contender"] == "ours" and "error" in line]
        cells.append(f"{max(errors):.0e}" if errors else "")
        table.append(cells)
    return table


def features(lines):
    """Time of a feature against plain causal attention in the same row; rates where a row has no such thing."""
    table = [["row", "plain mma us", "mma us", "ratio", "plain wgmma us", "wgmma us", "ratio", "FlexAttention us"]]
    for name, these in grouped(lines).items():
        cells = [name]
        for form in ("mma", "wgmma"):
            line = next((line for line in these if line["contender"] == "ours" and line["variant"] == form), None)
            plain = next((line for line in these if line.get("baseline") and line["variant"] == form and line["status"] == "timed"), None)
            if line is None or line["status"] != "timed":
                cells += [f"{plain['burst_us']:.0f}" if plain else "", "WRONG" if line and line["status"] == "wrong" else "-", ""]
                continue
            ratio = f"{line['burst_us'] / plain['burst_us']:.2f}" if plain else f"{line['burst_tflops']:.0f} TFLOP/s" if "burst_tflops" in line else ""
            cells += [f"{plain['burst_us']:.0f}" if plain else "", f"{line['burst_us']:.0f}", ratio]
        flex = best(these, "FlexAttention", "burst")
        table.append(cells + [f"{flex:.0f}" if flex else ""])
    return table


def functions(lines):
    """Time of a function, and against plain causal attention and the option that says the same, in the same row; ratios are burst/sustained."""
    forms = [form for form in ("mma", "wgmma", "default") if any(line["variant"] == form for line in lines)]
    table = [["row", *(heading for form in forms for heading in (f"{form} us", "/plain", "/built-in")), "FlexAttention us", "Flex/ours", "error"]]
    for name, these in grouped(lines).items():
        cells = [name]
        for form in forms:
            mine = {line["contender"]: line for line in these if line["variant"] == form}
            line = mine.get("ours")
            if line is None or line["status"] != "timed":
                cells += ["WRONG" if line and line["status"] == "wrong" else "-" if line else "", "", ""]
                continue
            cells.append(f"{line['burst_us']:.0f}")
            for other in ("ours plain", "ours built-in"):
                cells.append(over(line, mine.get(other)))
        flex = next((line for line in these if line["contender"] == "FlexAttention"), None)
        ratios = [(best(these, "FlexAttention", kind), best(these, "ours", kind)) for kind in ("burst", "sustained")]
        cells.append("" if flex is None else f"{flex['burst_us']:.0f}" if flex["status"] == "timed" else flex["status"])
        cells.append("/".join(f"{a / b:.2f}" if a and b else "-" for a, b in ratios) if ratios[0][0] and ratios[0][1] else "")
        errors = [line["error"] for line in these if line["contender"] == "ours" and "error" in line]
        table.append(cells + [f"{max(errors):.0e}" if errors else ""])
    return table


def builds(lines):
    table = [["row", "who", "us", "build", "us", "ratio"]]
    for other in (line for line in lines if "build" in line):
        line = next(line for line in lines if line.get("row") == other["row"] and line["variant"] == other["variant"] and f"{line['contender']} ({other['build']})" == other["contender"])
        cells = [line["row"], f"{line['contender']} {line['variant']}"]
        if not line["status"] == other["status"] == "timed":
            table.append([*cells, line["status"], other["build"], other["status"]])
            continue
        ratios = [f"{line[kind] / other[kind]:.3f}" for kind in ("burst_us", "burst_median_us", "sustained_us") if line.get(kind) and other.get(kind)]
        table.append([*cells, f"{line['burst_us']:.1f}", other["build"], f"{other['burst_us']:.1f}", f"{ratios[0]} ({ratios[1]})" + "".join(f"/{ratio}" for ratio in ratios[2:])])
    return table


def over(line, other):
    """How many times the other's time, burst/sustained."""
    if other is None or other["status"] != "timed":
        return ""
    return "/".join(f"{line[kind] / other[kind]:.2f}" if line.get(kind) and other.get(kind) else "-" for kind in ("burst_us", "sustained_us"))


def first_calls(lines):
    """Milliseconds until the result of a first call, and FlexAttention's against the slower of ours."""
    forms = [form for form in ("mma", "wgmma") if any(line["variant"] == form for line in lines)]
    table = [["row", *(f"{form} ms" for form in forms), "FlexAttention ms", "Flex/ours"]]
    for name, these in grouped(lines).items():
        def of(contender, variant=None):
            return next((line for line in these if line["contender"] == contender and variant in (None, line["variant"])), None)

        def waited(line):
            return "" if line is None else f"{line['first_seconds'] * 1e3:.0f}" if "first_seconds" in line else "WRONG" if line["status"] == "wrong" else "-"
        flex, ours = of("FlexAttention"), [line["first_seconds"] for line in these if line["contender"] == "ours" and "first_seconds" in line]
        ratio = f"{flex['first_seconds'] / max(ours):.1f}" if flex and "first_seconds" in flex and ours else ""
        table.append([name, *(waited(of("ours", form)) for form in forms), waited(flex), ratio])
    return table


def loads(lines):
    return [["row", "form", "ms"]] + [[line["row"], line["variant"], f"{line['load_seconds'] * 1e3:.0f}" if "load_seconds" in line else "WRONG"] for line in lines]


def host(lines):
    return [["row", "who", "us", "best"]] + [
        [line["row"], line["contender"], f"{line['host_us']:.2f}", f"{line['host_best_us']:.2f}"] if line["status"] == "timed" else [line["row"], line["contender"], line["status"]] for line in lines]

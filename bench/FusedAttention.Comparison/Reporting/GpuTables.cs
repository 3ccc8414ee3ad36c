using FusedAttention.Comparison.Gpu;

namespace FusedAttention.Comparison.Reporting;

/// <summary>What measurements on a GPU show as tables, and in which words.</summary>
internal static class GpuTables
{
    public const string FlashAttention = "FlashAttention 2";
    private const string Flex = "FlexAttention";
    private const string OtherRun = "\u2020";
    private const string DefaultForm = "default";

    private static readonly (string Name, string Short)[] Peers = [(FlashAttention, "FA 2"), ("cuDNN", "cuDNN"), (Flex, "Flex")];
    private static readonly (string Variant, string Heading)[] Forms = [("mma", "ours, mma"), ("wgmma", "ours, wgmma"), ("default", "ours"), ("head-major", "ours, head-major")];

    private static readonly string[] RatedSuites = ["prefill", "decode"];
    private static readonly string[] PrefillForms = ["mma", "wgmma"];

    public static IEnumerable<ReportTable> All(GpuMeasurements measurements)
    {
        foreach (IGrouping<string, GpuRow> group in Grouped(measurements.Rows("prefill")))
            yield return Rates(group.Key, "TFLOP/s of allowed pairs, burst / sustained. Ratios are of times, with the faster of our forms.", [.. group], l => Numbers(l.BurstTflops, l.SustainedTflops, "0"));
        foreach (IGrouping<string, GpuRow> group in Grouped(measurements.Rows("decode").Where(r => r.First.Block is null)))
        {
            yield return Rates(
                group.Key, "One query a sequence. Microseconds of the best launch; in brackets TB/s of keys and values, burst / sustained. Ratios are of times, with the faster of our layouts.", [.. group],
                l => $"{l.BurstUs:0.0} ({Numbers(l.BurstTbps, l.SustainedTbps, "0.00")})");
        }

        GpuRow[] decode = [.. measurements.Rows("decode")], features = [.. measurements.Rows("features")];
        if (decode.Any(r => r.First.Block is not null)) yield return Paged(decode);
        foreach (IGrouping<string, GpuRow> group in Grouped(features.Where(HasPlain))) yield return Features(group.Key, [.. group]);
        if (features.Any(r => !HasPlain(r))) yield return Packed([.. features.Where(r => !HasPlain(r))]);
        GpuRow[] functions = [.. measurements.Rows("functions")], prefills = [.. functions.Where(r => r.Plain(DefaultForm) is null)], decodes = [.. functions.Where(r => r.Plain(DefaultForm) is not null)];
        foreach (IGrouping<string, GpuRow> group in Grouped(prefills))
        {
            yield return Functions(
                Title(group.Key), "Score and mask functions of a user's, causal but for prefix and global-local, beside plain causal attention and, where an option says the same, that option (built-in).", [.. group], PrefillForms);
        }

        if (decodes.Length > 0) yield return Functions("Functions in decode", "One query a sequence, beside the same call without a function and with the option that says the same (built-in).", decodes, [DefaultForm]);
        GpuRow[] firstCalls = [.. measurements.Rows("first-calls")];
        if (firstCalls.Length > 0) yield return FirstCalls(firstCalls);
        GpuRow[] loads = [.. measurements.Rows("first")], host = [.. measurements.Rows("host")];
        if (loads.Length > 0) yield return Loads(loads);
        if (host.Length > 0) yield return Host(host);
    }

    /// <summary>How often ours is ahead, without leaving out where not.</summary>
    public static string Summary(GpuMeasurements measurements)
    {
        string[] sentences = [.. RatedSuites.Select(suite => Summary(suite, [.. measurements.Rows(suite).Select(r => r.Advantage).OfType<GpuRatio>()])).Where(s => s.Length > 0)];
        return sentences.Length == 0 ? "No row has a peer to compare with." : string.Join(' ', sentences);
    }

    /// <summary>One sentence a line: the machine, what ran when, how it was measured.</summary>
    public static IEnumerable<string> Facts(GpuMeasurements measurements)
    {
        yield return $"{measurements.Runs[0].Gpu}, {measurements.Runs[0].Multiprocessors} multiprocessors.";
        foreach (var group in measurements.Runs.GroupBy(r => (r.Driver, r.Torch, r.Cuda, r.Cudnn, r.Commit)))
        {
            string[] minutes = [.. group.Select(r => r.Started![.."yyyy-MM-dd HH:mm".Length]).Order(StringComparer.Ordinal)];
            string when = minutes[0] + (string.Equals(minutes[0], minutes[^1], StringComparison.Ordinal) ? "" : $" to {minutes[^1]}");
            yield return $"Commit {group.Key.Commit}, {when} UTC, {(minutes.Length == 1 ? "one run" : $"{minutes.Length} runs")}: driver {group.Key.Driver}, torch {group.Key.Torch} (CUDA {group.Key.Cuda}), cuDNN {CudnnVersion(group.Key.Cudnn)}.";
        }

        int launches = measurements.Results.Max(r => r.Line.Launches) ?? 0;
        yield return "PyTorch and this library are in one process; the contenders of a row are checked against double precision and timed in turns on the same tensors, a peer in each layout it takes, of which the fastest counts. "
            + $"Burst is the best of {launches} single launches some milliseconds apart, each queued behind other work, so that no time of the host is in it; sustained is the mean of calls of two times 0.15 s, each after 0.15 s of them, at the clock that the card's power allows then: the second time the contenders come in the opposite order. "
            + "Only allowed pairs count as work, half of a full row if causal, and decoding counts keys and values once, from so many copies in turn that no cache holds them.";
        if (RatedSuites.SelectMany(measurements.Rows).Any(r => r.Advantage is { IsOneRun: false }))
            yield return $"{OtherRun} What is compared comes from different runs.";
        foreach (GpuLine failure in measurements.Failures) yield return $"Not measured: {failure.Row} {failure.Note}.";
    }

    private static string Summary(string suite, GpuRatio[] ratios)
    {
        if (ratios.Length == 0) return "";
        double[] burst = [.. ratios.Select(r => r.Burst).Order()], sustained = [.. ratios.Select(r => r.Sustained).OfType<double>().Order()];
        string busy = sustained.Length == 0 ? "" : $"; kept busy, in {sustained.Count(r => r > 1)} of {sustained.Length}: {Range(sustained)}";
        return $"{char.ToUpperInvariant(suite[0])}{suite[1..]}: the fastest in {burst.Count(r => r > 1)} of {burst.Length} rows by the best launch, {Range(burst)} the best peer{busy}.";
    }

    private static string Range(double[] ordered) => $"{ordered[0]:0.00}x to {ordered[^1]:0.00}x, median {ordered[ordered.Length / 2]:0.00}x";

    private static string CudnnVersion(int? number) => number is int n ? n >= 90000 ? $"{n / 10000}.{n / 100 % 100}.{n % 100}" : $"{n / 1000}.{n / 100 % 10}.{n % 100}" : "unknown";

    /// <summary>By suite, type and dimension, which is how names of rows begin.</summary>
    private static IEnumerable<IGrouping<string, GpuRow>> Grouped(IEnumerable<GpuRow> rows) => rows.GroupBy(r => string.Join(' ', r.Name.Split(' ').Take(3)), StringComparer.Ordinal);

    private static string Rest(GpuRow row) => string.Join(' ', row.Name.Split(' ').Skip(3));

    private static string Title(string group) => char.ToUpperInvariant(group[0]) + group[1..];

    private static ReportTable Rates(string group, string note, GpuRow[] rows, Func<GpuLine, string> format)
    {
        (string Name, string Short)[] peers = [.. Peers.Where(p => rows.Any(r => r.Of(p.Name) is not null))];
        (string Variant, string Heading)[] forms = [.. Forms.Where(f => rows.Any(r => r.Form(f.Variant) is not null))];
        return new(
            Title(group), note, ["", .. peers.Select(p => p.Name), .. forms.Select(f => f.Heading), .. peers.Select(p => $"ours / {p.Short}"), "error"],
            [.. rows.Select(row => (IReadOnlyList<Cell>)[
                Rest(row), .. peers.Select(p => Rate(row, row.Of(p.Name), format)), .. forms.Select(f => Rate(row, row.Form(f.Variant), format)), .. peers.Select(p => Ratio(row.RatioTo(p.Name))),
                Error(row)])]);
    }

    private static Cell Rate(GpuRow row, GpuLine? line, Func<GpuLine, string> format)
    {
        if (line is not { IsTimed: true, BurstUs: not null }) return Missing(line);
        GpuLine[] rivals = [.. row.Lines.Where(l => l.IsTimed && l.Baseline != true && !ReferenceEquals(l, line))];
        bool isBest = rivals.Length > 0 && rivals.All(l => l.BurstUs >= line.BurstUs);
        return new(format(line), isBest ? CellStyle.Best : CellStyle.Plain);
    }

    private static Cell Missing(GpuLine? line) => line?.Status == GpuStatus.Wrong ? new("wrong output", CellStyle.Wrong) : new("-", CellStyle.Faint);

    private static Cell Ratio(GpuRatio? ratio)
        => ratio is GpuRatio r ? new(Numbers(r.Burst, r.Sustained, "0.00") + (r.IsOneRun ? "" : OtherRun), r.IsAhead ? CellStyle.Best : CellStyle.Plain) : new("-", CellStyle.Faint);

    private static Cell Error(GpuRow row) => row.Lines.Where(l => l.IsOurs).Max(l => l.Error) is double error ? new($"{error:0.0e0}") : new("-", CellStyle.Faint);

    private static string Numbers(double? burst, double? sustained, string format) => $"{burst?.ToString(format) ?? "-"} / {sustained?.ToString(format) ?? "-"}";

    private static ReportTable Paged(GpuRow[] decode)
    {
        static string Dense(GpuRow row) => row.Name[..row.Name.LastIndexOf(" paged-", StringComparison.Ordinal)];
        return new(
            "Decode from a paged cache",
            "Blocks in random order; paged-16: 16 tokens a block. Microseconds of the best launch; in brackets TB/s of keys and values, burst / sustained. Last, the time over that of as many keys without blocks, token-major as blocks are.",
            ["", "ours", "paged / dense"],
            [.. decode.Where(r => r.First.Block is not null).Select(row => (IReadOnlyList<Cell>)[
                row.Name["decode ".Length..], Rate(row, row.Form("default"), l => $"{l.BurstUs:0.0} ({Numbers(l.BurstTbps, l.SustainedTbps, "0.00")})"),
                decode.FirstOrDefault(r => string.Equals(r.Name, Dense(row), StringComparison.Ordinal))?.Form("default") is { IsTimed: true } dense && row.Ours is GpuLine ours ? new Cell($"{ours.BurstUs / dense.BurstUs:0.00}") : new Cell("-", CellStyle.Faint)])]);
    }

    private static bool HasPlain(GpuRow row) => row.Lines.Any(l => l.Baseline == true);

    private static ReportTable Features(string group, GpuRow[] rows)
    {
        bool hasFlex = rows.Any(r => r.Of(Flex) is not null);
        return new(
            Title(group), "Causal. Microseconds of the best launch, and how many times those of plain causal attention with the same kernel, timed in the same row. Where a form does not take a feature there is a -, and the other one runs.",
            ["", .. PrefillForms.SelectMany(f => (string[])[f, $"{f} / plain"]), .. hasFlex ? (string[])[Flex, "ours / Flex"] : []],
            [.. rows.Select(row => (IReadOnlyList<Cell>)[
                Rest(row), .. PrefillForms.SelectMany(form => (Cell[])[Time(row.Form(form)), OverPlain(row, form)]), .. hasFlex ? (Cell[])[Time(row.Of(Flex)), Ratio(row.RatioTo(Flex))] : []])]);
    }

    private static Cell Time(GpuLine? line) => line is { IsTimed: true, BurstUs: double time } ? new($"{time:0}") : Missing(line);

    private static Cell OverPlain(GpuRow row, string form)
        => row.Form(form) is { IsTimed: true } line && row.Plain(form) is { IsTimed: true } plain
            ? new($"{line.BurstUs / plain.BurstUs:0.00}{(row.AreOfOneRun(line, plain) ? "" : OtherRun)}") : new("-", CellStyle.Faint);

    private static ReportTable Functions(string title, string note, GpuRow[] rows, string[] forms)
    {
        bool hasFlex = rows.Any(r => r.Of(Flex) is not null);
        string Name(string form) => string.Equals(form, DefaultForm, StringComparison.Ordinal) ? "ours" : form;
        return new(
            title, note + " Microseconds of the best launch; ratios are of times with the same kernel in the same row, burst / sustained. FlexAttention has the same function.",
            ["", .. forms.SelectMany(f => (string[])[Name(f), $"{Name(f)} / plain", $"{Name(f)} / built-in"]), .. hasFlex ? (string[])[Flex, "ours / Flex"] : [], "error"],
            [.. rows.Select(row => (IReadOnlyList<Cell>)[
                row.Name["functions ".Length..], .. forms.SelectMany(form => (Cell[])[Time(row.Form(form)), Over(row, row.Form(form), row.Plain(form)), Over(row, row.Form(form), row.BuiltIn(form))]),
                .. hasFlex ? (Cell[])[Time(row.Of(Flex)), Ratio(row.RatioTo(Flex))] : [], Error(row)])]);
    }

    private static Cell Over(GpuRow row, GpuLine? line, GpuLine? other)
        => line is { IsTimed: true } && other is { IsTimed: true }
            ? new($"{Numbers(line.BurstUs / other.BurstUs, line.SustainedUs / other.SustainedUs, "0.00")}{(row.AreOfOneRun(line, other) ? "" : OtherRun)}") : new("-", CellStyle.Faint);

    private static ReportTable FirstCalls(GpuRow[] rows) => new(
        "First calls of functions",
        "Milliseconds until the result of a function's first call is there, with nothing cached: ours from the function on, its kernel's text and the driver's assembling included; FlexAttention's compiled call, without making its block mask. All in one "
            + "process, where the row of plain attention goes first and pays for what a process pays once. Last, how many times as long as the slower of our forms FlexAttention takes.",
        ["", .. PrefillForms, Flex, "Flex / ours"],
        [.. rows.Select(row => (IReadOnlyList<Cell>)[row.Name["first call ".Length..], .. PrefillForms.Select(f => FirstCall(row.Form(f))), FirstCall(row.Of(Flex)), Sooner(row)])]);

    private static Cell FirstCall(GpuLine? line) => line is { IsTimed: true, FirstSeconds: double seconds } ? new($"{seconds * 1e3:0}") : Missing(line);

    private static Cell Sooner(GpuRow row)
        => row.Of(Flex) is { IsTimed: true, FirstSeconds: double theirs } flex && row.Lines.Where(l => l is { IsOurs: true, IsTimed: true }).MaxBy(l => l.FirstSeconds) is { FirstSeconds: double ours } slower
            ? new($"{theirs / ours:0.0}{(row.AreOfOneRun(flex, slower) ? "" : OtherRun)}") : new("-", CellStyle.Faint);

    private static ReportTable Packed(GpuRow[] rows) => new(
        "Sequences of mixed lengths, packed", "Causal, TFLOP/s of allowed pairs by the best launch: lengths from 128 to 8,192 beside as many tokens in sequences of one length.", ["", "mma", "wgmma"],
        [.. rows.Select(row => (IReadOnlyList<Cell>)[
            row.Name["features ".Length..], .. PrefillForms.Select(form => row.Form(form) is { BurstTflops: double rate } ? new Cell($"{rate:0}") : Missing(row.Form(form)))])]);

    private static ReportTable Loads(GpuRow[] rows)
    {
        string[] others = [.. rows.SelectMany(r => r.Lines).Select(l => l.Variant!).Except(PrefillForms, StringComparer.Ordinal)];
        return new(
            "Loading kernels", "Milliseconds of the first call: writing the text and having the driver assemble it, with nothing cached; 0: a row before it, full before causal, has the same kernel. Other calls than prefills have one form.", ["", "mma", "wgmma", "other"],
            [.. rows.Select(row => (IReadOnlyList<Cell>)[row.Name, Load(row.Form("mma")), Load(row.Form("wgmma")), Load(others.Select(row.Form).FirstOrDefault(l => l is not null))])]);
    }

    private static Cell Load(GpuLine? line) => line is { IsTimed: true, LoadSeconds: double seconds } ? new($"{seconds * 1e3:0}") : Missing(line);

    private static ReportTable Host(GpuRow[] rows)
    {
        string[] peers = [.. Peers.Select(p => p.Name).Where(p => rows.Any(r => r.Of(p) is not null))];
        return new(
            "The host's time for a call", "Microseconds of the processor to queue a call that is warm: median of rounds of 100 calls, in brackets the best. Ours from native code, as a program in .NET calls it; peers from Python, as theirs do.",
            ["", .. peers, "ours"], [.. rows.Select(row => (IReadOnlyList<Cell>)[row.Name["host ".Length..], .. peers.Select(p => HostTime(row.Of(p))), HostTime(row.Form("default"))])]);
    }

    private static Cell HostTime(GpuLine? line) => line is { IsTimed: true, HostUs: double middle } ? new($"{middle:0.0} ({line.HostBestUs:0.0})") : Missing(line);
}

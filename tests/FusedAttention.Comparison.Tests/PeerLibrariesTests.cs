using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;
using FusedAttention.Comparison.Measurement;
using Xunit;

namespace FusedAttention.Comparison.Tests;

public class PeerLibrariesTests
{
    private static string Modules => Path.Combine(SharedData.RepositoryRoot ?? ".", "bench", "FusedAttention.Comparison", "node_modules");

    [Fact]
    public void A_peer_that_is_not_there_is_left_out_with_a_sentence()
    {
        using var peers = PeerLibraries.Load(ortPackage: null, torchPackage: "/nowhere/torch", modules: "/nowhere/modules", ggmlVariant: null);
        Assert.Empty(peers.Entries(1));
        Assert.Equal(3, peers.Missing.Count);
        Assert.StartsWith("Without ONNX Runtime: this build has no peers of NuGet", peers.Missing[0], StringComparison.Ordinal);
        Assert.Equal("Without torch: /nowhere/torch/runtimes/linux-x64/native/libtorch_cpu.so is missing.", peers.Missing[1].Replace('\\', '/'));
        Assert.StartsWith("Without ggml: ", peers.Missing[2], StringComparison.Ordinal);
    }

    [Fact]
    public void A_library_that_does_not_load_is_left_out_with_one_line()
    {
        DirectoryInfo package = Directory.CreateTempSubdirectory();
        try
        {
            string library = Path.Combine(package.FullName, "runtimes", "linux-x64", "native", "libtorch_cpu.so");
            Directory.CreateDirectory(Path.GetDirectoryName(library)!);
            File.WriteAllText(library, "no library");
            using var peers = PeerLibraries.Load(ortPackage: null, package.FullName, modules: "/nowhere/modules", ggmlVariant: null);
            Assert.Empty(peers.Entries(1));
            Assert.Matches("^Without torch: [^\n]+$", peers.Missing[1]);
        }
        finally
        {
            package.Delete(recursive: true);
        }
    }

    /// <summary>Small cases, for every peer of a build with `-p:Peers=true`, and for ggml where npm has installed it.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float32)]
    [InlineData(AttentionElementType.Float16)]
    [InlineData(AttentionElementType.BFloat16)]
    [InlineData(AttentionElementType.Q8Block)]
    [InlineData(AttentionElementType.Int8)]
    public void Peers_compute_what_we_do(AttentionElementType type)
    {
        using var peers = PeerLibraries.Load(Modules, ggmlVariant: null);
        ContenderEntry[] entries = [.. peers.Entries(1)];
        Assert.SkipWhen(entries.Length == 0, string.Join(' ', peers.Missing));
        AttentionCase[] cases =
        [
            new(CaseKind.Prefill, type, 2, 2, 64, 40, 40, IsCausal: false), new(CaseKind.Prefill, type, 2, 2, 64, 40, 40, IsCausal: true),
            new(CaseKind.Decode, type, 8, 2, 64, 1, 96, IsCausal: false),
        ];
        int compared = 0;
        foreach (AttentionCase attentionCase in cases)
        {
            using var inputs = new CaseInputs(attentionCase);
            float[] expected = Output(OurContender.Entry(CpuExecution.Default), attentionCase, inputs);
            foreach (ContenderEntry entry in entries)
            {
                try
                {
                    double error = OutputCheck.MaxAbsoluteError(expected, Output(entry, attentionCase, inputs));
                    Assert.True(error <= OutputCheck.PeerTolerance(attentionCase, expected), $"{entry.Name}, {attentionCase.Name}: {error:g3}");
                    compared++;
                }
                catch (NotOfferedException)
                {
                }
            }
        }

        // Integers with scales are nobody's but ours; others not every peer's.
        if (type == AttentionElementType.Int8) Assert.Equal(0, compared);
        else Assert.SkipWhen(compared == 0, $"None of {string.Join(", ", entries.Select(static entry => entry.Name))} has {type}. {string.Join(' ', peers.Missing)}");
    }

    private static float[] Output(ContenderEntry entry, AttentionCase attentionCase, CaseInputs inputs)
    {
        using Contender contender = entry.Create(attentionCase, inputs);
        contender.Run();
        contender.Run(); // the second time with what the first has left
        float[] output = new float[attentionCase.QueryElements];
        contender.CopyOutput(output);
        contender.Rest();
        return output;
    }
}

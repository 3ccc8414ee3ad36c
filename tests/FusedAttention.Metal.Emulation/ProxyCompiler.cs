using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>Instructions of a kernel's longest loop, by what they cost on Apple7 and 8 (measured by others): a matrix product 18 cycles of a simdgroup, a 32-bit integer product 5, exponentials 4, shifts, loads and shuffles 2, all else 1.</summary>
internal sealed record LoopCount(int Matrix, int IntegerProducts, int LongProducts, int Shifts, int Special, int Memory, int Shuffles, int Spills, int Rest)
{
    /// <summary>Cycles apart from matrix products.</summary>
    public int OtherCycles => (5 * (IntegerProducts + LongProducts)) + (4 * Special) + (2 * (Shifts + Memory + Shuffles + Spills)) + Rest;

    /// <summary>The share of matrix products in all cycles: how near to the hardware's peak a loop could come that waits for nothing.</summary>
    public double MatrixShare => 18.0 * Matrix / ((18.0 * Matrix) + OtherCycles);
}

/// <summary>What a compiler makes of a kernel for a GPU that is not Apple's.</summary>
/// <param name="Registers">32-bit registers a lane.</param>
/// <param name="SpilledBytes">Bytes a lane that did not find one.</param>
/// <param name="CodeBytes">Of the whole kernel.</param>
/// <param name="Loop">Its longest loop. Both arms of a branch are counted.</param>
internal sealed record ProxyKernel(int Registers, int SpilledBytes, int CodeBytes, LoopCount Loop);

/// <summary>
/// The libraries' own text, compiled for a GPU with 32 lanes that clang knows, with as many registers as Apple's M1 and M2 have at most. Another compiler for another machine: a change that doubles a count here has
/// most likely made Apple's worse too, and the numbers themselves mean nothing there. Nothing runs.
/// </summary>
internal static partial class ProxyCompiler
{
    /// <summary>What Apple7 and 8 have for a lane at most.</summary>
    public const int Registers = 128;

    /// <summary>Where each kernel argument that is no buffer comes from.</summary>
    private static readonly Dictionary<string, string> BuiltIns = new(StringComparer.Ordinal)
    {
        ["threadgroup_position_in_grid"] = "uint3(__builtin_amdgcn_workgroup_id_x(), __builtin_amdgcn_workgroup_id_y(), 0u)",
        ["thread_index_in_threadgroup"] = "__builtin_amdgcn_workitem_id_x()",
        ["simdgroup_index_in_threadgroup"] = "proxy_uniform(__builtin_amdgcn_workitem_id_x() / 32u)",
        ["thread_index_in_simdgroup"] = "(__builtin_amdgcn_workitem_id_x() % 32u)",
    };

    /// <summary>A kernel of the library, with its function constants.</summary>
    public static ProxyKernel Compile(KernelFunction function, int threads)
    {
        var text = new StringBuilder(KernelSource.Compose(function));
        foreach (FunctionConstant constant in function.Constants)
        {
            string type = constant.Type == FunctionConstantType.Bool ? "bool" : "int";
            text.Append(CultureInfo.InvariantCulture, $"\nconstant {type} {constant.Name} = {constant.Bits};");
        }

        return Compile(text.ToString(), function.Name, threads);
    }

    /// <summary>A kernel of a text.</summary>
    public static ProxyKernel Compile(string text, string kernel, int threads)
    {
        string folder = Directory.CreateTempSubdirectory("fused-attention-proxy-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "kernel.cl"), KernelHead().Replace(text, match => Head(match, threads)) + "\n");
            EmulatorToolchain.Compile(folder,
            [
                "-x", "cl", .. EmulatorBuild.Language[..^2], "-Xclang", "-cl-ext=+cl_khr_fp16,+__opencl_c_generic_address_space,+__opencl_c_program_scope_global_variables",
                "-target", "amdgcn-amd-amdhsa", "-mcpu=gfx1030", "-nogpulib", "-O3", "-fgpu-flush-denormals-to-zero", "-w", .. EmulatorBuild.ProxyIncludeOptions, "-S", "kernel.cl", "-o", "kernel.s",
            ]);
            string assembly = File.ReadAllText(Path.Combine(folder, "kernel.s"));
            assembly = assembly[assembly.IndexOf($"\n{kernel}:", StringComparison.Ordinal)..];
            return new(Number("NumVgprs"), Number("ScratchSize"), Number("codeLenInByte"), Count(assembly[..assembly.IndexOf(".Lfunc_end", StringComparison.Ordinal)]));

            int Number(string name) => int.Parse(Regex.Match(assembly, $@"; {name}\s*[:=] (\d+)", RegexOptions.None, TimeSpan.FromSeconds(5)).Groups[1].ValueSpan, CultureInfo.InvariantCulture);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A kernel's head with the arguments that are buffers; the others are the first lines of its body.</summary>
    private static string Head(Match match, int threads)
    {
        var body = new StringBuilder();
        var arguments = new List<string>();
        foreach (Match argument in Argument().Matches(match.Groups["arguments"].Value))
        {
            (string declaration, string attribute) = (argument.Groups["declaration"].Value, argument.Groups["attribute"].Value);
            if (BuiltIns.TryGetValue(attribute, out string? value)) body.Append(CultureInfo.InvariantCulture, $"    {declaration} = {value};\n");
            else arguments.Add(declaration.Replace("*", "*__restrict ", StringComparison.Ordinal));
        }

        return string.Create(
            CultureInfo.InvariantCulture,
            $"kernel __attribute__((amdgpu_flat_work_group_size({threads}, {threads}), amdgpu_num_vgpr({Registers}))) void {match.Groups["name"].Value}({string.Join(", ", arguments)})\n{{\n{body}");
    }

    /// <summary>The longest stretch of lines that a jump goes back over, to a place that the compiler says is in a loop: blocks that are hardly ever run are put behind all others.</summary>
    private static LoopCount Count(string assembly)
    {
        string[] lines = assembly.Split('\n');
        var labels = new Dictionary<string, int>(StringComparer.Ordinal);
        (int from, int to) = (0, 0);
        for (int i = 0; i < lines.Length; i++)
        {
            if (Label().Match(lines[i]) is { Success: true } label) labels[label.Groups["name"].Value] = i;
            if (Jump().Match(lines[i]) is { Success: true } jump && labels.TryGetValue(jump.Groups["name"].Value, out int start) && lines[start].Contains("Loop", StringComparison.Ordinal) && i - start > to - from) (from, to) = (start, i);
        }

        int matrix = 0, products = 0, longProducts = 0, shifts = 0, special = 0, memory = 0, shuffles = 0, spills = 0, rest = 0;
        foreach (string line in lines.AsSpan(from, to - from))
        {
            string operation = Operation().Match(line).Groups["name"].Value;
            if (operation.Length == 0 || operation.StartsWith("s_", StringComparison.Ordinal)) continue;
            if (operation is "matrix_multiply") matrix++;
            else if (Starts("v_mul_hi", "v_mad_u64", "v_mad_i64")) longProducts++;
            else if (Starts("v_mul_lo", "v_mad_u32", "v_mad_i32", "v_mul_u32")) products++;
            else if (Starts("v_lshl", "v_lshr", "v_ashr")) shifts++;
            else if (Starts("v_exp", "v_rcp", "v_log")) special++;
            else if (Starts("ds_bpermute", "simd_shuffle")) shuffles++;
            else if (Starts("buffer_load", "buffer_store")) spills++;
            else if (Starts("global_", "flat_")) memory++;
            else rest++;

            bool Starts(params ReadOnlySpan<string> prefixes)
            {
                foreach (string prefix in prefixes)
                {
                    if (operation.StartsWith(prefix, StringComparison.Ordinal)) return true;
                }

                return false;
            }
        }

        return new(matrix, products, longProducts, shifts, special, memory, shuffles, spills, rest);
    }

    private const RegexOptions Options = RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant;

    [GeneratedRegex(@"kernel void (?<name>\w+)\((?<arguments>[^{]*)\)\s*\{\n", Options, 5000)]
    private static partial Regex KernelHead();

    [GeneratedRegex(@"\s*(?<declaration>[^,\[]+?)\s*\[\[(?<attribute>[^\]]*)\]\]", Options, 5000)]
    private static partial Regex Argument();

    [GeneratedRegex(@"^(?<name>\.LBB\d+_\d+):", Options, 5000)]
    private static partial Regex Label();

    [GeneratedRegex(@"\ts_c?branch\S*\s+(?<name>\.LBB\d+_\d+)", Options, 5000)]
    private static partial Regex Jump();

    [GeneratedRegex(@"^\t(?<name>[a-z_0-9]+)", Options, 5000)]
    private static partial Regex Operation();
}

using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using FusedAttention.Cuda.Comparison;
using Xunit;

namespace FusedAttention.Comparison.Tests;

/// <summary>The C interface between bench/gpu/native.py and the CUDA backend, as far as it goes without a GPU.</summary>
public sealed unsafe class NativeInterfaceTests
{
    private const int MostText = 1 << 12;

    [Fact]
    public void Both_sides_have_the_same_fields_at_the_same_places()
    {
        const string Script = """
            import native
            for structure in (native.NativeTensor, native.NativeFunction, native.NativeCall):
                print(native.C.sizeof(structure), *(f"{name}:{getattr(structure, name).offset}" for name, _ in structure._fields_))
            """;
        string[] lines = Python(Script).TrimEnd('\n').Split('\n');
        Assert.Equal(FieldsOf<NativeTensor>(), lines[0]);
        Assert.Equal(FieldsOf<NativeFunction>(), lines[1]);
        Assert.Equal(FieldsOf<NativeCall>(), lines[2]);
        delegate* unmanaged<int> size = &Exports.CallSize;
        Assert.Equal(sizeof(NativeCall), size());
    }

    [Fact]
    public void A_call_that_one_side_describes_is_what_the_other_understands()
    {
        // Keys in the order of heads, as a view; no numbers of the host, whose addresses another process does not have.
        const string Script = """
            import native
            from loads import Named

            class View(Named):
                def stride(self):
                    return (640, 64, 320, 1)
            query, output, value = Named(2, 3, 8, 64, dtype="bfloat16"), Named(2, 3, 8, 32, dtype="bfloat16"), Named(2, 5, 2, 32, dtype="bfloat16")
            call = native.describe_call(
                query, View(2, 5, 2, 64, dtype="bfloat16"), value, output, mask=Named(1, 1, 3, 5, dtype="bool"), bias=Named(1, 1, 3, 5, dtype="float32"),
                causal=True, window_left=3, scale=0.5, soft_cap=30.0, form="wgmma", stream=7)
            print(bytes(call).hex())
            """;
        byte[] bytes = Convert.FromHexString(Python(Script).Trim());
        Assert.Equal(sizeof(NativeCall), bytes.Length);
        fixed (byte* call = bytes)
        {
            Assert.Equal(7, ((NativeCall*)call)->Stream);
            var description = new CallDescription((NativeCall*)call);
            Assert.Equal(AttentionMask.Window(3, null).AndCausal(), description.Options.Mask);
            Assert.Equal((0.5f, 30f), (description.Options.Scale, description.Options.SoftCap));
            Assert.Equal(NativeForm.Wgmma, description.Form);

            delegate* unmanaged<NativeCall*, byte*, int, int> describe = &Exports.Describe;
            byte* text = stackalloc byte[MostText];
            Assert.Equal(0, describe((NativeCall*)call, text, MostText));
            string words = TextOf(text);
            Assert.StartsWith("Dense BFloat16 2 x 3 queries x 5 keys, heads 8/2, dims 64/32, key strides 640 64 320; ", words, StringComparison.Ordinal);
            Assert.EndsWith("BooleanMask, BiasFloat32; Wgmma", words, StringComparison.Ordinal);
        }
    }

    /// <summary>Heads and sequences are few, and tokens enough for distances beyond T5's farthest and positions beyond the length from which on log-n scales.</summary>
    [Fact]
    public void Functions_are_on_both_sides_the_same()
    {
        const int Heads = 4, Sequences = 2;
        const string Script = """
            import functions
            for name, kind in functions.ALL.items():
                function = kind(4, 2, 700)
                print(name, function.is_mask, *map(repr, function.numbers))
                for b, h, i, j in ((b, h, i, j) for b in range(2) for h in range(4) for i in range(0, 700, 27) for j in (*range(0, 700, 23), i, max(i - 1, 0), max(i - 4, 0))):
                    at = functions.Place(b, h, i, j)
                    print(b, h, i, j, int(function.keep(functions.OVER_NUMBERS, at)) if function.is_mask else repr(float(function.score(functions.OVER_NUMBERS, 0.7, at))))
            """;
        string[][] lines = [.. Python(Script).TrimEnd('\n').Split('\n').Select(l => l.Split(' '))];
        (ScoreFunction? score, MaskFunction? mask) = (null, null);
        int functions = 0;
        foreach (string[] words in lines)
        {
            if (!char.IsAsciiDigit(words[0][0]))
            {
                float[] numbers = [.. words[2..].Select(n => float.Parse(n))];
                byte[] name = [.. Encoding.UTF8.GetBytes(words[0]), 0];
                fixed (float* number = numbers)
                fixed (byte* text = name)
                {
                    var function = new NativeFunction { Name = text, Numbers = number, Count = numbers.Length };
                    bool isMask = string.Equals(words[1], "True", StringComparison.Ordinal);
                    (score, mask) = isMask ? (null, FunctionRegistry.Mask(function, Sequences)) : (FunctionRegistry.Score(function, Heads, Sequences), (MaskFunction?)null);
                }

                functions++;
                continue;
            }

            int[] at = [.. words[..4].Select(int.Parse)];
            if (mask is not null) Assert.True(mask.Evaluate(at[0], at[1], at[2], at[2], at[3]) == (words[4] is "1"), $"{mask} at {string.Join(' ', at)}");
            else Assert.Equal(double.Parse(words[4]), score!.Evaluate(0.7, at[0], at[1], at[2], at[2], at[3]), 1e-6);
        }

        Assert.Equal(11, functions);
    }

    [Theory]
    [InlineData("nothing", 1, "There is no score function 'nothing'; expected one of alibi, t5, head-temperature, log-n, scalable-softmax, grid-alibi, tanh-cap.")]
    [InlineData("alibi", 1, "The function 'alibi' takes 8 numbers in this call, and has 1.")]
    [InlineData("t5", 1, "The function 't5' has 1 numbers, which are too few or not whole rows.")]
    public void A_function_that_cannot_be_is_told_in_words(string name, int count, string words)
    {
        byte[] bytes = [.. Encoding.UTF8.GetBytes(name), 0];
        float[] numbers = new float[count];
        fixed (byte* text = bytes)
        fixed (float* number = numbers)
        {
            var function = new NativeFunction { Name = text, Numbers = number, Count = count };
            Assert.Equal(words, Assert.Throws<ArgumentException>(() => FunctionRegistry.Score(function, 8, 2)).Message);
        }
    }

    [Fact]
    public void Another_version_of_the_structure_is_told_in_words()
    {
        var call = new NativeCall { Size = sizeof(NativeCall) - 8 };
        delegate* unmanaged<NativeCall*, byte*, int, int> describe = &Exports.Describe;
        byte* text = stackalloc byte[MostText];
        Assert.Equal(-1, describe(&call, text, MostText));
        Assert.Contains("compare.py and this library are of different versions", LastError(MostText), StringComparison.Ordinal);
        Assert.Equal(9, LastError(10).Length); // cut where the buffer ends
    }

    [Fact]
    public void Without_a_driver_the_reason_is_told_in_words()
    {
        Assert.SkipWhen(CudaDevice.IsSupported, "There is a GPU.");
        delegate* unmanaged<byte*, int, int> open = &Exports.Open;
        delegate* unmanaged<NativeCall*, long> create = &Exports.Create;
        byte* text = stackalloc byte[MostText];
        var call = new NativeCall { Size = sizeof(NativeCall) };
        Assert.Equal(-1, open(text, MostText));
        Assert.Contains(CudaDevice.UnsupportedReason!, LastError(MostText), StringComparison.Ordinal);
        Assert.Equal(-1, create(&call));
        Assert.Contains(CudaDevice.UnsupportedReason!, LastError(MostText), StringComparison.Ordinal);
    }

    private static string LastError(int capacity)
    {
        delegate* unmanaged<byte*, int, int> lastError = &Exports.LastError;
        byte* text = stackalloc byte[capacity];
        Assert.Equal(0, lastError(text, capacity));
        return TextOf(text);
    }

    private static string TextOf(byte* text) => Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text));

    /// <summary>Size, names and offsets, as the script prints them.</summary>
    private static string FieldsOf<T>()
        where T : unmanaged
        => string.Join(' ', [$"{sizeof(T)}", .. typeof(T).GetFields().Where(f => !f.IsStatic).Select(f => $"{JsonNamingPolicy.SnakeCaseLower.ConvertName(f.Name)}:{Marshal.OffsetOf<T>(f.Name)}")]);

    /// <summary>What a script prints that has bench/gpu to import from.</summary>
    private static string Python(string script)
    {
        Assert.SkipWhen(SharedData.RepositoryRoot is null, "The test does not run inside the repository.");
        var start = new ProcessStartInfo("python3", ["-c", script]) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PYTHONPATH"] = Path.Combine(SharedData.RepositoryRoot!, "bench", "gpu");
        start.Environment["PYTHONDONTWRITEBYTECODE"] = "1";
        Process? python = null;
        try
        {
            python = Process.Start(start)!;
        }
        catch (Win32Exception)
        {
            Assert.Skip("There is no python3.");
        }

        using (python)
        {
            Task<string> errors = python.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            string output = python.StandardOutput.ReadToEnd();
            python.WaitForExit();
            Assert.True(python.ExitCode == 0, errors.GetAwaiter().GetResult());
            return output.ReplaceLineEndings("\n");
        }
    }
}

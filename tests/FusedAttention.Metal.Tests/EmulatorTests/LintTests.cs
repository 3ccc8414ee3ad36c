using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Every lint on a text that it must refuse, and on one that is right.</summary>
public sealed class LintTests
{
    private const string Clean = """
        struct Pair { float sum; float values[4]; };
        inline float total(thread const float* values) {
            float sum = 0.0f;
            _Pragma("clang loop unroll(full)")
            for (int i = 0; i < 4; i++) sum += values[i];
            return sum;
        }
        kernel void clean(device const half* input [[buffer(0)]], device float* result [[buffer(1)]], uint i [[thread_position_in_grid]]) {
            threadgroup float tile[40];
            threadgroup half other[3];
            float values[4];
            _Pragma("clang loop unroll(full)")
            for (int n = 0; n < 4; n++) values[n] = float(input[i + uint(n)]);
            Pair pair;
            pair.sum = total(values);
            tile[i % 40u] = pair.sum;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            other[0] = half(tile[0]);
            float4 v = float4(tile[39u - i % 40u], float2(pair.sum), float(other[0]));
            result[i] = v.x + v.wzyx.y;
        }
        """;

    [Fact]
    public void A_text_that_keeps_to_the_rules_passes()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string text = TestKernel.TextOf(Clean);
        Assert.Empty(TextLint.Check("clean.metal", text));
        Assert.Empty(CompiledLint.Check(text));
        EmulatorLibrary library = EmulatorBuild.Get(text, EmulatorFlavour.Plain);
        Assert.Equal(160 + 16, library.ThreadgroupBytes("clean")); // each array begins at a multiple of 16
        Assert.Equal(16 + 20, library.PrivateBytes("clean"));
    }

    [Theory]
    [InlineData("long long x = 0;", "long long")]
    [InlineData("double x = 0;", "double")]
    [InlineData("again: goto again;", "Metal does not have this")]
    [InlineData("}\nvoid f() noexcept {", "noexcept")]
    [InlineData("thread int* p = new int;", "Metal does not have this")]
    [InlineData("float x = std::max(1.0f, 2.0f);", "std::")]
    [InlineData("auto f = [=](float x) { return x; };", "lambda")]
    [InlineData("auto f = [] { return 1; };", "lambda")]
    [InlineData("float x = f([&](float y) -> float { return y; });", "lambda")]
    [InlineData("__local float x[3];", "OpenCL's name")]
    [InlineData("global float* p = result;", "OpenCL's name")]
    [InlineData("float x = __builtin_expf(1.0f);", "__builtin_expf")]
    [InlineData("float4 x = convert_float4(h);", "convert_float4")]
    [InlineData("float4 x = (float4)(1.0f, 2.0f, 3.0f, 4.0f);", "vector literal")]
    [InlineData("float x = v.s3 + 1.0f;", "swizzle")]
    [InlineData("float2 x = v.lo;", "swizzle")]
    [InlineData("long x = 12ll;", "long long")]
    [InlineData("int x [[user(locn0)]];", "not on the list")]
    [InlineData("#include <metal_tensor>", "header")]
    [InlineData("#pragma clang fp contract(fast)", "pragma")]
    [InlineData("_Pragma(\"unroll(2)\")", "pragma")]
    [InlineData("}\nkernel void k(device int* a [[buffer(31)]]) {", "there are 31")]
    [InlineData("}\nkernel void k(device int* a [[buffer(1)]], device int* b [[buffer(1)]]) {", "a and b have slot 1")]
    public void The_text_is_searched(string line, string expected)
    {
        string text = $"// header\nvoid g() {{\n{line}\n}}\n";
        Assert.Contains(TextLint.Check("file.metal", text), problem => problem.Contains(expected, StringComparison.Ordinal));
        Assert.Empty(TextLint.Check("file.metal", $"// header\nvoid g() {{\n// {line.ReplaceLineEndings(" ")}\n}}\n"));
        // The line of the file, where there is one to tell.
        if (!line.StartsWith('}')) Assert.Contains(TextLint.Check("file.metal", text), problem => problem.StartsWith("file.metal:3: ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("x[i] = y[i] + z[i] * w[j];")]
    [InlineData("float4 x = float4(a[0], b); uint lane [[thread_index_in_simdgroup]];")]
    [InlineData("m.thread_elements()[0] = x[2] * (y);")]
    [InlineData("float x[] = { 1.0f };\nfloat y[2] = { 1.0f, 2.0f };")]
    [InlineData("struct A { float lower; }; a.lower = a.some + v.x;")]
    public void Ordinary_text_passes(string line) => Assert.Empty(TextLint.Check("file.metal", line));

    [Slow]
    [Theory]
    [InlineData("inline float total(thread const float* values)", "inline float total(const float* values)", "test.metal:2: total: an argument")]
    [InlineData("    Pair pair;\n", "    Pair pair; float& sum = pair.sum;\n", "test.metal:8: clean: a local pointer")]
    [InlineData("other[0] =", "struct Single { float x; float get() const { return x; } }; Single single; single.x = pair.sum; tile[1] = single.get(); other[0] =", "object of a method")]
    [InlineData("half(tile[0])", "tile[0]", "Wimplicit-float-conversion")]
    [InlineData("float2(pair.sum)", "float2(pair.sum + int(i))", "Wimplicit-int-float-conversion")]
    [InlineData("other[0] =", "if constexpr (sizeof(float) == 4) other[0] =", "Wpre-c++17-compat")]
    [InlineData("other[0] =", "int unused; other[0] =", "Wunused-variable")]
    [InlineData("values[n] = float(input[i + uint(n)]);", "values[n] = float(input[i + uint(n)]); values[i % 4u] += 1.0f;", "[4 x float] in clean does not stay in registers")]
    [InlineData("pair.sum = total(values);", "pair.sum = total(values); pair.values[i % 4u] = 1.0f; pair.sum += total(pair.values);", "does not stay in registers")]
    public void Compiled_text_is_searched(string right, string wrong, string expected)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        Assert.Contains(right, Clean, StringComparison.Ordinal);
        string[] problems = CompiledLint.Check(TestKernel.TextOf(Clean.Replace(right, wrong, StringComparison.Ordinal)));
        Assert.True(problems.Any(problem => problem.Contains(expected, StringComparison.Ordinal)), string.Join('\n', problems));
    }

    [Fact]
    public void Recursion_is_found()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        const string Text = """
            int odd(int n);
            inline int even(int n) { return n == 0 ? 1 : odd(n - 1); }
            inline int odd(int n) { return n == 0 ? 0 : even(n - 1); }
            kernel void k(device int* result [[buffer(0)]]) { result[0] = even(result[1]); }
            """;
        Assert.Contains(CompiledLint.Check(TestKernel.TextOf(Text)), problem => problem.Contains("calls itself", StringComparison.Ordinal));
    }

    [Slow]
    [Theory]
    [InlineData("kernel void k(device double* x [[buffer(0)]]) { x[0] = 1; }", "double")]
    [InlineData("kernel void k(device float* x [[buffer(0)]]) { x[0] = unknown(x[0]); }", "unknown")]
    [InlineData("inline void f() { threadgroup float x[2]; } kernel void k(device float* x [[buffer(0)]]) { f(); }", "cannot be declared in local address space")]
    [InlineData("kernel void k(device float* x [[buffer(0)]]) { threadgroup float* y = x; y[0] = 1.0f; }", "cannot initialize a variable of type '__local float")]
    [InlineData("kernel void k(device const float* x [[buffer(0)]]) { x[0] = 1.0f; }", "read-only")]
    [InlineData("kernel void k(device float* x [[buffer(0)]], uint i) { x[i] = 1.0f; }", "argument i has no [[buffer(n)]]")]
    [InlineData("kernel void k(device float* x [[buffer(0)]], uint i [[thread_index_in_warp]]) { x[i] = 1.0f; }", "argument i has no [[buffer(n)]]")]
    [InlineData("kernel void k(device float* x [[buffer(0)]], device float* y [[texture(0)]]) { x[0] = y[0]; }", "the attribute texture(0)")]
    [InlineData("kernel void k(device float* x [[buffer(0)]]) { float y[2]; float4 z = float4(y[0], y[1]); x[0] = z.x; }", "as many elements as the vector has")]
    public void Text_that_metal_would_not_compile_does_not_compile(string text, string expected)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string message = Assert.Throws<MetalEmulationException>(() => EmulatorBuild.Get(TestKernel.TextOf(text), EmulatorFlavour.Plain)).Message;
        Assert.True(message.Contains(expected, StringComparison.Ordinal), message);
    }
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>
/// Compiles libraries: preprocess, read the kernels' arguments, add calls, compile to intermediate text, edit that (<see cref="KernelModule"/>), make machine code of it and link
/// with the runtime. Results stay under <c>artifacts/metal-emulator</c>, named by all that they were made from, so a second run of the tests compiles nothing.
/// </summary>
internal static class EmulatorBuild
{
    public const string Executable = "emulator";

    /// <summary>The kernels' language for clang; every extension off but the half type, so that double is an error.</summary>
    public static readonly string[] Language =
    [
        "-cl-std=clc++2021", "-cl-no-stdinc", "-cl-single-precision-constant", "-Wno-unknown-attributes", "-D", "FUSED_ATTENTION_EMULATOR",
        "-Xclang", "-cl-ext=-all,+cl_khr_fp16,+__opencl_c_generic_address_space,+__opencl_c_program_scope_global_variables",
    ];

    private static readonly ConcurrentDictionary<(string Text, EmulatorFlavour Flavour), Lazy<EmulatorLibrary>> Libraries = new();
    private static readonly ConcurrentDictionary<EmulatorFlavour, Lazy<string>> Runtimes = new();
    private static readonly Lazy<string> Include = new(WriteLaneMap);
    private static readonly Lazy<string> SourceKey = new(HashSources);
    private static readonly Lazy<bool> Cleaned = new(RemoveUnused);

    private static string Root { get; } = FindRoot();

    private static string Sources { get; } = Path.Combine(Root, "tests", "MetalEmulator");

    private static string Output { get; } = Path.Combine(Root, "artifacts", "metal-emulator");

    /// <summary>Include folders, as system ones: what is asked of the kernels' text is not asked of ours.</summary>
    public static string[] IncludeOptions => ["-isystem", Path.Combine(Sources, "include"), "-isystem", Include.Value];

    /// <summary>The same for <see cref="ProxyCompiler"/>, whose headers take the places of some.</summary>
    public static string[] ProxyIncludeOptions => ["-isystem", Path.Combine(Sources, "proxy"), "-isystem", Path.Combine(Sources, "include")];

    /// <summary>The library of a function.</summary>
    public static EmulatorLibrary Get(KernelFunction function, EmulatorFlavour flavour) => Get(KernelSource.Compose(function), flavour);

    /// <summary>The library of a text.</summary>
    public static EmulatorLibrary Get(string text, EmulatorFlavour flavour) =>
        Libraries.GetOrAdd((text, flavour), static key => new Lazy<EmulatorLibrary>(() => Build(key.Text, key.Flavour))).Value;

    /// <summary>Compiles many at once, as many at a time as there are processors.</summary>
    public static void GetAll(IEnumerable<KernelFunction> functions, EmulatorFlavour flavour) =>
        Parallel.ForEach(functions.DistinctBy(function => function.LibraryKey, StringComparer.Ordinal), function => Get(function, flavour));

    private static EmulatorLibrary Build(string text, EmulatorFlavour flavour)
    {
        string folder = Once(Hash(SourceKey.Value, text, string.Join(' ', [.. flavour.Options(), .. flavour.KernelOptions()]), EmulatorToolchain.Processor), temporary =>
        {
            File.WriteAllText(Path.Combine(temporary, "library.metal"), text);
            EmulatorToolchain.Compile(temporary, ["-E", "-x", "cl", .. Language, .. IncludeOptions, "library.metal", "-o", "library.i"]);
            string preprocessed = File.ReadAllText(Path.Combine(temporary, "library.i"));
            File.WriteAllText(Path.Combine(temporary, "library.cl"), preprocessed + KernelText.WriteCalls(KernelText.ParseKernels(preprocessed)));
            EmulatorToolchain.Compile(temporary, ["-x", "cl", .. Language, EmulatorToolchain.Processor, .. flavour.Options(), "-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm", "library.cl", "-o", "library.ll"]);
            KernelModule module = KernelModule.Parse(File.ReadAllText(Path.Combine(temporary, "library.ll")));
            File.WriteAllText(Path.Combine(temporary, "module.ll"), module.Text);
            File.WriteAllText(Path.Combine(temporary, "rolled.ll"), module.RolledText);
            string[] objects = Directory.GetFiles(Runtimes.GetOrAdd(flavour, static flavour => new Lazy<string>(() => BuildRuntime(flavour))).Value, "*.o");
            EmulatorToolchain.Compile(temporary, [EmulatorToolchain.Processor, .. flavour.Options(), .. flavour.KernelOptions(), .. flavour.LinkOptions(), "-Wno-override-module", "rolled.ll", .. objects, "-lm", "-o", Executable]);
        });
        KernelSignature[] kernels = KernelText.ParseKernels(File.ReadAllText(Path.Combine(folder, "library.i")));
        return new EmulatorLibrary(folder, kernels, KernelText.ParseConstants(text), KernelModule.Parse(File.ReadAllText(Path.Combine(folder, "library.ll"))));
    }

    private static string BuildRuntime(EmulatorFlavour flavour) => Once(Hash(SourceKey.Value, "runtime", string.Join(' ', flavour.Options()), EmulatorToolchain.Processor), temporary =>
        EmulatorToolchain.Compile(temporary, ["-std=gnu11", "-Wall", "-Wextra", "-Werror", EmulatorToolchain.Processor, .. flavour.Options(), "-isystem", Include.Value, "-c", .. Directory.GetFiles(Path.Combine(Sources, "runtime"), "*.c")]));

    /// <summary>
    /// The folder of that name, made if there is none: elsewhere first, and renamed when it is complete, so that no other process of the tests sees half of it.
    /// </summary>
    private static string Once(string name, Action<string> make)
    {
        string folder = Path.Combine(Output, name);
        _ = Cleaned.Value;
        if (Directory.Exists(folder))
        {
            Directory.SetLastWriteTimeUtc(folder, DateTime.UtcNow);
            return folder;
        }

        string temporary = $"{folder}.{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}";
        Directory.CreateDirectory(temporary);
        try
        {
            make(temporary);
            try
            {
                Directory.Move(temporary, folder);
            }
            catch (IOException) when (Directory.Exists(folder))
            {
                // Another process was faster.
            }

            return folder;
        }
        finally
        {
            if (Directory.Exists(temporary)) Directory.Delete(temporary, recursive: true);
        }
    }

    /// <summary>Removes what no run of the last week used: an edit of a kernel leaves a megabyte for each library and flavour behind.</summary>
    private static bool RemoveUnused()
    {
        if (!Directory.Exists(Output)) return false;
        foreach (string folder in Directory.GetDirectories(Output).Where(folder => Directory.GetLastWriteTimeUtc(folder) < DateTime.UtcNow.AddDays(-7)))
        {
            try
            {
                Directory.Delete(folder, recursive: true);
            }
            catch (IOException)
            {
                // Another process of the tests was faster.
            }
        }

        return true;
    }

    private static string WriteLaneMap() => Once(Hash(SourceKey.Value, "lane map"), temporary =>
    {
        string[] lines = [.. KernelSource.File("lane_map.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#')];
        string[] places = [.. lines.SelectMany(line => line.Split(' ')[1..])];
        if (lines.Length != 32 || places.Length != 64) throw new MetalEmulationException("lane_map.txt has other than 32 lanes with two elements.");
        string rows = string.Join(", ", places.Select(place => place.Split(',')[0]));
        string columns = string.Join(", ", places.Select(place => place.Split(',')[1]));
        File.WriteAllText(Path.Combine(temporary, "lane_map_data.h"), $"#define METAL_EMULATOR_LANE_ROWS {rows}\n#define METAL_EMULATOR_LANE_COLUMNS {columns}\n");
    });

    private static string HashSources()
    {
        string[] files = [.. Directory.GetFiles(Sources, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        // The steps themselves too.
        string[] steps = [.. ((string[])["EmulatorBuild.cs", "KernelText.cs", "KernelModule.cs", "EmulatorFlavour.cs"]).Select(file => Path.Combine(Root, "tests", "FusedAttention.Metal.Emulation", file))];
        return Hash([EmulatorToolchain.Version, KernelSource.File("lane_map.txt"), .. files.Concat(steps).Select(File.ReadAllText)]);
    }

    private static string Hash(params string[] parts) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\0', parts))))[..20];

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "FusedAttention.slnx"))) return folder.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} has FusedAttention.slnx.");
    }
}

using System.CommandLine;
using System.CommandLine.Invocation;
using FusedAttention.Checking.Formats;
using FusedAttention.Samples.TextGeneration.Commands;
using FusedAttention.Samples.TextGeneration.Devices;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration;

/// <summary>The options, and which of the four things to do.</summary>
internal sealed class CommandLine
{
    private const string Description = """
        Generates text with a small language model whose keys and values live in a paged cache.

        Text goes to standard output, figures to standard error (with --score, --serve-demo and --context-cost: to standard output).

        Examples:
          TextGeneration --prompt "In the beginning God" --tokens 200
          TextGeneration --prompt "And the LORD said" --tokens 400 --temperature 0.8 --top-p 0.95 --seed 7
          TextGeneration --score heldout.txt --cache int8
          TextGeneration --serve-demo
          TextGeneration --serve-demo --backend cuda
          TextGeneration --model models/stories260K.bin --prompt "Once upon a time"
        """;

    private readonly Option<string> _prompt = new("--prompt") { Description = "What to continue.", HelpName = "TEXT", DefaultValueFactory = _ => "In the beginning God" };
    private readonly Option<int> _tokens = new("--tokens") { Description = "How many tokens to generate.", HelpName = "N", DefaultValueFactory = _ => 200, CustomParser = Numbers.Whole };
    private readonly Option<double> _temperature = new("--temperature") { Description = "0 takes the likeliest token; higher numbers dare more.", HelpName = "T", DefaultValueFactory = _ => 0, CustomParser = Numbers.Real };
    private readonly Option<double> _topP = new("--top-p") { Description = "Sample from the likeliest tokens that have this much probability together.", HelpName = "P", DefaultValueFactory = _ => 1, CustomParser = Numbers.Real };
    private readonly Option<int> _seed = new("--seed") { Description = "The same seed gives the same text.", HelpName = "N", DefaultValueFactory = _ => 0, CustomParser = Numbers.Whole };
    private readonly Option<bool> _greedy = new("--greedy") { Description = "The likeliest token each time, whatever the temperature: the default.", Arity = ArgumentArity.Zero };
    private readonly Option<int?> _threads = new("--threads") { Description = "Threads to use at most; one per processor if not given.", HelpName = "N", CustomParser = static result => Numbers.Whole(result) };
    private readonly Option<string> _cache = new("--cache") { Description = $"What keys and values are in the cache: {CacheTypes.Names}; with cuda all but q8_0.", HelpName = "TYPE", DefaultValueFactory = _ => "fp32" };
    private readonly Option<string> _backend = new("--backend") { Description = "Where the cache is and attention runs: cpu or cuda (an NVIDIA GPU). The rest of the model runs on the processor.", HelpName = "BACKEND", DefaultValueFactory = _ => "cpu" };
    private readonly Option<bool> _rowInvariant = new("--row-invariant") { Description = "The same bits for any chunks and batches.", Arity = ArgumentArity.Zero };
    private readonly Option<string?> _model = new("--model") { Description = "A model file: .safetensors like kjv-alibi-6m's, or llama2.c's .bin with tok512.bin beside it, which the repository does not have; kjv-alibi-6m if not given.", HelpName = "PATH" };
    private readonly Option<string?> _score = new("--score") { Description = "Do not generate: print the nats per byte of a text file, and what the cache costs of it if it is not of fp32.", HelpName = "FILE" };
    private readonly Option<bool> _serveDemo = new("--serve-demo") { Description = "Do not generate: serve many requests out of one small pool, and then one by one.", Arity = ArgumentArity.Zero };
    private readonly Option<int> _requests = new("--requests") { Description = "How many requests --serve-demo serves.", HelpName = "N", DefaultValueFactory = _ => 64, CustomParser = Numbers.Whole };
    private readonly Option<bool> _contextCost = new("--context-cost") { Description = "Do not generate: time the next token at contexts up to 4096, with and without the cache.", Arity = ArgumentArity.Zero };
    private readonly TextWriter _output;
    private readonly TextWriter _error;

    private CommandLine(TextWriter output, TextWriter error)
    {
        _output = output;
        _error = error;
    }

    /// <returns>0 when all went well, 2 for bad options or files.</returns>
    public static async Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error, CancellationToken cancellation = default)
    {
        var line = new CommandLine(output, error);
        var root = new RootCommand(Description)
        {
            line._prompt, line._tokens, line._temperature, line._topP, line._seed, line._greedy, line._threads, line._cache, line._backend, line._rowInvariant, line._model, line._score, line._serveDemo,
            line._requests, line._contextCost,
        };
        root.SetAction((parsed, token) => Task.Run(() => line.Guard(parsed, token), CancellationToken.None));
        ParseResult result = root.Parse(arguments);
        if (result.Action is ParseErrorAction)
        {
            foreach (var problem in result.Errors) error.WriteLine(problem.Message);
            return 2;
        }

        return await result.InvokeAsync(new() { Output = output, Error = error, EnableDefaultExceptionHandler = false }, cancellation).ConfigureAwait(false);
    }

    private int Guard(ParseResult parsed, CancellationToken cancellation)
    {
        try
        {
            switch (parsed.GetValue(_cache))
            {
                case "fp32": Execute<float>(parsed, cancellation); break;
                case "fp16": Execute<Half>(parsed, cancellation); break;
                case "int8": Execute<sbyte>(parsed, cancellation); break;
                case "fp8": Execute<Float8E4M3>(parsed, cancellation); break;
                case "q8_0": Execute<Q8Block>(parsed, cancellation); break;
                case string other: throw new ArgumentException($"--cache '{other}' is not {CacheTypes.Names}.");
            }

            return 0;
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
        catch (Exception e) when (e is ArgumentException or IOException or InvalidDataException or TensorFileException or UnauthorizedAccessException or NotSupportedException or CudaException)
        {
            _error.WriteLine(e.Message);
            return 2;
        }
    }

    private void Execute<T>(ParseResult parsed, CancellationToken cancellation)
        where T : unmanaged
    {
        int? threads = parsed.GetValue(_threads);
        if (threads < 1) throw new ArgumentException($"--threads {threads} is not 1 or more.");
        Sampler sampler = ReadSampler(parsed);
        int tokens = parsed.GetValue(_tokens);
        if (tokens is < 1 or > 1_000_000) throw new ArgumentException($"--tokens {tokens} is not from 1 to 1000000.");
        int requests = parsed.GetValue(_requests);
        if (requests is < 1 or > 10_000) throw new ArgumentException($"--requests {requests} is not from 1 to 10000.");
        string prompt = parsed.GetValue(_prompt)!;
        if (prompt.Length == 0) throw new ArgumentException("--prompt is empty; the model needs something to start from.");

        bool serve = parsed.GetValue(_serveDemo);
        using IAttentionDevice device = AttentionDevices.Open(_backend.Name, parsed.GetValue(_backend)!, threads ?? -1);
        LoadedModel loaded = ModelFolder.Load(parsed.GetValue(_model) ?? ModelFolder.DefaultModel);
        var model = new LanguageModel(loaded.Weights, threads ?? -1, parsed.GetValue(_rowInvariant) || serve, device);
        if (parsed.GetValue(_score) is string file) ScoreCommand.Run<T>(loaded, model, file, _output, cancellation);
        else if (serve) ServeDemoCommand.Run<T>(loaded, model, requests, _output, cancellation);
        else if (parsed.GetValue(_contextCost)) ContextCostCommand.Run<T>(model, longest: 4096, _output, cancellation);
        else GenerateCommand.Run<T>(loaded, model, prompt, tokens, sampler, _output, _error, cancellation);
    }

    private Sampler ReadSampler(ParseResult parsed)
    {
        double temperature = parsed.GetValue(_greedy) ? 0 : parsed.GetValue(_temperature);
        double topP = parsed.GetValue(_topP);
        if (!(temperature is >= 0 and <= 100)) throw new ArgumentException($"--temperature {temperature} is not from 0 to 100.");
        if (!(topP is > 0 and <= 1)) throw new ArgumentException($"--top-p {topP} is not above 0 and at most 1.");
        return new(temperature, topP, parsed.GetValue(_seed));
    }
}

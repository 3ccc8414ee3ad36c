using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Comparison;

/// <summary>Score and mask functions by the names and numbers that functions.py has for them.</summary>
internal static unsafe class FunctionRegistry
{
    private const string ScoreNames = "alibi, t5, head-temperature, log-n, scalable-softmax, grid-alibi, tanh-cap";
    private const string MaskNames = "document, prefix, dilated-window, global-local";

    /// <summary>A score function; null where there is no name.</summary>
    /// <param name="function">Its name and numbers.</param>
    /// <param name="heads">Query heads.</param>
    /// <param name="sequences">Sequences.</param>
    /// <exception cref="ArgumentException">No function has the name, or its numbers are fewer or more than it takes.</exception>
    public static ScoreFunction? Score(in NativeFunction function, int heads, int sequences)
    {
        if (function.Name is null) return null;
        ReadOnlySpan<float> numbers = NumbersOf(function);
        switch (NameOf(function))
        {
            case "alibi":
                return ScoreFunction.Of(new LinearBias(new(Counted(function, heads))));
            case "t5":
                Require(function, numbers.Length > heads);
                return ScoreFunction.Of(new T5RelativeBias(numbers[1..], heads, isBidirectional: false, (int)numbers[0]));
            case "head-temperature":
                return ScoreFunction.Of(new HeadTemperature(new(Counted(function, heads))));
            case "log-n":
                return ScoreFunction.Of(new LogNScaling((int)Counted(function, 1)[0]));
            case "scalable-softmax":
                numbers = Counted(function, heads + sequences);
                return ScoreFunction.Of(new ScalableSoftmax(new(numbers[..heads]), new(numbers[heads..])));
            case "grid-alibi":
                numbers = Counted(function, 1 + heads);
                return ScoreFunction.Of(new GridAlibi(new(numbers[1..]), (int)numbers[0]));
            case "tanh-cap":
                return ScoreFunction.Of(new TanhCap(Counted(function, 1)[0]));
            default:
                throw new ArgumentException($"There is no score function '{NameOf(function)}'; expected one of {ScoreNames}.");
        }
    }

    /// <summary>A mask function; null where there is no name.</summary>
    /// <param name="function">Its name and numbers.</param>
    /// <param name="sequences">Sequences.</param>
    /// <exception cref="ArgumentException">No function has the name, or its numbers are fewer or more than it takes.</exception>
    public static MaskFunction? Mask(in NativeFunction function, int sequences)
    {
        if (function.Name is null) return null;
        ReadOnlySpan<float> numbers = NumbersOf(function);
        switch (NameOf(function))
        {
            case "document":
                // Of each token, as queries and keys are the same.
                Require(function, numbers.Length > 0 && numbers.Length % sequences == 0);
                ScoreTable documents = new(numbers, sequences, numbers.Length / sequences);
                return MaskFunction.Of(new DocumentMask(documents, documents));
            case "prefix":
                return MaskFunction.Of(new PrefixMask(new(Counted(function, sequences))));
            case "dilated-window":
                numbers = Counted(function, 3);
                return MaskFunction.Of(new DilatedWindow((int)numbers[0], (int)numbers[1], numbers[2] != 0));
            case "global-local":
                numbers = Counted(function, 2);
                return MaskFunction.Of(new GlobalLocalMask((int)numbers[0], (int)numbers[1]));
            default:
                throw new ArgumentException($"There is no mask function '{NameOf(function)}'; expected one of {MaskNames}.");
        }
    }

    private static string NameOf(in NativeFunction function) => Marshal.PtrToStringUTF8((nint)function.Name)!;

    private static ReadOnlySpan<float> NumbersOf(in NativeFunction function) => new(function.Numbers, (int)function.Count);

    private static ReadOnlySpan<float> Counted(in NativeFunction function, int count)
    {
        if (function.Count != count) throw new ArgumentException($"The function '{NameOf(function)}' takes {count} numbers in this call, and has {function.Count}.");
        return NumbersOf(function);
    }

    private static void Require(in NativeFunction function, bool isRight)
    {
        if (!isRight) throw new ArgumentException($"The function '{NameOf(function)}' has {function.Count} numbers, which are too few or not whole rows.");
    }

    /// <summary><c>s - slope[head] |p - j|</c>: what the options have built in, as a user would write it.</summary>
    private readonly struct LinearBias(ScoreTable slopes) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score - (slopes.At(at.Head) * T.Abs(at.Position - at.Key));
    }
}

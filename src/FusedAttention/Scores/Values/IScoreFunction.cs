namespace FusedAttention;

/// <summary>
/// A change to every score, as the last step before the masks: a struct, so that the compiler makes the body a part of the loop over a row of scores. What it captures are <see cref="ScoreTable"/>s, <see cref="ScoreParameter"/>s and constants.
/// </summary>
/// <remarks>
/// <para>Give the method <c>[MethodImpl(MethodImplOptions.AggressiveInlining)]</c>: without it the runtime may call a long body once for each vector of keys.</para>
/// <para>The function must follow from its arguments alone. Negative infinity excludes the key. What it gives for keys that masks and positions exclude, NaN included, does not show.</para>
/// </remarks>
public interface IScoreFunction
{
    /// <summary>The score that takes the place of <paramref name="score"/>.</summary>
    /// <param name="score">The score after scale, soft cap, bias and ALiBi, in units of the natural logarithm.</param>
    /// <param name="at">Where it stands.</param>
    /// <typeparam name="T">The form of numbers.</typeparam>
    T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>;
}

/// <summary>
/// Which keys a query may see, beside what positions and mask tensors allow: a struct. It is asked before keys are read: tiles that it leaves no key of are passed over, and no mask is ever stored.
/// </summary>
/// <remarks>The remarks on <see cref="IScoreFunction"/> hold.</remarks>
public interface IMaskFunction
{
    /// <summary>A truth: whether the query may see the key.</summary>
    /// <param name="at">Where they stand.</param>
    /// <typeparam name="T">The form of numbers.</typeparam>
    T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>;
}

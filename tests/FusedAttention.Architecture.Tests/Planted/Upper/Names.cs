#pragma warning disable CS0649 // The fields are there for their types.
namespace FusedAttention.Architecture.Tests.Planted;

internal sealed class ByBase : NamedAsBase;

internal struct ByInterface : INamedAsInterface;

internal interface IByConstraint<T>
    where T : INamedAsConstraint;

internal struct ByField
{
    public NamedAsField[] Field;
}

internal interface IByParameter
{
    void Method(ref NamedAsParameter parameter);
}

internal static class ByLocal
{
    public static int Method()
    {
        NamedAsLocal local = default;
        return local.Number;
    }
}

internal static class ByCall
{
    public static int Method() => NamedInCall.Number();
}

internal static class ByLambda
{
    public static Func<int> Method() => static () => NamedInLambda.Number();
}

internal static class ByIterator
{
    public static IEnumerable<int> Method()
    {
        yield return NamedInIterator.Number();
    }
}

internal static class ByTypeArgument
{
    public static object Method() => Array.Empty<NamedAsTypeArgument>();
}

internal static unsafe class ByFunctionPointer
{
    public static delegate*<NamedInFunctionPointer*, void> Field;
}

internal static class ByTypeOf
{
    public static Type Method() => typeof(NamedInTypeOf);
}

internal static class ByCatch
{
    public static void Method(Action action)
    {
        try
        {
            action();
        }
        catch (NamedInCatchException)
        {
            // The clause is what counts.
        }
    }
}

internal struct ByEnum
{
    public NamedEnum Field;
}

internal struct ByDelegate
{
    public NamedDelegate Field;
}

[NamedAs]
internal struct ByAttribute;

internal struct ByInnerType
{
    private struct Inside
    {
        public NamedWithinAType.Inner Field;
    }
}

internal static class ByConstant
{
    public static int Method() => OnlyAConstant.Number;
}

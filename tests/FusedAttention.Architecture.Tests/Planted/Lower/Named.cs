namespace FusedAttention.Architecture.Tests.Planted;

// Each type here is named in exactly one way by a type of the room Upper (see PlantedHouseTests). The namespace is the same: only the folder tells them apart.
internal class NamedAsBase;

internal interface INamedAsInterface;

internal interface INamedAsConstraint;

internal struct NamedAsField;

internal struct NamedAsParameter;

internal struct NamedAsLocal
{
    public int Number { get; set; }
}

internal static class NamedInCall
{
    public static int Number() => 1;
}

internal static class NamedInLambda
{
    public static int Number() => 2;
}

internal static class NamedInIterator
{
    public static int Number() => 3;
}

internal struct NamedAsTypeArgument;

internal struct NamedInFunctionPointer;

internal struct NamedInTypeOf;

internal sealed class NamedInCatchException : Exception;

internal enum NamedEnum
{
    Zero,
    One,
}

internal delegate void NamedDelegate();

[AttributeUsage(AttributeTargets.All)]
internal sealed class NamedAsAttribute : Attribute;

internal static class NamedWithinAType
{
    public struct Inner;
}

// What leaves no trace: the last example is for the list of what is not seen.
internal static class OnlyAConstant
{
    public const int Number = 4;
}

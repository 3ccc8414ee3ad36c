namespace FusedAttention.Paging.Formats;

/// <summary>Whose data a plane holds: it is written from the rows of the keys, or from those of the values. The number of a part is that of its first plane, and the plane of its scales comes two later.</summary>
internal enum CachePart
{
    Keys,
    Values,
}

/// <summary>One of the arrays <c>[blocks, blockSize, heads, elements]</c> that make up a layer of a cache.</summary>
/// <param name="Name">For messages.</param>
/// <param name="Part">What is written to it.</param>
/// <param name="ElementType">What it is stored as.</param>
/// <param name="Elements">Elements of a token and head: a dimension of keys or values, or its blocks; 1 for a scale.</param>
internal readonly record struct CachePlane(string Name, CachePart Part, AttentionElementType ElementType, int Elements);

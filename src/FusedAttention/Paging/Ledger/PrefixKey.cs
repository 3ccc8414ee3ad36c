using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// Numbers that stand for the beginning of a prompt: the key of its first k blocks comes from the key of k - 1 and the tokens of the last one, so a prompt's keys are computed once, and each new block
/// costs what its own tokens cost.
/// </summary>
/// <remarks>A key chooses where to look; what is found is compared by its tokens. The secrets differ in each process, so nobody can prepare prompts whose keys are alike.</remarks>
internal static class PrefixKey
{
    private static readonly ulong[] Secrets = MemoryMarshal.Cast<byte, ulong>(RandomNumberGenerator.GetBytes(24)).ToArray();

    /// <summary>The key of no tokens.</summary>
    /// <param name="identity">What keys and values depend on beside tokens.</param>
    public static ulong Start(UInt128 identity) => Mix((ulong)identity ^ Secrets[0], (ulong)(identity >> 64) ^ Secrets[1]);

    /// <summary>The key of what <paramref name="before"/> stands for and these tokens.</summary>
    public static ulong Next(ulong before, ReadOnlySpan<int> tokens)
    {
        // Two products of 64 bits a 16 bytes, each folded to 64 (as in wyhash): 5 bytes a clock, where HashCode takes 1.
        ulong secret = Secrets[2], key = before ^ ((ulong)tokens.Length * Secrets[1]);
        ReadOnlySpan<ulong> pairs = MemoryMarshal.Cast<int, ulong>(tokens);
        int i = 0;
        for (; i + 2 <= pairs.Length; i += 2) key = Mix(pairs[i] ^ secret, pairs[i + 1] ^ key);
        if (i < pairs.Length) key = Mix(pairs[i] ^ secret, key);
        if (tokens.Length % 2 != 0) key = Mix((uint)tokens[^1] ^ secret, ~key);
        return Mix(key ^ Secrets[0], secret);
    }

    /// <summary>A number for a name, the same for equal names only: the first half of its SHA-256; 0 for no name.</summary>
    public static UInt128 Identity(string? name)
    {
        if (string.IsNullOrEmpty(name)) return default;
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(name), hash);
        return MemoryMarshal.Read<UInt128>(hash);
    }

    private static ulong Mix(ulong a, ulong b) => Math.BigMul(a, b, out ulong low) ^ low;
}

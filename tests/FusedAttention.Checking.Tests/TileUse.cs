using System.Runtime.CompilerServices;

namespace FusedAttention.Checking.Tests;

/// <summary>Emulated tiles for this program, where its environment asks for them.</summary>
internal static class TileUse
{
    [ModuleInitializer]
    internal static void Start() => EmulatedTiles.UseIfAsked();
}

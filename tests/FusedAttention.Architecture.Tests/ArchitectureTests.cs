using Xunit;

namespace FusedAttention.Architecture.Tests;

/// <summary>
/// The rooms of <c>src</c>, which are its folders, and who names whom: as the table of docs/architecture.md says, which has no circle, and so no arrow runs upward.
/// <see cref="AssemblyTypes"/> says what is seen and what cannot be.
/// </summary>
public sealed class ArchitectureTests
{
    private static readonly House House = House.Read(AppContext.BaseDirectory, "src");
    private static readonly ArrowTable Table = ArrowTable.OfPage(Path.Combine(ReferenceData.Root, "docs", "architecture.md"));

    [Fact]
    public void Every_project_of_src_is_read()
    {
        string[] projects = [.. Directory.GetFiles(Path.Combine(ReferenceData.Root, "src"), "*.csproj", SearchOption.AllDirectories).Select(Path.GetFileNameWithoutExtension).OfType<string>().Order(StringComparer.Ordinal)];
        Assert.Equal(string.Join('\n', projects), string.Join('\n', House.Rooms.Select(room => room.Split('/')[0]).Distinct(StringComparer.Ordinal)));
    }

    [Fact]
    public void Every_folder_is_a_room_of_the_table()
    {
        string[] rooms = [.. Table.Rooms.Order(StringComparer.Ordinal)];
        Assert.True(rooms.AsSpan().SequenceEqual(House.Rooms),
            $"Rooms that the table of docs/architecture.md does not have: {Listed(House.Rooms.Except(rooms, StringComparer.Ordinal))}. Rooms of the table that have no source: {Listed(rooms.Except(House.Rooms, StringComparer.Ordinal))}.");
    }

    [Fact]
    public void Arrows_run_as_the_table_says()
    {
        string[] upward = [.. House.Arrows.Where(arrow => !Table.Allows(arrow.From, arrow.To)).Select(arrow => arrow.ToString())];
        Assert.True(upward.Length == 0, $"Arrows that the table of docs/architecture.md does not allow:\n{string.Join('\n', upward)}");
    }

    private static string Listed(IEnumerable<string> rooms) => rooms.Any() ? string.Join(", ", rooms) : "none";
}

using FusedAttention.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Planning;

public sealed class FewRowsTests
{
    [Theory]
    [InlineData(1, 1, true)]
    [InlineData(1, 32, true)]      // one query, whatever the group
    [InlineData(16, 1, true)]
    [InlineData(17, 1, false)]
    [InlineData(2, 8, true)]
    [InlineData(3, 8, false)]
    [InlineData(int.MaxValue, 32, false)]
    public void Few_rows_are_one_query_or_so_many_rows_a_head(int queries, int group, bool expected)
    {
        var problem = new AttentionProblem { Group = group };
        var sequence = new SequenceProblem { QueryLength = queries };
        Assert.Equal(expected, FewRows.Has(problem, sequence, 16));
    }

    [Fact]
    public void Row_invariance_knows_no_few_rows() =>
        Assert.False(FewRows.Has(new AttentionProblem { Group = 1, RowInvariant = true }, new SequenceProblem { QueryLength = 1 }, 16));
}

using System.Diagnostics;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Measurement;

/// <summary>Times of one contender in milliseconds a call.</summary>
internal sealed record Timing(double Best, double Median, int Trials);

/// <summary>
/// Times several contenders in rounds of one short trial each, so that a busy neighbour or a change of clock meets all of them alike. Who begins changes from round to round.
/// </summary>
internal static class InterleavedTiming
{
    private const int MinTrials = 3;

    /// <summary>Calls shorter than this are timed in groups, so that a trial is long beside the clock's own cost and an interrupt.</summary>
    private const double MinTrialMilliseconds = 8;

    /// <summary>Below this a call goes before each trial untimed: the contender before has filled the caches with its own.</summary>
    private const double WarmUpMilliseconds = 4;

    /// <summary>Long enough for threads of the contender before, if it has any, to stop looking for work.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    public static Timing[] Measure(IReadOnlyList<Contender> contenders, TimeSpan timeForEach, int threads, Action tick)
    {
        var runners = contenders.Select(c => new Runner(c)).ToArray();
        foreach (Runner runner in runners) runner.WarmUp();
        for (int round = 0; runners.Any(r => r.IsUnfinished(timeForEach)); round++)
        {
            for (int i = 0; i < runners.Length; i++)
            {
                Runner runner = runners[(round + i) % runners.Length];
                if (!runner.IsUnfinished(timeForEach)) continue;
                if (threads > 1) Thread.Sleep(Pause);
                runner.Trial();
                tick();
            }
        }

        return [.. runners.Select(r => r.Result())];
    }

    private sealed class Runner(Contender contender)
    {
        private readonly List<double> _trials = [];
        private double _shortest = double.PositiveInfinity;
        private double _total;

        public bool IsUnfinished(TimeSpan time) => _trials.Count < MinTrials || _total < time.TotalMilliseconds;

        /// <summary>At least the second call, after the one that was checked: an arena may still grow, and fault its pages in, on it.</summary>
        public void WarmUp()
        {
            double total = 0;
            for (int call = 0; call < 1 || (total < MinTrialMilliseconds && call < 1000); call++)
            {
                double milliseconds = Time(1);
                _shortest = Math.Min(_shortest, milliseconds);
                total += milliseconds;
            }

            contender.Rest();
        }

        public void Trial()
        {
            int calls = Math.Max(1, (int)(MinTrialMilliseconds / _shortest));
            if (_shortest < WarmUpMilliseconds) Time(1);
            double milliseconds = Time(calls);
            contender.Rest();
            _total += milliseconds;
            _trials.Add(milliseconds / calls);
            _shortest = Math.Min(_shortest, milliseconds / calls);
        }

        public Timing Result()
        {
            _trials.Sort();
            int middle = _trials.Count / 2;
            double median = _trials.Count % 2 == 1 ? _trials[middle] : (_trials[middle - 1] + _trials[middle]) / 2;
            return new(_trials[0], median, _trials.Count);
        }

        private double Time(int calls)
        {
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < calls; i++) contender.Run();
            return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }
    }
}

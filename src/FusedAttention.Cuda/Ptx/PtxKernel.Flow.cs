using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <content>Branches and loops, closed by construction.</content>
internal sealed partial class PtxKernel
{
    private int _labels;

    /// <summary>Runs <paramref name="body"/> where <paramref name="condition"/> holds.</summary>
    public void If(Predicate condition, Action body)
    {
        string end = NewLabel("endif");
        Branch(!condition, end);
        Block(body);
        Place(end);
    }

    /// <summary>One or the other.</summary>
    public void If(Predicate condition, Action yes, Action no)
    {
        string otherwise = NewLabel("else"), end = NewLabel("endif");
        Branch(!condition, otherwise);
        Block(yes);
        Branch(end);
        Place(otherwise);
        Block(no);
        Place(end);
    }

    /// <summary>Runs <paramref name="body"/> for <paramref name="first"/>, first + step, ... below <paramref name="end"/>.</summary>
    /// <param name="name">The loop's variable, in the text.</param>
    /// <param name="first">Where it begins.</param>
    /// <param name="end">Where it ends; not changed by the body.</param>
    /// <param name="step">More than 0.</param>
    /// <param name="body">Gets the variable.</param>
    public void For(string name, I32 first, I32 end, I32 step, Action<I32> body)
    {
        I32 index = Variable(name, first);
        While(name, () => index < end, () =>
        {
            body(index);
            index.Add(step);
        });
    }

    /// <summary>The same, and a loop in machine code too: others the assembler unrolls, and then has their text several times to work on.</summary>
    /// <inheritdoc cref="For"/>
    public void ForRolled(string name, I32 first, I32 end, I32 step, Action<I32> body) => For(name, first, end, step, index =>
    {
        EmitText(".pragma \"nounroll\"");
        body(index);
    });

    /// <summary>Runs <paramref name="body"/> as long as <paramref name="condition"/>, which is written in front of the loop and again at its end, holds.</summary>
    public void While(string name, Func<Predicate> condition, Action body)
    {
        string start = NewLabel(name), end = NewLabel($"end_{name}");
        Branch(!condition(), end);
        Place(start);
        Block(body);
        Branch(condition(), start);
        Place(end);
    }

    /// <summary>Runs <paramref name="body"/> once, and again as long as the condition that it returns holds.</summary>
    public void Repeat(string name, Func<Predicate> body)
    {
        string start = NewLabel(name);
        Place(start);
        Predicate again = null!;
        Block(() => again = body());
        Branch(again, start);
    }

    /// <summary>Runs <paramref name="body"/>, which may leave early: what it gets goes to the end.</summary>
    public void Scope(string name, Action<Action> body)
    {
        string end = NewLabel($"end_{name}");
        Block(() => body(() => Branch(end)));
        Place(end);
    }

    /// <summary>A place of the text that is gone to from another one, where two ways share a long piece.</summary>
    public string NewPlace(string name) => NewLabel(name);

    /// <summary>The place is here; what is written before comes to it too.</summary>
    public void Mark(string place) => Place(place);

    /// <summary>Goes on at a place.</summary>
    public void GoTo(string place) => Branch(place);

    /// <summary>Goes on at a place where <paramref name="condition"/> holds.</summary>
    public void GoTo(string place, Predicate condition) => Branch(condition, place);

    /// <summary>Ends the thread where <paramref name="condition"/> holds.</summary>
    public void ExitIf(Predicate condition) => Where(condition, () => Emit("exit"));

    /// <summary>Ends the thread.</summary>
    public void Exit() => Emit("exit");

    private string NewLabel(string stem) => string.Create(CultureInfo.InvariantCulture, $"${stem}_{++_labels}");

    private void Branch(Predicate condition, string label) => Where(condition, () => EmitText("bra", label));

    private void Branch(string label) => EmitText("bra.uni", label);

    private void Place(string label) => _lines.Add(new(Line.Label, [label], null, 0));

    private void Block(Action body)
    {
        _depth++;
        body();
        _depth--;
    }
}

using System.Text;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Onnx;

/// <summary>One operator of ONNX Runtime: a session of a model of one node, with tensors over our own memory.</summary>
internal sealed unsafe class OrtContender : Contender
{
    private readonly OrtLibrary _library;
    private readonly AttentionCase _case;
    private readonly OrtOperator _operator;
    private readonly nint _session;
    private readonly nint[] _inputs;
    private readonly nint[] _outputs;
    private readonly AlignedBuffer _names;
    private readonly nint[] _inputNames;
    private readonly nint[] _outputNames;

    public OrtContender(OrtLibrary library, AttentionCase attentionCase, OrtOperator ortOperator, int threads)
    {
        _library = library;
        _case = attentionCase;
        _operator = ortOperator;
        try
        {
            byte[] model = OnnxModel.OneNode(
                ortOperator.Name, ortOperator.Domain, ortOperator.Opset, ortOperator.Attributes, [.. ortOperator.Inputs.Select(i => i.Value)], [.. ortOperator.Outputs.Select(o => o.Value)]);
            _session = library.CreateSession(model, threads);
        }
        catch
        {
            ortOperator.Dispose();
            throw;
        }

        _names = new AlignedBuffer(4096);
        int used = 0;
        _inputNames = [.. ortOperator.Inputs.Select(i => Name(i.Value.Name, ref used))];
        _outputNames = [.. ortOperator.Outputs.Select(o => Name(o.Value.Name, ref used))];
        _inputs = [.. ortOperator.Inputs.Select(i => library.CreateTensor(i.Value, (byte*)i.Address))];
        _outputs = [.. ortOperator.Outputs.Select(o => library.CreateTensor(o.Value, (byte*)o.Address))];
    }

    public override void Run()
    {
        fixed (nint* inputNames = _inputNames, inputs = _inputs, outputNames = _outputNames, outputs = _outputs)
        {
            _library.Run(_session, (byte**)inputNames, inputs, _inputs.Length, (byte**)outputNames, outputs, _outputs.Length);
        }
    }

    public override void CopyOutput(Span<float> output)
    {
        int dim = _case.Dim;
        for (int query = 0; query < _case.Queries; query++)
        {
            for (int head = 0; head < _case.QueryHeads; head++)
            {
                int row = ((query * _case.QueryHeads) + head) * dim;
                int source = _operator.IsOutputHeadMajor ? ((head * _case.Queries) + query) * dim : row;
                ElementRow.Load(_case.Type, _operator.Result, source, output.Slice(row, dim));
            }
        }
    }

    protected override void Dispose(bool disposing)
    {
        foreach (nint tensor in _inputs) _library.ReleaseTensor(tensor);
        foreach (nint tensor in _outputs) _library.ReleaseTensor(tensor);
        _library.ReleaseSession(_session);
        _operator.Dispose();
        _names.Dispose();
    }

    /// <summary>The address of a name that ends with a zero.</summary>
    private nint Name(string name, ref int used)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name + "\0");
        bytes.CopyTo(_names.Elements<byte>(used, bytes.Length));
        nint address = (nint)(_names.Pointer + used);
        used += bytes.Length;
        return address;
    }
}

/// The F# examples of docs/fsharp.md: each stands there word for word (the tests of the guides compare), and is compiled, run and checked here.
module FusedAttention.FSharp.Tests.GuideExamples

open System
open System.Numerics.Tensors
open FusedAttention
open Xunit

[<Fact>]
let Prefill () =
    // README: FSharpPrefill
    // 2 sequences of 512 tokens, 8 query heads that share 2 key/value heads, 64 dimensions a head.
    let tensor heads = Tensor.CreateFromShape<float32>(ReadOnlySpan [| 2n; 512n; heads; 64n |])
    let query, key, value, output = tensor 8n, tensor 2n, tensor 2n, tensor 8n

    Attention.Forward(query, key, value, output, AttentionOptions(Mask = AttentionMask.Causal))
    // README: end
    value.Fill(3f) |> ignore
    Attention.Forward(query, key, value, output, AttentionOptions(Mask = AttentionMask.Causal))
    Assert.All(output, (fun x -> Assert.Equal(3f, x, 1e-6f)))

// README: FSharpDecode
/// One new token of a sequence with 1,000 tokens in a cache that has room for 4,096; float queries over a cache in half precision.
let decode (query: float32[]) (key: Half[]) (value: Half[]) (output: float32[]) =
    let shape = AttentionShape(1, 1, 4096, 8, 2, 64) // batch, queries, keys, query heads, key/value heads, dimensions
    let lengths = [| 1000 |]
    let operands = AttentionOperands(KeyLengths = ReadOnlySpan lengths)

    Attention.Forward<float32, Half>(
        ReadOnlySpan query, ReadOnlySpan key, ReadOnlySpan value, Span output, &shape, AttentionOptions.Default, &operands)
// README: end

[<Fact>]
let Decode () =
    let key = Array.zeroCreate<Half> (4096 * 2 * 64)
    let value = Array.create (4096 * 2 * 64) Half.NaN
    Array.fill value 0 (1000 * 2 * 64) (Half.op_Explicit 2f: Half)
    let output = Array.zeroCreate<float32> (8 * 64)
    decode (Array.zeroCreate (8 * 64)) key value output
    Assert.All(output, (fun x -> Assert.Equal(2f, x, 1e-6f)))

[<Fact>]
let Cache () =
    // README: FSharpCache
    // Two sequences get 20 tokens and 1 more, and attend to all that they have; float rows, rounded to the cache's half precision.
    let attend (keys: float32[]) (values: float32[]) =
        let rows () = Tensor.CreateFromShape<float32>(ReadOnlySpan [| 21n; 8n; 64n |])
        let query, output = rows (), rows ()
        use cache = new PagedKeyValueCache<Half>(PagedKeyValueCacheOptions(Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64))
        let sequences = [| cache.CreateSequence(); cache.CreateSequence() |]
        let tokens = [| 20; 1 |]
        let batch = cache.CreateBatch()

        cache.Extend(ReadOnlySpan sequences, ReadOnlySpan tokens)
        batch.Add(ReadOnlySpan sequences, ReadOnlySpan tokens)
        cache.Write<float32>(0, batch, ReadOnlySpan keys, ReadOnlySpan values)
        Attention.ForwardPaged(query, output, cache, 0, batch, AttentionOptions(Mask = AttentionMask.Causal))
        output

    let output = attend (Array.zeroCreate (21 * 2 * 64)) (Array.create (21 * 2 * 64) 3f)
    // README: end
    Assert.All(output, (fun x -> Assert.Equal(3f, x, 1e-6f)))

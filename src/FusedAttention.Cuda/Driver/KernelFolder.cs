using System.Security.Cryptography;
using System.Text;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>
/// Assembled kernels in a folder of the caller's: a file each, named by a hash of all that its contents depend on, so that nothing has to be found out of date. Any number of processes may share it. What cannot
/// be read or written is as if it were not there; so is what is damaged, which a hash in front of the machine code tells: the driver is told no length, and would read on.
/// </summary>
internal sealed class KernelFolder
{
    private readonly string _device;

    /// <param name="path">Made if it is not there.</param>
    /// <param name="device">What the kernels are for.</param>
    /// <exception cref="IOException">It cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be made.</exception>
    public KernelFolder(string path, CudaDeviceDescription device)
    {
        Path = Directory.CreateDirectory(path).FullName;
        _device = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{device.Name} {device.Major}.{device.Minor} {device.DriverVersion}\n");
    }

    public string Path { get; }

    /// <summary>The file of a kernel.</summary>
    public string FileOf(string text) =>
        System.IO.Path.Combine(Path, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(_device + text))) + ".kernel");

    /// <summary>What is in a kernel's file; null if there is none.</summary>
    public static byte[]? Read(string file)
    {
        try
        {
            byte[] contents = File.ReadAllBytes(file);
            if (contents.Length <= SHA256.HashSizeInBytes) return null;
            ReadOnlySpan<byte> image = contents.AsSpan(SHA256.HashSizeInBytes);
            return contents.AsSpan().StartsWith(SHA256.HashData(image)) ? image.ToArray() : null;
        }
        catch (Exception failure) when (IsOfFiles(failure))
        {
            return null;
        }
    }

    /// <summary>Writes a kernel's file, whole or not at all.</summary>
    public static void Write(string file, byte[] image)
    {
        string beside = $"{file}.{Guid.NewGuid():n}";
        try
        {
            File.WriteAllBytes(beside, [.. SHA256.HashData(image), .. image]);
            File.Move(beside, file, overwrite: true);
        }
        catch (Exception failure) when (IsOfFiles(failure))
        {
            TryDelete(beside);
        }
    }

    private static void TryDelete(string file)
    {
        try
        {
            File.Delete(file);
        }
        catch (Exception failure) when (IsOfFiles(failure))
        {
            // A full disk, most likely: nothing is lost but time.
        }
    }

    private static bool IsOfFiles(Exception failure) => failure is IOException or UnauthorizedAccessException;
}

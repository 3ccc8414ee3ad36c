using System.Runtime.CompilerServices;

// Handlers have their temporary rows on the stack: clearing them would cost more than what is done with them.
[module: SkipLocalsInit]

// How a run ends badly: one message, then where in the launch it happened. Exit code 3 is ours, 4 a sanitizer's, 5 a signal's.
#include "emulator.h"
#include "sanitizers.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

const void *main_stack_bottom;
size_t main_stack_size;
struct launch launch;
uint32_t group_position[3];

static void print_arguments(const char *format, va_list arguments) {
    char text[1024];
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    if (length > (int)sizeof text - 2) length = sizeof text - 2;
    text[length] = '\n';
    if (write(STDERR_FILENO, text, (size_t)length + 1) < 0) _exit(6);
}

void print_line(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_arguments(format, arguments);
    va_end(arguments);
}

void report_place(void) {
    if (launch.name == NULL) return;
    if (current_thread < MAX_THREADS)
        print_line("metal emulator: in kernel %s, threadgroup (%u, %u, %u), thread %u (simdgroup %u, lane %u)", launch.name, group_position[0], group_position[1],
                   group_position[2], current_thread, current_thread / LANES, current_thread % LANES);
    else print_line("metal emulator: in kernel %s", launch.name);
}

void fail(const char *format, ...) {
    char text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_line("metal emulator: %s", text);
    report_place();
    _exit(3);
}

void fail_at(struct site site, const char *format, ...) {
    char text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail("%s:%u:%u: %s", site.file, site.line, site.column, text);
}

#if WITH_ASAN || WITH_MSAN
void __sanitizer_set_death_callback(void (*callback)(void));
void install_handlers(void) { __sanitizer_set_death_callback(report_place); }
#else
static void on_signal(int number) {
    print_line("metal emulator: signal %d: a pointer that leads nowhere, a slot without a buffer, or a stack of more than 256 KB", number);
    report_place();
    _exit(5);
}

void install_handlers(void) {
    static char stack[32768];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (int i = 0; i < 4; i++) sigaction(signals[i], &action, NULL);
}
#endif

// Fibers that are dropped at the end would be leaks, and the message is enough without a copy of the stack frames that are gone.
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "exitcode=4:detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1"; }
const char *__msan_default_options(void);
const char *__msan_default_options(void) { return "exitcode=4"; }
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "exitcode=4:print_stacktrace=0:halt_on_error=1"; }

// One launch of one kernel, threadgroup after threadgroup in this process, its threads as fibers.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { LANES = 32, MAX_THREADS = 1024, MAX_SIMDGROUPS = MAX_THREADS / LANES, MAX_SLOTS = 31, MAX_MEMORIES = 32 };

// A place in the kernels' text.
struct site {
    const char *file;
    uint32_t line, column;
};

enum order { FORWARD, REVERSE, RANDOM };

struct launch {
    uint32_t kernel;
    const char *name;
    uint32_t groups[3], threads[3];
};

// The threadgroup and the thread that run now.
extern struct launch launch;
extern uint32_t group_position[3];
extern uint32_t current_thread; // MAX_THREADS between threads

// Made with the kernels (EmulatorBuild): what the harness added to their module.
struct array_entry {
    const char *kernel;
    const char *name;
    void *address;
    uint64_t size;
};
struct constant_entry {
    const char *name;
    void *address;
    uint64_t size;
};
extern const struct array_entry metal_emulator_arrays[];
extern const uint64_t metal_emulator_array_count;
extern const struct constant_entry metal_emulator_constants[];
extern const uint64_t metal_emulator_constant_count;
void metal_emulator_run_kernel(uint32_t kernel);
uint64_t metal_emulator_size_of(uint32_t kernel, uint32_t slot); // of an argument by reference, else 0

// scheduler.c
void scheduler_start(uint32_t threads);
void run_threadgroup(enum order order, uint64_t *random);
uint64_t next_random(uint64_t *state);

// report.c
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail_at(struct site site, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_place(void);
void install_handlers(void);

// memory.c
void load_launch(const char *path);
void prepare_memory(void);
void compare_memory(const char *order_name, int first);
void write_results(const char *path);
void poison_threadgroup_memory(void);

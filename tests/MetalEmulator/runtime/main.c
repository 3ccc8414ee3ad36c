// emulator LAUNCH RESULT SEED ORDER...: runs a launch once for each order (forward, reverse, random), from the same inputs, and compares what was written.
// emulator --describe: the threadgroup memory that each kernel declares, a line an array.
#include "emulator.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREAD_IN_GRID, GROUP_IN_GRID, THREAD_IN_GROUP, THREADS_PER_GROUP, GROUPS_PER_GRID, THREADS_PER_GRID, THREAD_INDEX, LANE, SIMDGROUP, SIMDGROUPS_PER_GROUP, LANES_PER_SIMDGROUP };

static uint32_t thread_position(uint32_t axis) {
    uint32_t x = launch.threads[0], y = launch.threads[1];
    return axis == 0 ? current_thread % x : axis == 1 ? current_thread / x % y : current_thread / x / y;
}

uint32_t metal_emulator_position(uint32_t kind, uint32_t axis);
uint32_t metal_emulator_position(uint32_t kind, uint32_t axis) {
    switch (kind) {
    case THREAD_IN_GRID: return group_position[axis] * launch.threads[axis] + thread_position(axis);
    case GROUP_IN_GRID: return group_position[axis];
    case THREAD_IN_GROUP: return thread_position(axis);
    case THREADS_PER_GROUP: return launch.threads[axis];
    case GROUPS_PER_GRID: return launch.groups[axis];
    case THREADS_PER_GRID: return launch.groups[axis] * launch.threads[axis];
    case THREAD_INDEX: return current_thread;
    case LANE: return current_thread % LANES;
    case SIMDGROUP: return current_thread / LANES;
    case SIMDGROUPS_PER_GROUP: return (launch.threads[0] * launch.threads[1] * launch.threads[2] + LANES - 1) / LANES;
    case LANES_PER_SIMDGROUP: return LANES;
    default: fail("built-in %u", kind);
    }
}

static void run_grid(enum order order, uint64_t *random) {
    uint64_t count = (uint64_t)launch.groups[0] * launch.groups[1] * launch.groups[2];
    // In random order a fixed odd step through the grid from a random start, so that each threadgroup comes once.
    uint64_t start = order == RANDOM ? next_random(random) % count : 0, step = 1;
    if (order == RANDOM && count > 2)
        for (step = 1 + next_random(random) % (count - 1);; step = step % (count - 1) + 1) {
            uint64_t a = step, b = count;
            while (b != 0) {
                uint64_t rest = a % b;
                a = b;
                b = rest;
            }
            if (a == 1) break;
        }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t group = order == REVERSE ? count - 1 - i : (start + i * step) % count;
        group_position[0] = (uint32_t)(group % launch.groups[0]);
        group_position[1] = (uint32_t)(group / launch.groups[0] % launch.groups[1]);
        group_position[2] = (uint32_t)(group / launch.groups[0] / launch.groups[1]);
        poison_threadgroup_memory();
        run_threadgroup(order, random);
    }
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--describe") == 0) {
        for (uint64_t i = 0; i < metal_emulator_array_count; i++)
            printf("%s %s %lu\n", metal_emulator_arrays[i].kernel, metal_emulator_arrays[i].name, (unsigned long)metal_emulator_arrays[i].size);
        return 0;
    }
    if (count < 5) fail("LAUNCH RESULT SEED ORDER...");
    install_handlers();
    load_launch(arguments[1]);
    scheduler_start(launch.threads[0] * launch.threads[1] * launch.threads[2]);
    uint64_t random = strtoull(arguments[3], NULL, 10);
    for (int i = 4; i < count; i++) {
        enum order order = strcmp(arguments[i], "forward") == 0 ? FORWARD : strcmp(arguments[i], "reverse") == 0 ? REVERSE : RANDOM;
        prepare_memory();
        run_grid(order, &random);
        compare_memory(arguments[i], i == 4);
    }
    write_results(arguments[2]);
    return 0;
}

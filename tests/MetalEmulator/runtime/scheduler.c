// Threads of a threadgroup as fibers. One runs at a time, until it has to wait at a barrier or for the other lanes of its simdgroup; then the next that can run is
// chosen by the launch's order. A switch saves six registers by a routine of our own: swapcontext would call the kernel twice for the signal mask.
#include "emulator.h"
#include "sanitizers.h"
#include <string.h>
#include <sys/mman.h>

enum { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096 };

struct lane {
    void *stack_pointer;
    void *fake_stack;
    uint64_t passed;     // digest of the places passed since the last exchange
    uint32_t operations; // chooses one of two sets of slots: a lane may be one operation ahead of the others
    struct site site;
};

struct simdgroup {
    uint32_t full, ready, arrived, finished; // bits of lanes
    uint64_t passed;
    struct site site;
    uint64_t slots[2][2 * LANES];
};

static struct lane lanes[MAX_THREADS];
static struct simdgroup simdgroups[MAX_SIMDGROUPS];
static char *stacks;
static void *main_stack_pointer;
static uint32_t thread_count, simdgroup_count;
static uint32_t barrier_arrived;
static struct site barrier_site;
static enum order run_order;
static uint64_t *random_state;

uint32_t current_thread = MAX_THREADS;

// Saves what the calling convention asks a function to keep, changes stacks, and restores.
void metal_emulator_switch(void **save, void *load);
__asm__(".text\n"
        ".globl metal_emulator_switch\n"
        ".type metal_emulator_switch, @function\n"
        "metal_emulator_switch:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n"
        ".size metal_emulator_switch, . - metal_emulator_switch\n");

uint64_t next_random(uint64_t *state) {
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static char *stack_of(uint32_t thread) { return stacks + (size_t)thread * (STACK_BYTES + GUARD_BYTES) + GUARD_BYTES; }

static void switch_to(void **save, void **fake_stack, uint32_t thread) {
    current_thread = thread;
    int to_lane = thread < MAX_THREADS;
    leave_stack(fake_stack, to_lane ? stack_of(thread) : NULL, to_lane ? STACK_BYTES : 0);
    metal_emulator_switch(save, to_lane ? lanes[thread].stack_pointer : main_stack_pointer);
    enter_stack(*fake_stack);
}

static uint32_t lowest(uint32_t bits) { return (uint32_t)__builtin_ctz(bits); }
static uint32_t highest(uint32_t bits) { return 31u - (uint32_t)__builtin_clz(bits); }

// The n-th of the bits that are set, n random.
static uint32_t any_of(uint32_t bits) {
    for (uint32_t skip = (uint32_t)(next_random(random_state) % (uint32_t)__builtin_popcount(bits)); skip > 0; skip--) bits &= bits - 1;
    return lowest(bits);
}

static uint32_t choose(uint32_t bits) { return run_order == FORWARD ? lowest(bits) : run_order == REVERSE ? highest(bits) : any_of(bits); }

static void describe_waiting(void) {
    for (uint32_t s = 0; s < simdgroup_count; s++) {
        struct simdgroup *group = &simdgroups[s];
        uint32_t left = group->full & ~group->finished;
        if (group->finished != 0) print_line("  simdgroup %u: lanes %08x have returned", s, group->finished);
        while (left != 0) {
            struct site site = lanes[s * LANES + lowest(left)].site;
            uint32_t here = 0;
            for (uint32_t lane = 0; lane < LANES; lane++) {
                struct site other = lanes[s * LANES + lane].site;
                if ((left >> lane & 1u) != 0 && other.line == site.line && other.column == site.column && other.file == site.file) here |= 1u << lane;
            }
            print_line("  simdgroup %u: lanes %08x wait at %s:%u:%u", s, here, site.file, site.line, site.column);
            left &= ~here;
        }
    }
}

// The thread that runs next: of the same simdgroup while it has one. MAX_THREADS when all have returned.
static uint32_t next_thread(uint32_t simdgroup) {
    if (simdgroup < simdgroup_count && simdgroups[simdgroup].ready != 0) return simdgroup * LANES + choose(simdgroups[simdgroup].ready);
    uint32_t ready = 0, finished = 0;
    for (uint32_t s = 0; s < simdgroup_count; s++) {
        ready |= (uint32_t)(simdgroups[s].ready != 0) << s;
        finished += simdgroups[s].finished == simdgroups[s].full;
    }
    if (ready != 0) {
        uint32_t s = choose(ready);
        return s * LANES + choose(simdgroups[s].ready);
    }
    if (finished == simdgroup_count) return MAX_THREADS;
    print_line("metal emulator: no thread can go on: a barrier or a simdgroup function that not all of them reach");
    describe_waiting();
    fail("divergence");
}

// Goes on with another thread: of this simdgroup if it has one that can run and `any` is not asked for. It may be this thread itself.
static void give_way(int any) {
    struct lane *lane = &lanes[current_thread];
    uint32_t next = next_thread(any ? MAX_SIMDGROUPS : current_thread / LANES);
    if (next != current_thread) switch_to(&lane->stack_pointer, &lane->fake_stack, next);
}

static void thread_main(void) {
    enter_stack(NULL);
    for (;;) {
        metal_emulator_run_kernel(launch.kernel);
        struct simdgroup *group = &simdgroups[current_thread / LANES];
        struct lane *lane = &lanes[current_thread];
        if (group->finished == 0) group->passed = lane->passed;
        else if (group->passed != lane->passed) fail_at(lane->site, "lanes of simdgroup %u came through different simdgroup loads or stores before they returned", current_thread / LANES);
        group->ready &= ~(1u << current_thread % LANES);
        group->finished |= 1u << current_thread % LANES;
        give_way(0);
    }
}

void scheduler_start(uint32_t threads) {
    thread_count = threads;
    simdgroup_count = (threads + LANES - 1) / LANES;
    size_t bytes = (size_t)threads * (STACK_BYTES + GUARD_BYTES);
    stacks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) fail("no memory for %u stacks", threads);
    for (uint32_t t = 0; t < threads; t++) {
        mprotect(stack_of(t) - GUARD_BYTES, GUARD_BYTES, PROT_NONE);
        // Six registers and the address that the first switch returns to; above it a null return address keeps the stack as after a call.
        void **top = (void **)(stack_of(t) + STACK_BYTES) - 8;
        top[6] = (void *)thread_main;
        lanes[t].stack_pointer = top;
    }
}

void run_threadgroup(enum order order, uint64_t *random) {
    run_order = order;
    random_state = random;
    barrier_arrived = 0;
    for (uint32_t t = 0; t < thread_count; t++) {
        lanes[t].passed = 0;
        lanes[t].operations = 0;
        lanes[t].site = (struct site){"(start)", 0, 0};
    }
    for (uint32_t s = 0; s < simdgroup_count; s++) {
        uint32_t left = thread_count - s * LANES;
        struct simdgroup *group = &simdgroups[s];
        group->full = group->ready = left >= LANES ? UINT32_MAX : (1u << left) - 1;
        group->arrived = group->finished = 0;
    }
    void *fake_stack = NULL;
    switch_to(&main_stack_pointer, &fake_stack, next_thread(MAX_SIMDGROUPS));
}

static int same(struct site a, struct site b) { return a.line == b.line && a.column == b.column && a.file == b.file; }

void metal_emulator_threadgroup_barrier(const char *file, uint32_t line, uint32_t column) {
    struct lane *lane = &lanes[current_thread];
    lane->site = (struct site){file, line, column};
    if (barrier_arrived == 0) barrier_site = lane->site;
    else if (!same(barrier_site, lane->site)) fail_at(lane->site, "threads of a threadgroup wait at different barriers; others at %s:%u:%u", barrier_site.file, barrier_site.line, barrier_site.column);
    if (++barrier_arrived < thread_count) {
        simdgroups[current_thread / LANES].ready &= ~(1u << current_thread % LANES);
        give_way(0);
        return;
    }
    barrier_arrived = 0;
    for (uint32_t s = 0; s < simdgroup_count; s++) simdgroups[s].ready = simdgroups[s].full & ~simdgroups[s].finished;
    // The order decides who goes on first, not who came last: of two simdgroups each is first in one of forward and reverse.
    give_way(1);
}

const uint64_t *metal_emulator_exchange(uint64_t low, uint64_t high, const char *file, uint32_t line, uint32_t column) {
    uint32_t number = current_thread % LANES;
    struct lane *lane = &lanes[current_thread];
    struct simdgroup *group = &simdgroups[current_thread / LANES];
    lane->site = (struct site){file, line, column};
    if (group->full != UINT32_MAX) fail_at(lane->site, "a simdgroup function in a simdgroup of fewer than 32 lanes");
    if (group->arrived == 0) {
        group->site = lane->site;
        group->passed = lane->passed;
    } else if (!same(group->site, lane->site)) {
        fail_at(lane->site, "lanes of simdgroup %u are in different simdgroup functions; others at %s:%u:%u", current_thread / LANES, group->site.file, group->site.line, group->site.column);
    } else if (group->passed != lane->passed) {
        fail_at(lane->site, "lanes of simdgroup %u came through different simdgroup loads or stores on their way here", current_thread / LANES);
    }
    uint64_t *slots = group->slots[lane->operations++ & 1u];
    slots[2 * number] = low;
    slots[2 * number + 1] = high;
    lane->passed = 0;
    group->arrived |= 1u << number;
    if (group->arrived != UINT32_MAX) {
        group->ready &= ~(1u << number);
        give_way(0);
        return slots;
    }
    group->arrived = 0;
    group->ready = UINT32_MAX;
    // As at a barrier; and in random order it is now and then another simdgroup's turn, so that what two of them share without a barrier shows.
    give_way(run_order == RANDOM && (next_random(random_state) & 7u) == 0);
    return slots;
}

void metal_emulator_pass(const char *file, uint32_t line, uint32_t column) {
    struct lane *lane = &lanes[current_thread];
    lane->site = (struct site){file, line, column};
    lane->passed = (lane->passed ^ (uint64_t)(uintptr_t)file ^ ((uint64_t)line << 12) ^ column) * 0x9E3779B97F4A7C15u + 1;
    if (simdgroups[current_thread / LANES].full != UINT32_MAX) fail_at(lane->site, "a simdgroup function in a simdgroup of fewer than 32 lanes");
}

void metal_emulator_fail(const char *message, const char *file, uint32_t line, uint32_t column) { fail_at((struct site){file, line, column}, "%s", message); }

uint32_t metal_emulator_lane(void) { return current_thread % LANES; }

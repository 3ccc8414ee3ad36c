// The launch file, and the memory of a launch: every MTLBuffer one allocation of its own with guards on both sides, loaded afresh for each order, compared afterwards.
#include "emulator.h"
#include "sanitizers.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC = 0x544D4531, GUARD_BYTES = 4096 };

// What EmulatedRuntime fills fresh memory with, and what guards are made of: a NaN as float, half and bfloat. Under MSan words that still are this have never
// been written.
__attribute__((unused)) static const unsigned char fresh[4] = {0xBA, 0xFF, 0xBA, 0xFF};

struct memory {
    uint64_t bytes;
    uint32_t written, slots; // slots: bits, for messages
    const unsigned char *initial;
    unsigned char *data;   // what the kernel sees
    unsigned char *result; // of the first order
};
struct binding {
    uint32_t bound, memory;
    uint64_t offset;
};

static struct memory memories[MAX_MEMORIES];
static uint32_t memory_count;
static struct binding bindings[MAX_SLOTS];
static const unsigned char *file_position, *file_end;

// " 3", or " 3 12" for a memory that two slots show.
static const char *slot_names(const struct memory *memory) {
    static char text[128];
    int length = 0;
    for (int slot = 0; slot < MAX_SLOTS; slot++)
        if ((memory->slots >> slot & 1u) != 0 && length < 120) length += snprintf(text + length, sizeof text - (size_t)length, " %d", slot);
    return text;
}

static const void *take(uint64_t bytes) {
    if (bytes > (uint64_t)(file_end - file_position)) fail("the launch file is too short");
    const void *p = file_position;
    file_position += bytes;
    return p;
}
static uint32_t take_uint(void) {
    uint32_t x;
    memcpy(&x, take(4), 4);
    return x;
}
static uint64_t take_ulong(void) {
    uint64_t x;
    memcpy(&x, take(8), 8);
    return x;
}

static void set_constant(const char *name, uint64_t bits) {
    for (uint64_t i = 0; i < metal_emulator_constant_count; i++) {
        const struct constant_entry *constant = &metal_emulator_constants[i];
        if (strcmp(constant->name, name) == 0) {
            memcpy(constant->address, &bits, constant->size);
            return;
        }
    }
    // Declared, but used by no kernel of the library: Metal does not mind either.
}

void load_launch(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) fail("cannot read %s", path);
    file_position = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (file_position == MAP_FAILED) fail("cannot map %s", path);
    file_end = file_position + status.st_size;
    if (take_uint() != MAGIC) fail("%s is no launch file", path);
    launch.kernel = take_uint();
    launch.name = take(64);
    for (int i = 0; i < 3; i++) launch.groups[i] = take_uint();
    for (int i = 0; i < 3; i++) launch.threads[i] = take_uint();
    uint32_t constants = take_uint();
    memory_count = take_uint();
    uint32_t bound = take_uint();
    take_uint();
    for (uint32_t i = 0; i < constants; i++) {
        const char *name = take(64);
        set_constant(name, take_ulong());
    }
    for (uint32_t i = 0; i < memory_count; i++) {
        memories[i].bytes = take_ulong();
        memories[i].written = take_uint();
        take_uint();
    }
    for (uint32_t i = 0; i < bound; i++) {
        uint32_t slot = take_uint(), memory = take_uint();
        uint64_t offset = take_ulong();
        if (slot >= MAX_SLOTS || memory >= memory_count) fail("slot %u, memory %u", slot, memory);
        bindings[slot] = (struct binding){1, memory, offset};
        memories[memory].slots |= 1u << slot;
        uint64_t size = metal_emulator_size_of(launch.kernel, slot);
        if (memories[memory].bytes - offset < size) fail("slot %u has %lu bytes, the kernel's argument %lu", slot, (unsigned long)(memories[memory].bytes - offset), (unsigned long)size);
    }
    for (uint32_t i = 0; i < memory_count; i++) memories[i].initial = take((memories[i].bytes + 15) / 16 * 16);
}

static unsigned char *allocate(uint64_t bytes) {
    void *p;
#if WITH_ASAN || WITH_MSAN
    if (posix_memalign(&p, 256, bytes) != 0) fail("no memory");
    return p;
#else
    if (posix_memalign(&p, GUARD_BYTES, bytes + 2 * GUARD_BYTES) != 0) fail("no memory");
    unsigned char *data = (unsigned char *)p + GUARD_BYTES;
    for (uint64_t i = 0; i < GUARD_BYTES; i++) data[i - GUARD_BYTES] = data[bytes + i] = fresh[i % 4];
    return data;
#endif
}

void prepare_memory(void) {
    for (uint32_t i = 0; i < memory_count; i++) {
        struct memory *memory = &memories[i];
        if (memory->data == NULL) memory->data = allocate(memory->bytes);
        memcpy(memory->data, memory->initial, memory->bytes);
#if WITH_MSAN
        for (uint64_t at = 0; at + 4 <= memory->bytes; at += 4)
            if (memcmp(memory->initial + at, fresh, 4) == 0) mark_uninitialised(memory->data + at, 4);
#endif
    }
}

static void check_guards(const struct memory *memory) {
#if !WITH_ASAN && !WITH_MSAN
    for (uint64_t i = 0; i < GUARD_BYTES; i++) {
        if (memory->data[i - GUARD_BYTES] != fresh[i % 4]) fail("wrote %lu bytes in front of a buffer (slot%s)", (unsigned long)(GUARD_BYTES - i), slot_names(memory));
        if (memory->data[memory->bytes + i] != fresh[i % 4]) fail("wrote %lu bytes beyond the end of a buffer (slot%s)", (unsigned long)i + 1, slot_names(memory));
    }
#else
    (void)memory;
#endif
}

// A word that was stored from a register nobody had set: not initialised, and not what it was before.
static void check_initialised(const struct memory *memory) {
#if WITH_MSAN
    for (uint64_t at = 0; at + 4 <= memory->bytes; at += 4) {
        ptrdiff_t next = first_uninitialised(memory->data + at, memory->bytes - at);
        if (next < 0) break;
        at = (at + (uint64_t)next) / 4 * 4;
        if (at + 4 > memory->bytes) break;
        mark_initialised(memory->data + at, 4);
        if (memcmp(memory->data + at, fresh, 4) != 0) fail("stored an uninitialised value at byte %lu of a buffer (slot%s)", (unsigned long)at, slot_names(memory));
    }
    mark_initialised(memory->data, memory->bytes);
#else
    (void)memory;
#endif
}

void compare_memory(const char *order_name, int first) {
    current_thread = MAX_THREADS;
    for (uint32_t i = 0; i < memory_count; i++) {
        struct memory *memory = &memories[i];
        check_guards(memory);
        check_initialised(memory);
        const unsigned char *expected = memory->initial;
        if (memory->written && first) {
            memory->result = malloc(memory->bytes + 1);
            if (memory->result == NULL) fail("no memory");
            memcpy(memory->result, memory->data, memory->bytes);
            continue;
        }
        if (memory->written) expected = memory->result;
        if (memcmp(memory->data, expected, memory->bytes) == 0) continue;
        uint64_t at = 0;
        while (memory->data[at] == expected[at]) at++;
        if (memory->written) fail("order %s gives other bits than the first, from byte %lu of a buffer (slot%s): a barrier is missing, or two threads write one place", order_name, (unsigned long)at, slot_names(memory));
        fail("wrote byte %lu of a buffer that the launch says is only read (slot%s)", (unsigned long)at, slot_names(memory));
    }
}

void write_results(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) fail("cannot write %s", path);
    for (uint32_t i = 0; i < memory_count; i++) {
        if (!memories[i].written) continue;
        for (uint64_t done = 0; done < memories[i].bytes;) {
            ssize_t count = write(file, memories[i].result + done, memories[i].bytes - done);
            if (count <= 0) fail("cannot write %s", path);
            done += (uint64_t)count;
        }
    }
    close(file);
}

// NaN as float, half and bfloat: what a kernel reads before it writes shows. Not zero, which would look like good work.
void poison_threadgroup_memory(void) {
    for (uint64_t i = 0; i < metal_emulator_array_count; i++) {
        const struct array_entry *array = &metal_emulator_arrays[i];
        if (strcmp(array->kernel, launch.name) != 0) continue;
        memset(array->address, 0xFF, array->size);
        mark_uninitialised(array->address, array->size);
    }
}

uint64_t metal_emulator_buffer(uint32_t slot);
uint64_t metal_emulator_buffer(uint32_t slot) {
    // A conditional argument whose condition is false: no address a process can have.
    if (!bindings[slot].bound) return 0xBAD0000000000000u;
    return (uint64_t)(uintptr_t)(memories[bindings[slot].memory].data + bindings[slot].offset);
}

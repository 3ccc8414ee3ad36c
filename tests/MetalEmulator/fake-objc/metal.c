// Devices, memory, libraries, pipelines.

#define _GNU_SOURCE
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 16384, MAX_DEVICES = 4, MAX_CONSTANTS = 64 };

typedef struct {
    object base;
    int index;
} device;

typedef struct {
    object base;
    char *contents;
    size_t length;
    int is_callers;
} buffer;

typedef struct {
    object base;
    char *source;
} library;

typedef struct {
    object base;
    long max_threads;
} pipeline;

typedef struct {
    object base;
    object *devices[MAX_DEVICES];
    int count;
} array;

static char *last_source;

// Options and constants.

static void set_language(object *self, selector name, uint64_t version) { fake_say("%s %s %llu.%llu", fake_name(self), name, (unsigned long long)version >> 16, (unsigned long long)version & 0xFFFF); }
static void set_math(object *self, selector name, long mode) { fake_say("%s %s %ld", fake_name(self), name, mode); }
static void set_fast(object *self, selector name, int8_t fast) { fake_say("%s %s %d", fake_name(self), name, fast); }

static class options_class = {
    "MTLCompileOptions",
    (const method[]){ { "setLanguageVersion:", set_language }, { "setMathMode:", set_math }, { "setFastMathEnabled:", set_fast }, { 0 } },
    sizeof(object), NULL, 0,
};

static void set_constant(object *self, selector name, const void *value, uint64_t type, uint64_t index)
{
    char text[64] = "of an unknown type";
    (void)name;
    switch (type) {
    case 3: snprintf(text, sizeof text, "float %g", (double)*(const float *)value); break;
    case 29: snprintf(text, sizeof text, "int %d", *(const int32_t *)value); break;
    case 33: snprintf(text, sizeof text, "uint %u", *(const uint32_t *)value); break;
    case 53: snprintf(text, sizeof text, "bool %d", *(const uint8_t *)value); break;
    default: fake_error("constant %llu has type %llu", (unsigned long long)index, (unsigned long long)type);
    }
    fake_say("%s constant %llu: %s", fake_name(self), (unsigned long long)index, text);
}

static class constants_class = { "MTLFunctionConstantValues", (const method[]){ { "setConstantValue:type:atIndex:", set_constant }, { 0 } }, sizeof(object), NULL, 0 };

// Libraries, functions, pipelines.

static class function_class = { "MTLFunction", (const method[]){ { 0 } }, sizeof(object), NULL, 0 };

static object *new_function(library *self, selector name, object *named, object *constants, object **error)
{
    char declaration[128];
    object *made = NULL;
    snprintf(declaration, sizeof declaration, "kernel void %s(", fake_text(named));
    if (!fake_fails(name, error)) {
        if (strstr(self->source, declaration)) made = fake_make(&function_class);
        else *error = fake_make_error("MTLLibraryErrorDomain", 5, "there is no such function");
    }
    fake_say("%s newFunction %s %s -> %s", fake_name(self), fake_text(named), fake_name(constants), fake_name(made));
    return made;
}

static void free_library(object *self) { free(((library *)self)->source); }

static class library_class = { "MTLLibrary", (const method[]){ { "newFunctionWithName:constantValues:error:", new_function }, { 0 } }, sizeof(library), free_library, 0 };

static long execution_width(object *self, selector name) { (void)self; (void)name; return fake_option("executionWidth", 32); }
static long max_threads(pipeline *self, selector name) { (void)name; return self->max_threads; }
static long static_memory(object *self, selector name) { (void)self; (void)name; return fake_option("staticMemory", 16384); }

class fake_class_pipeline = {
    "MTLComputePipelineState",
    (const method[]){ { "threadExecutionWidth", execution_width }, { "maxTotalThreadsPerThreadgroup", max_threads }, { "staticThreadgroupMemoryLength", static_memory }, { 0 } },
    sizeof(pipeline), NULL, 0,
};

// Memory.

static void *contents(buffer *self, selector name) { return fake_fails(name, NULL) ? NULL : self->contents; }

static void free_buffer(object *self)
{
    buffer *b = (buffer *)self;
    if (b->is_callers) return;
    free(b->contents);
    b->contents = NULL;
}

class fake_class_buffer = { "MTLBuffer", (const method[]){ { "contents", contents }, { 0 } }, sizeof(buffer), free_buffer, 0 };

size_t fake_buffer_length(const object *b) { return ((const buffer *)b)->length; }

static object *new_buffer(device *self, selector name, uint64_t length, uint64_t options)
{
    buffer *b = NULL;
    if (length == 0 || length > (uint64_t)fake_option("maxBuffer", 1L << 30)) fake_error("a buffer of %llu bytes", (unsigned long long)length);
    else if (!fake_fails(name, NULL)) {
        b = fake_make(&fake_class_buffer);
        b->length = length;
        b->contents = aligned_alloc(PAGE, (length + PAGE - 1) / PAGE * PAGE);
        memset(b->contents, 0xEE, length);
    }
    fake_say("%s newBuffer %llu bytes, options %llu -> %s", fake_name(self), (unsigned long long)length, (unsigned long long)options, fake_name(b));
    return (object *)b;
}

static object *wrap_buffer(device *self, selector name, char *bytes, uint64_t length, uint64_t options, void *deallocator)
{
    buffer *b = NULL;
    if (deallocator) fake_error("there is a deallocator");
    if ((uintptr_t)bytes % 4096 || length % 4096) fake_error("a buffer over %llu bytes that are not pages", (unsigned long long)length);
    else if (!fake_fails(name, NULL)) {
        b = fake_make(&fake_class_buffer);
        b->length = length;
        b->contents = bytes;
        b->is_callers = 1;
    }
    fake_say("%s newBufferNoCopy %llu bytes, options %llu -> %s", fake_name(self), (unsigned long long)length, (unsigned long long)options, fake_name(b));
    return (object *)b;
}

// Residency sets (option "residency": 0 before macOS 15). What is in one is held by it, so that what is never taken out shows as a leak.

enum { MAX_ALLOCATIONS = 64 };

typedef struct {
    object base;
    object *allocations[MAX_ALLOCATIONS];
    int count, is_dirty;
} residency_set;

static void add_allocation(residency_set *self, selector name, object *allocation)
{
    fake_say("%s %s %s", fake_name(self), name, fake_name(allocation));
    if (!allocation || allocation->isa != &fake_class_buffer || allocation->references <= 0) fake_error("%s is no buffer", fake_name(allocation));
    else if (self->count == MAX_ALLOCATIONS) fake_error("%s has more than the test library has room for", fake_name(self));
    else self->allocations[self->count++] = fake_retain(allocation);
    self->is_dirty = 1;
}

static void remove_allocation(residency_set *self, selector name, object *allocation)
{
    fake_say("%s %s %s", fake_name(self), name, fake_name(allocation));
    int i = 0;
    while (i < self->count && self->allocations[i] != allocation) i++;
    self->is_dirty = 1;
    if (i == self->count) {
        fake_error("%s is not in %s", fake_name(allocation), fake_name(self));
        return;
    }
    self->allocations[i] = self->allocations[--self->count];
    fake_release(allocation);
}

static void commit_set(residency_set *self, selector name)
{
    fake_say("%s %s", fake_name(self), name);
    self->is_dirty = 0;
}

static void say_residency(residency_set *self, selector name)
{
    fake_say("%s %s", fake_name(self), name);
    if (self->is_dirty) fake_error("%s of %s, which has changes that were not committed", name, fake_name(self));
}

static void free_set(object *self)
{
    residency_set *s = (residency_set *)self;
    for (int i = 0; i < s->count; i++) fake_release(s->allocations[i]);
}

class fake_class_residency = {
    "MTLResidencySet",
    (const method[]){
        { "addAllocation:", add_allocation }, { "removeAllocation:", remove_allocation }, { "commit", commit_set }, { "requestResidency", say_residency }, { "endResidency", say_residency }, { 0 } },
    sizeof(residency_set), free_set, 0,
};

static class residency_descriptor_class = { "MTLResidencySetDescriptor", (const method[]){ { 0 } }, sizeof(object), NULL, 0 };

static object *new_residency_set(object *self, selector name, object *descriptor, object **error)
{
    object *made = NULL;
    if (!descriptor || descriptor->isa != &residency_descriptor_class) fake_error("%s is no description of a residency set", fake_name(descriptor));
    if (!fake_fails(name, error)) made = fake_make(&fake_class_residency);
    fake_say("%s newResidencySet -> %s", fake_name(self), fake_name(made));
    return made;
}

static long working_set(object *self, selector name) { (void)self; (void)name; return fake_option("workingSet", 1L << 40); }

// Devices.

static object *device_name(device *self, selector name)
{
    (void)name;
    return fake_autorelease(fake_string(self->index == 0 ? "Fake M4" : "Fake Other"));
}

static uint64_t registry(device *self, selector name) { (void)name; return 4294967296ull + (uint64_t)self->index; }

static int8_t supports_family(device *self, selector name, long family)
{
    (void)name;
    long newest = self->index == 0 ? fake_option("family", 9) : fake_option("otherFamily", 9);
    return family > 1000 && family <= 1000 + newest;
}

static int8_t unified(object *self, selector name) { (void)self; (void)name; return (int8_t)fake_option("unified", 1); }
static long max_threadgroup_memory(object *self, selector name) { (void)self; (void)name; return 32768; }
static long max_buffer(object *self, selector name) { (void)self; (void)name; return fake_option("maxBuffer", 1L << 30); }

static object *new_queue(object *self, selector name)
{
    object *made = fake_fails(name, NULL) ? NULL : fake_queue();
    fake_say("%s newCommandQueue -> %s", fake_name(self), fake_name(made));
    return made;
}

static object *new_library(device *self, selector name, object *source, object *options, object **error)
{
    library *made = NULL;
    const char *text = fake_text(source);
    free(last_source);
    last_source = strdup(text);
    if (!fake_fails(name, error)) {
        if (strstr(text, "#error")) {
            *error = fake_make_error("MTLLibraryErrorDomain", 3, "plain.metal:7:2: error: this line is not Metal");
        } else {
            if (fake_option("warnings", 0)) *error = fake_make_error("MTLLibraryErrorDomain", 4, "a warning");
            made = fake_make(&library_class);
            made->source = strdup(text);
        }
    }
    fake_say("%s newLibrary %zu bytes %s -> %s", fake_name(self), strlen(text), fake_name(options), fake_name(made));
    return (object *)made;
}

static object *new_pipeline(device *self, selector name, object *function, object **error)
{
    pipeline *made = NULL;
    if (!fake_fails(name, error)) {
        made = fake_make(&fake_class_pipeline);
        made->max_threads = fake_option("maxThreads", 1024);
    }
    fake_say("%s newComputePipelineState %s -> %s", fake_name(self), fake_name(function), fake_name(made));
    return (object *)made;
}

long fake_pipeline_threads(const object *p) { return ((const pipeline *)p)->max_threads; }

static class device_class = {
    "MTLDevice",
    (const method[]){
        { "name", device_name }, { "registryID", registry }, { "supportsFamily:", supports_family }, { "hasUnifiedMemory", unified },
        { "maxThreadgroupMemoryLength", max_threadgroup_memory }, { "maxBufferLength", max_buffer }, { "newCommandQueue", new_queue },
        { "newBufferWithLength:options:", new_buffer }, { "newBufferWithBytesNoCopy:length:options:deallocator:", wrap_buffer },
        { "newResidencySetWithDescriptor:error:", new_residency_set }, { "recommendedMaxWorkingSetSize", working_set },
        { "newLibraryWithSource:options:error:", new_library }, { "newComputePipelineStateWithFunction:error:", new_pipeline }, { 0 } },
    sizeof(device), NULL, 0,
};

static object *make_device(int index)
{
    device *d = fake_make(&device_class);
    d->index = index;
    return &d->base;
}

object *MTLCreateSystemDefaultDevice(void)
{
    object *made = fake_option("defaultDevice", 1) ? make_device(0) : NULL;
    fake_say("MTLCreateSystemDefaultDevice -> %s", fake_name(made));
    return made;
}

static long count_devices(array *self, selector name) { (void)name; return self->count; }
static object *device_at(array *self, selector name, uint64_t index) { (void)name; return index < (uint64_t)self->count ? self->devices[index] : NULL; }

static void free_array(object *self)
{
    array *a = (array *)self;
    for (int i = 0; i < a->count; i++) fake_release(a->devices[i]);
}

static class array_class = { "NSArray", (const method[]){ { "count", count_devices }, { "objectAtIndex:", device_at }, { 0 } }, sizeof(array), free_array, 0 };

object *MTLCopyAllDevices(void)
{
    array *a = NULL;
    if (fake_option("devices", 1) >= 0) {
        a = fake_make(&array_class);
        a->count = (int)fake_option("devices", 1);
        for (int i = 0; i < a->count; i++) a->devices[i] = make_device(i);
    }
    fake_say("MTLCopyAllDevices -> %s", fake_name(a));
    return (object *)a;
}

const char *fake_source(void) { return last_source ? last_source : ""; }

void fake_metal(void)
{
    fake_register(&options_class);
    fake_register(&constants_class);
    fake_register(&residency_descriptor_class);
}

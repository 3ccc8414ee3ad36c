// Queues, command buffers, encoders.

#define _GNU_SOURCE
#include "fake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_IN_QUEUE = 64, SLOTS = 31, PARAMETER_LIMIT = 4096, PATIENCE_SECONDS = 20 };

// MTLCommandBufferStatus.
enum { NOT_ENQUEUED = 0, COMMITTED = 2, COMPLETED = 4, FAILED = 5 };

// Option "completion": when a committed command buffer ends.
enum { AT_COMMIT = 0, WHEN_WAITED_FOR = 1, WHEN_TOLD = 2 };

typedef struct command_buffer {
    object base;
    struct command_buffer *before;      // in the queue
    object **held;                      // what encoded commands use
    int held_count, held_room;
    int status;
    int must_fail;
    object *error;
    object *open_encoder;
    uint64_t groups;                    // of all dispatches
} command_buffer;

typedef struct {
    object base;
    command_buffer *owner;
    object *pipeline;
    object *buffers[SLOTS];
    int has_ended;
} encoder;

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static command_buffer *newest;
static int unfinished;
static int most_unfinished;
static int gave_up;     // one wait that was too long is enough: a test that failed is to end

static void hold(command_buffer *b, object *o)
{
    if (b->held_count == b->held_room) b->held = realloc(b->held, sizeof *b->held * (size_t)(b->held_room = b->held_room * 2 + 16));
    b->held[b->held_count++] = fake_retain(o);
}

// Encoders.

static int is_open(encoder *self, const char *what)
{
    if (self->has_ended) fake_error("%s after endEncoding of %s", what, fake_name(self));
    return !self->has_ended;
}

static void set_pipeline(encoder *self, selector name, object *pipeline)
{
    fake_say("%s setComputePipelineState %s", fake_name(self), fake_name(pipeline));
    if (!is_open(self, name)) return;
    if (!pipeline || pipeline->isa != &fake_class_pipeline || pipeline->references <= 0) fake_error("%s is no pipeline", fake_name(pipeline));
    else hold(self->owner, self->pipeline = pipeline);
}

static void set_buffer(encoder *self, selector name, object *buffer, uint64_t offset, uint64_t index)
{
    fake_say("%s setBuffer %llu: %s + %llu", fake_name(self), (unsigned long long)index, fake_name(buffer), (unsigned long long)offset);
    if (!is_open(self, name)) return;
    if (!buffer || buffer->isa != &fake_class_buffer || buffer->references <= 0) fake_error("%s is no buffer", fake_name(buffer));
    else if (index >= SLOTS || offset >= fake_buffer_length(buffer)) fake_error("slot %llu at %llu", (unsigned long long)index, (unsigned long long)offset);
    else hold(self->owner, self->buffers[index] = buffer);
}

static void set_buffer_offset(encoder *self, selector name, uint64_t offset, uint64_t index)
{
    fake_say("%s setBufferOffset %llu: + %llu", fake_name(self), (unsigned long long)index, (unsigned long long)offset);
    if (!is_open(self, name)) return;
    if (index >= SLOTS || !self->buffers[index] || offset >= fake_buffer_length(self->buffers[index])) fake_error("slot %llu at %llu", (unsigned long long)index, (unsigned long long)offset);
}

static void set_bytes(encoder *self, selector name, const uint8_t *bytes, uint64_t length, uint64_t index)
{
    static const char digits[] = "0123456789abcdef";
    char text[(2 * PARAMETER_LIMIT) + 1];
    uint64_t shown = length < PARAMETER_LIMIT ? length : PARAMETER_LIMIT;
    for (uint64_t i = 0; i < shown; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[(2 * i) + 1] = digits[bytes[i] & 15];
    }
    text[2 * shown] = 0;
    fake_say("%s setBytes %llu: %s", fake_name(self), (unsigned long long)index, text);
    if (is_open(self, name) && (length == 0 || length >= PARAMETER_LIMIT || index >= SLOTS)) fake_error("%llu bytes in slot %llu", (unsigned long long)length, (unsigned long long)index);
}

static void dispatch(encoder *self, selector name, size3 groups, size3 threads)
{
    fake_say("%s dispatch %llu x %llu x %llu of %llu x %llu x %llu", fake_name(self),
        (unsigned long long)groups.width, (unsigned long long)groups.height, (unsigned long long)groups.depth,
        (unsigned long long)threads.width, (unsigned long long)threads.height, (unsigned long long)threads.depth);
    if (!is_open(self, name)) return;
    if (!self->pipeline) {
        fake_error("dispatch without a pipeline");
        return;
    }
    self->owner->groups += groups.width * groups.height * groups.depth;
    uint64_t count = threads.width * threads.height * threads.depth;
    if (count == 0 || count > (uint64_t)fake_pipeline_threads(self->pipeline) || groups.width * groups.height * groups.depth == 0) fake_error("dispatch of %llu threads a group", (unsigned long long)count);
}

static void end_encoding(encoder *self, selector name)
{
    fake_say("%s endEncoding", fake_name(self));
    if (!is_open(self, name)) return;
    self->has_ended = 1;
    self->owner->open_encoder = NULL;
}

static void free_encoder(object *self)
{
    if (!((encoder *)self)->has_ended) fake_error("%s was let go without endEncoding", fake_name(self));
}

static class encoder_class = {
    "MTLComputeCommandEncoder",
    (const method[]){
        { "setComputePipelineState:", set_pipeline }, { "setBuffer:offset:atIndex:", set_buffer }, { "setBufferOffset:atIndex:", set_buffer_offset }, { "setBytes:length:atIndex:", set_bytes },
        { "dispatchThreadgroups:threadsPerThreadgroup:", dispatch }, { "endEncoding", end_encoding }, { 0 } },
    sizeof(encoder), free_encoder, 0,
};

// Command buffers.

static object *make_encoder(command_buffer *self, selector name)
{
    encoder *e = NULL;
    if (self->open_encoder) fake_error("%s has an encoder that has not ended", fake_name(self));
    if (self->status != NOT_ENQUEUED) fake_error("encoding into committed %s", fake_name(self));
    if (!fake_fails(name, NULL)) {
        e = fake_make(&encoder_class);
        e->owner = self;
        self->open_encoder = &e->base;
        fake_autorelease(e);
    }
    fake_say("%s computeCommandEncoder -> %s", fake_name(self), fake_name(e));
    return (object *)e;
}

static void let_go(object *self)
{
    command_buffer *b = (command_buffer *)self;
    for (int i = 0; i < b->held_count; i++) fake_release(b->held[i]);
    free(b->held);
    b->held = NULL;
    b->held_count = b->held_room = 0;
}

static void finish(command_buffer *self)
{
    fake_say("%s ends %s", fake_name(self), self->must_fail ? "with an error" : "well");
    pthread_mutex_lock(&gate);
    self->status = self->must_fail ? FAILED : COMPLETED;
    unfinished--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&gate);
    let_go(&self->base);
    fake_release(&self->base);
}

static void commit(command_buffer *self, selector name)
{
    (void)name;
    fake_say("%s commit", fake_name(self));
    if (self->open_encoder) fake_error("commit of %s before endEncoding", fake_name(self));
    if (self->status != NOT_ENQUEUED) {
        fake_error("second commit of %s", fake_name(self));
        return;
    }
    fake_retain(&self->base);   // the queue's, until the work has ended
    self->must_fail = fake_fails("commandBuffer ends", NULL);
    pthread_mutex_lock(&gate);
    self->status = COMMITTED;
    self->before = newest;
    newest = self;
    if (++unfinished > most_unfinished) most_unfinished = unfinished;
    pthread_mutex_unlock(&gate);
    if (unfinished > MAX_IN_QUEUE) fake_error("%d command buffers are under way", unfinished);
    if (fake_option("completion", AT_COMMIT) == AT_COMMIT) finish(self);
}

// The queue is serial: what came before ends first.
static void finish_up_to(command_buffer *last)
{
    if (!last || last->status >= COMPLETED) return;
    finish_up_to(last->before);
    finish(last);
}

static void wait_until_completed(command_buffer *self, selector name)
{
    (void)name;
    fake_say("%s waitUntilCompleted", fake_name(self));
    if (self->status == NOT_ENQUEUED) {
        fake_error("waiting for %s, which was not committed", fake_name(self));
        return;
    }
    if (fake_option("completion", AT_COMMIT) == WHEN_WAITED_FOR) {
        fake_lock();
        finish_up_to(self);
        fake_unlock();
    }

    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECONDS;
    pthread_mutex_lock(&gate);
    int late = gave_up && self->status < COMPLETED;
    while (self->status < COMPLETED && !late) late = pthread_cond_timedwait(&changed, &gate, &until) != 0;
    pthread_mutex_unlock(&gate);
    if (late) gave_up = 1;
    if (late) fake_error("%s never ended", fake_name(self));
}

static long status(command_buffer *self, selector name)
{
    (void)name;
    pthread_mutex_lock(&gate);
    long now = self->status;
    pthread_mutex_unlock(&gate);
    return now;
}

// Option "gpuMicroseconds": what each buffer takes, a quarter of a second unless it is said; or "gpuNanosecondsAGroup" a threadgroup. Before it has ended a Mac's answers mean nothing.
static double gpu_time(command_buffer *self, double into)
{
    pthread_mutex_lock(&gate);
    int ended = self->status >= COMPLETED;
    pthread_mutex_unlock(&gate);
    if (!ended) fake_error("%s was asked for its times before it had ended", fake_name(self));
    return 1000 + into;
}

static double gpu_start_time(command_buffer *self, selector name)
{
    (void)name;
    return gpu_time(self, 0);
}

static double gpu_end_time(command_buffer *self, selector name)
{
    (void)name;
    long a_group = fake_option("gpuNanosecondsAGroup", 0);
    return gpu_time(self, a_group ? (double)self->groups * (double)a_group / 1e9 : (double)fake_option("gpuMicroseconds", 250000) / 1e6);
}

static object *get_error(command_buffer *self, selector name)
{
    (void)name;
    if (self->status != FAILED) return NULL;

    // Option "interruption": what the driver calls the failure; from 100 on, an error of Metal's own that much less, without the driver's words.
    long cause = fake_option("interruption", 0);
    if (cause >= 100) return fake_make_error("MTLCommandBufferErrorDomain", cause - 100, "it failed");
    switch (cause) {
    case 2: return fake_make_error("MTLCommandBufferErrorDomain", 2, "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)");
    case 3: return fake_make_error("MTLCommandBufferErrorDomain", 3, "Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)");
    case 4: return fake_make_error("MTLCommandBufferErrorDomain", 4, "Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)");
    case 5: return fake_make_error("MTLCommandBufferErrorDomain", 1, "Discarded (victim of GPU error/recovery) (00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)");
    case 6: return fake_make_error("MTLCommandBufferErrorDomain", 7, "Insufficient Permission (to submit GPU work from background) (00000006:kIOGPUCommandBufferCallbackErrorBackgroundExecutionNotPermitted)");
    case 8: return fake_make_error("MTLCommandBufferErrorDomain", 8, "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)");
    case 11: return fake_make_error("MTLCommandBufferErrorDomain", 3, "Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)");
    case 14: return fake_make_error("MTLCommandBufferErrorDomain", 1, "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)");
    default: return fake_make_error("MTLCommandBufferErrorDomain", 2, "Caused GPU Timeout Error");
    }
}

static class command_buffer_class = {
    "MTLCommandBuffer",
    (const method[]){
        { "computeCommandEncoder", make_encoder }, { "commit", commit }, { "waitUntilCompleted", wait_until_completed }, { "status", status }, { "error", get_error },
      { "GPUStartTime", gpu_start_time }, { "GPUEndTime", gpu_end_time }, { 0 } },
    sizeof(command_buffer), let_go, 0,
};

static object *make_command_buffer(object *self, selector name)
{
    object *made = fake_fails(name, NULL) ? NULL : fake_autorelease(fake_make(&command_buffer_class));
    fake_say("%s commandBuffer -> %s", fake_name(self), fake_name(made));
    return made;
}

static void add_residency_set(object *self, selector name, object *set)
{
    fake_say("%s %s %s", fake_name(self), name, fake_name(set));
    if (!set || set->isa != &fake_class_residency || set->references <= 0) fake_error("%s is no residency set", fake_name(set));
}

static class queue_class = { "MTLCommandQueue", (const method[]){ { "commandBuffer", make_command_buffer }, { "addResidencySet:", add_residency_set }, { 0 } }, sizeof(object), NULL, 0 };

object *fake_queue(void) { return fake_make(&queue_class); }

// For the tests: ends the oldest command buffers until so many are left. Returns how many are.
int fake_finish(int left)
{
    fake_lock();
    while (unfinished > left) {
        command_buffer *oldest = newest;
        while (oldest->before && oldest->before->status < COMPLETED) oldest = oldest->before;
        finish(oldest);
    }
    int now = unfinished;
    fake_unlock();
    return now;
}

int fake_most_unfinished(void) { return most_unfinished; }

void fake_reset_commands(void)
{
    newest = NULL;
    unfinished = most_unfinished = gave_up = 0;
}

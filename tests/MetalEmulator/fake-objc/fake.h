// A stand-in for the Objective-C runtime and Metal.framework, for tests of the host's calls on Linux. It computes nothing: it counts references, keeps pools, writes down every
// message, and notes as an error whatever a Mac would crash on, refuse or leak.

#ifndef FAKE_H
#define FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef struct object object;
typedef const char *selector;   // interned: compared by address

typedef struct {
    const char *name;
    void *code;
} method;

typedef struct class {
    const char *name;
    const method *methods;
    size_t bytes;                       // of an instance
    void (*dealloc)(object *self);      // may be null
    int made;                           // instances so far
} class;

struct object {
    class *isa;
    object *next;       // of all objects ever made
    long references;
    int number;         // among its class, from 1
    int generation;     // of fake_reset: what is older is nobody's concern any more
};

typedef struct {
    uint64_t width, height, depth;
} size3;

// runtime.c
void fake_lock(void);
void fake_unlock(void);
void *fake_make(class *c);                              // one reference, the caller's
void fake_register(class *c);
object *fake_retain(object *o);
void fake_release(object *o);
void *fake_autorelease(void *o);
int fake_has_pool(void);
void fake_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fake_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *fake_name(const void *o);                   // "MTLBuffer#3", or "nil"; a few are good at a time
int fake_fails(const char *selector_name, object **error);   // whether this call was asked to fail; an error if one was asked for and there is room
long fake_option(const char *name, long otherwise);

// foundation.c
object *fake_string(const char *text);                  // one reference
const char *fake_text(const object *string);
object *fake_make_error(const char *domain, long code, const char *description);
void fake_foundation(void);

// metal.c, commands.c
void fake_metal(void);
void fake_reset_commands(void);
object *fake_queue(void);
long fake_pipeline_threads(const object *pipeline);
size_t fake_buffer_length(const object *buffer);

extern class fake_class_buffer, fake_class_pipeline, fake_class_residency;

#endif

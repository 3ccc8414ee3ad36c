// Classes, selectors, references, pools, the log.

#define _GNU_SOURCE
#include "fake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 32, MAX_SELECTORS = 256, MAX_PLANS = 32, MAX_OPTIONS = 32, MAX_POOLED = 4096, MAX_POOLS = 64 };

typedef struct {
    object base;
    class *instances;
} class_object;

typedef struct {
    char name[64];
    int nth;            // 1: the next call
    int with_error;
} plan;

static pthread_mutex_t gate = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static class_object classes[MAX_CLASSES];
static int class_count;
static char *selectors[MAX_SELECTORS];
static int selector_count;
static object *all;
static int generation;
static char *log_text, *error_text;
static size_t log_length, log_room, error_length, error_room;
static plan plans[MAX_PLANS];
static struct { char name[32]; long value; } options[MAX_OPTIONS];
static int option_count;
static int is_quiet;    // option "quiet": nothing is written down, for measuring

static _Thread_local object *pooled[MAX_POOLED];
static _Thread_local int pooled_count;
static _Thread_local struct { int first; uintptr_t token; } pools[MAX_POOLS];
static _Thread_local int pool_count, is_popping;
static uintptr_t last_token;

void fake_lock(void) { pthread_mutex_lock(&gate); }
void fake_unlock(void) { pthread_mutex_unlock(&gate); }

static void append(char **text, size_t *length, size_t *room, const char *format, va_list arguments)
{
    fake_lock();
    va_list again;
    va_copy(again, arguments);
    int needed = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (*length + (size_t)needed + 2 > *room) *text = realloc(*text, *room = 2 * (*length + (size_t)needed + 2));
    vsnprintf(*text + *length, (size_t)needed + 1, format, arguments);
    *length += (size_t)needed;
    (*text)[(*length)++] = '\n';
    (*text)[*length] = 0;
    fake_unlock();
}

void fake_say(const char *format, ...)
{
    if (is_quiet) return;
    va_list arguments;
    va_start(arguments, format);
    append(&log_text, &log_length, &log_room, format, arguments);
    va_end(arguments);
}

void fake_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    append(&error_text, &error_length, &error_room, format, arguments);
    va_end(arguments);
}

const char *fake_name(const void *o)
{
    static _Thread_local char names[8][64];
    static _Thread_local int next;
    if (!o) return "nil";
    const object *named = o;
    char *name = names[next++ % 8];
    if (named->number == 0) snprintf(name, 64, "%s", named->isa->name);
    else snprintf(name, 64, "%s#%d", named->isa->name, named->number);
    return name;
}

// Objects. Their memory stays for good, so that a message to a released one is an error and not a crash.

void *fake_make(class *c)
{
    fake_lock();
    object *o = calloc(1, c->bytes);
    o->isa = c;
    o->references = 1;
    o->number = ++c->made;
    o->generation = generation;
    o->next = all;
    all = o;
    fake_unlock();
    return o;
}

object *fake_retain(object *o)
{
    if (!o) return o;
    fake_lock();
    if (o->generation != generation) fake_error("retain of %s from before a reset", fake_name(o));
    else if (o->references <= 0) fake_error("retain of released %s", fake_name(o));
    o->references++;
    fake_unlock();
    return o;
}

void fake_release(object *o)
{
    if (!o) return;
    fake_lock();
    if (o->generation != generation) {
        // A finaliser that comes late, for a test that left something behind.
    } else if (o->references <= 0) {
        fake_error("release of released %s", fake_name(o));
    } else if (--o->references == 0) {
        fake_say("dealloc %s", fake_name(o));

        // What an object lets go of may be autoreleased, by code that nobody here knows.
        if (pool_count == 0 && !is_popping) fake_error("%s was let go on a thread without a pool", fake_name(o));
        if (o->isa->dealloc) o->isa->dealloc(o);
    }
    fake_unlock();
}

object *objc_retain(object *o) { return fake_retain(o); }
void objc_release(object *o) { fake_release(o); }

// Pools, one stack a thread.

void *objc_autoreleasePoolPush(void)
{
    fake_lock();
    uintptr_t token = ++last_token;
    fake_unlock();
    pools[pool_count].first = pooled_count;
    pools[pool_count++].token = token;
    return (void *)token;
}

void objc_autoreleasePoolPop(void *pool)
{
    if (pool_count == 0 || pools[pool_count - 1].token != (uintptr_t)pool) {
        fake_error("a pool was popped that is not this thread's newest");
        return;
    }

    int first = pools[--pool_count].first;
    is_popping++;
    while (pooled_count > first) fake_release(pooled[--pooled_count]);
    is_popping--;
}

int fake_has_pool(void) { return pool_count > 0; }

void *fake_autorelease(void *o)
{
    if (pool_count == 0) fake_error("%s was autoreleased on a thread without a pool", fake_name(o));
    else pooled[pooled_count++] = o;
    return o;
}

// Names.

void fake_register(class *c)
{
    class_object *o = &classes[class_count++];
    o->base.references = 1;
    o->instances = c;
    o->base.isa = c;
}

void *objc_getClass(const char *name)
{
    if (strcmp(name, "MTLResidencySetDescriptor") == 0 && !fake_option("residency", 1)) return NULL;
    for (int i = 0; i < class_count; i++)
        if (strcmp(classes[i].instances->name, name) == 0) return &classes[i];
    return NULL;
}

selector sel_registerName(const char *name)
{
    fake_lock();
    int i = 0;
    while (i < selector_count && strcmp(selectors[i], name) != 0) i++;
    if (i == selector_count) selectors[selector_count++] = strdup(name);
    fake_unlock();
    return selectors[i];
}

static int is_class(const object *o) { return o >= &classes[0].base && o < &classes[MAX_CLASSES].base; }

// Methods of all classes, for class objects.
static object *make_instance(class_object *self, selector name)
{
    object *made = fake_make(self->instances);
    object *error = NULL;
    if (fake_fails(name, &error)) {
        made->references = 0;
        made = NULL;
    }
    fake_say("[%s %s] -> %s", self->instances->name, name, fake_name(made));
    return made;
}

static intptr_t nothing(void) { return 0; }

static int responds(object *self, selector name, selector asked)
{
    (void)name;
    if (strcmp(asked, "setMathMode:") == 0 && !fake_option("mathMode", 1)) return 0;
    if (strcmp(asked, "newResidencySetWithDescriptor:error:") == 0 && !fake_option("residency", 1)) return 0;
    for (const method *m = self->isa->methods; m->name; m++)
        if (strcmp(m->name, asked) == 0) return 1;
    return 0;
}

// By class and selector, both of which have one address: what a real runtime has too, and a message costs little then.
static _Thread_local struct { const class *isa; selector name; void *code; } known[1024];

static void *method_of(const class *isa, selector name)
{
    size_t i = (((uintptr_t)isa >> 4) ^ ((uintptr_t)name >> 4)) % 1024;
    if (known[i].isa == isa && known[i].name == name) return known[i].code;
    for (const method *m = isa->methods; m->name; m++) {
        if (strcmp(m->name, name) != 0) continue;
        known[i].isa = isa;
        known[i].name = name;
        return known[i].code = m->code;
    }
    return NULL;
}

void *fake_find_method(object *receiver, selector name)
{
    if (!receiver) return nothing;
    if (is_class(receiver)) {
        if (strcmp(name, "new") == 0 || strcmp(name, "alloc") == 0) return make_instance;
    } else {
        if (receiver->references <= 0) {
            fake_error("%s was sent to released %s", name, fake_name(receiver));
            return nothing;
        }
        void *code = method_of(receiver->isa, name);
        if (code) return code;
        if (strcmp(name, "respondsToSelector:") == 0) return responds;
    }
    fake_error("%s does not understand %s", fake_name(receiver), name);
    return nothing;
}

// Control, for the tests.

int fake_fails(const char *name, object **error)
{
    int fails = 0;
    fake_lock();
    for (int i = 0; i < MAX_PLANS; i++) {
        plan *p = &plans[i];
        if (p->nth == 0 || strcmp(p->name, name) != 0 || --p->nth > 0) continue;
        fails = 1;
        if (error && p->with_error) *error = fake_make_error("FakeDomain", 17, "it was asked to fail");
        break;
    }
    fake_unlock();
    return fails;
}

void fake_fail(const char *name, int nth, int with_error)
{
    for (int i = 0; i < MAX_PLANS; i++) {
        if (plans[i].nth != 0) continue;
        snprintf(plans[i].name, sizeof plans[i].name, "%s", name);
        plans[i].nth = nth;
        plans[i].with_error = with_error;
        return;
    }
}

void fake_set(const char *name, long value)
{
    int i = 0;
    while (i < option_count && strcmp(options[i].name, name) != 0) i++;
    if (i == option_count) snprintf(options[option_count++].name, sizeof options[i].name, "%s", name);
    options[i].value = value;
    if (strcmp(name, "quiet") == 0) is_quiet = value != 0;
}

long fake_option(const char *name, long otherwise)
{
    for (int i = 0; i < option_count; i++)
        if (strcmp(options[i].name, name) == 0) return options[i].value;
    return otherwise;
}

static long give(char *into, long room, const char *text, size_t length)
{
    fake_lock();
    long copied = (long)length < room - 1 ? (long)length : room - 1;
    if (copied > 0) memcpy(into, text, (size_t)copied);
    if (room > 0) into[copied < 0 ? 0 : copied] = 0;
    fake_unlock();
    return (long)length;
}

long fake_log(char *into, long room) { return give(into, room, log_text, log_length); }
long fake_errors(char *into, long room) { return give(into, room, error_text, error_length); }

// Objects that somebody still holds.
long fake_living(char *into, long room)
{
    char text[8192];
    size_t length = 0;
    fake_lock();
    for (object *o = all; o && length < sizeof text - 80; o = o->next) {
        if (o->references > 0) length += (size_t)snprintf(text + length, sizeof text - length, "%s (%ld)\n", fake_name(o), o->references);
    }
    fake_unlock();
    return give(into, room, text, length);
}

void fake_reset(void)
{
    fake_lock();
    generation++;
    for (; all; all = all->next) all->isa->made = 0;    // the memory stays: finalisers may still come
    if (class_count == 0) {
        fake_foundation();
        fake_metal();
    }
    fake_reset_commands();
    log_length = error_length = 0;
    option_count = is_quiet = 0;
    memset(plans, 0, sizeof plans);
    fake_unlock();
}

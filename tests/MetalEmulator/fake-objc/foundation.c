// Strings, errors, arrays: what Metal hands out beside its own objects.

#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    object base;
    char *text;
} string;

typedef struct {
    object base;
    object *domain, *description, *reason, *suggestion;
    long code;
} error;

static void free_string(object *self)
{
    string *s = (string *)self;

    // Whoever still reads the text sees that it is gone.
    if (s->text) memset(s->text, '?', strlen(s->text));
}

// What UTF8String returns lives as long as the pool.
static class bytes_class = { "NSBytes", (const method[]){ { 0 } }, sizeof(string), free_string, 0 };

static const char *utf8(string *self, selector name)
{
    string *copy = fake_make(&bytes_class);
    copy->text = strdup(self->text);
    (void)name;
    return ((string *)fake_autorelease(copy))->text;
}

// [NSString alloc] is a placeholder: init lets it go and returns another object.
static object *init_utf8(string *self, selector name, const char *text)
{
    object *error = NULL;
    object *made = fake_fails(name, &error) ? NULL : fake_string(text);
    if (strlen(text) < 100) fake_say("initWithUTF8String: \"%s\" -> %s", text, fake_name(made));
    else fake_say("initWithUTF8String: %zu bytes -> %s", strlen(text), fake_name(made));
    fake_release(&self->base);
    return made;
}

static class string_class = {
    "NSString",
    (const method[]){ { "UTF8String", utf8 }, { "initWithUTF8String:", init_utf8 }, { 0 } },
    sizeof(string), free_string, 0,
};

object *fake_string(const char *text)
{
    string *s = fake_make(&string_class);
    s->text = strdup(text);
    return &s->base;
}

const char *fake_text(const object *s) { return s ? ((const string *)s)->text : ""; }

static object *shared(object *o) { return o ? fake_autorelease(fake_retain(o)) : NULL; }
static object *error_domain(error *self, selector name) { (void)name; return shared(self->domain); }
static object *error_description(error *self, selector name) { (void)name; return shared(self->description); }
static object *error_reason(error *self, selector name) { (void)name; return shared(self->reason); }
static object *error_suggestion(error *self, selector name) { (void)name; return shared(self->suggestion); }
static long error_code(error *self, selector name) { (void)name; return self->code; }

static void free_error(object *self)
{
    error *e = (error *)self;
    fake_release(e->domain);
    fake_release(e->description);
    fake_release(e->reason);
    fake_release(e->suggestion);
}

static class error_class = {
    "NSError",
    (const method[]){
        { "domain", error_domain }, { "code", error_code }, { "localizedDescription", error_description },
        { "localizedFailureReason", error_reason }, { "localizedRecoverySuggestion", error_suggestion }, { 0 } },
    sizeof(error), free_error, 0,
};

// Autoreleased, as every error that a method hands out.
object *fake_make_error(const char *domain, long code, const char *description)
{
    error *e = fake_make(&error_class);
    e->domain = fake_string(domain);
    e->code = code;
    e->description = fake_string(description);
    if (fake_option("reasons", 0)) {
        e->reason = fake_string("because the test says so");
        e->suggestion = fake_string("ask the test");
    }
    return fake_autorelease(e);
}

void fake_foundation(void) { fake_register(&string_class); }

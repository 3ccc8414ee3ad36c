// What the sanitizers must be told, and nothing where there is none.
#pragma once
#include <stddef.h>
#include <stdint.h>

void print_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#if __has_feature(memory_sanitizer)
#define WITH_MSAN 1
#endif
#endif

#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
static inline void leave_stack(void **fake_stack, const void *bottom, size_t size) {
    extern const void *main_stack_bottom;
    extern size_t main_stack_size;
    if (bottom == NULL) bottom = main_stack_bottom, size = main_stack_size;
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
static inline void enter_stack(void *fake_stack) {
    extern const void *main_stack_bottom;
    extern size_t main_stack_size;
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    // The first switch of all comes from the main stack.
    if (main_stack_bottom == NULL) main_stack_bottom = bottom, main_stack_size = size;
}
#else
static inline void leave_stack(void **fake_stack, const void *bottom, size_t size) { (void)fake_stack, (void)bottom, (void)size; }
static inline void enter_stack(void *fake_stack) { (void)fake_stack; }
#endif

#if WITH_MSAN
#include <sanitizer/msan_interface.h>
static inline void mark_uninitialised(const void *p, size_t bytes) { __msan_poison(p, bytes); }
static inline void mark_initialised(const void *p, size_t bytes) { __msan_unpoison(p, bytes); }
static inline ptrdiff_t first_uninitialised(const void *p, size_t bytes) { return __msan_test_shadow(p, bytes); }
#else
static inline void mark_uninitialised(const void *p, size_t bytes) { (void)p, (void)bytes; }
static inline void mark_initialised(const void *p, size_t bytes) { (void)p, (void)bytes; }
static inline ptrdiff_t first_uninitialised(const void *p, size_t bytes) { return (void)p, (void)bytes, (ptrdiff_t)-1; }
#endif

// The part of a C library that a policy needs. Every call runs in a fresh instance, so memory is
// given out one piece after the other and never taken back.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 65536, ALIGNMENT = 16 };

// Where the linker has put the end of all data.
extern unsigned char __heap_base;

static uintptr_t next;

// Before each piece, for realloc.
struct header {
	_Alignas(ALIGNMENT) size_t size;
};

void *malloc(size_t size) {
	if (next == 0)
		next = ((uintptr_t)&__heap_base + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
	size_t room = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if (room < size || room > SIZE_MAX - sizeof(struct header) - next)
		return NULL;
	uintptr_t end = next + sizeof(struct header) + room;
	size_t pages = __builtin_wasm_memory_size(0);
	size_t needed = end / PAGE + (end % PAGE != 0);
	if (needed > pages && __builtin_wasm_memory_grow(0, needed - pages) == SIZE_MAX)
		return NULL;
	struct header *made = (struct header *)next;
	made->size = size;
	next = end;
	return made + 1;
}

void *realloc(void *old, size_t size) {
	if (old == NULL)
		return malloc(size);
	size_t had = ((struct header *)old - 1)->size;
	if (size <= had)
		return old;
	void *made = malloc(size);
	if (made != NULL)
		memcpy(made, old, had);
	return made;
}

void free(void *memory) { (void)memory; }

_Noreturn void abort(void) { __builtin_trap(); }

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
	unsigned char *target = to;
	const unsigned char *source = from;
	for (size_t at = 0; at < size; at++)
		target[at] = source[at];
	return to;
}

int memcmp(const void *one, const void *other, size_t size) {
	const unsigned char *a = one, *b = other;
	for (size_t at = 0; at < size; at++)
		if (a[at] != b[at])
			return a[at] < b[at] ? -1 : 1;
	return 0;
}

size_t strlen(const char *text) {
	size_t length = 0;
	while (text[length] != '\0')
		length++;
	return length;
}

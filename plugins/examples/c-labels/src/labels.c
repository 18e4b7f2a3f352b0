// Which label a container lacks.
#include "labels.h"

#include <string.h>

static const char LIST[] = "require.";

static bool same(text one, text other) {
	return one.len == other.len && memcmp(one.ptr, other.ptr, one.len) == 0;
}

static bool begins(text whole, const char *with) {
	size_t length = strlen(with);
	return whole.len >= length && memcmp(whole.ptr, with, length) == 0;
}

text before(text whole, char end) {
	size_t length = 0;
	while (length < whole.len && whole.ptr[length] != (uint8_t)end)
		length++;
	return (text){whole.ptr, length};
}

bool is_label(text value) { return before(value, '=').len > 0; }

static bool has(const d2k_policy_types_pairs_t *labels, text wanted) {
	text key = before(wanted, '=');
	for (size_t at = 0; at < labels->len; at++) {
		if (!same(labels->ptr[at].f0, key))
			continue;
		if (key.len == wanted.len)
			return true;
		return same(labels->ptr[at].f1, (text){wanted.ptr + key.len + 1, wanted.len - key.len - 1});
	}
	return false;
}

bool lacking(const d2k_policy_types_pairs_t *labels, const d2k_policy_types_pairs_t *settings, text *label) {
	for (size_t at = 0; at < settings->len; at++) {
		if (!begins(settings->ptr[at].f0, LIST) || has(labels, settings->ptr[at].f1))
			continue;
		*label = settings->ptr[at].f1;
		return true;
	}
	return false;
}

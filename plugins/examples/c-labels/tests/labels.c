// The tests of labels.c, for any C compiler: the exit code is the number of those that fail.
#include <stdio.h>
#include <string.h>

#include "labels.h"

typedef workload_policy_tuple2_string_string_t pair;

static int failed;

static text of(const char *words) { return (text){(uint8_t *)words, strlen(words)}; }

static void expect(const char *what, bool holds) {
	printf("%s  %s\n", holds ? "ok    " : "FAILED", what);
	failed += !holds;
}

// What a container with the label `key=value` lacks of `wanted`; empty if nothing.
static text lacks(const char *key, const char *value, const char *wanted) {
	pair label = {of(key), of(value)}, setting = {of("require.0"), of(wanted)};
	d2k_policy_types_pairs_t labels = {&label, 1}, settings = {&setting, 1};
	text found = of("");
	lacking(&labels, &settings, &found);
	return found;
}

static bool is(text found, const char *words) {
	return found.len == strlen(words) && memcmp(found.ptr, words, found.len) == 0;
}

int main(void) {
	expect("a label is there with any value", is(lacks("team", "web", "team"), ""));
	expect("a label is there with its value", is(lacks("team", "web", "team=web"), ""));
	expect("another value is none", is(lacks("team", "ops", "team=web"), "team=web"));
	expect("the beginning of a key is not the key", is(lacks("tea", "web", "team"), "team"));
	expect("the beginning of a value is not the value", is(lacks("team", "webs", "team=web"), "team=web"));
	expect("an empty value is a value", is(lacks("team", "", "team="), ""));
	expect("a key is a label", is_label(of("team")) && is_label(of("team=web")));
	expect("without a key there is no label", !is_label(of("")) && !is_label(of("=web")));
	return failed;
}
